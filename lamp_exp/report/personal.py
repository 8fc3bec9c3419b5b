"""The verb personal: what the profile gains, for whom, and how much is left to gain.

Gains are positive where a metric got better, whatever its direction.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, scored
from lamp_exp.report.footers import group_table, interval_footers, system_words
from lamp_exp.report.paired_examples import (
    common_seeds,
    on_common_seeds,
    pair,
    pooled,
    unreadable_footers,
    verdict_on,
)
from lamp_exp.report.selection import CONTROL, Group, alike_but_for, grouped
from lamp_exp.report.table import Cell, Table, interval_cell, number, p_cell, percent, worth_of
from lamp_exp.results.record import Record
from lamp_exp.statistics import Interval, Sample, compare

ROUNDING = 12  # digits after the point: a smaller gain is none
OVER = {"skip": "single items (skip)", "retriever": "retrievers"}
HEADROOM = ("over", "groups", "metric", "best_alone", "together", "left")


def as_gain(difference: Interval, higher_is_better: bool) -> Interval:
    """A difference as a gain: positive is better."""
    if higher_is_better:
        return difference
    low, high = -difference.high, -difference.low
    return replace(difference, value=-difference.value, low=low, high=high)


add_options = add_runs


def tables(arguments: argparse.Namespace) -> list[Table]:
    return personal_tables(*scored(arguments))


def gains(records: Sequence[Record], pool: Sequence[Record] = ()) -> pd.DataFrame:
    """A row for each run whose baseline is there or in `pool`, by each task's main metric.

    `group` and `baseline` have the same seeds; `left_out` are the seeds that only the run has.
    `comparison` is from baseline to run, in the metric's own direction; `gain` is positive if
    better. `helped`, `unchanged` and `hurt` are shares of users. `control` is the gain of the same
    run with the profiles of other users.
    """
    others = grouped([*records, *pool])
    found = (_gain(group, others) for group in grouped(records).values())
    return pd.DataFrame([gain for gain in found if gain is not None])


def _gain(group: Group, groups: Mapping[str, Group]) -> dict[str, Any] | None:
    """None without a baseline, common seeds or scores."""
    baseline = groups.get(group.first.baseline or "")
    metric = group.first.main_metric
    samples = pair(baseline, group, metric) if baseline else None
    if baseline is None or samples is None:
        return None
    shared = common_seeds([baseline, group])
    left_out = [seed for seed in group.seeds if seed not in shared]
    group, baseline = group.of_seeds(shared), baseline.of_seeds(shared)
    comparison, signs = compare(*samples, thorough=False), np.sign(user_gains(*samples))
    interval = as_gain(comparison.difference, samples[0].higher_is_better)
    return {
        "group": group,
        "baseline": baseline,
        "metric": metric,
        "comparison": comparison,
        "verdict": verdict_on(comparison, baseline, group),
        "interval": interval,
        "gain": interval.value,
        "helped": float(np.mean(signs == 1)),
        "unchanged": float(np.mean(signs == 0)),
        "hurt": float(np.mean(signs == -1)),
        "control": _control_gain(group, baseline, groups, metric),
        "left_out": left_out,
    }


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
    if found.empty:
        raise InputError(
            "no run has its baseline, the same run without a profile and of a seed that both have: "
            "run it with k=0, or give its folder, too"
        )
    return [_gain_table(found), *_headroom_tables(headroom(records))]


def _gain_table(found: pd.DataFrame) -> Table:
    left_out = "; ".join(
        f"{system_words(one.group)}: {', '.join(map(str, one.left_out))}"
        for one in found.itertuples()
        if one.left_out
    )
    tests = ", ".join(sorted({one.decisive.name for one in found["comparison"]}))
    methods = sorted({(one.metric, one.interval.method) for one in found.itertuples()})
    notes = [
        "gain: with the profile against the same run without; above zero is better, whatever the "
        "metric's direction",
        f"p: {tests}, not corrected for the number of rows (see the verb tests)",
        "means over the seeds that the run and its baseline share",
        "users: by the mean gain of their questions",
        *([f"seeds left out, as the baseline lacks them: {left_out}"] if left_out else []),
        *(f"interval of {metric}: {method}" for metric, method in methods),
        *interval_footers(found["interval"]),
        *unreadable_footers(found["verdict"].tolist()),
        "by another's: the gain of the same run with profile.control=shuffled_user and the same "
        "seeds: what a profile brings that is not the user's own",
    ]
    rows = [(one.group, (one.metric,), _gain_cells(one)) for one in found.itertuples()]
    records = [r for one in found.itertuples() for r in one.group.records + one.baseline.records]
    return group_table("Gain of the profile", ("metric",), rows, notes, records=records)


def _gain_cells(one: Any) -> dict[str, Any]:
    worth = worth_of(one.verdict)
    return {
        "without": one.baseline.mean(one.metric),
        "with": one.group.mean(one.metric),
        "gain": number(one.gain, sign=True, worth=worth),
        "95% interval": interval_cell(one.interval, sign=True),
        "p": p_cell(one.comparison.decisive.p),
        "verdict": Cell(one.verdict, worth=worth),
        "users": one.comparison.clusters,
        "helped": percent(one.helped),
        "unchanged": percent(one.unchanged),
        "hurt": percent(one.hurt),
        "by another's": number(one.control, sign=True),
    }


# --- what is left to gain ----------------------------------------------------------------------


def headroom(records: Sequence[Record]) -> pd.DataFrame:
    """The best that several runs reach together, each question answered by the best run at it.

    A row for each set of runs that differ in the option `over`, single items (`skip`) or
    retrievers; `left` is from `best_alone` to `together`, positive if better.
    """
    found = (_headroom(over, same) for over in OVER for same in alike_but_for(over, records))
    return pd.DataFrame([one for one in found if one is not None], columns=HEADROOM)


def _headroom(over: str, groups: Sequence[Group]) -> tuple[Any, ...] | None:
    groups = list(on_common_seeds(groups).values())
    base = groups[0].first
    samples = [pooled(group, base.main_metric, base) for group in groups]
    known = [one for one in samples if one is not None]
    if len(known) < len(groups):
        return None
    higher = known[0].higher_is_better
    best, scores = np.max if higher else np.min, np.stack([one.terms[:, 0] for one in known])
    alone, together = float(best(scores.mean(axis=1))), float(best(scores, axis=0).mean())
    left = together - alone if higher else alone - together
    return over, groups, base.main_metric, alone, together, left


def _headroom_tables(found: pd.DataFrame) -> Iterator[Table]:
    notes = [
        "oracle: each question answered by whichever of the runs scores best on it, chosen with "
        "the gold in hand: an upper bound, no result; more runs raise it by chance, too",
        "left to gain: from the best run alone to the oracle; above zero is better, whatever the "
        "metric's direction",
    ]
    for over, own in found.groupby("over", sort=False):
        rows = [
            (one.groups[0], (one.metric,),
             {"runs": len(one.groups), "best alone": one.best_alone, "oracle": one.together,
              "left to gain": number(one.left, sign=True)})
            for one in own.itertuples()
        ]  # fmt: skip
        records = [r for groups in own["groups"] for group in groups for r in group.records]
        title = f"Headroom over {OVER[over]}"
        yield group_table(title, ("metric",), rows, notes, without={over}, records=records)
