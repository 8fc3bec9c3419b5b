"""The verb coldstart: metric and gain by profile size, similarity and age.

Bins are ranges of a property of the questions. A further table shows runs whose profiles were cut
to a number of items (`profile.max_items`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, check_range, scored
from lamp_exp.report.footers import group_table, interval_footers
from lamp_exp.report.paired_examples import common_seeds, pair
from lamp_exp.report.personal import as_gain
from lamp_exp.report.selection import Group, alike_but_for, grouped
from lamp_exp.report.table import Cell, Table, number, worth_of
from lamp_exp.results.record import Record
from lamp_exp.statistics import Interval, compare, interval
from lamp_exp.wording import count_of

QUANTILES = 5
MAX_ITEMS = "profile.max_items"
Values = NDArray[np.float64]  # one per question; NaN where it is not known
PROPERTIES = {  # the column of the examples, and a description
    "size": ("profile_size", "items in the profile"),
    "similarity": ("top_similarity", "score of the best item (the retriever's own scale)"),
    "age": ("newest_item_days", "days since the newest item"),
    "span": ("profile_days", "days from the oldest item to the newest"),
}


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
        return f"{self.low:g}" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}"


# --- the verb ----------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    words = "; ".join(f"{name}: {description}" for name, (_, description) in PROPERTIES.items())
    parser.add_argument("--by", choices=PROPERTIES, default="size", help=f"{words} (default: size)")
    parser.add_argument("--quantiles", type=int, metavar="N", help="bins of one size (default: 5)")
    parser.add_argument(
        "--bins", nargs="+", type=float, default=[], metavar="LOWEST",
        help="bins that begin at these values, instead of quantiles: --bins 1 10 50",
    )  # fmt: skip


def tables(arguments: argparse.Namespace) -> list[Table]:
    if arguments.bins and arguments.quantiles is not None:
        raise InputError("--bins and --quantiles are two ways to make bins: give one")
    quantiles = QUANTILES if arguments.quantiles is None else arguments.quantiles
    check_range("quantiles", quantiles, 1, 100)
    if not all(map(math.isfinite, arguments.bins)):
        raise InputError("--bins must be finite numbers: give the lowest value of each bin")
    records, pool = scored(arguments)
    tables = coldstart_tables(records, arguments.by, quantiles, arguments.bins, pool)
    return tables


# --- numbers -----------------------------------------------------------------------------------


def curves(
    records: Sequence[Record],
    by: str,
    quantiles: int = QUANTILES,
    edges: Sequence[float] = (),
    pool: Sequence[Record] = (),
) -> dict[Group, list[Bin]]:
    """The bins of each run with a profile, by `edges` (lowest values), else by quantiles.

    Baselines may also be in `pool`. Runs without scores, or of whose questions the property is not
    known, are left out.
    """
    groups = grouped([*records, *pool])
    found = {
        group: bins_of(group, groups.get(group.first.baseline or ""), by, quantiles, edges)
        for group in grouped(records).values()
        if group.first.personal
    }
    return {group: bins for group, bins in found.items() if bins}


def bins_of(
    group: Group, baseline: Group | None, by: str, quantiles: int, edges: Sequence[float] = ()
) -> list[Bin]:
    """The bins of a run, lowest first, beside its baseline if the two have a seed in common."""
    if baseline and not common_seeds([group, baseline]):
        baseline = None
    samples = pair(group, baseline or group, group.first.main_metric)
    column = PROPERTIES[by][0]
    if samples is None or not group.first.has_column(column):  # older runs did not record it
        return []
    values = np.array(group.first.column(column), dtype=np.float64)  # None becomes NaN
    bins = []
    for members in split(values, quantiles, edges):
        run, other = (
            replace(sample, terms=sample.terms[members], users=sample.users[members])
            for sample in samples
        )
        compared = compare(other, run, thorough=False) if baseline else None
        gain = as_gain(compared.difference, run.higher_is_better) if compared else None
        without = interval(other) if baseline else None
        low, high = float(values[members].min()), float(values[members].max())
        verdict = compared.verdict if compared else ""
        bins.append(Bin(low, high, int(members.sum()), interval(run), without, gain, verdict))
    return bins


def split(values: Values, quantiles: int, edges: Sequence[float]) -> list[NDArray[np.bool_]]:
    """Which questions are in each bin; equal values are in one bin, empty bins are left out."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return []
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
    tables = [_bins_table(found, by, len(edges) or quantiles, bool(edges))] if found else []
    tables += _max_items_tables(records)
    if not tables:
        raise InputError(
            f"no run tells the {PROPERTIES[by][1]} of its questions: runs with a profile (k > 0) "
            "and golds do; ages only where questions are dated, spans where items are"
        )
    return tables


def _bins_table(found: Mapping[Group, list[Bin]], by: str, wanted: int, by_edges: bool) -> Table:
    words = PROPERTIES[by][1]
    rows = [
        (group, (group.first.main_metric, one.label), _cells(one))
        for group, bins in found.items()
        for one in bins
    ]
    notes = [
        f"bins of the {words}: lowest to highest value in it; equal values are in one bin",
        "gain: against the same run without a profile; above zero is better, whatever the metric's "
        "direction",
        "means over the seeds that the run and its baseline share; no gain where they share none",
        *interval_footers(
            [i for bins in found.values() for one in bins for i in (one.value, one.gain) if i]
        ),
        "verdict at 5%, by the test of the verb personal, not corrected for the number of bins",
    ]
    asked = sum(group.first.questions for group in found)
    if unknown := asked - sum(one.n for bins in found.values() for one in bins):
        notes.append(f"left out: {count_of(unknown, 'question')} of these runs without one")
    if fewer := sum(len(bins) < wanted for bins in found.values()):
        alone = sum(len(bins) == 1 for bins in found.values())
        one = f"; {alone} have a single value, and so one bin" if alone else ""
        why = (
            "bins without any question are left out" if by_edges else "equal values cannot be split"
        )
        notes.append(
            f"fewer bins than {wanted} in {fewer} of {count_of(len(found), 'run')}: {why}{one}"
        )
    return group_table(f"By {words}", ("metric", by), rows, notes)


def _cells(one: Bin) -> dict[str, Any]:
    worth = worth_of(one.verdict)
    return {
        "questions": one.n,
        "value": one.value.value,
        "interval": one.value,
        "gain": number(one.gain.value if one.gain else None, sign=True, worth=worth),
        "gain's interval": one.gain,
        "verdict": Cell(one.verdict, worth=worth) if one.verdict else None,
    }


def _max_items_tables(records: Sequence[Record]) -> list[Table]:
    """Runs that differ only in the number of items left of each profile; no table without any."""
    sets = alike_but_for(MAX_ITEMS, records)
    limits = sorted({_limit(group) for groups in sets for group in groups})
    columns = {limit: "all" if limit == math.inf else f"{limit:g}" for limit in limits}
    rows = []
    for groups in sets:
        metric = groups[0].first.main_metric
        cells = {columns[_limit(group)]: group.mean(metric) for group in groups}
        rows.append((groups[0], (metric,), {name: cells.get(name) for name in columns.values()}))
    title = f"By the number of items left of each profile ({MAX_ITEMS})"
    records = [record for groups in sets for group in groups for record in group.records]
    without = {"max_items"}
    return (
        [group_table(title, ("metric",), rows, [], without=without, records=records)]
        if rows
        else []
    )


def _limit(group: Group) -> float:
    value = group.facet("max_items")
    return math.inf if value is None else float(value)
