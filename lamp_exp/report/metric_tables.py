"""The verbs table, ablation, table2, table3 and table4: metrics of runs in rows and columns.

Each number has its spread over seeds, its interval, a test against the baseline, and the published
number of the same system.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamp_exp.errors import InputError
from lamp_exp.options import OPTIONS
from lamp_exp.report.cli_arguments import add_format, add_runs, check_range, scored, write
from lamp_exp.report.footers import metric_footers, seed_footers
from lamp_exp.report.layouts import LAYOUTS, METRIC, Layout
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import on_common_seeds, pair, pooled
from lamp_exp.report.published import Published, caveats, closest_published, vague
from lamp_exp.report.selection import (
    FACETS,
    UNKNOWN,
    Group,
    chosen_runs,
    effective,
    grouped,
    in_order,
    order,
    select,
    shown,
    telling,
)
from lamp_exp.report.table import Cell, Row, Table, interval_cell
from lamp_exp.statistics import Comparison, Interval, compare, holm, interval

# Properties in which runs of one table may differ: methods and their settings. Runs that differ in
# any other one are in different tables, unless it is a row or column.
MAY_DIFFER = {
    "task", "retriever", "k", "k_values", "augmentation", "seed", "max_length", "max_new_tokens",
}  # fmt: skip
SEPARATE = (
    "data",
    *(
        name
        for name in FACETS
        if name not in MAY_DIFFER and name != "data" and not name.startswith("training.")
    ),
)
NOT_IMPORTED = {"mode", "model", "weights", "selection"}  # what imported predictions do not say
SAME_QUESTIONS = ("data", "split", "part", "limit", "fixes")
ALWAYS_IN_TITLES = {"task", "data", "split", "part", "mode", "model"}
DATA_VERSION = "questions"  # set where runs of one task and part answered different ones
USUAL = {(option.label, shown(option.default)) for option in OPTIONS.values()}
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
    level: float = 0.95
    alpha: float = 0.05
    resamples: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of a table: a metric of runs that differ only in their seeds.

    `comparison` is with the baseline, over the same seeds.
    """

    group: Group
    metric: str
    interval: Interval | None
    comparison: Comparison | None = None
    published: Published | None = None

    @property
    def mean(self) -> float:
        """The number shown."""
        return self.group.mean(self.metric)

    @property
    def higher_is_better(self) -> bool:
        """The metric's direction."""
        return self.group.first.higher_is_better(self.metric)

    @property
    def caveats(self) -> list[str]:
        """Why the published number is not comparable."""
        return caveats(self.group.first, self.published) if self.published else []


@dataclass
class TableEntries:
    """The entries of one table, by row and column.

    `shared` are the properties that all runs of the table share, `p_values` the adjusted p-values
    by the identity (`id`) of their entry. `seed_notes` name the seeds that are left out.
    """

    shared: Mapping[str, str]
    rows: dict[Place, dict[str, Entry]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    heads: tuple[str, ...] = ()
    p_values: dict[int, float] = field(default_factory=dict)
    seed_notes: tuple[str, ...] = ()

    @property
    def entries(self) -> list[Entry]:
        """All entries; one that stands in several rows is repeated."""
        return [entry for row in self.rows.values() for entry in row.values()]


# --- the verbs ---------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Rows and columns, and what is shown of each number."""
    add_runs(parser)
    add_format(parser)
    if parser.prog.endswith(" table"):
        parser.add_argument(
            "--rows", nargs="+", default=["task", METRIC, "retriever"], metavar="KEY",
            help="properties of runs, or metric (default: task metric retriever)",
        )  # fmt: skip
        parser.add_argument(
            "--columns", nargs="+", default=["k"], metavar="KEY", help="likewise (default: k)"
        )
    parser.add_argument("--digits", type=int, default=3, help="after the point (default: 3)")
    parser.add_argument(
        "--bootstrap", type=int, default=0, metavar="N",
        help="intervals of macro F1 and RMSE by N resamples (BCa) instead of the jackknife",
    )  # fmt: skip
    parser.add_argument("--no-intervals", action="store_true", help="only the numbers themselves")
    parser.add_argument("--no-tests", action="store_true", help="no marks of significance")
    parser.add_argument("--no-published", action="store_true", help="no published numbers")


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables."""
    check_range("digits", arguments.digits, 0, 12)
    check_range("bootstrap", arguments.bootstrap, 0, 100_000)
    options = TableOptions(
        digits=arguments.digits,
        intervals=not arguments.no_intervals,
        tests=not arguments.no_tests,
        published=not arguments.no_published,
        resamples=arguments.bootstrap,
    )
    layout = LAYOUTS.get(arguments.verb) or _own_layout(arguments)
    records, pool = scored(arguments)
    write(metric_tables(records, layout, options, pool), arguments)
    return 0


def _own_layout(arguments: argparse.Namespace) -> Layout:
    rows = arguments.rows
    if METRIC not in (*rows, *arguments.columns):
        rows = [*rows, METRIC]
    return Layout("Runs", tuple(rows), by=tuple(arguments.columns))


# --- which run stands where --------------------------------------------------------------------


def metric_tables(
    records: Sequence[Record],
    layout: Layout,
    options: TableOptions,
    pool: Sequence[Record] = (),
) -> list[Table]:
    """One table per set of comparable runs. Raises InputError if no run fits the layout.

    Baselines to test against may also be in `pool`.
    """
    chosen = grouped(_records_of(layout, records)).values()
    groups = [group for group in chosen if _column(group, layout) is not None]
    if not groups:
        wanted = " ".join(layout.where) or "any run with metrics"
        raise InputError(f"no run fits this table ({layout.title}: {wanted})")
    baselines = grouped([*records, *pool])
    made = [
        _table(_table_entries(shared, members, layout, options, baselines), layout, options)
        for shared, members in _comparable_sets(groups, layout)
    ]
    if unfit := len(chosen) - len(groups):
        line = (
            f"{unfit} configurations fit no column of this layout; `table` and `ablation` show all"
        )
        made = [replace(table, footers=(*table.footers, line)) for table in made]
    return made


def _records_of(layout: Layout, records: Sequence[Record]) -> list[Record]:
    """The records of the layout; imported ones are of any mode, as they do not say it."""
    own = [record for record in records if not record.imported]
    imported = [record for record in records if record.imported]
    without_mode = [condition for condition in layout.where if not condition.startswith("mode=")]
    return [*select(own, layout.where), *select(imported, without_mode)]


def _comparable_sets(
    groups: Sequence[Group], layout: Layout
) -> list[tuple[dict[str, str], list[Group]]]:
    """Groups that may stand in one table, and the properties that they share.

    Imported predictions stand in each table of runs that answered the same questions.
    """
    keys = [key for key in SEPARATE if key not in {*layout.rows, *layout.by}]
    known = [key for key in keys if key not in NOT_IMPORTED]
    versions = data_versions(groups)
    found: dict[Place, list[Group]] = {}
    for group in groups:
        if not group.first.imported:
            found.setdefault((*_place(group, keys), versions[group]), []).append(group)
    for group in groups:
        if group.first.imported:
            place = (*_place(group, known), versions[group])
            same = [
                members
                for members in found.values()
                if (*_place(members[0], known), versions[members[0]]) == place
            ]
            unknown = tuple(UNKNOWN if k in NOT_IMPORTED else shown(group.facet(k)) for k in keys)
            for members in same or [found.setdefault((*unknown, versions[group]), [])]:
                members.append(group)
    return [
        (dict(zip([*keys, DATA_VERSION], place, strict=True)), found[place])
        for place in sorted(found, key=lambda place: list(map(order, place)))
    ]


def data_versions(groups: Sequence[Group]) -> dict[Group, str]:
    """The version of the questions that each group answered: `none` for the usual one."""
    counts: dict[Place, Counter[str]] = {}
    for group in groups:
        place = _place(group, ("task", "split", "part"))
        counts.setdefault(place, Counter())[group.first.comparable_key[1]] += 1
    versions = {}
    for group in groups:
        fingerprint = group.first.comparable_key[1]
        usual, _ = counts[_place(group, ("task", "split", "part"))].most_common(1)[0]
        versions[group] = "none" if fingerprint == usual else fingerprint
    return versions


def _place(group: Group, keys: Sequence[str]) -> Place:
    return tuple(shown(group.facet(key)) for key in keys)


def _column(group: Group, layout: Layout) -> str | None:
    """The label of the group's column, `""` where metrics are the columns; None without one."""
    if group.first.imported and (layout.columns or "k" in layout.by):
        return shown(group.facet("model"))
    if layout.columns:
        return next((c.label for c in layout.columns if c.takes(group.first)), None)
    named = [(key, group.facet(key)) for key in layout.by if key != METRIC]
    return " ".join(f"{key}={shown(value)}" for key, value in named)


def _table_entries(
    shared: Mapping[str, str],
    groups: Sequence[Group],
    layout: Layout,
    options: TableOptions,
    baselines: Mapping[str, Group],
) -> TableEntries:
    groups, baselines, seed_notes = _on_same_seeds(groups, baselines)
    family = sum(len(g.first.metrics) for g in groups if g.first.baseline in baselines)
    extra = _further_heads(groups, layout)
    table = TableEntries(shared, heads=(*layout.rows, *extra), seed_notes=seed_notes)
    for group in sorted(groups, key=lambda group: _sorting_key(group, layout)):
        for metric in group.first.metrics:
            entry = _entry(group, metric, options, baselines, family)
            column = _label(group, metric, layout)
            for head in _heads(group, metric, groups, layout):
                row = table.rows.setdefault((*head, *_option_values(group, extra)), {})
                row[column] = entry
            if column not in table.columns:
                table.columns.append(column)
    if layout.columns:
        own = [c.label for c in layout.columns if c.label in table.columns]
        table.columns = [*own, *(label for label in table.columns if label not in own)]
    metrics = list(dict.fromkeys(metric for group in groups for metric in group.first.metrics))
    table.rows = dict(sorted(table.rows.items(), key=lambda row: _row_order(row[0], metrics)))
    table.p_values = _adjusted_p_values(table.entries)
    return table


def _on_same_seeds(
    groups: Sequence[Group], baselines: Mapping[str, Group]
) -> tuple[list[Group], dict[str, Group], tuple[str, ...]]:
    """Groups and baselines on the seeds that all of the same questions have; what is left out."""
    families: dict[Place, list[Group]] = {}
    for group in groups:
        families.setdefault(_questions(group), []).append(group)
    reduced: dict[str, Group] = {}
    notes: list[str] = []
    for members in families.values():
        needed = {g.configuration: g for g in members}
        its = [baselines.get(g.first.baseline or "") for g in members]
        needed |= {g.configuration: g for g in its if g is not None}
        ordered = in_order(needed.values())
        same = on_common_seeds(ordered)
        notes += seed_footers(ordered, same)
        reduced |= same
    return [reduced[g.configuration] for g in groups], reduced, tuple(notes)


def _questions(group: Group) -> Place:
    """Equal for groups that answered the same questions."""
    return (*group.first.comparable_key, *_place(group, SAME_QUESTIONS))


def _adjusted_p_values(entries: Sequence[Entry]) -> dict[int, float]:
    """Holm's p-values by entry; a tuned run and the run that it chose are one hypothesis."""
    raw = {
        (chosen_runs(entry.group), entry.metric): entry.comparison.tests[0].p
        for entry in entries
        if entry.comparison
    }
    adjusted = dict(zip(raw, holm(list(raw.values())), strict=True))
    return {
        id(entry): float(adjusted[chosen_runs(entry.group), entry.metric])
        for entry in entries
        if entry.comparison
    }


def _row_order(head: Place, metrics: Sequence[str]) -> list[tuple[int, float, str]]:
    """Words by the alphabet, numbers by size, metrics in the order of their tasks."""
    return [(1, metrics.index(w), "") if w in metrics else order(_number(w)) for w in head]


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:  # most heads are words
        return word


def _heads(group: Group, metric: str, groups: Sequence[Group], layout: Layout) -> list[Place]:
    """The heads of the group's rows.

    Where k makes the columns, baselines and imported predictions stand in each row that differs
    from theirs only in how items are chosen and shown.
    """
    own = _head(group, metric, layout)
    if group.first.personal or "k" not in layout.by:
        return [own]
    names = {"retriever", "augmentation", *(NOT_IMPORTED if group.first.imported else ())}
    free = [n for n, key in enumerate(layout.rows) if key in names]
    others = dict.fromkeys(_head(g, metric, layout) for g in groups if g.first.personal)
    alike = [head for head in others if _masked(head, free) == _masked(own, free)]
    return alike or [own]


def _masked(head: Place, free: Sequence[int]) -> Place:
    return tuple("" if n in free else word for n, word in enumerate(head))


def _sorting_key(group: Group, layout: Layout) -> list[tuple[int, float, str]]:
    keys = [key for key in (*layout.by, *layout.rows) if key != METRIC]
    return [order(group.facet(key)) for key in keys]


def _head(group: Group, metric: str, layout: Layout) -> Place:
    return tuple(metric if key == METRIC else shown(group.facet(key)) for key in layout.rows)


def _label(group: Group, metric: str, layout: Layout) -> str:
    label = _column(group, layout) or ""
    return f"{label} {metric}".strip() if METRIC not in layout.rows else label or "value"


def _further_heads(groups: Sequence[Group], layout: Layout) -> list[str]:
    """The options that tell groups apart which would otherwise share a cell."""
    places: dict[Place, list[Group]] = {}
    for group in groups:
        metric = group.first.main_metric
        place = (*_head(group, metric, layout), _label(group, metric, layout))
        places.setdefault(place, []).append(group)
    chosen: list[str] = []
    for members in places.values():
        for name in telling(members):
            if len({_option_values(group, chosen) for group in members}) == len(members):
                break
            chosen += [] if name in chosen else [name]
    return chosen


def _option_values(group: Group, names: Iterable[str]) -> Place:
    return tuple(shown(effective(group, name)) for name in names)


def _entry(
    group: Group,
    metric: str,
    options: TableOptions,
    baselines: Mapping[str, Group],
    family: int,
) -> Entry:
    sample = pooled(group, metric) if options.intervals else None
    baseline = baselines.get(group.first.baseline or "")
    tested = options.tests and baseline is not None and baseline.seeds == group.seeds
    samples = pair(baseline, group, metric) if tested and baseline else None
    comparison = None
    if samples:
        comparison = compare(*samples, level=options.level, thorough=False, family=family)
    return Entry(
        group,
        metric,
        None if sample is None else interval(sample, options.level, options.resamples),
        comparison,
        closest_published(group.first, metric) if options.published else None,
    )


# --- cells -------------------------------------------------------------------------------------


def _table(content: TableEntries, layout: Layout, options: TableOptions) -> Table:
    best = _best(content, options.digits)
    rows: list[Row] = []
    for head, entries in content.rows.items():
        cells = [entries.get(column) for column in content.columns]
        rows.append(Row(head, tuple(_value_cell(e, content, options, best) for e in cells)))
        rows += _rows_below(head, cells, options)
    title = f"{layout.title} ({', '.join(shared_words(content.shared))})"
    facets = {*content.heads, *layout.by, *content.shared}
    facets |= {key for column in layout.columns for key in column.where}
    notes = metric_footers(
        content.entries, facets, options.level, options.alpha, tested=bool(content.p_values)
    )
    bold = ["bold: the best of its task and metric in this table"] if best else []
    footers = (*notes, *content.seed_notes, *bold)
    return Table(title, content.heads, tuple(content.columns), tuple(rows), footers)


def shared_words(shared: Mapping[str, str]) -> list[str]:
    """The properties that all runs of a table share, without those at their default."""
    words = []
    for name, value in shared.items():
        option = shared.get("model", "").replace("_", "-")
        own_weights = name == "weights" and value.rpartition("/")[2] == option
        usual = (name, value) in USUAL and name not in ALWAYS_IN_TITLES
        if value == "none" or usual or own_weights:
            continue
        text = f"{value} split" if name == "split" else f"{name}={value}"
        words.append(value if name in ALWAYS_IN_TITLES - {"split"} else text)
    return words


def _best(content: TableEntries, digits: int) -> set[int]:
    """The best entries (by `id`) of the same questions, seeds and metric, as rounded.

    None are if all are equal.
    """
    rivals: dict[Place, list[Entry]] = {}
    for entry in {id(entry): entry for entry in content.entries}.values():
        rivals.setdefault((*_questions(entry.group), entry.metric), []).append(entry)
    best: set[int] = set()
    for entries in rivals.values():
        means = [round(entry.mean, digits) for entry in entries]
        same_seeds = len({e.group.seeds for e in entries if not e.group.first.imported}) <= 1
        if len(set(means)) > 1 and same_seeds:
            top = (max if entries[0].higher_is_better else min)(means)
            best |= {id(e) for e, mean in zip(entries, means, strict=True) if mean == top}
    return best


def _value_cell(
    entry: Entry | None, content: TableEntries, options: TableOptions, best: set[int]
) -> Cell:
    if entry is None:
        return Cell("–")
    sd = entry.group.sd(entry.metric)
    spread = "" if sd is None else f" ± {sd:.{options.digits}f}"
    p = content.p_values.get(id(entry))
    mark = "*" if p is not None and p < options.alpha else ""
    text = f"{entry.mean:.{options.digits}f}{spread}{mark}"
    parts = {"seeds": float(len(entry.group.records)), **({} if sd is None else {"sd": sd})}
    parts |= {} if p is None else {"p (Holm)": p}
    is_best = id(entry) in best
    return Cell(text, entry.mean, best=is_best, parts=parts, note="best" if is_best else "")


def _rows_below(head: Place, entries: Sequence[Entry | None], options: TableOptions) -> list[Row]:
    """The rows below a row: intervals, published numbers, and the difference to them."""
    digits, rows = options.digits, []
    if options.intervals and any(entry and entry.interval for entry in entries):
        cells = tuple(_interval_cell(entry, digits) for entry in entries)
        rows.append(Row(head, cells, "interval", f"{options.level:.0%} interval"))
    if any(entry and entry.published for entry in entries):
        cells = tuple(_published_cell(entry, digits) for entry in entries)
        rows.append(Row(head, cells, "published", "published"))
    if any(entry and entry.published and not entry.caveats for entry in entries):
        cells = tuple(_difference_cell(entry, digits) for entry in entries)
        rows.append(Row(head, cells, "difference", "ours - published"))
    return rows


def _interval_cell(entry: Entry | None, digits: int) -> Cell:
    if entry is None or entry.interval is None:
        return Cell()
    return interval_cell(entry.interval, digits)


def _published_cell(entry: Entry | None, digits: int) -> Cell:
    """Marked † if it is not of the same thing, ‡ if it is second-hand or of unknown settings."""
    if entry is None or entry.published is None:
        return Cell()
    one = entry.published
    marks = ("†" if entry.caveats else "") + ("‡" if vague(one) else "")
    note = "; ".join([*entry.caveats, *vague(one)])
    return Cell(f"{one.value:.{digits}f}{marks}", one.value, note=note)


def _difference_cell(entry: Entry | None, digits: int) -> Cell:
    if entry is None or entry.published is None or entry.caveats:
        return Cell()
    difference = entry.mean - entry.published.value
    worth = (
        "" if not difference else "good" if (difference > 0) == entry.higher_is_better else "bad"
    )
    return Cell(f"{difference:+.{digits}f}", difference, worth=worth)
