"""The examples that the page's browser shows: columns as JSON, safe inside a `<script>`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from lamp_exp.report.page.figures import Ground, grounds
from lamp_exp.report.records import Record
from lamp_exp.report.selection import Group, grouped, select
from lamp_exp.types import InputError

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What the browser holds; whatever is left out is told on the page.

    `examples` of each run, the first ones; `characters` of each question's prompt; whole runs
    until `megabytes` are full; `conditions` choose runs as `--where` does.
    """

    examples: int = 2500
    characters: int = 2000
    megabytes: float = 40.0
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
    everything = grouped(records)
    wanted = in_turn(select(records, limits.conditions))
    if not wanted:
        raise InputError(f"no run is left to browse of {' '.join(limits.conditions)}")
    scripts: list[str] = []
    runs: list[Mapping[str, Any]] = []
    size = 0
    for record in wanted:
        about, columns = _run(record, everything, limits)
        script = script_of(f"examples-{len(runs)}", columns)
        bytes = len(script.encode())
        if runs and size + bytes > limits.megabytes * MEGABYTE:
            break
        size += bytes
        scripts.append(script)
        runs.append(about)
    words = _words(len(runs), len(wanted), len(records), limits, size)
    return Embedded(
        "\n".join([script_of("example-runs", runs), *scripts]), tuple(runs), words, size
    )


def script_of(name: str, content: Any) -> str:
    """A data element; no text in it can end it, nor end a line of a script."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def in_turn(records: Sequence[Record]) -> list[Record]:
    """The best of each task and ground, then each second best, …; a group's first seed only."""
    queues = [_ranked(ground) for ground in _grounds(records)]
    turns = zip_longest(*queues)
    return [group.first for turn in turns for group in turn if group is not None]


def _grounds(records: Sequence[Record]) -> list[Ground]:
    """Also of runs without a profile, where there are no others."""
    try:
        return grounds(records)
    except InputError:
        return [Ground("", (group,), None) for group in grouped(records).values()]


def _ranked(ground: Ground) -> list[Group]:
    sign = -1 if ground.higher else 1
    return sorted(ground.groups, key=lambda group: sign * group.mean(ground.metric))


def _run(
    record: Record, groups: Mapping[str, Group], limits: Limits
) -> tuple[dict[str, Any], dict[str, Any]]:
    twin = _twin(record, groups)
    n = min(limits.examples, record.questions)
    facts = [record.result[key] for key in ("split", "part", "mode")]
    metric = str(record.result["monitor"][0])
    about = {
        "task": record.task,
        "ground": " ".join([record.task, *map(str, facts)]),
        "label": f"{record.name} ({metric} {record.metrics[metric]:.3f})",
        "metric": metric,
        "higher": record.direction(metric),
        "about": _about(record, twin, n),
    }
    return about, _columns(record, twin, n, limits.characters)


def _about(record: Record, twin: Record | None, n: int) -> str:
    part = "" if n == record.questions else f" The first {n} of {record.questions} questions."
    against = (
        f"Without profile: {twin.name}." if twin else "Its twin without a profile is not here."
    )
    return f"{record.name}.{part} {against}"


def _twin(record: Record, groups: Mapping[str, Group]) -> Record | None:
    """The same run without a profile, of the same seed if there is one."""
    group = groups.get(record.twin or "")
    if group is None:
        return None
    same = [other for other in group.records if other.seed == record.seed]
    return same[0] if same else group.first


def _columns(record: Record, twin: Record | None, n: int, characters: int) -> dict[str, Any]:
    ids = record.column("id")[:n]
    prompts = _prompts(record, ids)
    inputs = _inputs(twin, ids) if twin else None
    folded = [_folded(p, i) for p, i in zip(prompts, inputs or [None] * n, strict=True)]
    kept = [_kept(passages, characters) for passages in folded]
    return {
        "id": ids,
        "user": record.column("user")[:n],
        "target": record.column("target")[:n],
        "prediction": record.column("prediction")[:n],
        "size": record.column("profile_size")[:n],
        "items": record.column("items")[:n],
        "itemScores": [list(map(_short, row)) for row in record.column("item_scores")[:n]],
        "scores": {name: values[:n] for name, values in _scores(record)},
        "input": inputs,
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


def _prompts(record: Record, ids: Sequence[str]) -> list[list[str]]:
    known = record.prompts() if (record.folder / "prompts.jsonl").is_file() else {}
    return [known.get(id, []) for id in ids]


def _inputs(twin: Record, ids: Sequence[str]) -> list[str | None]:
    """The bare questions: what a run without a profile is given."""
    return [passages[0] if passages else None for passages in _prompts(twin, ids)]


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
