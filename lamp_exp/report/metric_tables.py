"""The verbs table, ablation, table2, table3 and table4: metrics of runs in rows and columns.

Each number has its spread over seeds, its interval, a test against the baseline, and the published
number of the same system.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from lamp_exp.errors import InputError
from lamp_exp.options import PERSONAL_GROUPS, parse_value
from lamp_exp.report.cli_arguments import add_runs, check_range, scored
from lamp_exp.report.footers import (
    LISTED,
    interval_footers,
    number_range,
    system_words,
    table_footers,
)
from lamp_exp.report.layouts import LAYOUTS, METRIC, Layout
from lamp_exp.report.paired_examples import on_common_seeds, pair, pooled
from lamp_exp.report.published import (
    caveats,
    closest_published,
    published_cell,
    published_footers,
)
from lamp_exp.report.selection import (
    SEPARATE,
    UNKNOWN,
    WEIGHTS,
    Group,
    aside,
    check_properties,
    chosen_runs,
    comparable_sets,
    grouped,
    order,
    same_questions,
    select,
    shared_words,
    telling,
)
from lamp_exp.report.table import Cell, Row, Table, interval_cell, number
from lamp_exp.results.record import Record
from lamp_exp.statistics import compare, holm, interval
from lamp_exp.statistics.paired import SIGNIFICANT
from lamp_exp.wording import count_of

LABELS = {"interval": "95% interval", "difference": "ours - published"}
THEIR_OWN = {"mode", "model", WEIGHTS}  # of imported predictions, what names the system
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is shown of each number.

    `resamples` asks for a bootstrap for metrics that are no means; 0 is the jackknife.
    """

    digits: int = 3
    intervals: bool = True
    tests: bool = True
    published: bool = True
    resamples: int = 0


# --- the verbs ---------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add = parser.add_argument
    if parser.prog.endswith(" table"):
        rows = "properties of runs, or metric (default: task metric retriever)"
        add("--rows", nargs="+", default=["task", METRIC, "retriever"], metavar="KEY", help=rows)
        add("--columns", nargs="+", default=["k"], metavar="KEY", help="likewise (default: k)")
    resamples = "intervals of macro F1 and RMSE by N resamples (BCa) instead of the jackknife"
    add("--digits", type=int, default=3, help="after the point (default: 3)")
    add("--bootstrap", type=int, default=0, metavar="N", help=resamples)
    add("--no-intervals", action="store_true", help="only the numbers themselves")
    add("--no-tests", action="store_true", help="no marks of significance")
    add("--no-published", action="store_true", help="no published numbers")


def tables(arguments: argparse.Namespace) -> list[Table]:
    check_range("digits", arguments.digits, 0, 12)
    check_range("bootstrap", arguments.bootstrap, 0, 100_000)
    options = TableOptions(
        digits=arguments.digits,
        intervals=not arguments.no_intervals,
        tests=not arguments.no_tests,
        published=not arguments.no_published,
        resamples=arguments.bootstrap,
    )
    layout = LAYOUTS.get(arguments.verb) or _own_layout(arguments.rows, arguments.columns)
    records, pool = scored(arguments)
    return metric_tables(records, layout, options, pool)


def _own_layout(rows: Sequence[str], columns: Sequence[str]) -> Layout:
    metric = () if METRIC in (*rows, *columns) else (METRIC,)
    return Layout("Runs", (*rows, *metric), by=tuple(columns))


# --- which run stands where --------------------------------------------------------------------


def metric_tables(
    records: Sequence[Record],
    layout: Layout,
    options: TableOptions = TableOptions(),
    pool: Sequence[Record] = (),
) -> list[Table]:
    """A table per set of comparable runs. Raises InputError if no run fits the layout.

    Baselines to test against may also be in `pool`.
    """
    check_properties(records, layout.keys)
    chosen = grouped(_records_of(layout, records)).values()
    groups = [group for group in chosen if layout.column(group) is not None]
    if not groups:
        wanted = " ".join(layout.where) or "any run with metrics"
        raise InputError(f"no run fits this table ({layout.title}: {wanted})")
    baselines = grouped([*records, *pool])
    made = [
        _table(shared, members, layout, options, baselines)
        for shared, members in _sets(groups, layout)
    ]
    if unfit := [group for group in chosen if group not in groups]:
        named = "; ".join(dict.fromkeys(f"{g.first.task} {system_words(g)}" for g in unfit))
        line = (
            f"{count_of(len(unfit), 'configuration')} without a column in this layout, which "
            f"`table` and `ablation` show: {textwrap.shorten(named, 200, placeholder=' …')}"
        )
        made = [replace(table, footers=(*table.footers, line)) for table in made]
    return made


def _records_of(layout: Layout, records: Sequence[Record]) -> list[Record]:
    """The records of the layout; imported ones are of any mode, as they do not say it."""
    own = [record for record in records if not record.imported]
    imported = [record for record in records if record.imported]
    without_mode = [condition for condition in layout.where if not condition.startswith("mode=")]
    return [*select(own, layout.where), *select(imported, without_mode)]


def _sets(groups: Sequence[Group], layout: Layout) -> list[tuple[dict[str, str], list[Group]]]:
    """Groups that may stand in one table, and the properties that they share.

    Imported predictions stand in each table of runs that answered the same questions.
    """
    keys = [key for key in SEPARATE if key not in {*layout.rows, *layout.by}]
    sets = comparable_sets(groups, keys)
    own = [(shared, members) for shared, members in sets if not members[0].first.imported]
    for shared, members in sets:
        if not members[0].first.imported:
            continue
        said = {n: v for n, v in shared.items() if v != UNKNOWN and n not in THEIR_OWN}
        same = [others for place, others in own if said.items() <= place.items()]
        for others in same:
            others += members
        if not same:
            own.append(({n: said.get(n, UNKNOWN) for n in shared}, members))
    return own


def _table(
    shared: Mapping[str, str],
    groups: Sequence[Group],
    layout: Layout,
    options: TableOptions,
    baselines: Mapping[str, Group],
) -> Table:
    groups, baselines, seed_notes = _on_same_seeds(groups, baselines)
    groups = sorted(groups, key=lambda group: [order(group.facet(key)) for key in layout.keys])
    entries = _entries(groups, options, baselines)
    extra = telling(groups, [layout.cell(group, group.first.main_metric) for group in groups])
    extra = [*_parts_in_use(groups, {*extra, *layout.keys}), *extra]
    found: dict[Place, dict[str, Any]] = {}
    for entry in entries.itertuples():
        for head in _heads(entry.group, entry.metric, groups, layout):
            row = found.setdefault((*head, *entry.group.effective(extra)), {})
            row[layout.label(entry.group, entry.metric)] = entry
    labels = dict.fromkeys(layout.label(e.group, e.metric) for e in entries.itertuples())
    metrics = list(entries["metric"].unique())
    rows = [
        row
        for head in sorted(found, key=lambda head: _row_order(head, metrics))
        for row in _rows(head, found[head], options.digits)
    ]
    heads = (*layout.rows, *extra)
    named = {*heads, *layout.by, *shared, *(key for own in layout.columns.values() for key in own)}
    footers = [*_footers(entries, groups, named), *seed_notes, *_best_notes(entries)]
    title = f"{layout.title} ({shared_words(shared)})"
    columns = dict.fromkeys([*(label for label in layout.columns if label in labels), *labels])
    return Table.of(title, heads, rows, footers, LABELS, columns)


def _parts_in_use(groups: Sequence[Group], named: Collection[str]) -> list[str]:
    """The personal parts besides retrieval that a group has, but for those that are `named`."""
    return [
        name
        for name in PERSONAL_GROUPS
        if name not in named and any(group.effective([name]) != ("none",) for group in groups)
    ]


def _on_same_seeds(
    groups: Sequence[Group], baselines: Mapping[str, Group]
) -> tuple[list[Group], dict[str, Group], list[str]]:
    """Groups and baselines on the seeds that all of the same questions have; what is left out."""
    families: dict[Place, list[Group]] = {}
    for group in groups:
        families.setdefault(same_questions(group), []).append(group)
    reduced: dict[str, Group] = {}
    notes: list[str] = []
    for members in families.values():
        its = [baselines.get(g.first.baseline or "") for g in members]
        records = [record for group in (*members, *its) if group for record in group.records]
        needed = list(grouped(records).values())
        same = on_common_seeds(needed)
        notes += _seed_notes(needed, same)
        reduced |= same
    return [reduced[g.configuration] for g in groups], reduced, notes


def _seed_notes(groups: Sequence[Group], reduced: Mapping[str, Group]) -> list[str]:
    """Which seeds of which runs are left out, so that all numbers are of the same seeds."""
    left_out = []
    for group in groups:
        seeds = [seed for seed in group.seeds if seed not in reduced[group.configuration].seeds]
        if seeds:
            left_out.append(f"{system_words(group)}: {', '.join(map(str, seeds))}")
    task = groups[0].first.task
    if left_out:
        named = "; ".join(left_out[:LISTED])
        more = f"; and of {len(left_out) - LISTED} more" if len(left_out) > LISTED else ""
        return [f"{task}: seeds left out, as not all runs compared here have them ({named}{more})"]
    if len({group.seeds for group in groups if not group.first.imported}) > 1:
        return [f"{task}: the runs have no seed in common: each number is of its own seeds"]
    return []


def _entries(
    groups: Sequence[Group], options: TableOptions, baselines: Mapping[str, Group]
) -> pd.DataFrame:
    """A row for each number: a metric of runs that differ only in their seeds.

    `comparison` is with the baseline, over the same seeds; `p` is adjusted for all of them, a tuned
    run and its choice being one test. `best` are, as rounded, the best of the same questions, seeds
    and metric, unless all are equal; bounds and controls, which are `aside`, are none of these.
    `caveats` say why `published` is not comparable.
    """
    family = sum(len(g.first.metrics) for g in groups if g.first.baseline in baselines)
    frame = pd.DataFrame(
        [
            _entry(g, metric, options, baselines, family)
            for g in groups
            for metric in g.first.metrics
        ],
        dtype=object,
    )
    tests = frame.loc[frame["comparison"].notna()].drop_duplicates("test")
    ps = holm([one.decisive.p for one in tests["comparison"]])
    adjusted = frame["test"].map(dict(zip(tests["test"], ps, strict=True))).astype(float)
    frame["p"] = adjusted.where(frame["comparison"].notna())
    means = frame["mean"].astype(float).round(options.digits) * frame["sign"].astype(int)
    means = means.where(frame["aside"] == "")
    known_seeds = frame["seeds"].where(frame["aside"] == "")
    rivals, seeds = means.groupby(frame["rivals"]), known_seeds.groupby(frame["rivals"])
    best = (means == rivals.transform("max")) & (rivals.transform("nunique") > 1)
    frame["best"] = best & (seeds.transform("nunique") <= 1)
    return frame


def _entry(
    group: Group, metric: str, options: TableOptions, baselines: Mapping[str, Group], family: int
) -> dict[str, Any]:
    facts, imported = group.first.facts(metric), group.first.imported
    sample = pooled(group, metric) if options.intervals else None
    baseline = baselines.get(group.first.baseline or "")
    tested = options.tests and baseline is not None and baseline.seeds == group.seeds
    samples = pair(baseline, group, metric) if tested and baseline else None
    published = closest_published(group.first, metric) if options.published else None
    return {
        "group": group,
        "metric": metric,
        "mean": group.mean(metric),
        "sign": 1 if facts.higher_is_better else -1,
        "rule": facts.description,
        "aside": aside(group),
        "rivals": repr((*same_questions(group), metric)),
        "seeds": None if imported else repr(group.seeds),
        "test": repr((*chosen_runs(group), metric)),
        "interval": None if sample is None else interval(sample, resamples=options.resamples),
        "comparison": compare(*samples, thorough=False, family=family) if samples else None,
        "published": published,
        "caveats": list(caveats(group.first, published)) if published else [],
    }


def _row_order(head: Place, metrics: Sequence[str]) -> list[tuple[int, float, str]]:
    """Words by the alphabet, numbers by size, metrics in the order of their tasks."""
    return [(1, metrics.index(w), "") if w in metrics else order(parse_value(w)) for w in head]


def _heads(group: Group, metric: str, groups: Sequence[Group], layout: Layout) -> list[Place]:
    """The heads of the group's rows.

    Where k makes the columns, baselines and imported predictions stand in each row that differs
    from theirs only in how items are chosen and shown.
    """
    own = layout.head(group, metric)
    if group.first.personal or "k" not in layout.by:
        return [own]
    free = {"retriever", "augmentation", *(THEIR_OWN if group.first.imported else ())}
    fixed = [n for n, key in enumerate(layout.rows) if key not in free and own[n] != UNKNOWN]
    others = dict.fromkeys(layout.head(g, metric) for g in groups if g.first.personal)
    alike = [head for head in others if all(head[n] == own[n] for n in fixed)]
    return alike or [own]


# --- cells and footers -------------------------------------------------------------------------


def _rows(head: Place, entries: Mapping[str, Any], digits: int) -> Iterator[Row]:
    """A row, and below it intervals, published numbers, and the difference to them."""
    yield Row(head, {label: _value_cell(entry, digits) for label, entry in entries.items()})
    kinds: dict[str, dict[str, Cell]] = {"interval": {}, "published": {}, "difference": {}}
    for label, entry in entries.items():
        if entry.interval:
            kinds["interval"][label] = interval_cell(entry.interval, digits)
        if one := entry.published:
            kinds["published"][label] = published_cell(one, entry.caveats, digits)
        if one and not entry.caveats:
            difference = entry.mean - one.value
            worth = ("good" if difference * entry.sign > 0 else "bad") if difference else ""
            kinds["difference"][label] = number(difference, digits, sign=True, worth=worth)
    yield from (Row(head, cells, kind) for kind, cells in kinds.items() if cells)


def _value_cell(entry: Any, digits: int) -> Cell:
    sd = entry.group.sd(entry.metric)
    spread = "" if sd is None else f" ± {sd:.{digits}f}"
    mark = "*" if entry.p < SIGNIFICANT else ""
    parts = {"seeds": float(len(entry.group.records)), "sd": sd, "p (Holm)": entry.p}
    known = {name: v for name, v in parts.items() if v is not None and not math.isnan(v)}
    note = "best" if entry.best else ""
    text = f"{entry.mean:.{digits}f}{spread}{mark}"
    return Cell(text, entry.mean, best=entry.best, parts=known, note=note)


def _footers(entries: pd.DataFrame, groups: Sequence[Group], named: Collection[str]) -> list[str]:
    """What a reader must know, the most important first; `named` is what the table itself shows."""
    seeds = [len(group.records) for group in groups]
    questions = [group.first.questions for group in groups]
    plural = "s" if max(seeds) > 1 else ""
    rules = entries["metric"].groupby(entries["rule"], sort=False).unique()
    intervals = entries["interval"].dropna()
    methods = entries["metric"].groupby(intervals.map(lambda one: one.method)).unique()
    published = entries[entries["published"].notna()]
    return table_footers(
        groups,
        named,
        f"each number: {number_range(seeds)} seed{plural} of {number_range(questions)} questions",
        *(f"{', '.join(names)}: {rule}"
          for rule, names in rules.items() if rule),
        *(["±: sample standard deviation over the seeds"] if max(seeds) > 1 else []),
        *(f"95% interval over questions ({', '.join(sorted(metrics))}): {method}"
          for method, metrics in methods.items()),
        *interval_footers(intervals, [one.difference for one in entries["comparison"].dropna()]),
        *_test_notes(entries),
        *published_footers(
            [(e.group.first, e.metric, e.published) for e in published.itertuples()]
        ),
        remarks=True,
    )  # fmt: skip


def _best_notes(entries: pd.DataFrame) -> list[str]:
    if not entries["best"].any():
        return []
    reasons = sorted({reason for reason in entries["aside"] if reason})
    but = f", but for runs that are no system ({', '.join(reasons)})" if reasons else ""
    return [f"bold: the best of its task and metric in this table{but}"]


def _test_notes(entries: pd.DataFrame) -> list[str]:
    compared = list(entries["comparison"].dropna())
    if not compared:
        return []
    used = ", ".join(sorted({one.decisive.name for one in compared}))
    lines = [
        f"*: differs from the same run without a profile, p < {SIGNIFICANT:g} after Holm over the "
        f"table ({used})"
    ]
    untested = entries.loc[entries["comparison"].isna(), "group"]
    if alone := sum(group.first.personal for group in untested):
        lines.append(f"{alone} without that run, or of other seeds: not tested")
    return ["; ".join(lines)]
