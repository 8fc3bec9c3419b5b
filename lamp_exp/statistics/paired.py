"""Compares two runs on the same examples: difference, interval, tests.

One test decides in each case, and the interval is the one that inverts it:

- accuracy without repeated users: McNemar's exact test; Agresti and Min's interval, with ends of
  Clopper and Pearson's where these decide
- accuracy with repeated users or over seeds, and other means: the paired t-test, clustered by user
  where users repeat; its t interval
- macro F1 and RMSE: the permutation test, by user where users repeat; shifted to all differences
  that it does not reject
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from lamp_exp.statistics.intervals import (
    Estimate,
    Interval,
    estimate,
    interval_between,
    interval_of,
)
from lamp_exp.statistics.resampling import Permutations, bootstrap_p, permutations
from lamp_exp.statistics.samples import BINARY, OTHER, Sample, difference

SIGNIFICANT = 0.05  # two-sided
POWER = 0.8
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Test:
    """A two-sided test of no difference; NaN where it cannot be made."""

    name: str
    p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run b against run a.

    `difference` is b - a. The first of `tests` decides `verdict`: "better" or "worse" (b than a,
    in the metric's direction, p < 0.05), "inconclusive", or "equal" where every example scores the
    same in both. `detectable` is the difference, in the metric's unit, that this test would find
    with 80% power at the level that it has in its family. `clusters` is the number of users.
    """

    difference: Interval
    tests: tuple[Test, ...]
    detectable: float
    n: int
    clusters: int
    verdict: str

    @property
    def decisive(self) -> Test:
        return self.tests[0]


def permutations_for(family: int) -> int:
    """The number of permutations with which a test may be significant after correction."""
    return max(RESAMPLES, math.ceil(20 * family / SIGNIFICANT))


def compare(
    a: Sample,
    b: Sample,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    thorough: bool = True,
    family: int = 1,
) -> Comparison:
    """Compares b with a, example by example, users being what is independent.

    `family` is the number of tests for which the p-value will be corrected. `thorough` adds tests
    by other means, with `resamples` each; they decide nothing.
    """
    assert a.kind == b.kind and a.terms.shape == b.terms.shape, "not the same metric or examples"
    assert np.array_equal(a.users, b.users), "not the same users"
    pair = _Pair(a, b, max(resamples, permutations_for(family)), seed)
    others = tuple(_further_tests(pair, resamples)) if thorough and len(a) else ()
    decisive = _decisive_test(pair)
    return Comparison(
        difference=_interval(pair, level),
        tests=(decisive, *others),
        detectable=_detectable(pair, SIGNIFICANT / family),
        n=len(a),
        clusters=a.clusters,
        verdict=_verdict(pair, decisive.p),
    )


@dataclass(frozen=True)
class _Pair:
    a: Sample
    b: Sample
    resamples: int
    seed: int

    @cached_property
    def apart(self) -> Sample:
        return difference(self.a, self.b)

    @cached_property
    def found(self) -> Estimate:
        return estimate(self.apart)

    @cached_property
    def permuted(self) -> Permutations:
        return permutations(self.a, self.b, self.resamples, self.seed)

    @cached_property
    def equal(self) -> bool:
        return np.array_equal(self.a.terms, self.b.terms)

    @cached_property
    def discordant(self) -> tuple[int, int]:
        """The examples that only a, and only b has right."""
        right_a, right_b = self.a.terms[:, 0] == 1, self.b.terms[:, 0] == 1
        return int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())

    @property
    def by_mcnemar(self) -> bool:
        return self.a.kind == BINARY and not self.a.clustered

    @property
    def by_permutation(self) -> bool:
        """Also for means whose differences have no spread: only permutations can tell then."""
        return self.a.kind == OTHER or (bool(self.found.missing) and not self.equal)


def _decisive_test(pair: _Pair) -> Test:
    if not len(pair.a):
        return Test("none: no examples", math.nan)
    if pair.by_mcnemar:
        fewer, differ = min(pair.discordant), sum(pair.discordant)
        return Test("McNemar exact", min(1.0, 2 * float(special.bdtr(fewer, differ, 0.5))))
    return _permutation(pair) if pair.by_permutation else _t_test(pair)


def _further_tests(pair: _Pair, resamples: int) -> Iterator[Test]:
    if pair.by_mcnemar:
        return
    if not pair.by_permutation:
        few = _Pair(pair.a, pair.b, resamples, pair.seed)
        yield _permutation(few)
    if pair.a.kind == OTHER and not pair.found.missing:
        yield _t_test(pair)
    yield _bootstrap(pair, resamples)


def _t_test(pair: _Pair) -> Test:
    found, kind = pair.found, "paired jackknife t" if pair.a.kind == OTHER else "paired t"
    name = f"{kind}, clustered by user" if pair.a.clustered else kind
    if pair.equal:
        return Test(name, 1.0)
    return Test(name, 2 * float(special.stdtr(found.freedom, -abs(found.centre) / found.error)))


def _permutation(pair: _Pair) -> Test:
    name = "permutation" if pair.a.kind == OTHER else "sign-flip permutation"
    return Test(f"{name}, by user" if pair.a.clustered else name, pair.permuted.p)


def _bootstrap(pair: _Pair, resamples: int) -> Test:
    name = "paired bootstrap, by user" if pair.a.clustered else "paired bootstrap"
    if pair.equal:
        return Test(name, 1.0)
    if pair.found.missing:  # every resample would be the same
        return Test(name, math.nan)
    return Test(name, bootstrap_p(pair.apart, resamples, pair.seed))


# --- intervals ---------------------------------------------------------------------------------


def _interval(pair: _Pair, level: float) -> Interval:
    if pair.by_mcnemar and len(pair.a):
        return _exact_interval(pair, level)
    if pair.a.kind == OTHER and len(pair.a):
        return _inverted_permutation(pair, level)
    return interval_of(pair.apart, pair.found, level)


def _exact_interval(pair: _Pair, level: float) -> Interval:
    """Agresti and Min's interval; an end that contradicts the exact test is Clopper and Pearson's.

    The latter, of the share that b wins of the pairs that differ, inverts the test. It takes their
    number as given, and so covers the difference where that is near zero, but as little as 17%
    where one run wins nearly all pairs; Agresti and Min's covers there.
    """
    lost, won = pair.discordant
    low, high = _agresti_min_ends(pair, level)
    if lost + won:
        shares = _clopper_pearson_ends(won, lost + won, level)
        exact = [(2 * share - 1) * (lost + won) / len(pair.a) for share in shares]
        low = low if (low > 0) == (exact[0] > 0) else exact[0]
        high = high if (high < 0) == (exact[1] < 0) else exact[1]
    method = "Agresti-Min interval (Clopper-Pearson's where it contradicts the exact test)"
    difference = (won - lost) / len(pair.a)
    return interval_between(pair.apart, difference, (low, high), level, method)


def _clopper_pearson_ends(won: int, n: int, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low = float(special.betaincinv(won, n - won + 1, tail)) if won else 0.0
    high = float(special.betainccinv(won + 1, n - won, tail)) if won < n else 1.0
    return low, high


def _agresti_min_ends(pair: _Pair, level: float) -> tuple[float, float]:
    """Wald's interval after half a pair more in each cell of the 2 x 2 table.

    Agresti and Min, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24 (2005), 729-740.
    """
    (lost, won), pairs = pair.discordant, len(pair.a) + 2
    centre = (won - lost) / pairs
    error = math.sqrt(((won + lost + 1) / pairs - centre**2) / pairs)
    low, high = special.ndtri([(1 - level) / 2, (1 + level) / 2]) * error + centre
    return float(low), float(high)


def _inverted_permutation(pair: _Pair, level: float) -> Interval:
    value = pair.apart.measured()
    if pair.equal:
        same = "all users score the same" if pair.a.clustered else "all examples score the same"
        return Interval(value, math.nan, math.nan, level, f"none: {same}")
    reach = pair.permuted.critical(1 - level)
    if math.isinf(reach):
        few = "too few users differ" if pair.a.clustered else "too few examples differ"
        return Interval(value, math.nan, math.nan, level, f"none: {few}")
    method = "permutation test inverted"
    method = f"{method}, by user" if pair.a.clustered else method
    return interval_between(pair.apart, value, (value - reach, value + reach), level, method)


# --- what could be detected --------------------------------------------------------------------


def _detectable(pair: _Pair, alpha: float) -> float:
    """By the multiplier of Bloom, "Minimum detectable effects", Evaluation Review 19 (1995)."""
    if not len(pair.a) or pair.equal:
        return math.nan
    if pair.by_mcnemar:
        return _detectable_by_mcnemar(pair, alpha)
    if pair.found.missing:
        return math.nan
    found = pair.found
    error = float(pair.permuted.differences.std()) if pair.a.kind == OTHER else found.error
    return float(special.stdtrit(found.freedom, [1 - alpha / 2, POWER]).sum()) * error


def _detectable_by_mcnemar(pair: _Pair, alpha: float) -> float:
    """Given as many pairs that differ; NaN where even all of them would not be enough."""
    differ = sum(pair.discordant)
    chances = special.bdtrc(np.arange(differ + 1) - 1, differ, 0.5)  # of as many wins, or more
    significant = np.flatnonzero(2 * chances < alpha)
    if not len(significant):
        return math.nan
    needed = int(significant[0])
    share = float(special.betaincinv(needed, differ - needed + 1, POWER))
    return (2 * share - 1) * differ / len(pair.a)


def _verdict(pair: _Pair, p: float) -> str:
    if len(pair.a) and pair.equal:
        return "equal"
    if not p < SIGNIFICANT:  # NaN too
        return "inconclusive"
    rose = pair.b.measured() > pair.a.measured()
    return "better" if rose == pair.a.higher_is_better else "worse"
