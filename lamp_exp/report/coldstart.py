"""The verb coldstart: metric and gain by profile size, similarity and age.

Bins are ranges of a property of the questions. A further table shows runs whose profiles were cut
to a number of items (`profile.max_items`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_format, add_runs, check_range, scored, write
from lamp_exp.report.footers import data_footers, difference_footers, interval_footers
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import common_seeds, pair, subset
from lamp_exp.report.personal import as_gain
from lamp_exp.report.selection import Group, grouped, in_order, naming
from lamp_exp.report.table import Cell, Row, Table, as_cell, interval_cell, number, worth_of
from lamp_exp.statistics import Interval, compare, interval

QUANTILES = 5
MAX_ITEMS = "profile.max_items"
Values = NDArray[np.float64]  # one per question; NaN where it is not known


def _sizes(record: Record) -> Values:
    return np.asarray(record.column("profile_size"), dtype=np.float64)


def _column_or_unknown(column: str) -> Callable[[Record], Values]:
    def values(record: Record) -> Values:
        if not record.has_column(column):  # older runs did not record it
            return np.full(record.questions, np.nan)
        found = record.column(column)
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64)

    return values


PROPERTIES: dict[str, tuple[str, Callable[[Record], Values]]] = {
    "size": ("items in the profile", _sizes),
    "similarity": (
        "score of the best item (the retriever's own scale)", _column_or_unknown("top_similarity"),
    ),
    "age": ("days since the newest item", _column_or_unknown("newest_item_days")),
    "span": ("days from the oldest item to the newest", _column_or_unknown("profile_days")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bin:
    """Some of a run's questions, those whose property is from `low` to `high`.

    `baseline` is the metric of the same run without a profile; a `gain` above zero is better.
    """

    low: float
    high: float
    n: int
    value: Interval
    baseline: Interval | None
    gain: Interval | None
    verdict: str

    @property
    def label(self) -> str:
        """The range."""
        return f"{self.low:g}" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True, slots=True)
class Curve:
    """A run over the bins of one property, which is `unknown` for that many questions."""

    group: Group
    metric: str
    by: str
    bins: tuple[Bin, ...]
    unknown: int


# --- the verb ----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """By which property, and into which bins."""
    add_runs(parser)
    add_format(parser)
    words = "; ".join(f"{name}: {description}" for name, (description, _) in PROPERTIES.items())
    parser.add_argument("--by", choices=PROPERTIES, default="size", help=f"{words} (default: size)")
    parser.add_argument("--quantiles", type=int, metavar="N", help="bins of one size (default: 5)")
    parser.add_argument(
        "--bins", nargs="+", type=float, default=[], metavar="LOWEST",
        help="bins that begin at these values, instead of quantiles: --bins 1 10 50",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables."""
    if arguments.bins and arguments.quantiles is not None:
        raise InputError("--bins and --quantiles are two ways to make bins: give one")
    quantiles = QUANTILES if arguments.quantiles is None else arguments.quantiles
    check_range("quantiles", quantiles, 1, 100)
    if not all(map(math.isfinite, arguments.bins)):
        raise InputError("--bins must be finite numbers: give the lowest value of each bin")
    records, pool = scored(arguments)
    write(coldstart_tables(records, arguments.by, quantiles, arguments.bins, pool), arguments)
    return 0


# --- numbers -----------------------------------------------------------------------------------


def curves(
    records: Sequence[Record],
    by: str,
    quantiles: int = QUANTILES,
    edges: Sequence[float] = (),
    pool: Sequence[Record] = (),
) -> list[Curve]:
    """A curve of each run with a profile; bins by `edges` (lowest values), else by quantiles.

    Baselines may also be in `pool`.
    """
    groups = grouped([*records, *pool])
    found = []
    for group in in_order(grouped(records).values()):
        if group.first.personal:
            curve = curve_of(group, groups, by, quantiles, edges)
            found += [curve] if curve else []
    return found


def curve_of(
    group: Group, groups: Mapping[str, Group], by: str, quantiles: int, edges: Sequence[float]
) -> Curve | None:
    """A run's curve; None without scores, or if the property is known of no question."""
    metric = group.first.main_metric
    baseline = groups.get(group.first.baseline or "")
    if baseline and not common_seeds([group, baseline]):
        baseline = None
    samples = pair(group, baseline or group, metric)
    values = PROPERTIES[by][1](group.first)
    known = ~np.isnan(values)
    if samples is None or not known.any():
        return None
    bins = []
    for members in split(values, quantiles, edges):
        run, other = (subset(sample, members) for sample in samples)
        compared = compare(other, run, thorough=False) if baseline else None
        gain = as_gain(compared.difference, run.higher_is_better) if compared else None
        without = interval(other) if baseline else None
        low, high = float(values[members].min()), float(values[members].max())
        verdict = compared.verdict if compared else ""
        bins.append(Bin(low, high, int(members.sum()), interval(run), without, gain, verdict))
    return Curve(group, metric, by, tuple(bins), int((~known).sum()))


def split(values: Values, quantiles: int, edges: Sequence[float]) -> list[NDArray[np.bool_]]:
    """Which questions are in each bin; equal values are in one bin, empty bins are left out."""
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


# --- tables ------------------------------------------------------------------------------------


def coldstart_tables(
    records: Sequence[Record],
    by: str,
    quantiles: int,
    edges: Sequence[float],
    pool: Sequence[Record] = (),
) -> list[Table]:
    """A table over bins, and one over `profile.max_items` if there are such runs.

    Raises InputError if there is neither.
    """
    found = curves(records, by, quantiles, edges, pool)
    limited = max_items_table(records)
    if not found and not limited:
        raise InputError(
            f"no run tells the {PROPERTIES[by][0]} of its questions: runs with a profile (k > 0) "
            "and golds do; ages only where questions are dated, spans where items are"
        )
    bins = [_bins_table(found, by, quantiles, edges)] if found else []
    return [*bins, *([limited] if limited else [])]


def _fewer_bins(found: Sequence[Curve], quantiles: int, edges: Sequence[float]) -> list[str]:
    """Why runs have fewer bins than were asked for."""
    wanted = len(edges) or quantiles
    fewer = sum(len(curve.bins) < wanted for curve in found)
    if not fewer:
        return []
    alone = sum(len(curve.bins) == 1 for curve in found)
    one = f"; {alone} have a single value, and so one bin" if alone else ""
    why = "bins without any question are left out" if edges else "equal values cannot be split"
    return [f"{fewer} of {len(found)} runs have fewer bins than {wanted}: {why}{one}"]


def _bins_table(found: Sequence[Curve], by: str, quantiles: int, edges: Sequence[float]) -> Table:
    names, heads = naming([curve.group for curve in found])
    words = PROPERTIES[by][0]
    rows = [
        Row((*heads[curve.group.configuration], curve.metric, one.label), _cells(one))
        for curve in found
        for one in curve.bins
    ]
    unknown = sum(curve.unknown for curve in found)
    footers = [
        *data_footers([record for curve in found for record in curve.group.records]),
        f"bins of the {words}: lowest to highest value in it; equal values are in one bin",
        "gain: against the same run without a profile; above zero is better, whatever the metric's "
        "direction",
        "all over the seeds that both runs have; no gain where they have none",
        *interval_footers(
            [i for curve in found for one in curve.bins for i in (one.value, one.gain) if i]
        ),
        "verdict at 5%, by the test of the verb personal, not corrected for the number of bins",
        *difference_footers([curve.group for curve in found], names),
        *([f"{unknown} questions of these runs have none and are left out"] if unknown else []),
        *_fewer_bins(found, quantiles, edges),
    ]
    columns = ("questions", "value", "interval", "gain", "gain's interval", "verdict")
    all_heads = (*names, "metric", by)
    return Table(f"By {words}", all_heads, columns, tuple(rows), tuple(footers))


def _cells(one: Bin) -> tuple[Cell, ...]:
    worth = worth_of(one.verdict)
    return (
        as_cell(one.n),
        number(one.value.value),
        interval_cell(one.value),
        replace(number(one.gain.value if one.gain else None, sign=True), worth=worth),
        interval_cell(one.gain) if one.gain else Cell("–"),
        Cell(one.verdict or "–", worth=worth),
    )


def max_items_table(records: Sequence[Record]) -> Table | None:
    """Runs that differ only in the number of items left of each profile; None without any."""
    lines: dict[str, list[Group]] = {}
    for group in in_order(grouped(records).values()):
        if group.first.personal:
            lines.setdefault(group.first.configuration_without(MAX_ITEMS), []).append(group)
    several = [members for members in lines.values() if len(members) > 1]
    if not several:
        return None
    names, heads = naming([members[0] for members in several], without={"max_items"})
    limits = sorted({_limit(group) for members in several for group in members})
    rows = []
    for members in several:
        metric = members[0].first.main_metric
        by_limit = {_limit(group): number(group.mean(metric)) for group in members}
        cells = tuple(by_limit.get(limit, Cell("–")) for limit in limits)
        rows.append(Row((*heads[members[0].configuration], metric), cells))
    columns = tuple("all" if limit == math.inf else f"{limit:g}" for limit in limits)
    footers = data_footers([r for members in several for group in members for r in group.records])
    title = f"By the number of items left of each profile ({MAX_ITEMS})"
    return Table(title, (*names, "metric"), columns, tuple(rows), tuple(footers))


def _limit(group: Group) -> float:
    value = group.facet("max_items")
    return math.inf if value is None else float(value)
