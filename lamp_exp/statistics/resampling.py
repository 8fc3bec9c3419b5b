"""Bootstrap, jackknife and permutation over users.

Own code because scipy.stats resamples one statistic at a time and draws anew for each: here the
metric of many resamples is one matrix product. The tests compare it with scipy's on small data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from lamp_exp.statistics.samples import Floats, Sample

Plan = NDArray[np.uint8]
ROUNDING = 1e-10  # differences that rounding alone may make, relative to the largest
CHUNK = 2000  # permutations that are drawn together
# Permutations that are kept for other pairs of runs: at most 160 MB.
KEPT_CHUNKS, KEPT_USERS = 32, 2500
ENOUGH = 100  # permutations as extreme as the data: more of them would tell nothing new


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
    bias = special.ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    left_out = without_each(sample)
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    ends = bias + special.ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(found, special.ndtr(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


def bootstrap_p(apart: Sample, resamples: int, seed: int) -> float:
    """Two-sided p of no difference, by the bootstrap.

    It counts the resampled differences that lie as far from the measured one as that from zero.
    """
    value = apart.measured()
    found = bootstrapped(apart, resamples, seed) - value
    return (_as_extreme(found, value) + 1) / (resamples + 1)


@dataclass(frozen=True, slots=True)
class Permutations:
    """The differences of two runs after their results were swapped for random users.

    `exact` says that every way of swapping was tried once; else the measured difference counts as
    one more permutation. `measured` is the difference itself.
    """

    differences: Floats
    measured: float
    exact: bool

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference."""
        extreme, more = _as_extreme(self.differences, self.measured), 0 if self.exact else 1
        return (extreme + more) / (len(self.differences) + more)

    def critical(self, alpha: float) -> float:
        """The largest absolute difference that the test at `alpha` does not reject.

        Infinite where the test can reject nothing, since too few users differ.
        """
        sizes, more = np.abs(self.differences), 0 if self.exact else 1
        place = int(np.ceil(alpha * (len(sizes) + more))) - more
        if place < (3 if self.exact else 1):  # the data and their mirror image always count
            return float("inf")
        return float(np.partition(sizes, -place)[-place] + _tolerance(sizes, self.measured))


def permutations(a: Sample, b: Sample, resamples: int, seed: int) -> Permutations:
    """Permutes which of the two runs each user's results belong to; for a mean, sign flips.

    Tries all ways if there are at most `resamples`. Otherwise draws `resamples` permutations, or
    fewer if ENOUGH of the first are as extreme as the data: a sequential Monte Carlo test (Besag
    and Clifford 1991). All pairs of runs with as many users have the same permutations.
    """
    ours, theirs = a.sums, b.sums
    rows = theirs - ours
    differ = (rows != 0).any(axis=1)
    total_a, total_b = ours.sum(axis=0), theirs.sum(axis=0)

    def swapped(moved: Floats) -> Floats:
        return b.value(total_b - moved) - a.value(total_a + moved)

    measured = float(b.value(total_b) - a.value(total_a))
    if all_ways(int(differ.sum()), resamples):
        each = every_swap(int(differ.sum()))
        return Permutations(swapped(each @ rows[differ]), measured, exact=True)
    moves = _sparse(rows.T)
    found: list[Floats] = []
    extreme = drawn = 0
    while not found or (drawn < resamples and extreme < ENOUGH):
        plan = random_swaps(len(rows), seed, len(found))[:, : resamples - drawn]
        found.append(swapped((moves @ plan.astype(moves.dtype)).T))
        extreme += _as_extreme(found[-1], measured)
        drawn += plan.shape[1]
    return Permutations(np.concatenate(found), measured, exact=False)


def all_ways(users: int, resamples: int) -> bool:
    """Whether so few users can be swapped in every way."""
    return users < 30 and 2**users <= resamples


def every_swap(users: int) -> Floats:
    """All ways to swap users (ways x users), as 0 and 1; the first swaps none."""
    numbers = np.arange(2**users)
    return (numbers[:, None] >> np.arange(users) & 1).astype(np.float64)


def random_swaps(users: int, seed: int, chunk: int) -> NDArray[np.uint8]:
    """Which users are swapped in each of CHUNK permutations (users x permutations), as 0 and 1."""
    kept = chunk < KEPT_CHUNKS and users <= KEPT_USERS
    return _kept_swaps(users, seed, chunk) if kept else _swaps(users, seed, chunk)


def _swaps(users: int, seed: int, chunk: int) -> NDArray[np.uint8]:
    chance = np.random.default_rng([seed, 1, chunk])
    words = chance.integers(0, 2**64, (users, -(-CHUNK // 64)), dtype=np.uint64)
    swaps = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=CHUNK)
    swaps.setflags(write=False)
    return swaps


_kept_swaps = lru_cache(maxsize=KEPT_CHUNKS)(_swaps)


def _sparse(rows: Floats) -> sparse.csr_array:
    """The matrix in the smallest type that holds every sum within a row: most scores are whole."""
    kinds = (np.int16, np.int32) if np.array_equal(rows, np.rint(rows)) else ()
    largest = np.abs(rows).sum(axis=1).max(initial=0)
    kind = next((kind for kind in kinds if largest <= np.iinfo(kind).max), np.float64)
    return sparse.csr_array(rows.astype(kind))


def _as_extreme(found: Floats, value: float) -> int:
    """How many differences are as far from zero as `value`."""
    sizes = np.abs(found)
    return int((sizes >= abs(value) - _tolerance(sizes, value)).sum())


def _tolerance(sizes: Floats, value: float) -> float:
    return ROUNDING * max(abs(value), float(sizes.max(initial=0.0)))
