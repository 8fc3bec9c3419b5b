"""The verb personal: what the profile gains, for whom, and how much is left to gain.

Gains are positive where a metric got better, whatever its direction.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, scored
from lamp_exp.report.footers import group_table, interval_footers, system_words
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import common_seeds, on_common_seeds, pair, pooled
from lamp_exp.report.selection import Group, alike_but_for, grouped
from lamp_exp.report.table import Cell, Table, interval_cell, number, p_cell, percent, worth_of
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
    seeds_left_out: tuple[int, ...]

    @property
    def interval(self) -> Interval:
        return as_gain(self.comparison.difference, self.group.first.higher_is_better(self.metric))

    @property
    def gain(self) -> float:
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


add_options = add_runs


def tables(arguments: argparse.Namespace) -> list[Table]:
    return personal_tables(*scored(arguments))


def gains(records: Sequence[Record], pool: Sequence[Record] = ()) -> list[Gain]:
    others = grouped([*records, *pool])
    found = (_gain(group, others) for group in grouped(records).values())
    return [gain for gain in found if gain is not None]


def _gain(group: Group, groups: Mapping[str, Group]) -> Gain | None:
    """The gain over the seeds that both have; None without a baseline, common seeds or scores."""
    baseline = groups.get(group.first.baseline or "")
    metric = group.first.main_metric
    samples = pair(baseline, group, metric) if baseline else None
    if baseline is None or samples is None:
        return None
    shared = common_seeds([baseline, group])
    left_out = tuple(seed for seed in group.seeds if seed not in shared)
    group, baseline = group.of_seeds(shared), baseline.of_seeds(shared)
    control = _control_gain(group, baseline, groups, metric)
    comparison, per_user = compare(*samples, thorough=False), user_gains(*samples)
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
    samples = pair(baseline, control.of_seeds(group.seeds), metric)
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
    return [_gain_table(found), *_headroom_tables(headroom(records))]


def _gain_table(found: Sequence[Gain]) -> Table:
    left_out = [
        f"{system_words(one.group)}: {', '.join(map(str, one.seeds_left_out))}"
        for one in found
        if one.seeds_left_out
    ]
    tests = sorted({one.comparison.decisive.name for one in found})
    methods = sorted({(one.metric, one.comparison.difference.method) for one in found})
    notes = [
        "gain: with the profile against the same run without; above zero is better, whatever the "
        "metric's direction",
        f"p: {', '.join(tests)}, not corrected for the number of rows (see the verb tests)",
        "all over the seeds that both runs have; users: by the mean gain of their questions",
        *([f"seeds left out, as the baseline lacks them: {'; '.join(left_out)}"]
          if left_out else []),
        *(f"interval of {metric}: {method}" for metric, method in methods),
        *interval_footers([one.interval for one in found]),
        "by another's: the gain of the same run with profile.control=shuffled_user and the same "
        "seeds: what a profile brings that is not the user's own",
    ]  # fmt: skip
    rows = [(one.group, (one.metric,), _gain_cells(one)) for one in found]
    records = [r for one in found for group in (one.group, one.baseline) for r in group.records]
    return group_table("Gain of the profile", ("metric",), rows, notes, records=records)


def _gain_cells(one: Gain) -> dict[str, Any]:
    worth = worth_of(one.comparison.verdict)
    return {
        "without": one.baseline.mean(one.metric),
        "with": one.group.mean(one.metric),
        "gain": number(one.gain, sign=True, worth=worth),
        "95% interval": interval_cell(one.interval, sign=True),
        "p": p_cell(one.comparison.decisive.p),
        "verdict": Cell(one.comparison.verdict, worth=worth),
        "users": one.comparison.clusters,
        "helped": percent(one.share(1)),
        "unchanged": percent(one.share(0)),
        "hurt": percent(one.share(-1)),
        "by another's": number(one.control_gain, sign=True),
    }


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
    found = (_headroom(over, same) for over in OVER for same in alike_but_for(over, records))
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


def _headroom_tables(found: Sequence[Headroom]) -> list[Table]:
    """For each option, a row per set of runs that differ in it, named by all that they share."""
    notes = [
        "oracle: each question answered by whichever of the runs scores best on it, chosen with "
        "the gold in hand: an upper bound, no result; more runs raise it by chance, too",
        "left to gain: from the best run alone to the oracle; above zero is better, whatever the "
        "metric's direction",
    ]
    tables = []
    for over, words in OVER.items():
        rows = [
            (one.groups[0], (one.metric,),
             {"runs": len(one.groups), "best alone": one.best_alone, "oracle": one.together,
              "left to gain": number(one.left, sign=True)})
            for one in found if one.over == over
        ]  # fmt: skip
        records = [r for one in found if one.over == over for g in one.groups for r in g.records]
        if rows:
            title = f"Headroom over {words}"
            tables.append(
                group_table(title, ("metric",), rows, notes, without={over}, records=records)
            )
    return tables
