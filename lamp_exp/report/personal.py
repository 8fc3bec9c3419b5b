"""The verb personal: what the profile gains, for whom, and how much is left to gain.

Gains are positive where a metric got better, whatever its direction.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_format, add_runs, scored, write
from lamp_exp.report.footers import (
    data_footers,
    difference_footers,
    interval_footers,
    remark_footers,
    system_words,
)
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import (
    common_seeds,
    on_common_seeds,
    pair,
    pooled,
    with_seeds,
)
from lamp_exp.report.selection import Group, grouped, in_order, naming
from lamp_exp.report.table import (
    Cell,
    Row,
    Table,
    as_cell,
    interval_cell,
    number,
    p_cell,
    percent,
    worth_of,
)
from lamp_exp.statistics import Comparison, Interval, Sample, compare

ROUNDING = 12  # digits after the point: a smaller gain is none
OVER = {"skip": "single items (skip)", "retriever": "retrievers"}
CONTROL = {"profile.control": "shuffled_user"}


@dataclass(frozen=True, slots=True)
class Gain:
    """A run compared with its baseline.

    Both have the same seeds; `seeds_left_out` of the run are not among the baseline's.
    `comparison` is from baseline to run, in the metric's own direction. `per_user` is each user's
    mean gain. `control_gain` is the gain of the same run with the profiles of other users.
    """

    group: Group
    baseline: Group
    metric: str
    comparison: Comparison
    per_user: NDArray[np.float64]
    control_gain: float | None
    seeds_left_out: tuple[int, ...] = ()

    @property
    def interval(self) -> Interval:
        """The gain with its interval."""
        return as_gain(self.comparison.difference, self.group.first.higher_is_better(self.metric))

    @property
    def gain(self) -> float:
        """The gain of the profile."""
        return self.interval.value

    def share(self, sign: int) -> float:
        """The share of users helped (1), unchanged (0) or hurt (-1)."""
        return float(np.mean(np.sign(self.per_user) == sign))


def as_gain(difference: Interval, higher_is_better: bool) -> Interval:
    """A difference as a gain: positive is better."""
    if higher_is_better:
        return difference
    low, high = -difference.high, -difference.low
    return replace(difference, value=-difference.value, low=low, high=high)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, and the format."""
    add_runs(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables."""
    write(personal_tables(*scored(arguments)), arguments)
    return 0


def gains(records: Sequence[Record], pool: Sequence[Record] = ()) -> list[Gain]:
    """The gains of all runs whose baseline is there or in `pool`, by each task's main metric."""
    others = grouped([*records, *pool])
    found = (gain_of(group, others) for group in in_order(grouped(records).values()))
    return [gain for gain in found if gain is not None]


def gain_of(group: Group, groups: Mapping[str, Group], thorough: bool = False) -> Gain | None:
    """The gain over the seeds that both have; None without a baseline, common seeds or scores."""
    baseline = groups.get(group.first.baseline or "")
    metric = group.first.main_metric
    samples = pair(baseline, group, metric) if baseline else None
    if baseline is None or samples is None:
        return None
    shared = common_seeds([baseline, group])
    left_out = tuple(seed for seed in group.seeds if seed not in shared)
    group, baseline = with_seeds(group, shared), with_seeds(baseline, shared)
    control = _control_gain(group, baseline, groups, metric)
    comparison, per_user = compare(*samples, thorough=thorough), user_gains(*samples)
    return Gain(group, baseline, metric, comparison, per_user, control, left_out)


def _control_gain(
    group: Group, baseline: Group, groups: Mapping[str, Group], metric: str
) -> float | None:
    """The gain of the same run with the profiles of other users; None without all its seeds."""
    control = groups.get(group.first.configuration_with(**CONTROL))
    if control is None or control.configuration == group.configuration:
        return None
    if not {*group.seeds} <= {*control.seeds}:
        return None
    samples = pair(baseline, with_seeds(control, group.seeds), metric)
    if samples is None:
        return None
    before, after = (sample.measured() for sample in samples)
    return after - before if samples[0].higher_is_better else before - after


def user_gains(before: Sample, after: Sample) -> NDArray[np.float64]:
    """Each user's mean gain of the examples' scores, without the rounding errors of sums."""
    differences = after.terms[:, 0] - before.terms[:, 0]
    sums = np.bincount(after.users, weights=differences)
    means = np.round(sums / np.bincount(after.users), ROUNDING)
    return np.asarray(means if after.higher_is_better else -means, dtype=np.float64)


def personal_tables(records: Sequence[Record], pool: Sequence[Record] = ()) -> list[Table]:
    """Gains with the users helped and hurt, and what is left to gain where that can be told.

    Raises InputError if no run has its baseline.
    """
    found = gains(records, pool)
    if not found:
        raise InputError(
            "no run has its baseline, the same run without a profile and of a seed that both have: "
            "run it with k=0, or give its folder, too"
        )
    left = headroom(records)
    by = [(over, [one for one in left if one.over == over]) for over in OVER]
    return [_gain_table(found), *(_headroom_table(rows, over) for over, rows in by if rows)]


def _gain_table(found: Sequence[Gain]) -> Table:
    names, heads = naming([gain.group for gain in found])
    rows = [Row((*heads[one.group.configuration], one.metric), _gain_cells(one)) for one in found]
    columns = (
        "without", "with", "gain", "95% interval", "p", "verdict", "users", "helped", "unchanged",
        "hurt", "by another's",
    )  # fmt: skip
    groups = [gain.group for gain in found]
    records = [r for gain in found for g in (gain.group, gain.baseline) for r in g.records]
    tests = sorted({gain.comparison.tests[0].name for gain in found})
    footers = [
        *data_footers(records),
        "gain: with the profile against the same run without; above zero is better, whatever the "
        "metric's direction",
        f"p: {', '.join(tests)}, not corrected for the number of rows (see the verb tests)",
        "all over the seeds that both runs have; users: by the mean gain of their questions",
        *_left_out_footers(found),
        *(f"interval of {metric}: {method}" for metric, method in _methods(found)),
        *interval_footers([one.interval for one in found]),
        "by another's: the gain of the same run with profile.control=shuffled_user and the same "
        "seeds: what a profile brings that is not the user's own",
        *difference_footers(groups, names),
        *remark_footers(records),
    ]
    return Table("Gain of the profile", (*names, "metric"), columns, tuple(rows), tuple(footers))


def _left_out_footers(found: Sequence[Gain]) -> list[str]:
    left_out = [
        f"{system_words(one.group)}: {', '.join(map(str, one.seeds_left_out))}"
        for one in found
        if one.seeds_left_out
    ]
    return (
        [f"seeds left out, as the baseline lacks them: {'; '.join(left_out)}"] if left_out else []
    )


def _methods(found: Sequence[Gain]) -> list[tuple[str, str]]:
    return sorted({(one.metric, one.comparison.difference.method) for one in found})


def _gain_cells(one: Gain) -> tuple[Cell, ...]:
    worth = worth_of(one.comparison.verdict)
    return (
        number(one.baseline.mean(one.metric)),
        number(one.group.mean(one.metric)),
        replace(number(one.gain, sign=True), worth=worth),
        interval_cell(one.interval, sign=True),
        p_cell(one.comparison.tests[0].p),
        Cell(one.comparison.verdict, worth=worth),
        as_cell(one.comparison.clusters),
        *(percent(one.share(sign)) for sign in (1, 0, -1)),
        number(one.control_gain, sign=True),
    )


# --- what is left to gain ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Headroom:
    """The best that several runs reach together, each question answered by the best run at it.

    The runs differ in the option `over`.
    """

    over: str
    groups: tuple[Group, ...]
    metric: str
    best_alone: float
    together: float

    @property
    def left(self) -> float:
        """What is left to gain; positive is better."""
        left = self.together - self.best_alone
        return left if self.groups[0].first.higher_is_better(self.metric) else 0.0 - left


def headroom(records: Sequence[Record]) -> list[Headroom]:
    """The headroom over single items (runs that differ in `skip`), and over retrievers."""
    groups = in_order(grouped(records).values())
    found = []
    for over in OVER:
        alike: dict[str, list[Group]] = {}
        for group in groups:
            if group.first.personal:
                alike.setdefault(group.first.configuration_without(over), []).append(group)
        found += [_headroom(over, members) for members in alike.values() if len(members) > 1]
    return [one for one in found if one is not None]


def _headroom(over: str, groups: Sequence[Group]) -> Headroom | None:
    groups = list(on_common_seeds(groups).values())
    base = groups[0].first
    metric = base.main_metric
    samples = [pooled(group, metric, base) for group in groups]
    known = [one for one in samples if one is not None]
    if len(known) < len(groups):
        return None
    best = np.max if known[0].higher_is_better else np.min
    scores = np.stack([one.terms[:, 0] for one in known])
    alone, together = best(scores.mean(axis=1)), best(scores, axis=0).mean()
    return Headroom(over, tuple(groups), metric, float(alone), float(together))


def _headroom_table(found: Sequence[Headroom], over: str) -> Table:
    """A row per set of runs that differ in `over`, named by all that they share."""
    names, heads = naming([one.groups[0] for one in found], without={over})
    rows = tuple(
        Row((*heads[one.groups[0].configuration], one.metric), _headroom_cells(one))
        for one in found
    )
    footers = (
        *data_footers([r for one in found for group in one.groups for r in group.records]),
        "oracle: each question answered by whichever of the runs scores best on it, chosen with "
        "the gold in hand: an upper bound, no result; more runs raise it by chance, too",
        "left to gain: from the best run alone to the oracle; above zero is better, whatever the "
        "metric's direction",
    )
    title = f"Headroom over {OVER[over]}"
    columns = ("runs", "best alone", "oracle", "left to gain")
    return Table(title, (*names, "metric"), columns, rows, footers)


def _headroom_cells(one: Headroom) -> tuple[Cell, ...]:
    left = number(one.left, sign=True)
    return as_cell(len(one.groups)), number(one.best_alone), number(one.together), left
