"""The examples that can be browsed on the page: columns as JSON, safe inside a `<script>`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, zip_longest
from typing import Any

import numpy as np
from markupsafe import Markup

from lamp_exp.errors import InputError
from lamp_exp.report.footers import system_words
from lamp_exp.report.paired_examples import pair_of_runs
from lamp_exp.report.selection import (
    LABELS,
    SAME_BASELINE,
    Group,
    aside,
    comparable_sets,
    grouped,
    select,
    telling,
)
from lamp_exp.results.folder import PROMPTS
from lamp_exp.results.record import Record
from lamp_exp.statistics import compare
from lamp_exp.wording import count_of

MEGABYTE = 1_000_000
IN_SYSTEM = ("retriever", "augmentation", "k")  # what `system_words` names
MOST_PAIRS = 3000  # that are tested: a few seconds
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
    """The best run of every task and its baseline first, then others, until the limits are reached.

    Raises InputError if no run meets the conditions.
    """
    groups = grouped(records)
    wanted, needed = in_turn(select(records, limits.conditions), groups)
    if not wanted:
        raise InputError(f"there is no run to browse with {' '.join(limits.conditions)}")
    questions = QuestionSets(records)
    embedded: list[Record] = []
    numbers: list[int] = []
    scripts: list[str] = []
    size = 0
    for place, record in enumerate(wanted):
        number, made = _embedded_run(record, place, questions, limits)
        bytes = sum(len(script.encode()) for script in made)
        if place >= needed and size + bytes > limits.megabytes * MEGABYTE:
            break
        size += bytes
        scripts += made
        embedded.append(record)
        numbers.append(number)
    runs = _facts_of_all(embedded, numbers, groups, limits)
    tests, untested = _tests(embedded, numbers, runs)
    size_words = f"{size / MEGABYTE:.1f} MB"
    notes = [
        f"Here with their examples ({size_words}): {len(runs)} of {count_of(len(records), 'run')}, "
        "one seed of each, the best of every task and its baseline first."
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
    if untested:
        notes.append(f"Not tested: {count_of(untested, 'pair')} of runs without a baseline.")
    listed = [script_of("example-runs", runs), script_of("example-tests", tests)]
    return Embedded(Markup("\n".join([*listed, *scripts])), tuple(runs), tuple(notes))


class QuestionSets:
    """The sets of questions that runs share, each embedded once, in one order.

    The texts of the questions come from a baseline's prompts.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._baselines: dict[tuple[str, str], Record] = {}
        for record in records:
            if record.result.k == 0 and record.has_file(PROMPTS):
                self._baselines.setdefault(record.comparable_key, record)
        self._texts: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._sets: dict[tuple[tuple[str, str], frozenset[str]], tuple[int, list[str]]] = {}

    def number(self, record: Record) -> tuple[int, list[str], bool]:
        """The number of the set, the ids in their order, and whether the set is new."""
        ids = record.column("id")
        key = (record.comparable_key, frozenset(ids))
        new = key not in self._sets
        return *self._sets.setdefault(key, (len(self._sets), ids)), new

    def inputs(self, record: Record, ids: Sequence[str]) -> list[str | None]:
        """The texts of the questions; None where no baseline is there."""
        key = record.comparable_key
        if key not in self._texts:
            baseline = self._baselines.get(key)
            self._texts[key] = baseline.prompts() if baseline else {}
        return [next(iter(self._texts[key].get(id, [])), None) for id in ids]


def _embedded_run(
    record: Record, place: int, questions: QuestionSets, limits: Limits
) -> tuple[int, list[str]]:
    """The number of its questions, and script elements; the questions only if they are new."""
    number, ids, new = questions.number(record)
    ids = ids[: limits.examples]
    inputs = questions.inputs(record, ids)
    columns = _Columns(record, ids)
    answers = _answer_columns(record, columns, ids, inputs, limits.characters)
    scripts = [script_of(f"examples-{place}", answers)]
    if new:
        names = {"user": "user", "target": "target", "size": "profile_size"}
        own = {name: columns.of(column) for name, column in names.items()}
        scripts.append(script_of(f"questions-{number}", {"id": ids, **own, "input": inputs}))
    return number, scripts


class _Columns:
    """Columns of a run's examples in the order of some questions."""

    def __init__(self, record: Record, ids: Sequence[str]) -> None:
        self._record, own = record, record.column("id")
        place = {id: row for row, id in enumerate(own)}
        self._rows = None if own[: len(ids)] == ids else [place[id] for id in ids]
        self._number = len(ids)

    def of(self, name: str) -> list[Any]:
        """The values of a column."""
        values = self._record.column(name)
        if self._rows is None:
            return values[: self._number]
        return [values[row] for row in self._rows]


def script_of(name: str, content: Any) -> str:
    """A data element; no text in it can end the element, nor a line of a script."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def in_turn(records: Sequence[Record], groups: Mapping[str, Group]) -> tuple[list[Record], int]:
    """One seed of each run: the best of every set with its baseline, then the second best, ….

    Baselines are among `groups`, all runs by configuration. The second value is how many are the
    best ones and their baselines.
    """
    own = list(grouped(records).values())
    sets = comparable_sets(own, ("task", *SAME_BASELINE)) if own else []
    for _, members in sets:
        metric = members[0].first.main_metric
        sign = -1 if members[0].first.higher_is_better(metric) else 1
        members.sort(key=lambda group: (bool(aside(group)), sign * group.mean(metric)))
    sets.sort(key=lambda one: (one[1][0].first.result.made_up_data, -len(one[1])))
    turns = [[g for g in turn if g] for turn in zip_longest(*(members for _, members in sets))]
    chosen = {group.configuration: group.first for group in own}
    found: dict[str, Record] = {}
    first = 0
    for number, turn in enumerate(turns):
        for group in turn:
            found.setdefault(group.configuration, group.first)
            baseline = groups.get(group.first.baseline or "")
            if baseline is not None:
                same_seed = (*baseline.of_seeds([group.first.seed]).records, baseline.first)[0]
                found.setdefault(
                    baseline.configuration, chosen.get(baseline.configuration, same_seed)
                )
        first = first if number else len(found)
    return list(found.values()), first


def _facts_of_all(
    records: Sequence[Record],
    numbers: Sequence[int],
    groups: Mapping[str, Group],
    limits: Limits,
) -> list[dict[str, Any]]:
    """What the page says of each run, with the place of its baseline in the list."""
    places = {record.configuration: place for place, record in enumerate(records)}
    singles = [Group((record,)) for record in records]
    names = telling(singles)
    found = []
    for record, number, single in zip(records, numbers, singles, strict=True):
        result, metric = record.result, record.main_metric
        value = record.metrics.get(metric)
        n = min(record.questions, limits.examples)
        questions = count_of(record.questions, "question")
        about = "" if n == record.questions else f"The first {n} of {questions}."
        baseline = places.get(record.baseline or "")
        if record.personal and record.baseline not in groups:
            about = f"{about} Its baseline, the same run without a profile, is not here.".strip()
        found.append({
            "task": record.task,
            "set": " ".join([record.task, result.split, result.part, result.mode]),
            "label": record.name if value is None else f"{record.name} ({metric} {value:.3f})",
            "metric": metric,
            "higher": {name: record.higher_is_better(name) for name in record.metrics},
            "metrics": {name: rounded(value) for name, value in record.metrics.items()},
            "about": about,
            "questions": number,
            "baseline": baseline,
            "method": record.result.choices["model"] if record.imported else system_words(single),
            "choices": {LABELS.get(name, name): value
                        for name, value in zip(names, single.effective(names), strict=True)
                        if name in record.options and name not in IN_SYSTEM},
        })  # fmt: skip
    return found


def _tests(
    records: Sequence[Record], numbers: Sequence[int], runs: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], int]:
    """The comparison of each pair on the same questions, by `place-place`, the lower first.

    Of the main metric, as the verb compare makes it: the second less the first. Of very many pairs,
    only those with a baseline; the second value is the number of the others.
    """
    pairs = [(a, b) for a, b in combinations(range(len(records)), 2) if numbers[a] == numbers[b]]
    wanted = pairs
    if len(pairs) > MOST_PAIRS:
        wanted = [(a, b) for a, b in pairs if b == runs[a]["baseline"] or a == runs[b]["baseline"]]
    found = {}
    for a, b in wanted:
        samples = pair_of_runs(records[a], records[b], records[a].main_metric)
        if samples is None:
            continue
        one = compare(*samples, thorough=False)
        found[f"{a}-{b}"] = {
            "difference": rounded(one.difference.value),
            "low": rounded(one.difference.low),
            "high": rounded(one.difference.high),
            "p": rounded(one.decisive.p),
            "test": one.decisive.name,
        }
    return found, len(pairs) - len(wanted)


def _answer_columns(
    record: Record,
    columns: _Columns,
    ids: Sequence[str],
    inputs: Sequence[str | None],
    characters: int,
) -> dict[str, Any]:
    prompts = record.prompts()
    cut = [
        _cut_to(_without_input(prompts.get(id, []), input), characters)
        for id, input in zip(ids, inputs, strict=True)
    ]
    return {
        "prediction": columns.of("prediction"),
        "items": columns.of("items"),
        "itemScores": rounded_rows(columns.of("item_scores")),
        "scores": {name: _rounded_all(columns.of(column))
                   for name, column in _score_columns(record).items()},
        "passages": [passages for passages, _ in cut],
        "cut": [left_out for _, left_out in cut],
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


def rounded(value: float | None) -> float | None:
    """Six digits are enough to look at; JSON knows no infinity."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def rounded_rows(rows: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    values = iter(_rounded_all([value for row in rows for value in row]))
    return [list(islice(values, len(row))) for row in rows]


def _rounded_all(values: Sequence[float | None]) -> list[float | None]:
    """As `rounded`, but for ties, of very many values."""
    numbers = np.array(values, dtype=np.float64)  # None becomes NaN
    known = np.isfinite(numbers)
    sizes = np.abs(np.where(known & (numbers != 0), numbers, 1.0))
    digits = np.minimum(5 - np.floor(np.log10(sizes)).astype(int), 300)
    # Powers of ten are exact up to 1e22, so that the quotient is the nearest number: a short text.
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
    rounded = np.rint(np.where(known, numbers, 0.0) * up / down) * down / up
    return [value if one else None for value, one in zip(rounded.tolist(), known, strict=True)]


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
