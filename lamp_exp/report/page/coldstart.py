"""The page's cold start: the metric and the gain of each ground's best run by profile size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lamp_exp.report import plots
from lamp_exp.report.page.content import Content, Plot
from lamp_exp.report.page.figures import Ground, grounds, told_system
from lamp_exp.report.plots import Bin, Point
from lamp_exp.report.records import Record
from lamp_exp.report.samples import common_seeds, pair
from lamp_exp.report.statistics import Interval, Sample, compare, interval
from lamp_exp.report.table import Cell, Row, Table, number
from lamp_exp.types import InputError

LEVEL = 0.95
QUANTILES = (0.25, 0.5, 0.75)


def cold_starts(records: Sequence[Record]) -> Content:
    """With and without profile in quarters of the questions, by the size of their profiles."""
    made, alone = [], 0
    for ground in grounds(records):
        bins = bins_of(ground)
        if len(bins) > 1:
            made.append(_plot(ground, bins))
        else:
            alone += 1
    if not made:
        raise InputError("no run with its twin without a profile has profiles of several sizes")
    told = (
        f"All: {ground.shared}. The best run of each, in quarters by the number of profile items; "
        f"bars: {LEVEL:.0%} intervals."
    )
    words = (f"{alone} more have no twin without a profile, or no sizes to tell.",) if alone else ()
    return Content((told, *words), tuple(made))


def bins_of(ground: Ground) -> list[Bin]:
    """Quarters of the questions by profile size, smallest first; fewer where sizes repeat."""
    if ground.without is None:
        return []
    samples = pair(ground.without, ground.best, ground.metric)
    if samples is None:
        return []
    base, _ = common_seeds(ground.without, ground.best)
    sizes = np.asarray(base.first.column("profile_size"))
    sign = 1 if ground.higher else -1
    parts = list(_parts(sizes))
    return [_bin(n, sizes, rows, samples, sign) for n, rows in enumerate(parts)]


def _parts(sizes: Any) -> Iterator[Any]:
    edges = np.unique(np.quantile(sizes, QUANTILES, method="lower"))
    places = np.searchsorted(edges, sizes, side="left")
    for place in np.unique(places):
        yield np.flatnonzero(places == place)


def _bin(n: int, sizes: Any, rows: Any, samples: tuple[Sample, Sample], sign: int) -> Bin:
    without, ours = (replace(s, terms=s.terms[rows], users=s.users[rows]) for s in samples)
    gain = compare(without, ours, level=LEVEL, thorough=False).difference
    low, high = int(sizes[rows].min()), int(sizes[rows].max())
    return Bin(
        str(low) if low == high else f"{low} to {high}",
        len(rows),
        _point(n, interval(ours, LEVEL)),
        _point(n, interval(without, LEVEL)),
        _point(n, gain, sign),
    )


def _point(n: int, found: Interval, sign: int = 1) -> Point:
    """Without ends where too few users are there to tell them."""
    ends = sorted((sign * found.low, sign * found.high))
    if not np.isfinite(ends).all():
        return Point(n, sign * found.value)
    return Point(n, sign * found.value, ends[0], ends[1])


def _plot(ground: Ground, bins: Sequence[Bin]) -> Plot:
    by = "profile items"
    rows = tuple(
        Row(
            (one.label,),
            (Cell(str(one.n), one.n), *map(_cell, (one.with_profile, one.without, one.gain))),
        )
        for one in bins
    )
    columns = ("questions", f"{ground.metric} with profile", "no profile", "gain")
    table = Table(f"{ground.words}: by {by}", (by,), columns, rows)
    draw = plots.cold_start(bins, ground.metric, ground.higher, by)
    return Plot(draw, ground.words, f"{told_system(ground.best)}, in {len(bins)} parts.", table)


def _cell(point: Point | None) -> Cell:
    if point is None:
        return Cell("–")
    cell = number(point.y, 3)
    if point.low is None or point.high is None:
        return cell
    parts = {"low": point.low, "high": point.high}
    return replace(cell, text=f"{cell.text} [{point.low:.3f}, {point.high:.3f}]", parts=parts)
