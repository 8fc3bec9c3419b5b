"""Contrasts: weighted sums of a metric over several runs on the same examples.

Effects of a factorial experiment are such sums, of weights that add up to zero. A contrast of two
runs is their difference, with the test of `compare`. That of more runs is tested by the t-test of
its values by example, clustered by user where users repeat; by the jackknife where the metric is no
mean of examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from lamp_exp.statistics.intervals import Estimate, Interval, estimate, interval, interval_of
from lamp_exp.statistics.paired import POWER, SIGNIFICANT, Test, compare
from lamp_exp.statistics.samples import (
    OTHER,
    Floats,
    Sample,
    mean_sample,
    ratio_sample,
    side_by_side,
)

SHARE_RESAMPLES = 4000
ROUNDING = 12  # digits after the point: less is an error of the sum, and no effect


@dataclass(frozen=True, slots=True)
class Contrast:
    """The value with its interval, and the test that it is zero.

    `detectable` is the value, in the metric's unit, that this test would find with 80% power at the
    level that it has in its family.
    """

    value: Interval
    test: Test
    detectable: float


def contrast(
    samples: Sequence[Sample], weights: Sequence[float], level: float = 0.95, family: int = 1
) -> Contrast:
    """The sum of the samples' metrics with these weights, which add up to zero.

    The samples are of one metric and of the same examples in the same order. `family` is the number
    of tests for which the p-value will be corrected.
    """
    assert abs(sum(weights)) < 1e-9, "a contrast has weights that add up to zero"
    used = [(s, w) for s, w in zip(samples, weights, strict=True) if w]
    if sorted(weight for _, weight in used) == [-1, 1]:
        (first, _), (second, _) = sorted(used, key=lambda one: one[1])
        found = compare(first, second, level, thorough=False, family=family)
        return Contrast(found.difference, found.decisive, found.detectable)
    summed = weighted_sum([s for s, _ in used], [w for _, w in used])
    known = estimate(summed)
    return Contrast(
        interval_of(summed, known, level), _t_test(summed, known), _detectable(known, family)
    )


def weighted_sum(samples: Sequence[Sample], weights: Sequence[float]) -> Sample:
    """The sum of the samples' metrics with these weights, as one metric of the examples."""
    first = samples[0]
    if first.kind != OTHER:
        terms = zip(samples, weights, strict=True)
        values = np.sum([weight * one.terms[:, 0] for one, weight in terms], axis=0)
        values = np.round(values, ROUNDING)
        return mean_sample(values, first.users, first.higher_is_better)

    def value(values: Sequence[Floats]) -> Floats:
        return np.tensordot(np.asarray(weights), np.asarray(values), axes=1)

    return side_by_side(samples, value)


def share_of_gain(
    baseline: Sample, part: Sample, whole: Sample, level: float = 0.95, seed: int = 0
) -> Interval:
    """How much of the gain of `whole` over `baseline` the run `part` has: a share, 1 if all.

    The interval is by resampling users. It means little where the gain of `whole` may be zero.
    """
    if baseline.kind != OTHER:
        base, some, all_of_it = (one.terms[:, 0] for one in (baseline, part, whole))
        ratio = ratio_sample(some - base, all_of_it - base, baseline.users)
    else:

        def value(values: Sequence[Floats]) -> Floats:
            without, some, every = values
            return np.asarray((some - without) / (every - without))

        ratio = side_by_side([baseline, part, whole], value)
    return interval(ratio, level, SHARE_RESAMPLES, seed)


def _t_test(summed: Sample, found: Estimate) -> Test:
    kind = "jackknife t of the contrast" if summed.kind == OTHER else "t of the contrast"
    name = f"{kind}, clustered by user" if summed.clustered else kind
    if found.missing:
        return Test(name, 1.0 if found.value == 0 else math.nan)
    return Test(name, 2 * float(special.stdtr(found.freedom, -abs(found.centre) / found.error)))


def _detectable(found: Estimate, family: int) -> float:
    if found.missing:
        return math.nan
    tails = special.stdtrit(found.freedom, [1 - SIGNIFICANT / family / 2, POWER])
    return float(tails.sum()) * found.error
