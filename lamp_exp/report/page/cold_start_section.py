"""The page's cold start: the metric and the gain of each ground's best run by profile size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamp_exp.errors import InputError
from lamp_exp.report import plots
from lamp_exp.report.coldstart import Bin as Found
from lamp_exp.report.coldstart import curve_of, words_of
from lamp_exp.report.loading import Record
from lamp_exp.report.page.content import Content, Plot
from lamp_exp.report.page.figures import Ground, grounds, told_system
from lamp_exp.report.plots import Bin, Point
from lamp_exp.report.table import Cell, Row, Table, number
from lamp_exp.statistics import Interval

QUARTERS = 4


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
        "bars: 95% intervals."
    )
    words = (f"{alone} more have no twin without a profile, or no sizes to tell.",) if alone else ()
    return Content((told, *words), tuple(made))


def bins_of(ground: Ground) -> list[Bin]:
    """Quarters of the questions by profile size, smallest first; fewer where sizes repeat."""
    if ground.without is None:
        return []
    groups = {ground.without.configuration: ground.without}
    curve = curve_of(ground.best, groups, "size", QUARTERS, ())
    return [_bin(n, one) for n, one in enumerate(curve.bins)] if curve else []


def _bin(n: int, one: Found) -> Bin:
    assert one.without and one.gain, "the run without a profile is there"
    points = (_point(n, interval) for interval in (one.value, one.without, one.gain))
    return Bin(words_of(one), one.n, *points)


def _point(n: int, found: Interval) -> Point:
    """Without ends where too few users are there to tell them."""
    if found.low != found.low:
        return Point(n, found.value)
    return Point(n, found.value, found.low, found.high)


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
