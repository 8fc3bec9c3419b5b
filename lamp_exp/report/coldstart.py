"""Metric and gain by what is known of a user: size of the profile, similarity, age.

Bins are ranges of a property of the questions; curves come from runs whose profiles were cut to
so many items (`profile.max_items`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import pair, subset
from lamp_exp.report.selection import Group, grouped, in_order, naming
from lamp_exp.report.table import Cell, Row, Table, as_cell, number, worth_of
from lamp_exp.report.wording import data_words, differences
from lamp_exp.statistics import Interval, compare, interval

ITEMS = {"max_items", "profile.max_items"}
Values = NDArray[np.float64]  # one for each question; NaN where it is not known


def _size(record: Record) -> Values:
    return np.asarray(record.column("profile_size"), dtype=np.float64)


def _similarity(record: Record) -> Values:
    """The retriever's score of its best item."""
    return _known(record, "top_similarity")


def _age(record: Record) -> Values:
    """Days from the newest item to the question, where questions are dated."""
    return _known(record, "newest_item_days")


def _span(record: Record) -> Values:
    """Days from the oldest item to the newest."""
    return _known(record, "profile_days")


def _known(record: Record, column: str) -> Values:
    if not record.has_column(column):  # of a run that was made before it was recorded
        return np.full(record.questions, np.nan)
    values = record.column(column)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


PROPERTIES: dict[str, tuple[str, Callable[[Record], Values]]] = {
    "size": ("items in the profile", _size),
    "similarity": ("score of the best item (the retriever's own scale)", _similarity),
    "age": ("days since the newest item", _age),
    "span": ("days from the oldest item to the newest", _span),
}


@dataclass(frozen=True, slots=True)
class Bin:
    """Some of a run's questions: the lowest and highest value among them, and their numbers."""

    low: float
    high: float
    n: int
    value: Interval
    without: Interval | None  # of the same run without a profile
    gain: Interval | None  # above zero is better
    verdict: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A run over the bins of one property."""

    group: Group
    metric: str
    by: str
    bins: tuple[Bin, ...]
    unknown: int  # questions of which the property is not known


def curves(
    records: Sequence[Record],
    by: str,
    quantiles: int = 5,
    edges: Sequence[float] = (),
    pool: Sequence[Record] = (),
) -> list[Curve]:
    """Of each run with a profile; bins by `edges` (each a lowest value), else by quantiles.

    Runs without a profile may also be in `pool`.
    """
    groups = grouped([*records, *pool])
    found = []
    for group in in_order(grouped(records).values()):
        if group.first.result["k"]:
            curve = curve_of(group, groups, by, quantiles, edges)
            found += [curve] if curve else []
    return found


def curve_of(
    group: Group, groups: Mapping[str, Group], by: str, quantiles: int, edges: Sequence[float]
) -> Curve | None:
    """One run's; None without scores of the examples, or if the property is not known of any."""
    metric = group.first.result["monitor"][0]
    twin = groups.get(group.first.twin or "")
    samples = pair(group, twin or group, metric)
    values = PROPERTIES[by][1](group.first)
    known = ~np.isnan(values)
    if samples is None or not known.any():
        return None
    bins = []
    for members in split(values, quantiles, edges):
        run, other = (subset(sample, members) for sample in samples)
        compared = compare(other, run, thorough=False) if twin else None
        gain = _turned(compared.difference, run.higher_is_better) if compared else None
        without = interval(other) if twin else None
        low, high = float(values[members].min()), float(values[members].max())
        verdict = compared.verdict if compared else ""
        bins.append(Bin(low, high, int(members.sum()), interval(run), without, gain, verdict))
    return Curve(group, metric, by, tuple(bins), int((~known).sum()))


def _turned(one: Interval, higher_is_better: bool) -> Interval:
    """A difference as a gain."""
    if higher_is_better:
        return one
    return replace(one, value=-one.value, low=-one.high, high=-one.low)


def split(values: Values, quantiles: int, edges: Sequence[float]) -> list[NDArray[np.bool_]]:
    """Which questions are in each bin; equal values are never in two, empty bins are left out."""
    known = np.sort(values[~np.isnan(values)])
    if edges:
        place = np.searchsorted(np.sort(edges), values, side="right")
    else:
        highest = np.quantile(known, np.arange(1, quantiles) / quantiles, method="lower")
        below = known[known < known[-1]]  # the last bin needs a value of its own
        ends = np.unique(np.minimum(highest, below[-1])) if len(below) else np.array([])
        place = np.searchsorted(ends, values, side="left")
    bins = [(place == number) & ~np.isnan(values) for number in range(place.max() + 1)]
    return [members for members in bins if members.any()]


def coldstart_tables(
    records: Sequence[Record],
    by: str,
    quantiles: int,
    edges: Sequence[float],
    pool: Sequence[Record] = (),
) -> list[Table]:
    """One table over bins, and one over `profile.max_items` where such runs are there."""
    found = curves(records, by, quantiles, edges, pool)
    cut = max_items_table(records)
    if not found and not cut:
        raise InputError(
            f"no run tells the {PROPERTIES[by][0]} of its questions: runs with a profile (k > 0) "
            "and golds do; ages only where questions are dated, spans where items are"
        )
    return [*([_bins_table(found, by)] if found else []), *([cut] if cut else [])]


def _bins_table(found: Sequence[Curve], by: str) -> Table:
    names, heads = naming([curve.group for curve in found])
    words = PROPERTIES[by][0]
    rows = [
        Row((*heads[curve.group.configuration], curve.metric, words_of(one)), _cells(one))
        for curve in found
        for one in curve.bins
    ]
    unknown = sum(curve.unknown for curve in found)
    footers = [
        *data_words([record for curve in found for record in curve.group.records]),
        f"bins of the {words}: lowest to highest value in it; equal values are in one bin",
        "gain: against the same run without a profile, above zero is better, also for MAE",
        "all over the seeds that both runs have",
        "verdict at 5%, by the test of the verb personal, not corrected for the number of bins",
        *differences([curve.group for curve in found], names),
        *([f"{unknown} questions of these runs have none and are left out"] if unknown else []),
    ]
    columns = ("questions", "value", "interval", "gain", "gain's interval", "verdict")
    heads_ = (*names, "metric", by)
    return Table(f"By {words}", heads_, columns, tuple(rows), tuple(footers))


def words_of(one: Bin) -> str:
    """Its range."""
    return f"{one.low:g}" if one.low == one.high else f"{one.low:.4g} to {one.high:.4g}"


def _cells(one: Bin) -> tuple[Cell, ...]:
    worth = worth_of(one.verdict)
    return (
        as_cell(one.n),
        number(one.value.value),
        bounds(replace(one.value, low=max(one.value.low, 0.0))),  # no metric is below zero
        replace(number(one.gain.value if one.gain else None, sign=True), worth=worth),
        bounds(one.gain) if one.gain else Cell("–"),
        Cell(one.verdict or "–", worth=worth),
    )


def bounds(one: Interval, digits: int = 4) -> Cell:
    """An interval as a cell."""
    if one.high != one.high:
        return Cell("–")
    text = f"[{one.low:.{digits}f}, {one.high:.{digits}f}]"
    return Cell(text, parts={"low": one.low, "high": one.high})


def max_items_table(records: Sequence[Record]) -> Table | None:
    """Runs that differ only in how many items were left of each profile."""
    lines: dict[str, list[Group]] = {}
    for group in in_order(grouped(records).values()):
        if group.first.result["k"]:
            alike = group.first.as_if(**{"profile.max_items": None})
            lines.setdefault(alike, []).append(group)
    whole = [members for members in lines.values() if len(members) > 1]
    if not whole:
        return None
    names, heads = naming([members[0] for members in whole], without=ITEMS)
    limits = sorted({_limit(group) for members in whole for group in members})
    rows = []
    for members in whole:
        metric = members[0].first.result["monitor"][0]
        by_limit = {_limit(group): number(group.mean(metric)) for group in members}
        cells = tuple(by_limit.get(limit, Cell("–")) for limit in limits)
        rows.append(Row((*heads[members[0].configuration], metric), cells))
    columns = tuple("all" if limit == np.inf else f"{limit:g}" for limit in limits)
    footers = data_words([record for members in whole for g in members for record in g.records])
    title = "By the number of items left of each profile (profile.max_items)"
    return Table(title, (*names, "metric"), columns, tuple(rows), tuple(footers))


def _limit(group: Group) -> float:
    value = group.facet("max_items")
    return float("inf") if value is None else float(value)
