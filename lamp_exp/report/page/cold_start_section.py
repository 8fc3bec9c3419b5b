"""The page's cold start: metric and gain of the best run of each set by profile size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamp_exp.errors import InputError
from lamp_exp.report import plots
from lamp_exp.report.coldstart import Bin as CurveBin
from lamp_exp.report.coldstart import curve_of
from lamp_exp.report.footers import system_words
from lamp_exp.report.loading import Record
from lamp_exp.report.page.content import Content, Plot
from lamp_exp.report.page.figures import ComparableSet, comparable_sets
from lamp_exp.report.plots import Bin, Point
from lamp_exp.report.table import Cell, Row, Table, number
from lamp_exp.statistics import Interval

QUARTERS = 4


def cold_starts(records: Sequence[Record]) -> Content:
    """With and without profile in quarters of the questions, by the size of their profiles."""
    made, alone = [], 0
    for runs in comparable_sets(records):
        bins = bins_of(runs)
        if len(bins) > 1:
            made.append(_plot(runs, bins))
        else:
            alone += 1
    if not made:
        raise InputError("no run that has its baseline has profiles of several sizes")
    note = (
        f"All: {runs.shared}. The best run of each, in quarters by the number of profile items; "
        "bars: 95% intervals."
    )
    others = (f"{alone} more have no baseline here, or no sizes to show.",) if alone else ()
    return Content((note, *others), tuple(made))


def bins_of(runs: ComparableSet) -> list[Bin]:
    """Quarters of the questions by profile size, smallest first; fewer where sizes repeat."""
    if runs.baseline is None:
        return []
    groups = {runs.baseline.configuration: runs.baseline}
    curve = curve_of(runs.best, groups, "size", QUARTERS, ())
    return [_bin(n, one) for n, one in enumerate(curve.bins)] if curve else []


def _bin(n: int, one: CurveBin) -> Bin:
    assert one.baseline and one.gain, "the baseline is there"
    points = (_point(n, interval) for interval in (one.value, one.baseline, one.gain))
    return Bin(one.label, one.n, *points)


def _point(n: int, found: Interval) -> Point:
    """The value with its interval, if there is one."""
    if found.low != found.low:
        return Point(n, found.value)
    return Point(n, found.value, found.low, found.high)


def _plot(runs: ComparableSet, bins: Sequence[Bin]) -> Plot:
    by = "profile items"
    rows = tuple(
        Row(
            (one.label,),
            (Cell(str(one.n), one.n), *map(_cell, (one.with_profile, one.baseline, one.gain))),
        )
        for one in bins
    )
    columns = ("questions", f"{runs.metric} with profile", "no profile", "gain")
    table = Table(f"{runs.words}: by {by}", (by,), columns, rows)
    draw = plots.cold_start(bins, runs.metric, runs.higher, by)
    return Plot(draw, runs.words, f"{system_words(runs.best)}, in {len(bins)} parts.", table)


def _cell(point: Point | None) -> Cell:
    if point is None:
        return Cell("–")
    cell = number(point.y, 3)
    if point.low is None or point.high is None:
        return cell
    parts = {"low": point.low, "high": point.high}
    return replace(cell, text=f"{cell.text} [{point.low:.3f}, {point.high:.3f}]", parts=parts)
