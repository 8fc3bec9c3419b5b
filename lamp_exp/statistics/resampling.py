"""Bootstrap and permutation over users, many metrics on one plan of resamples.

Own code because scipy.stats resamples one statistic at a time, with a plan drawn anew for each:
here a plan (which users are drawn, which are swapped) is made once per number of users, and each
metric is then one matrix product. The tests hold it against scipy's on small data.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from lamp_exp.statistics.samples import Floats, Sample

Plan = NDArray[np.uint8]
ROUNDING = 1e-10  # differences that rounding alone may make, relative to the largest


@lru_cache(maxsize=4)
def draws(clusters: int, resamples: int, seed: int) -> Plan:
    """How often each resample draws each user (resamples x clusters).

    A byte is enough: of more than 255 users none is ever drawn more than 255 times.
    """
    chance = np.random.default_rng([seed, 0])
    counts = np.empty((resamples, clusters), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(chance.integers(0, clusters, clusters), minlength=clusters)
    counts.setflags(write=False)
    return counts


@lru_cache(maxsize=4)
def swaps(clusters: int, resamples: int, seed: int) -> Plan:
    """Whose two results each permutation swaps (permutations x clusters), as 0 and 1.

    All 2 ** clusters ways where these are no more than `resamples`, the first swapping none.
    """
    if all_ways(clusters, resamples):
        numbers = np.arange(2**clusters)
        plan = (numbers[:, None] >> np.arange(clusters) & 1).astype(np.uint8)
    else:
        chance = np.random.default_rng([seed, 1])
        plan = chance.integers(0, 2, (resamples, clusters), dtype=np.uint8)
    plan.setflags(write=False)
    return plan


def all_ways(clusters: int, resamples: int) -> bool:
    """Whether so few users can be swapped in every way."""
    return clusters < 30 and 2**clusters <= resamples


def bootstrapped(sample: Sample, resamples: int, seed: int) -> Floats:
    """The metric of each bootstrap resample of users."""
    plan = draws(sample.clusters, resamples, seed)
    return sample.value(plan.astype(np.float64) @ sample.sums)


def without_each(sample: Sample) -> Floats:
    """The metric without each of the users: the jackknife."""
    sums = sample.sums
    return sample.value(sums.sum(axis=0) - sums)


def bca(sample: Sample, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """The bias-corrected and accelerated bootstrap interval (Efron 1987), by resampling users."""
    value, found = sample.measured(), bootstrapped(sample, resamples, seed)
    below = ((found < value).mean() + (found <= value).mean()) / 2
    bias = norm.ppf(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    left_out = without_each(sample)
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    ends = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(found, norm.cdf(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


def bootstrap_p(apart: Sample, resamples: int, seed: int) -> float:
    """Two-sided p of no difference, by the bootstrap.

    It counts the resampled differences that lie as far from the measured one as that from zero.
    """
    value = apart.measured()
    found = bootstrapped(apart, resamples, seed) - value
    return (_as_extreme(found, value) + 1) / (resamples + 1)


def permutation_p(a: Sample, b: Sample, resamples: int, seed: int) -> float:
    """Two-sided p of no difference: the two runs' results swapped for random users.

    For a mean this is the sign-flip test. Where every way of swapping is tried the p is exact;
    else the measured difference counts as one more permutation.
    """
    ours, theirs = a.sums, b.sums
    moved = swaps(len(ours), resamples, seed).astype(np.float64) @ (theirs - ours)
    found = b.value(theirs.sum(axis=0) - moved) - a.value(ours.sum(axis=0) + moved)
    extreme = _as_extreme(found, b.measured() - a.measured())
    if all_ways(len(ours), resamples):
        return extreme / len(found)
    return (extreme + 1) / (len(found) + 1)


def _as_extreme(found: Floats, value: float) -> int:
    tolerance = ROUNDING * max(abs(value), float(np.abs(found).max()))
    return int((np.abs(found) >= abs(value) - tolerance).sum())
