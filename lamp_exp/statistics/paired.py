"""Two runs on the same examples: how far apart, how surely, and what could have been seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from lamp_exp.statistics.intervals import Estimate, Interval, estimate, interval_of
from lamp_exp.statistics.resampling import bootstrap_p, permutation_p
from lamp_exp.statistics.samples import Sample, difference

SIGNIFICANT = 0.05  # two-sided
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Test:
    """A two-sided test of no difference; NaN where it cannot be made."""

    name: str
    p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run b against run a.

    `difference` is b - a. The first of `tests` decides `verdict`: "better" or "worse" (b than a,
    in the metric's direction, p < 0.05), "inconclusive", or "equal" where every example scores
    the same in both. `detectable` is the difference, in the metric's unit, that a two-sided 5%
    test would find with 80% power; `clusters` counts the users.
    """

    difference: Interval
    tests: tuple[Test, ...]
    detectable: float
    n: int
    clusters: int
    verdict: str


@dataclass(frozen=True, slots=True)
class _Pair:
    a: Sample
    b: Sample
    apart: Sample
    found: Estimate
    resamples: int
    seed: int

    @property
    def equal(self) -> bool:
        return np.array_equal(self.a.terms, self.b.terms)


def compare(
    a: Sample,
    b: Sample,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    thorough: bool = True,
) -> Comparison:
    """Tests b against a, example by example, users being what is independent.

    Accuracy: McNemar's exact test, or swapping per user where users repeat. Means: the paired
    t-test. Macro F1, RMSE: swapping per user. `thorough` adds tests by other means; without, the
    one test is analytic where it can be (milliseconds, for a grid of hundreds).
    """
    assert a.kind == b.kind and a.terms.shape == b.terms.shape, "not the same metric or examples"
    assert np.array_equal(a.users, b.users), "not the same users"
    apart = difference(a, b)
    pair = _Pair(a, b, apart, estimate(apart), resamples, seed)
    tests = tuple(_tests(pair)) if thorough else (next(_quick_tests(pair)),)
    return Comparison(
        difference=_interval(pair, level),
        tests=tests,
        detectable=_detectable(pair.found),
        n=len(a),
        clusters=a.clusters,
        verdict=_verdict(pair, tests[0].p),
    )


def _tests(pair: _Pair) -> Iterator[Test]:
    """The test that decides, then the others."""
    if not len(pair.a):
        yield Test("none: no examples", math.nan)
    elif pair.a.kind == "mean":
        yield from _t_test(pair)
        yield _permutation(pair)
        yield _bootstrap(pair)
    elif pair.a.kind == "other":
        yield _permutation(pair)
        yield _bootstrap(pair)
    elif pair.a.clustered:
        yield _permutation(pair)
        yield from _t_test(pair)
    else:
        yield _mcnemar(pair)


def _quick_tests(pair: _Pair) -> Iterator[Test]:
    if len(pair.a) and (pair.a.kind != "binary" or pair.a.clustered):
        yield from _t_test(pair)
    yield from _tests(pair)


def _mcnemar(pair: _Pair) -> Test:
    right_a, right_b = pair.a.terms[:, 0] == 1, pair.b.terms[:, 0] == 1
    lost, won = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Test("McNemar exact", float(mcnemar([[0, lost], [won, 0]], exact=True).pvalue))


def _t_test(pair: _Pair) -> Iterator[Test]:
    """No t-test where the differences have no spread: then only resampling can tell."""
    found, kind = pair.found, "paired jackknife t" if pair.a.kind == "other" else "paired t"
    name = f"{kind}, clustered by user" if pair.a.clustered else kind
    if pair.equal:
        yield Test(name, 1.0)
    elif not found.missing:
        yield Test(name, 2 * float(stats.t.sf(abs(found.centre) / found.error, found.freedom)))


def _permutation(pair: _Pair) -> Test:
    name = "permutation" if pair.a.kind == "other" else "sign-flip permutation"
    p = permutation_p(pair.a, pair.b, pair.resamples, pair.seed)
    return Test(f"{name}, by user" if pair.a.clustered else name, p)


def _bootstrap(pair: _Pair) -> Test:
    name = "paired bootstrap, by user" if pair.a.clustered else "paired bootstrap"
    if pair.equal:
        return Test(name, 1.0)
    if pair.found.missing:  # every resample would be the same
        return Test(name, math.nan)
    return Test(name, bootstrap_p(pair.apart, pair.resamples, pair.seed))


def _interval(pair: _Pair, level: float) -> Interval:
    if pair.a.kind == "binary" and len(pair.a) and not pair.a.clustered:
        return _agresti_min(pair.apart, level)
    return interval_of(pair.apart, pair.found, level)


def _agresti_min(apart: Sample, level: float) -> Interval:
    """Wald's interval after half a pair more in each cell of the 2 x 2 table.

    Agresti and Min, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24 (2005), 729-740.
    """
    scores, pairs = apart.terms[:, 0], len(apart) + 2
    centre = float(scores.sum()) / pairs
    error = math.sqrt(((float(np.abs(scores).sum()) + 1) / pairs - centre**2) / pairs)
    low, high = stats.norm.interval(level, centre, error)
    return Interval(apart.measured(), float(low), float(high), level, "Agresti-Min interval")


def _detectable(found: Estimate) -> float:
    """By the multiplier of Bloom, "Minimum detectable effects", Evaluation Review 19 (1995)."""
    if found.missing:
        return math.nan
    return float(stats.t.ppf([1 - SIGNIFICANT / 2, POWER], found.freedom).sum()) * found.error


def _verdict(pair: _Pair, p: float) -> str:
    if len(pair.a) and pair.equal:
        return "equal"
    if not p < SIGNIFICANT:  # NaN too
        return "inconclusive"
    rose = pair.b.measured() > pair.a.measured()
    return "better" if rose == pair.a.higher_is_better else "worse"
