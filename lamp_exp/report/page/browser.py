"""The examples that can be browsed on the page: columns as JSON, safe inside a `<script>`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.metric_tables import SEPARATE
from lamp_exp.report.selection import Group, grouped, order, select, shown

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What is embedded; the page says what is left out.

    The first `examples` of each run and `characters` of each question's prompt; the best run of
    every task, and more runs until `megabytes` are full; `conditions` choose runs as `--where`.
    """

    examples: int = 2500
    characters: int = 1500
    megabytes: float = 60.0
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedded:
    """Script elements with the data, facts about each run, notes, and the size in bytes."""

    html: str
    runs: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    size: int


def embed(records: Sequence[Record], limits: Limits) -> Embedded:
    """The best runs of every task first, then their second best, until the limits are reached.

    Raises InputError if no run meets the conditions.
    """
    rounds = in_turn(select(records, limits.conditions))
    if not rounds:
        raise InputError(f"no run is left to browse of {' '.join(limits.conditions)}")
    wanted = [record for one in rounds for record in one]
    questions, groups = QuestionSets(records), grouped(records)
    scripts: list[str] = []
    runs: list[Mapping[str, Any]] = []
    size = 0
    for place, record in enumerate(wanted):
        made = _embedded_run(record, place, groups, questions, limits)
        bytes = sum(len(script.encode()) for script in made.scripts)
        if place >= len(rounds[0]) and size + bytes > limits.megabytes * MEGABYTE:
            break
        size += bytes
        scripts += made.scripts
        runs.append(made.facts)
    notes = _notes(len(runs), len(wanted), len(records), limits, size)
    elements = [script_of("example-runs", runs), *scripts]
    return Embedded("\n".join(elements), tuple(runs), notes, size)


@dataclass(frozen=True, slots=True)
class EmbeddedRun:
    """Facts about a run, and its script elements; its questions only if they are new."""

    facts: Mapping[str, Any]
    scripts: list[str]


class QuestionSets:
    """The sets of questions that runs share, each embedded once.

    The texts of the questions come from a baseline's prompts.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._baselines: dict[tuple[str, str], Record] = {}
        for record in records:
            if record.result.k == 0 and _has_prompts(record):
                self._baselines.setdefault(record.comparable_key, record)
        self._numbers: dict[tuple[str, ...], int] = {}

    def number(self, record: Record, ids: Sequence[str]) -> tuple[int, bool]:
        """The number of the set, and whether it is new."""
        key = (*record.comparable_key, *ids)
        new = key not in self._numbers
        return self._numbers.setdefault(key, len(self._numbers)), new

    def inputs(self, record: Record, ids: Sequence[str]) -> list[str | None]:
        """The texts of the questions; None where no baseline is there."""
        baseline = self._baselines.get(record.comparable_key)
        passages = _prompts(baseline, ids) if baseline else [[] for _ in ids]
        return [row[0] if row else None for row in passages]


def _embedded_run(
    record: Record,
    place: int,
    groups: Mapping[str, Group],
    questions: QuestionSets,
    limits: Limits,
) -> EmbeddedRun:
    ids = record.column("id")[: limits.examples]
    baseline = _baseline_of(record, groups)
    number, new = questions.number(record, ids)
    inputs = questions.inputs(record, ids)
    answers = _answer_columns(record, baseline, ids, inputs, limits.characters)
    scripts = [script_of(f"examples-{place}", answers)]
    if new:
        scripts.append(script_of(f"questions-{number}", _question_columns(record, ids, inputs)))
    return EmbeddedRun({**_facts(record, baseline, len(ids)), "questions": number}, scripts)


def script_of(name: str, content: Any) -> str:
    """A data element; no text in it can end the element, nor a line of a script."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def in_turn(records: Sequence[Record]) -> list[list[Record]]:
    """The best of each comparable set, then each second best, …; the first seed of each."""
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in grouped(records).values():
        place = tuple(shown(group.facet(key)) for key in ("task", *SEPARATE))
        found.setdefault(place, []).append(group)
    queues = [_ranked(found[place]) for place in sorted(found, key=lambda p: list(map(order, p)))]
    return [[g.first for g in turn if g is not None] for turn in zip_longest(*queues)]


def _ranked(groups: Sequence[Group]) -> list[Group]:
    metric = groups[0].first.main_metric
    sign = -1 if groups[0].first.higher_is_better(metric) else 1
    return sorted(groups, key=lambda group: sign * group.mean(metric))


def _facts(record: Record, baseline: Record | None, n: int) -> dict[str, Any]:
    result, metric = record.result, record.main_metric
    value = record.metrics.get(metric)
    part = "" if n == record.questions else f" The first {n} of {record.questions} questions."
    against = f"Without profile: {baseline.name}." if baseline else "Its baseline is not here."
    return {
        "task": record.task,
        "set": " ".join([record.task, result.split, result.part, result.mode]),
        "label": record.name if value is None else f"{record.name} ({metric} {value:.3f})",
        "metric": metric,
        "higher": record.higher_is_better(metric),
        "about": f"{record.name}.{part} {against}",
    }


def _baseline_of(record: Record, groups: Mapping[str, Group]) -> Record | None:
    """The same run without a profile, of the same seed if there is one."""
    group = groups.get(record.baseline or "")
    if group is None:
        return None
    same_seed = [other for other in group.records if other.seed == record.seed]
    return same_seed[0] if same_seed else group.first


def _question_columns(
    record: Record, ids: Sequence[str], inputs: Sequence[str | None]
) -> dict[str, Any]:
    n = len(ids)
    return {
        "id": ids,
        "user": record.column("user")[:n],
        "target": record.column("target")[:n],
        "size": record.column("profile_size")[:n],
        "input": inputs,
    }


def _answer_columns(
    record: Record,
    baseline: Record | None,
    ids: Sequence[str],
    inputs: Sequence[str | None],
    characters: int,
) -> dict[str, Any]:
    n = len(ids)
    shortened = map(_without_input, _prompts(record, ids), inputs)
    cut = [_cut_to(passages, characters) for passages in shortened]
    return {
        "prediction": record.column("prediction")[:n],
        "items": record.column("items")[:n],
        "itemScores": [list(map(_rounded, row)) for row in record.column("item_scores")[:n]],
        "scores": {name: values[:n] for name, values in _score_columns(record)},
        "passages": [passages for passages, _ in cut],
        "cut": [left_out for _, left_out in cut],
        "baseline": _baseline_columns(baseline, ids) if baseline else None,
    }


def _score_columns(record: Record) -> Iterator[tuple[str, list[float | None]]]:
    """The scores of the examples by metric, for metrics that are means and the main one."""
    for name in record.metrics:
        facts = record.facts(name)
        column = facts.column or name
        wanted = facts.aggregate == "mean" or name == record.main_metric
        if wanted and record.has_column(column):
            yield name, list(map(_rounded, record.column(column)))


def _rounded(value: float | None) -> float | None:
    """Six digits are enough to look at; JSON knows no infinity."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _baseline_columns(baseline: Record, ids: Sequence[str]) -> dict[str, Any]:
    places = {id: n for n, id in enumerate(baseline.column("id"))}
    rows = [places.get(id) for id in ids]

    def at(values: Sequence[Any]) -> list[Any]:
        return [None if row is None else values[row] for row in rows]

    scores = {name: at(values) for name, values in _score_columns(baseline)}
    return {"prediction": at(baseline.column("prediction")), "scores": scores}


def _has_prompts(record: Record) -> bool:
    return (record.folder / "prompts.jsonl").is_file()


def _prompts(record: Record, ids: Sequence[str]) -> list[list[str]]:
    """The passages of each question; empty if they were not recorded."""
    known = record.prompts()
    return [known.get(id, []) for id in ids]


def _without_input(passages: Sequence[str], input: str | None) -> list[str | list[str]]:
    """Passages that end with the question's text without it, each in a list of its own."""
    return [
        [passage.removesuffix(input)] if input and passage.endswith(input) else passage
        for passage in passages
    ]


def _cut_to(
    passages: Sequence[str | list[str]], characters: int
) -> tuple[list[str | list[str]], int]:
    """The first `characters` of the passages, and the number of characters left out."""
    kept: list[str | list[str]] = []
    left, cut = characters, 0
    for passage in passages:
        text = passage if isinstance(passage, str) else passage[0]
        part = text[:left]
        left -= len(part)
        cut += len(text) - len(part)
        if len(part) == len(text):
            kept.append(passage)
        elif part:
            kept.append(part)
    return kept, cut


def _notes(embedded: int, wanted: int, all_runs: int, limits: Limits, size: int) -> tuple[str, ...]:
    """What is embedded and what is not, with the option that changes it."""
    lines = [
        f"{embedded} of {all_runs} runs can be browsed (one seed of each, the best of every task "
        f"first; {size / MEGABYTE:.1f} MB)."
    ]
    if embedded < wanted:
        lines.append(
            f"{wanted - embedded} more are left out for the size: --browse KEY=VALUE chooses "
            f"others, --megabytes (now {limits.megabytes:g}) makes room."
        )
    lines.append(
        f"At most {limits.examples} examples of a run (--examples) and {limits.characters} "
        "characters of a prompt (--characters); where more are left out, it is said there."
    )
    return tuple(lines)
