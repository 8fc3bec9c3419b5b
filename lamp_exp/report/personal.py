"""Personalisation itself: what the profile gains, for whom, and how much was there to gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import common_seeds, pair, pooled
from lamp_exp.report.selection import Group, grouped, in_order, naming
from lamp_exp.report.table import Cell, Row, Table, as_cell, number, worth_of
from lamp_exp.report.wording import data_words, differences, remarks
from lamp_exp.statistics import Comparison, Sample, compare

ROUNDING = 12  # digits after the point: a gain that is smaller is none
OVER = {"skip": "single items (skip)", "retriever": "retrievers"}
SHUFFLED = {"profile.control": "shuffled_user"}


@dataclass(frozen=True, slots=True)
class Gain:
    """A run beside the same run without a profile; gains above zero are better, for any metric."""

    group: Group
    twin: Group
    metric: str
    comparison: Comparison  # twin to run, in the metric's own direction
    per_user: NDArray[np.float64]  # each user's mean gain
    control_gain: float | None  # of the same run with the profiles of other users

    @property
    def sign(self) -> int:
        """By which differences become gains."""
        return 1 if self.group.first.direction(self.metric) else -1

    @property
    def gain(self) -> float:
        """What the profile brings."""
        return self.sign * self.comparison.difference.value

    def share(self, sign: int) -> float:
        """Of users helped (1), unchanged (0) or hurt (-1)."""
        return float(np.mean(np.sign(self.per_user) == sign))


def gains(records: Sequence[Record], pool: Sequence[Record] = ()) -> list[Gain]:
    """Of all runs that have their twin, there or in `pool`, by each task's main metric."""
    others = grouped([*records, *pool])
    found = (gain_of(group, others) for group in in_order(grouped(records).values()))
    return [gain for gain in found if gain is not None]


def gain_of(group: Group, groups: Mapping[str, Group], thorough: bool = False) -> Gain | None:
    """Over the seeds that both have; None without a twin, or without scores of the examples."""
    twin = groups.get(group.first.twin or "")
    metric = group.first.result["monitor"][0]
    samples = pair(twin, group, metric) if twin else None
    if twin is None or samples is None:
        return None
    twin, group = common_seeds(twin, group)
    before, after = samples
    sign = 1 if after.higher_is_better else -1
    gains = sign * per_user(before, after)
    control = _control(group, twin, groups, metric)
    return Gain(group, twin, metric, compare(before, after, thorough=thorough), gains, control)


def _control(group: Group, twin: Group, groups: Mapping[str, Group], metric: str) -> float | None:
    """The gain of the same run with the profiles of other users, over the same seeds."""
    control = groups.get(group.first.as_if(**SHUFFLED))
    if control is None or control.configuration == group.configuration:
        return None
    control, twin = common_seeds(control, twin)
    samples = pair(twin, control, metric)
    if samples is None:
        return None
    before, after = (sample.measured() for sample in samples)
    return after - before if samples[0].higher_is_better else before - after


def per_user(before: Sample, after: Sample) -> NDArray[np.float64]:
    """Each user's mean difference of the examples' scores, without the rounding of sums."""
    differences = after.terms[:, 0] - before.terms[:, 0]
    sums = np.bincount(after.users, weights=differences)
    return np.asarray(np.round(sums / np.bincount(after.users), ROUNDING), dtype=np.float64)


def personal_tables(records: Sequence[Record], pool: Sequence[Record] = ()) -> list[Table]:
    """Gains with users helped and hurt, and what is left to gain where it can be told."""
    found = gains(records, pool)
    if not found:
        raise InputError(
            "no run has its twin without a profile: run the same with k=0, or give its folder, too"
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
    records = [record for gain in found for g in (gain.group, gain.twin) for record in g.records]
    tests = sorted({gain.comparison.tests[0].name for gain in found})
    footers = [
        *data_words(records),
        "gain: with the profile against the same run without, above zero is better, also for MAE",
        f"p: {', '.join(tests)}, not corrected for the number of rows (see the verb tests)",
        "all over the seeds that both runs have; users: by the mean gain of their questions",
        "by another's: the gain of the same run with profile.control=shuffled_user: what a "
        "profile brings that is not the user's own",
        *differences(groups, names),
        *remarks(records),
    ]
    return Table("Gain of the profile", (*names, "metric"), columns, tuple(rows), tuple(footers))


def _gain_cells(one: Gain) -> tuple[Cell, ...]:
    difference = one.comparison.difference
    low, high = sorted((one.sign * difference.low, one.sign * difference.high))
    bounds = {"low": low, "high": high} if low == low else {}
    worth = worth_of(one.comparison.verdict)
    return (
        number(one.twin.mean(one.metric)),
        number(one.group.mean(one.metric)),
        replace(number(one.gain, sign=True), worth=worth),
        Cell(f"[{low:+.4f}, {high:+.4f}]" if bounds else "–", parts=bounds),
        p_cell(one.comparison.tests[0].p),
        Cell(one.comparison.verdict, worth=worth),
        as_cell(one.comparison.clusters),
        *(percent(one.share(sign)) for sign in (1, 0, -1)),
        number(one.control_gain, sign=True),
    )


def p_cell(p: float) -> Cell:
    """A p-value; very small ones by their bound."""
    if p != p:
        return Cell("–")
    return Cell("< 0.0001" if p < 1e-4 else f"{p:.4f}", p)


def percent(share: float) -> Cell:
    """A share as a percentage."""
    return Cell(f"{share:.1%}", share)


@dataclass(frozen=True, slots=True)
class Headroom:
    """The best that some runs reach together, each question answered by the run best at it."""

    over: str  # in what the runs differ: skip, retriever
    groups: tuple[Group, ...]
    metric: str
    best_alone: float
    together: float


def headroom(records: Sequence[Record]) -> list[Headroom]:
    """Over single items (runs that differ in `skip`), and over retrievers."""
    groups = in_order(grouped(records).values())
    found = []
    for what in ("skip", "retriever"):
        alike: dict[str, list[Group]] = {}
        for group in groups:
            if group.first.result["k"]:
                alike.setdefault(group.first.as_if(**{what: None}), []).append(group)
        found += [_headroom(what, members) for members in alike.values() if len(members) > 1]
    return [one for one in found if one is not None]


def _headroom(what: str, groups: Sequence[Group]) -> Headroom | None:
    base = groups[0].first
    metric = base.result["monitor"][0]
    samples = [pooled(group, metric, base) for group in groups]
    known = [one for one in samples if one is not None]
    if len(known) < len(groups):
        return None
    best = np.max if known[0].higher_is_better else np.min
    scores = np.stack([one.terms[:, 0] for one in known])
    alone, together = best(scores.mean(axis=1)), best(scores, axis=0).mean()
    return Headroom(what, tuple(groups), metric, float(alone), float(together))


def _headroom_table(found: Sequence[Headroom], over: str) -> Table:
    """The rows of what is over `over`, by all that the runs of a row share."""
    names, heads = naming([one.groups[0] for one in found], without={over})
    rows = tuple(
        Row((*heads[one.groups[0].configuration], one.metric), _headroom_cells(one))
        for one in found
    )
    footers = (
        *data_words([record for one in found for group in one.groups for record in group.records]),
        "oracle: each question answered by whichever of the runs scores best on it, chosen with "
        "the gold in hand: a bound from above, no result; more runs raise it by chance, too",
    )
    title = f"Headroom over {OVER[over]}"
    columns = ("runs", "best alone", "oracle", "left to gain")
    return Table(title, (*names, "metric"), columns, rows, footers)


def _headroom_cells(one: Headroom) -> tuple[Cell, ...]:
    left = number(one.together - one.best_alone, sign=True)
    return as_cell(len(one.groups)), number(one.best_alone), number(one.together), left
