"""A layout and runs make tables: each number with its spread, interval, test and published twin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamp_exp.errors import InputError
from lamp_exp.report.layouts import METRIC, Layout
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import common_seeds, pair, pooled
from lamp_exp.report.published import Published, beside, caveats, vague
from lamp_exp.report.selection import (
    UNKNOWN,
    Group,
    differing,
    grouped,
    order,
    part_of_identity,
    same_answers,
    select,
    shown,
)
from lamp_exp.report.table import Cell, Row, Table
from lamp_exp.report.wording import footers
from lamp_exp.statistics import Comparison, Interval, compare, holm, interval

GROUND = (  # runs that differ in one of these are in different tables, if no row or column has it
    "data", "split", "part", "mode", "model", "limit", "fixes", "selection", "control",
    "max_items", "before", "own_items", "skip", "document_dates", "weights",
)  # fmt: skip
UNTOLD = {"mode", "model", "weights", "selection"}  # by predictions that were made elsewhere
USUAL = {("skip", "0"), ("selection", "dev"), ("own_items", "keep"), ("document_dates", "False")}
SAME_QUESTIONS = ("data", "split", "part", "limit", "fixes")
DATA_VERSION = "questions"  # where runs of one task and part answered different ones
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
    resamples: int = 0  # of a bootstrap for what is no mean; 0: the jackknife


@dataclass(frozen=True, slots=True)
class Entry:
    """One number of a table: a metric of runs that differ only in their seeds."""

    group: Group
    metric: str
    interval: Interval | None
    comparison: Comparison | None = None  # with the same runs without a profile
    published: Published | None = None
    tested_seeds: int | None = None

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


def tables(
    records: Sequence[Record], layout: Layout, look: Look, pool: Sequence[Record] = ()
) -> list[Table]:
    """One table for each ground on which runs can be compared; raises InputError if none fits.

    Runs without a profile, to test against, may also be in `pool`.
    """
    chosen = grouped(_chosen(records, layout)).values()
    groups = [group for group in chosen if _column(group, layout) is not None]
    if not groups:
        wanted = " ".join(layout.where) or "any run with metrics"
        raise InputError(f"no run fits this table ({layout.title}: {wanted})")
    twins = grouped([*records, *pool])
    unfit = len(chosen) - len(groups)
    sheets = [_sheet(ground, members, layout, look, twins)
              for ground, members in _grounds(groups, layout)]  # fmt: skip
    made = [_table(sheet, layout, look) for sheet in sheets]
    if not unfit:
        return made
    line = f"{unfit} configurations fit no column of this layout; `table` and `ablation` show all"
    return [replace(table, footers=(*table.footers, line)) for table in made]


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
    told = [key for key in keys if key not in UNTOLD]
    versions = data_versions(groups)
    found: dict[Place, list[Group]] = {}
    for group in groups:
        if not group.first.imported:
            found.setdefault((*_place(group, keys), versions[group]), []).append(group)
    for group in groups:
        if group.first.imported:
            own = (*_place(group, told), versions[group])
            homes = [
                home
                for home in found.values()
                if (*_place(home[0], told), versions[home[0]]) == own
            ]
            unknown = tuple(UNKNOWN if k in UNTOLD else shown(group.facet(k)) for k in keys)
            for home in homes or [found.setdefault((*unknown, versions[group]), [])]:
                home.append(group)
    return [
        (dict(zip([*keys, DATA_VERSION], place, strict=True)), found[place])
        for place in sorted(found, key=lambda place: list(map(order, place)))
    ]


def data_versions(groups: Sequence[Group]) -> dict[Group, str]:
    """Of each group, which version of its questions it answered: none, or the rarer ones' marks."""
    counts: dict[Place, Counter[str]] = {}
    for group in groups:
        place = _place(group, ("task", "split", "part"))
        counts.setdefault(place, Counter())[group.first.ground[1]] += 1
    versions = {}
    for group in groups:
        fingerprint = group.first.ground[1]
        usual, _ = counts[_place(group, ("task", "split", "part"))].most_common(1)[0]
        versions[group] = "none" if fingerprint == usual else fingerprint
    return versions


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
    sheet.p_values = _adjusted(sheet.entries)
    return sheet


def _adjusted(entries: Sequence[Entry]) -> dict[int, float]:
    """Holm's p-values by entry; a tuned run and the one that it chose are one hypothesis."""
    raw = {
        (same_answers(entry.group), entry.metric): entry.comparison.tests[0].p
        for entry in entries
        if entry.comparison
    }
    adjusted = dict(zip(raw, holm(list(raw.values())), strict=True))
    return {
        id(entry): float(adjusted[same_answers(entry.group), entry.metric])
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
    comparison = against_twin(group, metric, twins, look.level) if look.tests else None
    twin = twins.get(group.first.twin or "")
    return Entry(
        group,
        metric,
        None if sample is None else interval(sample, look.level, look.resamples),
        comparison,
        beside(group.first, metric) if look.published else None,
        len(common_seeds(group, twin)[0].records) if comparison and twin else None,
    )


def against_twin(
    group: Group, metric: str, groups: Mapping[str, Group], level: float, thorough: bool = False
) -> Comparison | None:
    """Against the same runs without a profile; None where they, or scores, are not there."""
    twin = groups.get(group.first.twin or "")
    samples = pair(twin, group, metric) if twin else None
    return compare(*samples, level=level, thorough=thorough) if samples else None


def _table(sheet: Sheet, layout: Layout, look: Look) -> Table:
    best = _best(sheet, look.digits)
    rows: list[Row] = []
    for head, entries in sheet.rows.items():
        cells = [entries.get(column) for column in sheet.columns]
        values = tuple(_value(entry, sheet, look, best) for entry in cells)
        rows.append(Row(head, values))
        rows += _below(head, cells, look)
    title = f"{layout.title} ({', '.join(ground_words(sheet.ground))})"
    facets = {*sheet.heads, *layout.by, *sheet.ground}
    facets |= {key for column in layout.columns for key in column.where}
    notes = footers(sheet.entries, facets, look.level, look.alpha, tested=bool(sheet.p_values))
    bold = ["bold: the best of its task and metric in this table"] if best else []
    return Table(title, sheet.heads, tuple(sheet.columns), tuple(rows), (*notes, *bold))


def ground_words(told: Mapping[str, str]) -> list[str]:
    """What all runs of a table share, without what is usual."""
    words = []
    for name, value in told.items():
        option = told.get("model", "").replace("_", "-")
        own_weights = name == "weights" and value.rpartition("/")[2] == option
        if value == "none" or (name, value) in USUAL or own_weights:
            continue
        bare = {"task", "data", "part", "mode", "model"}
        split = f"{value} split" if name == "split" else f"{name}={value}"
        words.append(value if name in bare else split)
    return words


def _best(sheet: Sheet, digits: int) -> set[int]:
    """The best entries among those of the same questions and metric, as they are shown."""
    rivals: dict[Place, list[Entry]] = {}
    for entry in {id(entry): entry for entry in sheet.entries}.values():
        first = entry.group.first
        same = (*first.ground, *_place(entry.group, SAME_QUESTIONS), entry.metric)
        rivals.setdefault(same, []).append(entry)
    best: set[int] = set()
    for entries in rivals.values():
        if len(entries) > 1:
            higher = entries[0].group.first.direction(entries[0].metric)
            top = (max if higher else min)(round(entry.mean, digits) for entry in entries)
            best |= {id(entry) for entry in entries if round(entry.mean, digits) == top}
    return best


def _value(entry: Entry | None, sheet: Sheet, look: Look, best: set[int]) -> Cell:
    if entry is None:
        return Cell("–")
    sd = entry.group.sd(entry.metric)
    spread = "" if sd is None else f" ± {sd:.{look.digits}f}"
    p = sheet.p_values.get(id(entry))
    mark = "*" if p is not None and p < look.alpha else ""
    text = f"{entry.mean:.{look.digits}f}{spread}{mark}"
    parts = {"seeds": float(len(entry.group.records)), **({} if sd is None else {"sd": sd})}
    parts |= {} if p is None else {"p (Holm)": p}
    is_best = id(entry) in best
    return Cell(text, entry.mean, best=is_best, parts=parts, note="best" if is_best else "")


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
    low, high = max(entry.interval.low, 0.0), entry.interval.high  # no metric is below zero
    if high != high:
        return Cell("–")
    return Cell(f"[{low:.{digits}f}, {high:.{digits}f}]", parts={"low": low, "high": high})


def _published_cell(entry: Entry | None, digits: int) -> Cell:
    """Marked where it is not of the same thing (†), or second-hand or of unknown settings (‡)."""
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
    higher = entry.group.first.direction(entry.metric)
    worth = "" if not difference else "good" if (difference > 0) == higher else "bad"
    return Cell(f"{difference:+.{digits}f}", difference, worth=worth)
