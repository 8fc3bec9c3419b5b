"""The examples that can be browsed on the page: columns as JSON, safe inside a `<script>`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from markupsafe import Markup

from lamp_exp.errors import InputError
from lamp_exp.report.selection import SEPARATE, Group, comparable_sets, grouped, select
from lamp_exp.results.folder import PROMPTS
from lamp_exp.results.record import Record

MEGABYTE = 1_000_000
Passages = list[str | list[str]]  # one that ends with the question: without it, in a list


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
    """Script elements with the data, facts about each run, and notes."""

    html: Markup
    runs: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


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
        facts, made = _embedded_run(record, place, groups, questions, limits)
        bytes = sum(len(script.encode()) for script in made)
        if place >= len(rounds[0]) and size + bytes > limits.megabytes * MEGABYTE:
            break
        size += bytes
        scripts += made
        runs.append(facts)
    notes = [
        f"{len(runs)} of {len(records)} runs can be browsed (one seed of each, the best of every "
        f"task first; {size / MEGABYTE:.1f} MB)."
    ]
    if len(runs) < len(wanted):
        notes.append(
            f"{len(wanted) - len(runs)} more are left out for the size: --browse KEY=VALUE chooses "
            f"others, --megabytes (now {limits.megabytes:g}) makes room."
        )
    notes.append(
        f"At most {limits.examples} examples of a run (--examples) and {limits.characters} "
        "characters of a prompt (--characters); where more are left out, it is said there."
    )
    html = "\n".join([script_of("example-runs", runs), *scripts])
    return Embedded(Markup(html), tuple(runs), tuple(notes))


class QuestionSets:
    """The sets of questions that runs share, each embedded once.

    The texts of the questions come from a baseline's prompts.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._baselines: dict[tuple[str, str], Record] = {}
        for record in records:
            if record.result.k == 0 and record.has_file(PROMPTS):
                self._baselines.setdefault(record.comparable_key, record)
        self._texts: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._numbers: dict[tuple[str, ...], int] = {}

    def number(self, record: Record, ids: Sequence[str]) -> tuple[int, bool]:
        """The number of the set, and whether it is new."""
        key = (*record.comparable_key, *ids)
        new = key not in self._numbers
        return self._numbers.setdefault(key, len(self._numbers)), new

    def inputs(self, record: Record, ids: Sequence[str]) -> list[str | None]:
        """The texts of the questions; None where no baseline is there."""
        key = record.comparable_key
        if key not in self._texts:
            baseline = self._baselines.get(key)
            self._texts[key] = baseline.prompts() if baseline else {}
        return [next(iter(self._texts[key].get(id, [])), None) for id in ids]


def _embedded_run(
    record: Record,
    place: int,
    groups: Mapping[str, Group],
    questions: QuestionSets,
    limits: Limits,
) -> tuple[dict[str, Any], list[str]]:
    """Facts about a run, and its script elements; its questions only if they are new."""
    ids = record.column("id")[: limits.examples]
    baseline = _baseline_of(record, groups)
    number, new = questions.number(record, ids)
    inputs = questions.inputs(record, ids)
    answers = _answer_columns(record, baseline, ids, inputs, limits.characters)
    scripts = [script_of(f"examples-{place}", answers)]
    if new:
        names = {"id": "id", "user": "user", "target": "target", "size": "profile_size"}
        columns = {name: record.column(column)[: len(ids)] for name, column in names.items()}
        scripts.append(script_of(f"questions-{number}", columns | {"input": inputs}))
    return {**_facts(record, baseline, len(ids)), "questions": number}, scripts


def script_of(name: str, content: Any) -> str:
    """A data element; no text in it can end the element, nor a line of a script."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def in_turn(records: Sequence[Record]) -> list[list[Record]]:
    sets = comparable_sets(list(grouped(records).values()), ("task", *SEPARATE))
    for _, groups in sets:
        metric = groups[0].first.main_metric
        sign = -1 if groups[0].first.higher_is_better(metric) else 1
        groups.sort(key=lambda group: sign * group.mean(metric))
    turns = zip_longest(*(groups for _, groups in sets))
    return [[group.first for group in turn if group is not None] for turn in turns]


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
    group = groups.get(record.baseline or "")
    if group is None:
        return None
    return next(iter(group.of_seeds([record.seed]).records), group.first)


def _answer_columns(
    record: Record,
    baseline: Record | None,
    ids: Sequence[str],
    inputs: Sequence[str | None],
    characters: int,
) -> dict[str, Any]:
    n, prompts = len(ids), record.prompts()
    cut = [
        _cut_to(_without_input(prompts.get(id, []), input), characters)
        for id, input in zip(ids, inputs, strict=True)
    ]
    return {
        "prediction": record.column("prediction")[:n],
        "items": record.column("items")[:n],
        "itemScores": [list(map(_rounded, row)) for row in record.column("item_scores")[:n]],
        "scores": {name: list(map(_rounded, record.column(column)[:n]))
                   for name, column in _score_columns(record).items()},
        "passages": [passages for passages, _ in cut],
        "cut": [left_out for _, left_out in cut],
        "baseline": _baseline_columns(baseline, ids) if baseline else None,
    }  # fmt: skip


def _score_columns(record: Record) -> dict[str, str]:
    """The columns of the examples' scores, of metrics that are means and of the main one."""
    columns = {name: record.score_column(name) for name in record.metrics}
    return {
        name: column
        for name, column in columns.items()
        if record.has_column(column)
        and (record.facts(name).aggregate == "mean" or name == record.main_metric)
    }


def _rounded(value: float | None) -> float | None:
    """Six digits are enough to look at; JSON knows no infinity."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _baseline_columns(baseline: Record, ids: Sequence[str]) -> dict[str, Any]:
    outputs = baseline.by_question("prediction")
    scores = {
        name: [_rounded(found.get(id)) for id in ids]
        for name, column in _score_columns(baseline).items()
        for found in [baseline.by_question(column)]
    }
    return {"prediction": [outputs.get(id) for id in ids], "scores": scores}


def _without_input(passages: Sequence[str], input: str | None) -> Passages:
    """Passages that end with the question's text without it, each in a list of its own."""
    return [
        [passage.removesuffix(input)] if input and passage.endswith(input) else passage
        for passage in passages
    ]


def _cut_to(passages: Passages, characters: int) -> tuple[Passages, int]:
    """The first `characters` of the passages, and the number of characters left out."""
    kept: Passages = []
    left, cut = characters, 0
    for passage in passages:
        text = passage if isinstance(passage, str) else passage[0]
        part = text[:left]
        left -= len(part)
        cut += len(text) - len(part)
        if part or not text:
            kept.append(passage if len(part) == len(text) else part)
    return kept, cut
