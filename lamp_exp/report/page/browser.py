"""The examples that the page's browser shows: columns as JSON, safe inside a `<script>`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from lamp_exp.errors import InputError
from lamp_exp.report.build import GROUND
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import Group, grouped, order, select, shown

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What the browser holds; whatever is left out is told on the page.

    `examples` of each run, the first ones; `characters` of each question's prompt; the best run
    of every task, and more whole runs until `megabytes` are full; `conditions` choose runs as
    `--where` does.
    """

    examples: int = 2500
    characters: int = 1500
    megabytes: float = 60.0
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedded:
    """Script elements with the data, what each run is, and what must be told of all."""

    html: str
    runs: tuple[Mapping[str, Any], ...]
    words: tuple[str, ...]
    size: int  # of the data, in bytes


def embed(records: Sequence[Record], limits: Limits) -> Embedded:
    """The best runs of every task first, then their second best, until the limits are reached."""
    rounds = in_turn(select(records, limits.conditions))
    if not rounds:
        raise InputError(f"no run is left to browse of {' '.join(limits.conditions)}")
    wanted = [record for one in rounds for record in one]
    asked = Asked(records)
    groups = grouped(records)
    scripts: list[str] = []
    runs: list[Mapping[str, Any]] = []
    size = 0
    for place, record in enumerate(wanted):
        made = _embedded(record, place, groups, asked, limits)
        bytes = sum(len(script.encode()) for script in made.scripts)
        if place >= len(rounds[0]) and size + bytes > limits.megabytes * MEGABYTE:
            break
        size += bytes
        scripts += made.scripts
        runs.append(made.about)
    words = _words(len(runs), len(wanted), len(records), limits, size)
    elements = [script_of("example-runs", runs), *scripts]
    return Embedded("\n".join(elements), tuple(runs), words, size)


@dataclass(frozen=True, slots=True)
class One:
    """A run's elements (its questions only if they are not there yet), and what it is."""

    about: Mapping[str, Any]
    scripts: list[str]


class Asked:
    """Questions that runs share are embedded once; a run without a profile knows their texts."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.bare: dict[tuple[str, str], Record] = {}
        for record in records:
            if record.result["k"] == 0 and _has_prompts(record):
                self.bare.setdefault(record.ground, record)
        self.numbers: dict[tuple[str, ...], int] = {}

    def number(self, record: Record, ids: Sequence[str]) -> tuple[int, bool]:
        """Which questions these are, and whether they are new."""
        key = (*record.ground, *ids)
        new = key not in self.numbers
        return self.numbers.setdefault(key, len(self.numbers)), new

    def inputs(self, record: Record, ids: Sequence[str]) -> list[str | None]:
        """The bare questions, which a run without a profile was given; None if there is none."""
        bare = self.bare.get(record.ground)
        passages = _prompts(bare, ids) if bare else [[] for _ in ids]
        return [row[0] if row else None for row in passages]


def _embedded(
    record: Record, place: int, groups: Mapping[str, Group], asked: Asked, limits: Limits
) -> One:
    ids = record.column("id")[: limits.examples]
    twin = _twin(record, groups)
    number, new = asked.number(record, ids)
    inputs = asked.inputs(record, ids)
    answers = _answers_of(record, twin, ids, inputs, limits.characters)
    scripts = [script_of(f"examples-{place}", answers)]
    if new:
        scripts.append(script_of(f"questions-{number}", _questions(record, ids, inputs)))
    return One({**_about(record, twin, len(ids)), "questions": number}, scripts)


def script_of(name: str, content: Any) -> str:
    """A data element; no text in it can end it, nor end a line of a script."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def in_turn(records: Sequence[Record]) -> list[list[Record]]:
    """The best of each task and ground, then each second best, …; a group's first seed only."""
    found: dict[tuple[str, ...], list[Group]] = {}
    for group in grouped(records).values():
        place = tuple(shown(group.facet(key)) for key in ("task", *GROUND))
        found.setdefault(place, []).append(group)
    queues = [_ranked(found[place]) for place in sorted(found, key=lambda p: list(map(order, p)))]
    return [[g.first for g in turn if g is not None] for turn in zip_longest(*queues)]


def _ranked(groups: Sequence[Group]) -> list[Group]:
    metric = str(groups[0].first.result["monitor"][0])
    sign = -1 if groups[0].first.direction(metric) else 1
    return sorted(groups, key=lambda group: sign * group.mean(metric))


def _about(record: Record, twin: Record | None, n: int) -> dict[str, Any]:
    facts = [record.result[key] for key in ("split", "part", "mode")]
    metric = str(record.result["monitor"][0])
    value = record.metrics.get(metric)
    part = "" if n == record.questions else f" The first {n} of {record.questions} questions."
    against = f"Without profile: {twin.name}." if twin else "No twin without a profile is here."
    return {
        "task": record.task,
        "ground": " ".join([record.task, *map(str, facts)]),
        "label": record.name if value is None else f"{record.name} ({metric} {value:.3f})",
        "metric": metric,
        "higher": record.direction(metric),
        "about": f"{record.name}.{part} {against}",
    }


def _twin(record: Record, groups: Mapping[str, Group]) -> Record | None:
    """The same run without a profile, of the same seed if there is one."""
    group = groups.get(record.twin or "")
    if group is None:
        return None
    same = [other for other in group.records if other.seed == record.seed]
    return same[0] if same else group.first


def _questions(record: Record, ids: Sequence[str], inputs: Sequence[str | None]) -> dict[str, Any]:
    n = len(ids)
    return {
        "id": ids,
        "user": record.column("user")[:n],
        "target": record.column("target")[:n],
        "size": record.column("profile_size")[:n],
        "input": inputs,
    }


def _answers_of(
    record: Record,
    twin: Record | None,
    ids: Sequence[str],
    inputs: Sequence[str | None],
    characters: int,
) -> dict[str, Any]:
    n = len(ids)
    folded = map(_folded, _prompts(record, ids), inputs)
    kept = [_kept(passages, characters) for passages in folded]
    return {
        "prediction": record.column("prediction")[:n],
        "items": record.column("items")[:n],
        "itemScores": [list(map(_short, row)) for row in record.column("item_scores")[:n]],
        "scores": {name: values[:n] for name, values in _scores(record)},
        "passages": [passages for passages, _ in kept],
        "cut": [cut for _, cut in kept],
        "twin": _answers(twin, ids) if twin else None,
    }


def _scores(record: Record) -> Iterator[tuple[str, list[float | None]]]:
    for name in record.metrics:
        if record.has_column(name):
            yield name, list(map(_short, record.column(name)))


def _short(value: float | None) -> float | None:
    """Six digits are enough to look at; JSON knows no infinity."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _answers(twin: Record, ids: Sequence[str]) -> dict[str, Any]:
    places = {id: n for n, id in enumerate(twin.column("id"))}
    rows = [places.get(id) for id in ids]

    def at(values: Sequence[Any]) -> list[Any]:
        return [None if row is None else values[row] for row in rows]

    scores = {name: at(values) for name, values in _scores(twin)}
    return {"prediction": at(twin.column("prediction")), "scores": scores}


def _has_prompts(record: Record) -> bool:
    return (record.folder / "prompts.jsonl").is_file()


def _prompts(record: Record, ids: Sequence[str]) -> list[list[str]]:
    """Nothing where they were not recorded."""
    known = record.prompts()
    return [known.get(id, []) for id in ids]


def _folded(passages: Sequence[str], input: str | None) -> list[str | list[str]]:
    """Where a passage ends with the question, what stands before it, in a list of its own."""
    return [
        [passage.removesuffix(input)] if input and passage.endswith(input) else passage
        for passage in passages
    ]


def _kept(
    passages: Sequence[str | list[str]], characters: int
) -> tuple[list[str | list[str]], int]:
    """So many characters of them, and how many are left out."""
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


def _words(embedded: int, wanted: int, all_runs: int, limits: Limits, size: int) -> tuple[str, ...]:
    """What is here and what is not, with the option that changes it."""
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
