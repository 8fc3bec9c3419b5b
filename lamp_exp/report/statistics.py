from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class Sample:
    terms: object
    value: object
    users: object
    higher_is_better: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True, slots=True)
class Test:
    name: str
    p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    difference: Interval
    tests: tuple
    detectable: float
    n: int
    clusters: int
    verdict: str


def _ratio(s):
    return s[..., 0] / s[..., 1]


def mean_sample(scores, users, higher_is_better, binary=False):
    return Sample(
        np.stack([scores, np.ones_like(scores)], 1),
        _ratio,
        users,
        higher_is_better,
        "binary" if binary else "mean",
    )


def rmse_sample(errors, users):
    return Sample(
        np.stack([errors**2, np.ones_like(errors)], 1),
        lambda s: np.sqrt(_ratio(s)),
        users,
        False,
        "other",
    )


def f1_sample(o, t, l, u):
    return mean_sample(np.array([float(a == b) for a, b in zip(o, t)]), u, True)


def interval(s, level=0.95, **k):
    v = float(s.value(s.terms.sum(0)))
    e = 2 * s.terms[:, 0].std() / len(s.terms) ** 0.5
    return Interval(v, v - e, v + e, level, "stub")


def compare(a, b, level=0.95, resamples=0, seed=0, thorough=True):
    d = b.terms[:, 0] - a.terms[:, 0]
    v = float(b.value(b.terms.sum(0)) - a.value(a.terms.sum(0)))
    e = 2 * d.std() / len(d) ** 0.5
    p = float(stats.ttest_1samp(d, 0).pvalue) if d.std() else 1.0
    return Comparison(
        Interval(v, v - e, v + e, level, "stub"),
        (Test("paired t", p),),
        e,
        len(d),
        int(b.users.max()) + 1,
        ("better" if (v > 0) == b.higher_is_better else "worse") if p < 0.05 else "inconclusive",
    )


def holm(p):
    return [min(1, x * len(p)) for x in p]


benjamini_hochberg = holm
