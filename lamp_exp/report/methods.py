"""The verb methods: all methods on all tasks, what they gain, for whom, and what they cost.

All rows of a column answered the same questions with the same reader. Bounds, which read golds,
stand apart: they are neither tested nor the best.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, scored
from lamp_exp.report.footers import interval_footers, remark_footers, table_footers
from lamp_exp.report.hygiene import hygiene_footers
from lamp_exp.report.paired_examples import on_common_seeds
from lamp_exp.report.personal import gains
from lamp_exp.report.published import Published, caveats, closest_published, published_footers
from lamp_exp.report.selection import (
    DATA_VERSION,
    LABELS,
    LEARNED_FROM,
    SAME_BASELINE,
    WEIGHTS,
    Group,
    aside,
    by_model_options,
    chosen_runs,
    comparable_sets,
    grouped,
    method_words,
    reported,
    reported_personal,
    shared_words,
    telling,
)
from lamp_exp.report.table import Cell, Row, Table, interval_cell, number, percent, worth_of
from lamp_exp.report.user_cost import COST_NOTES, summary_seconds, user_cost
from lamp_exp.results.record import Record
from lamp_exp.statistics import holm
from lamp_exp.statistics.paired import SIGNIFICANT
from lamp_exp.wording import count_of

NONE, BOUND, CONTROL = "none", "bound", "control"
KINDS = (NONE, "retrieval", "learned retrieval", "summary", "adapter", "router", BOUND)
HEADS = ("kind", "method")
TRAINED_OTHERWISE = "the checkpoint was trained with"  # a remark that the line on readers replaces
ROW_LABELS = {"interval": "95% interval", "difference": "ours - published"}
Head = tuple[str, str]

add_options = add_runs


def tables(arguments: argparse.Namespace) -> list[Table]:
    records, pool = scored(arguments)
    groups = list(grouped(records).values())
    if learned_from := len(groups) - len(reported(groups)):
        print(
            f"left out, on {LEARNED_FROM}, from which others learn: "
            f"{count_of(learned_from, 'configuration')}",
            file=sys.stderr,
        )
    return methods_tables(records, pool)


def methods_tables(records: Sequence[Record], pool: Sequence[Record] = ()) -> list[Table]:
    """The tables of each setting: metrics with gains, users, and costs.

    Baselines may also be in `pool`. Raises InputError if no run has its baseline.
    """
    found = fields(records, pool)
    if not found:
        raise InputError(
            "no run that reads profiles has its baseline, the same run without a profile: "
            "run it with k=0 (+sweep=methods does)"
        )
    first, *others = [table for field in found for table in _tables_of(field)]
    columns = [column for field in found for column in field.columns]
    used = {g.configuration for column in columns for g in column.groups}
    used |= {name for column in columns for name in column.gains.index}
    personal = reported_personal(grouped(records).values())
    if left := sum(group.configuration not in used for group in personal):
        line = f"left out, without their baseline or scores: {count_of(left, 'configuration')}"
        first = replace(first, footers=(*first.footers, line))
    return [first, *others]


# --- which runs stand where --------------------------------------------------------------------


@dataclass(frozen=True)
class TaskColumn:
    """The runs of one task that answered the same questions with the same reader.

    `groups` are all but controls, without the baseline; all are on the seeds that all have.
    `gains` are those of `personal.gains`, by configuration.
    """

    task: str
    shared: Mapping[str, str]
    baseline: Group
    groups: Sequence[Group]
    gains: pd.DataFrame

    @property
    def metric(self) -> str:
        return self.baseline.first.main_metric

    @property
    def sign(self) -> int:
        return 1 if self.baseline.first.higher_is_better(self.metric) else -1

    def gain(self, group: Group) -> Any | None:
        """The group's row of `gains`; None for the baseline, and without scores."""
        known = group.configuration in self.gains.index
        return self.gains.loc[group.configuration] if known else None


@dataclass(frozen=True)
class Field:
    """The columns of one setting, the names of their rows, and the tests over all of them."""

    words: str
    columns: Sequence[TaskColumn]

    @cached_property
    def heads(self) -> dict[str, Head]:
        """The kind and name of each group, by configuration."""
        groups = [group for column in self.columns for group in column.groups]
        usual = self.usual_k
        named = {g.configuration: (kind_of(g), method_name(g, usual)) for g in groups}
        places = [(column.task, *named[g.configuration]) for column in self.columns
                  for g in column.groups]  # fmt: skip
        further = [n for n in telling(groups, places) if n not in ("task", "k")]
        if not any(number > 1 for number in Counter(places).values()):
            further = []
        for group in groups:
            kind, name = named[group.configuration]
            values = zip(further, group.effective(further), strict=True)
            words = [f"{LABELS.get(n, n)}={value}" for n, value in values if value != "none"]
            named[group.configuration] = kind, " ".join([name, *words])
        baselines = {column.baseline.configuration: (NONE, NONE) for column in self.columns}
        return baselines | named

    @property
    def usual_k(self) -> str:
        """The k that more rows show than any other; `""` if there is none."""
        groups = [group for column in self.columns for group in column.groups]
        counts = Counter(group.shown("k") for group in groups if shows_items(group))
        first, second = (*counts.most_common(2), ("", 0), ("", 0))[:2]
        return first[0] if first[1] > second[1] else ""

    @property
    def rows(self) -> list[Head]:
        """All heads, the baseline first and bounds last; k=4 before k=16."""

        def place(head: Head) -> tuple[int, list[str | int]]:
            words = re.split(r"(\d+)", head[1])  # texts and numbers in turn
            return KINDS.index(head[0]), [int(w) if w.isdecimal() else w for w in words]

        return sorted(set(self.heads.values()), key=place)

    def cells(self) -> Iterator[tuple[Head, TaskColumn, Group]]:
        """Each group with its place."""
        for column in self.columns:
            for group in (column.baseline, *column.groups):
                yield self.heads[group.configuration], column, group

    @cached_property
    def ps(self) -> dict[str, float]:
        """By configuration, p after Holm over all gains of the table but those of bounds.

        A run whose k was tuned and the run that was chosen are one test.
        """
        tests: dict[str, tuple[str, float]] = {}
        for _, column, group in self.cells():
            gain = column.gain(group)
            if gain is not None and not aside(group):
                key = repr((column.task, *chosen_runs(group)))
                tests[group.configuration] = key, gain.comparison.decisive.p
        distinct = dict(tests.values())
        corrected = dict(zip(distinct, holm(list(distinct.values())), strict=True))
        return {name: float(corrected[key]) for name, (key, _) in tests.items()}

    @cached_property
    def best(self) -> set[str]:
        """The configurations with the best value of their column, bounds left out."""
        found = set[str]()
        for column in self.columns:
            rivals = [g for g in (column.baseline, *column.groups) if not aside(g)]
            values = {g.configuration: column.sign * g.mean(column.metric) for g in rivals}
            if len(set(values.values())) > 1:
                found |= {n for n, value in values.items() if value == max(values.values())}
        return found


def fields(records: Sequence[Record], pool: Sequence[Record] = ()) -> list[Field]:
    """The settings of which there are several methods, one of them without a profile.

    Runs from which others learn are left out (`selection.reported`).
    """
    everything = grouped([*records, *pool])
    personal = reported_personal(grouped(records).values())
    if not personal:
        return []
    found: dict[str, list[TaskColumn]] = {}
    for shared, groups in comparable_sets(personal, ("task", *SAME_BASELINE)):
        for known, options, members in by_model_options(shared, groups):
            apart = {k: v for k, v in known.items() if k not in ("task", WEIGHTS, DATA_VERSION)}
            for more, own, baseline in _by_baseline(members, everything):
                column = _column(known, own, baseline)
                if column is not None:
                    words = ", ".join(filter(None, (shared_words(apart), *options, *more)))
                    found.setdefault(words, []).append(column)
    return [Field(words, columns) for words, own in found.items() for columns in _one_per_task(own)]


def _by_baseline(
    groups: Sequence[Group], everything: Mapping[str, Group]
) -> Iterator[tuple[list[str], Sequence[Group], Group]]:
    """The options in which baselines differ, the groups of each, and the baseline.

    Groups whose baseline is not there are with the others where there is a single one.
    """
    found: dict[str, list[Group]] = {}
    for group in groups:
        if (name := group.first.baseline or "") in everything:
            found.setdefault(name, []).append(group)
    baselines = [everything[name] for name in found]
    if len(baselines) == 1:
        yield [], groups, baselines[0]
        return
    names = telling(baselines)
    for baseline, own in zip(baselines, found.values(), strict=True):
        words = zip(names, baseline.effective(names), strict=True)
        yield [f"{LABELS.get(name, name)}={value}" for name, value in words], own, baseline


def _column(
    shared: Mapping[str, str], groups: Sequence[Group], baseline: Group
) -> TaskColumn | None:
    """The column of groups that share a baseline; None without scores."""
    same = on_common_seeds([*groups, baseline])
    baseline = same[baseline.configuration]
    known = [same[group.configuration] for group in groups]
    frame = gains([r for group in (*known, baseline) for r in group.records])
    if frame.empty:
        return None
    frame.index = pd.Index([group.configuration for group in frame["group"]])
    systems = [group for group in known if aside(group) != CONTROL]
    return TaskColumn(shared["task"], shared, baseline, systems, frame) if systems else None


def _one_per_task(columns: Sequence[TaskColumn]) -> Iterator[list[TaskColumn]]:
    """Columns of several readers of one task stand in different tables."""
    waiting = list(columns)
    while waiting:
        first = list({column.task: column for column in reversed(waiting)}.values())[::-1]
        yield first
        waiting = [column for column in waiting if all(column is not one for one in first)]


def shows_items(group: Group) -> bool:
    """Whether prompts show items; of a router, its candidates decide."""
    return group.first.result.routing is None and group.shown("retriever") != NONE


def kind_of(group: Group) -> str:
    """One of KINDS, by the component that makes the method what it is."""
    if aside(group) == BOUND:
        return BOUND
    for name in ("router", "adapter", "summary"):
        if group.shown(name) != NONE:
            return name
    learned = any(fact.get("group") == "retriever" for fact in group.first.result.learned)
    return "learned retrieval" if learned else "retrieval"


def method_name(group: Group, usual_k: str) -> str:
    """The components in use, and k where it is another one than usual."""
    words = method_words(group)
    if aside(group) == BOUND and words == ["oracle"]:
        words = ["oracle retriever"]
    k = group.shown("k")
    return " ".join([*words, *([f"k={k}"] if shows_items(group) and k != usual_k else [])])


# --- tables ------------------------------------------------------------------------------------


def _tables_of(field: Field) -> list[Table]:
    title = f"Methods ({field.words})"
    return [
        _metrics_table(field, title),
        _users_table(field, f"{title}: users"),
        _cost_table(field, f"{title}: cost"),
    ]


def _metrics_table(field: Field, title: str) -> Table:
    found: dict[Head, dict[str, dict[str, Any]]] = {}
    published: list[tuple[Record, str, Published]] = []
    for head, column, group in field.cells():
        row = found.setdefault(head, {})
        for kind, cells in _metric_cells(field, column, group, published).items():
            row.setdefault(kind, {}).update(cells)
    rows = [
        Row(head, found[head][kind], kind)
        for head in field.rows
        for kind in ("value", "interval", "published", "difference")
        if kind in found[head]
    ]
    names = [name for column in field.columns for name in _names(column)]
    footers = table_footers(
        [group for *_, group in field.cells()], _shown_options(field),
        *_questions(field), *_gain_notes(field), *published_footers(published),
        *hygiene_footers(_by_head(field), field.usual_k),
        *(line for line in remark_footers(_records(field)) if TRAINED_OTHERWISE not in line),
    )  # fmt: skip
    return Table.of(title, HEADS, rows, footers, ROW_LABELS, names)


def _names(column: TaskColumn) -> tuple[str, str]:
    return f"{column.task} {column.metric}", f"{column.task} gain"


def _metric_cells(
    field: Field,
    column: TaskColumn,
    group: Group,
    published: list[tuple[Record, str, Published]],
) -> dict[str, dict[str, Any]]:
    """The cells of a group by the kinds of rows; its published number is added to `published`."""
    value, gained = _names(column)
    cells: dict[str, dict[str, Any]] = {"value": {value: _value_cell(field, column, group)}}
    gain = column.gain(group)
    if gain is not None:
        p = field.ps.get(group.configuration)
        mark = "*" if p is not None and p < SIGNIFICANT else ""
        worth = worth_of(gain.comparison.verdict) if mark else ""
        cell = number(gain.gain, 3, sign=True, worth=worth)
        parts = {} if p is None else {"p (Holm)": p}
        cells["value"][gained] = Cell(f"{cell.text}{mark}", cell.value, worth=worth, parts=parts)
        cells["interval"] = {gained: interval_cell(gain.interval, 3, sign=True)}
    one = closest_published(group.first, column.metric)
    if one is not None:
        faults = list(caveats(group.first, one))
        marks = ("†" if faults else "") + ("‡" if one.vague else "")
        note = "; ".join([*faults, *one.vague])
        cells["published"] = {value: Cell(f"{one.value:.3f}{marks}", one.value, note=note)}
        published.append((group.first, column.metric, one))
        if not faults:
            difference = number(group.mean(column.metric) - one.value, 3, sign=True)
            cells["difference"] = {value: difference}
    return cells


def _value_cell(field: Field, column: TaskColumn, group: Group) -> Cell:
    mean, sd = group.mean(column.metric), group.sd(column.metric)
    best = group.configuration in field.best
    text = f"{mean:.3f}" + ("" if sd is None else f" ± {sd:.3f}")
    parts = {} if sd is None else {"sd": sd}
    return Cell(text, mean, best=best, parts=parts, note="best" if best else "")


def _users_table(field: Field, title: str) -> Table:
    rows = _empty_rows(field)
    for head, column, group in field.cells():
        gain = column.gain(group)
        if gain is None:
            continue
        rows[head] |= {
            f"{column.task} helped": percent(gain.helped),
            f"{column.task} hurt": percent(gain.hurt),
            f"{column.task} gain": number(gain.gain, 3, sign=True),
        }
        if column.gains["control"].notna().any():
            rows[head][f"{column.task} by another's"] = number(gain.control, 3, sign=True)
    known = list(_gains(field))
    without = sum(pd.isna(gain.control) for gain in known)
    notes = [
        "helped, hurt: the share of users whose mean score is better, or worse, than without a "
        "profile"
    ]
    if without < len(known):
        notes.append(
            "by another's: the gain of the same run with the profile of another user "
            "(profile.control=shuffled_user)"
        )
        notes += [f"without such a control run: {count_of(without, 'number')}"] if without else []
    else:
        notes.append("no run has the profiles of other users (profile.control=shuffled_user)")
    return Table.of(title, HEADS, [Row(h, c) for h, c in rows.items() if c], notes)


def _cost_table(field: Field, title: str) -> Table:
    rows, records = _empty_rows(field), _records(field)
    seconds = summary_seconds(records)
    for head, column, group in field.cells():
        asked = group.first.questions
        counts = [record.result.counts for record in group.records]
        read = sum(c.get("prompt_tokens", 0) + c.get("output_tokens", 0) for c in counts)
        answering = sum(
            sum(record.result.seconds.get(stage, 0.0) for stage in ("rank", "prompts", "predict"))
            for record in group.records
        )
        each = asked * len(group.records)
        costs = user_cost(group, seconds)
        rows[head] |= {
            f"{column.task} tokens": number(read / each, 1),
            f"{column.task} ms": number(1000 * answering / each, 1),
            f"{column.task} s a user": number(costs["s a user"], 3),
            f"{column.task} bytes a user": number(costs["bytes a user"], 0),
            f"{column.task} s once": number(costs["s once"], 1),
        }
    notes = [
        "tokens, ms: of a question, read and written, and of ranking, prompts and answers; of a "
        "routed run, ms are of all its candidates, tokens of the chosen one",
        *COST_NOTES,
    ]
    return Table.of(title, HEADS, [Row(head, cells) for head, cells in rows.items()], notes)


def _empty_rows(field: Field) -> dict[Head, dict[str, Any]]:
    return {head: {} for head in field.rows}


# --- footers -----------------------------------------------------------------------------------


def _records(field: Field) -> list[Record]:
    return [record for *_, group in field.cells() for record in group.records]


def _gains(field: Field) -> list[Any]:
    found = (column.gain(group) for _, column, group in field.cells())
    return [gain for gain in found if gain is not None]


def _by_head(field: Field) -> dict[str, list[Group]]:
    """The groups of each row, over its tasks, by its name."""
    found: dict[str, list[Group]] = {head[1]: [] for head in field.rows}
    for head, _, group in field.cells():
        found[head[1]].append(group)
    return found


def _shown_options(field: Field) -> Iterable[str]:
    """What rows and title name already; the data of a task's parts follow from the task."""
    named = [word.partition("=")[0] for _, name in field.rows for word in name.split()]
    components = ("retriever", "summary", "adapter", "router", "augmentation", "k", "pool")
    return [*named, *components, "task", WEIGHTS, *SAME_BASELINE]


def _questions(field: Field) -> list[str]:
    lines = []
    for column in field.columns:
        questions = count_of(column.baseline.first.questions, "question")
        seeds = count_of(len(column.baseline.records), "seed")
        lines.append(f"{column.task}: the same {questions}, {seeds}")
    return ["; ".join(lines)]


def _gain_notes(field: Field) -> list[str]:
    found = _gains(field)
    intervals = [one.interval for one in found]
    tests = ", ".join(sorted({one.comparison.decisive.name for one in found}))
    methods = "; ".join(sorted({one.method for one in intervals}))
    gains_tested = count_of(len(set(field.ps)), "gain")
    return [
        "gain: over the same reader without a profile (none), above zero is better, whatever the "
        f"metric's direction; 95% interval: {methods}",
        f"*: p < {SIGNIFICANT:g} after Holm over {gains_tested} of the table "
        f"({tests}); bounds are not tested",
        "bold: the best of its column; a bound reads the golds, and is no system: the oracle "
        "retriever goes by single items, of which sets may do better; the oracle router by its "
        "candidates",
        *interval_footers(intervals),
    ]
