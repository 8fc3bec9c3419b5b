"""A layout and runs make tables: each number with its spread, interval, test and published twin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lamp_exp.report.examples import pair, pooled
from lamp_exp.report.layouts import METRIC, Layout
from lamp_exp.report.published import Published, beside, caveats, unknown
from lamp_exp.report.records import Record
from lamp_exp.report.selection import (
    Group,
    differing,
    grouped,
    order,
    part_of_identity,
    select,
    shown,
)
from lamp_exp.report.statistics import Comparison, Interval, compare, holm, interval
from lamp_exp.report.table import Cell, Row, Table
from lamp_exp.report.words import footers
from lamp_exp.types import InputError

GROUND = (  # runs that differ in one of these are in different tables, if no row or column has it
    "data", "split", "part", "mode", "model", "limit", "fixes", "selection", "control",
    "max_items", "before", "own_items", "skip",
)  # fmt: skip
UNTOLD = {"mode", "model", "selection"}  # by predictions that were made elsewhere
USUAL = {("skip", "0"), ("selection", "dev"), ("own_items", "keep")}
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be shown of each number."""

    digits: int = 3
    intervals: bool = True
    tests: bool = True
    published: bool = True
    level: float = 0.95
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of a table: a metric of runs that differ only in their seeds."""

    group: Group
    metric: str
    interval: Interval | None
    comparison: Comparison | None = None  # with the same runs without a profile
    published: Published | None = None

    @property
    def mean(self) -> float:
        """What is shown."""
        return self.group.mean(self.metric)

    @property
    def caveats(self) -> list[str]:
        """Why the published number is of something else."""
        return caveats(self.group.first, self.published) if self.published else []


@dataclass
class Sheet:
    """The entries of one table, by row and column."""

    ground: Mapping[str, str]
    rows: dict[Place, dict[str, Entry]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    heads: tuple[str, ...] = ()
    p_values: dict[int, float] = field(default_factory=dict)  # adjusted, by the entry's identity

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return [entry for row in self.rows.values() for entry in row.values()]


def tables(records: Sequence[Record], layout: Layout, look: Look) -> list[Table]:
    """One table for each ground on which runs can be compared; raises InputError if none fits."""
    chosen = _chosen(records, layout)
    groups = [group for group in grouped(chosen).values() if _column(group, layout) is not None]
    if not groups:
        wanted = " ".join(layout.where) or "any run with metrics"
        raise InputError(f"no run fits this table ({layout.title}: {wanted})")
    twins = grouped(records)
    sheets = [_sheet(ground, members, layout, look, twins)
              for ground, members in _grounds(groups, layout)]  # fmt: skip
    return [_table(sheet, layout, look) for sheet in sheets]


def _chosen(records: Sequence[Record], layout: Layout) -> list[Record]:
    """Those of the layout; predictions made elsewhere are of any mode, as they do not tell it."""
    own = [record for record in records if not record.imported]
    imported = [record for record in records if record.imported]
    elsewhere = [words for words in layout.where if not words.startswith("mode=")]
    return [*select(own, layout.where), *select(imported, elsewhere)]


def _grounds(groups: Sequence[Group], layout: Layout) -> list[tuple[dict[str, str], list[Group]]]:
    """Groups that may stand in one table, and what they share.

    Predictions made elsewhere stand in each table of runs that answered the same questions.
    """
    used = {*layout.rows, *layout.by}
    keys = [key for key in GROUND if key not in used]
    found: dict[Place, list[Group]] = {}
    for group in groups:
        if not group.first.imported:
            found.setdefault(_place(group, keys), []).append(group)
    told = [key for key in keys if key not in UNTOLD]
    for group in groups:
        if group.first.imported:
            homes = [
                home for home in found.values() if _place(home[0], told) == _place(group, told)
            ]
            for home in homes or [found.setdefault(_place(group, keys), [])]:
                home.append(group)
    return [
        (dict(zip(keys, place, strict=True)), found[place])
        for place in sorted(found, key=lambda place: list(map(order, place)))
    ]


def _place(group: Group, keys: Sequence[str]) -> Place:
    return tuple(shown(group.facet(key)) for key in keys)


def _column(group: Group, layout: Layout) -> str | None:
    """The label of the column that a group is in, `""` where metrics are the columns."""
    if group.first.imported and (layout.columns or "k" in layout.by):
        return shown(group.facet("model"))
    if layout.columns:
        return next((c.label for c in layout.columns if c.takes(group.first)), None)
    named = [(key, group.facet(key)) for key in layout.by if key != METRIC]
    return " ".join(f"{key}={shown(value)}" for key, value in named)


def _sheet(
    ground: Mapping[str, str],
    groups: Sequence[Group],
    layout: Layout,
    look: Look,
    twins: Mapping[str, Group],
) -> Sheet:
    extra = _extra(groups, layout)
    sheet = Sheet(ground, heads=(*layout.rows, *extra))
    for group in sorted(groups, key=lambda group: _sorting(group, layout)):
        for metric in group.first.metrics:
            entry = _entry(group, metric, look, twins)
            column = _label(group, metric, layout)
            for head in _heads(group, metric, groups, layout):
                sheet.rows.setdefault((*head, *_extra_head(group, extra)), {})[column] = entry
            if column not in sheet.columns:
                sheet.columns.append(column)
    if layout.columns:
        own = [c.label for c in layout.columns if c.label in sheet.columns]
        sheet.columns = [*own, *(label for label in sheet.columns if label not in own)]
    metrics = list(dict.fromkeys(metric for group in groups for metric in group.first.metrics))
    sheet.rows = dict(sorted(sheet.rows.items(), key=lambda row: _row_order(row[0], metrics)))
    tested = list({id(e): e for e in sheet.entries if e.comparison}.values())
    adjusted = holm([entry.comparison.tests[0].p for entry in tested if entry.comparison])
    sheet.p_values = {id(entry): float(p) for entry, p in zip(tested, adjusted, strict=True)}
    return sheet


def _row_order(head: Place, metrics: Sequence[str]) -> list[tuple[int, float, str]]:
    """Words by the alphabet, numbers by size, metrics in the order of their tasks."""
    return [(1, metrics.index(w), "") if w in metrics else order(_number(w)) for w in head]


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:  # most heads are words
        return word


def _heads(group: Group, metric: str, groups: Sequence[Group], layout: Layout) -> list[Place]:
    """Its row; where k makes the columns, runs without items, and those made elsewhere, stand in
    each row that differs from theirs only in how items were chosen and shown.
    """
    own = _head(group, metric, layout)
    if group.first.result["k"] or "k" not in layout.by:
        return [own]
    names = {"retriever", "augmentation", *(UNTOLD if group.first.imported else ())}
    free = [n for n, key in enumerate(layout.rows) if key in names]
    others = dict.fromkeys(_head(g, metric, layout) for g in groups if g.first.result["k"])
    alike = [head for head in others if _masked(head, free) == _masked(own, free)]
    return alike or [own]


def _masked(head: Place, free: Sequence[int]) -> Place:
    return tuple("" if n in free else word for n, word in enumerate(head))


def _sorting(group: Group, layout: Layout) -> list[tuple[int, float, str]]:
    keys = [key for key in (*layout.by, *layout.rows) if key != METRIC]
    return [order(group.facet(key)) for key in keys]


def _head(group: Group, metric: str, layout: Layout) -> Place:
    return tuple(metric if key == METRIC else shown(group.facet(key)) for key in layout.rows)


def _label(group: Group, metric: str, layout: Layout) -> str:
    label = _column(group, layout) or ""
    return f"{label} {metric}".strip() if METRIC not in layout.rows else label or "value"


def _extra(groups: Sequence[Group], layout: Layout) -> list[str]:
    """Parts of their identities by which groups are told apart that would share a place."""
    places: dict[Place, list[Group]] = {}
    for group in groups:
        metric = group.first.result["monitor"][0]
        place = (*_head(group, metric, layout), _label(group, metric, layout))
        places.setdefault(place, []).append(group)
    chosen: list[str] = []
    for members in places.values():
        for name in differing(members):
            if len({_extra_head(group, chosen) for group in members}) == len(members):
                break
            chosen += [] if name in chosen else [name]
    return chosen


def _extra_head(group: Group, names: Iterable[str]) -> Place:
    return tuple(shown(part_of_identity(group, name)) for name in names)


def _entry(group: Group, metric: str, look: Look, twins: Mapping[str, Group]) -> Entry:
    sample = pooled(group, metric) if look.intervals else None
    return Entry(
        group,
        metric,
        None if sample is None else interval(sample, look.level),
        against_twin(group, metric, twins, look.level) if look.tests else None,
        beside(group.first, metric) if look.published else None,
    )


def against_twin(
    group: Group, metric: str, groups: Mapping[str, Group], level: float, thorough: bool = False
) -> Comparison | None:
    """Against the same runs without a profile; None where they, or scores, are not there."""
    twin = groups.get(group.first.twin or "")
    samples = pair(twin, group, metric) if twin else None
    return compare(*samples, level=level, thorough=thorough) if samples else None


def _table(sheet: Sheet, layout: Layout, look: Look) -> Table:
    best = _best(sheet)
    rows: list[Row] = []
    for head, entries in sheet.rows.items():
        cells = [entries.get(column) for column in sheet.columns]
        values = tuple(_value(entry, sheet, look, best) for entry in cells)
        rows.append(Row(head, values))
        rows += _below(head, cells, look)
    told = {name: value for name, value in sheet.ground.items() if value != "none"}
    title = f"{layout.title} ({', '.join(_ground_words(told))})"
    notes = footers(sheet.entries, look.level, look.alpha, bool(sheet.p_values), len(best) > 0)
    return Table(title, sheet.heads, tuple(sheet.columns), tuple(rows), tuple(notes))


def _ground_words(told: Mapping[str, str]) -> list[str]:
    """What all runs of a table share, without what is usual."""
    words = []
    for name, value in told.items():
        if (name, value) not in USUAL:
            bare = name in ("data", "part", "mode", "model")
            words.append(
                value if bare else f"{value} split" if name == "split" else f"{name}={value}"
            )
    return words


def _best(sheet: Sheet) -> set[int]:
    """The best entries of each task and metric, by the metric's direction, as they are shown."""
    rivals: dict[tuple[str, str], list[Entry]] = {}
    for entry in {id(entry): entry for entry in sheet.entries}.values():
        rivals.setdefault((entry.group.first.task, entry.metric), []).append(entry)
    best: set[int] = set()
    for entries in rivals.values():
        if len(entries) > 1:
            higher = entries[0].group.first.direction(entries[0].metric)
            top = (max if higher else min)(entry.mean for entry in entries)
            best |= {id(entry) for entry in entries if entry.mean == top}
    return best


def _value(entry: Entry | None, sheet: Sheet, look: Look, best: set[int]) -> Cell:
    if entry is None:
        return Cell("–")
    sd = entry.group.sd(entry.metric)
    spread = "" if sd is None else f" ± {sd:.{look.digits}f}"
    mark = "*" if sheet.p_values.get(id(entry), 1.0) < look.alpha else ""
    text = f"{entry.mean:.{look.digits}f}{spread}{mark}"
    parts = {"seeds": float(len(entry.group.records)), **({} if sd is None else {"sd": sd})}
    return Cell(text, entry.mean, best=id(entry) in best, parts=parts)


def _below(head: Place, entries: Sequence[Entry | None], look: Look) -> list[Row]:
    """The rows below a row: intervals, published numbers, and the difference to them."""
    digits, rows = look.digits, []
    if look.intervals and any(entry and entry.interval for entry in entries):
        cells = tuple(_interval_cell(entry, digits) for entry in entries)
        rows.append(Row(head, cells, "interval", f"{look.level:.0%} interval"))
    if any(entry and entry.published for entry in entries):
        cells = tuple(_published_cell(entry, digits) for entry in entries)
        rows.append(Row(head, cells, "published", "published"))
    if any(entry and entry.published and not entry.caveats for entry in entries):
        cells = tuple(_difference_cell(entry, digits) for entry in entries)
        rows.append(Row(head, cells, "difference", "difference"))
    return rows


def _interval_cell(entry: Entry | None, digits: int) -> Cell:
    if entry is None or entry.interval is None:
        return Cell()
    low, high = entry.interval.low, entry.interval.high
    if low != low:
        return Cell("–")
    return Cell(f"[{low:.{digits}f}, {high:.{digits}f}]", parts={"low": low, "high": high})


def _published_cell(entry: Entry | None, digits: int) -> Cell:
    """Marked where it is not of the same thing (†), or second-hand or of unknown settings (‡)."""
    if entry is None or entry.published is None:
        return Cell()
    one = entry.published
    marks = ("†" if entry.caveats else "") + (
        "‡" if one.status != "primary" or unknown(one) else ""
    )
    return Cell(f"{one.value:.{digits}f}{marks}", one.value)


def _difference_cell(entry: Entry | None, digits: int) -> Cell:
    if entry is None or entry.published is None or entry.caveats:
        return Cell()
    difference = entry.mean - entry.published.value
    higher = entry.group.first.direction(entry.metric)
    worth = "" if not difference else "good" if (difference > 0) == higher else "bad"
    return Cell(f"{difference:+.{digits}f}", difference, worth=worth)
