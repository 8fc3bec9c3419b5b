"""Confidence intervals of a metric: analytic, and clustered by user where users repeat.

Macro F1 and RMSE (its logarithm) have the jackknife over users, centred at its bias-corrected
estimate. In simulations it covers better than the BCa bootstrap, which for macro F1 over 15 labels
falls to 91% at 200 examples, and it takes a millisecond; BCa is there on request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from lamp_exp.statistics.resampling import bca, without_each
from lamp_exp.statistics.samples import Sample

NO_SPREAD = 1e-12  # a standard error this small is rounding: metrics are of the size of 1


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its confidence interval; `low` and `high` are NaN where none can be given.

    `method` is a fragment for a footer: how it was made, or "none: " and why there is none.
    """

    value: float
    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its standard error over users; `missing` says why there is none (then NaN).

    `centre` is the value, less the jackknife's estimate of its bias where it has one.
    """

    value: float
    centre: float
    error: float
    freedom: int
    missing: str = ""


def interval(sample: Sample, level: float = 0.95, resamples: int = 0, seed: int = 0) -> Interval:
    """The metric with its interval; `resamples` asks for a BCa bootstrap of macro F1 and RMSE.

    Means: a t interval, from the cluster-robust standard error where users have several
    examples. Accuracy: Wilson's, then on the effective number of examples. Macro F1, RMSE:
    the jackknife. In simulations 95% intervals cover 93 to 97% from 100 users on (at 50, RMSE
    and MAE of rare large errors 92 to 93%), except macro F1 over 15 labels: from 200 examples
    on (at 100, where rare labels have none, 91%).
    """
    return interval_of(sample, estimate(sample), level, resamples, seed)


def interval_of(
    sample: Sample, found: Estimate, level: float, resamples: int = 0, seed: int = 0
) -> Interval:
    """The same for a sample whose estimate is known already."""
    if sample.kind == "binary" and (found.freedom > 0 or len(sample) == 1):
        return _wilson(sample, found, level)
    if found.missing:
        return Interval(found.value, math.nan, math.nan, level, f"none: {found.missing}")
    if sample.kind != "other":
        ends, method = _t_ends(found, level), "t interval"
    elif resamples:
        ends = bca(sample, level, resamples, seed)
        method = f"BCa bootstrap of {resamples} resamples"
    elif sample.log_scale and (without_each(sample) > 0).all():
        ends, method = _log_scale_ends(sample, level), "jackknife of the logarithm"
    else:
        ends, method = _t_ends(found, level), "jackknife interval"
    return Interval(found.value, *ends, level, _named(method, sample))


def _t_ends(found: Estimate, level: float) -> tuple[float, float]:
    low, high = stats.t.interval(level, found.freedom, found.centre, found.error)
    return float(low), float(high)


def _log_scale_ends(sample: Sample, level: float) -> tuple[float, float]:
    logarithm = replace(sample, value=lambda sums: np.log(sample.value(sums)))
    low, high = _t_ends(estimate(logarithm), level)
    return math.exp(low), math.exp(high)


def estimate(sample: Sample) -> Estimate:
    """The metric with its standard error, users being what is independent."""
    value, freedom = sample.measured(), sample.clusters - 1
    if freedom < 1:
        return Estimate(value, value, math.nan, freedom, _too_few(sample))
    centre, error = _jackknife(sample) if sample.kind == "other" else (value, _mean_error(sample))
    if error <= NO_SPREAD:
        missing = "all users score the same" if sample.clustered else "all examples score the same"
        return Estimate(value, value, math.nan, freedom, missing)
    return Estimate(value, centre, error, freedom)


def _too_few(sample: Sample) -> str:
    if not len(sample):
        return "no examples"
    return "all examples are one user's" if sample.clustered else "a single example"


def _mean_error(sample: Sample) -> float:
    scores = sample.terms[:, 0]
    if not sample.clustered:
        return float(stats.sem(scores))
    groups = {"groups": sample.members}
    fit = OLS(scores, np.ones(len(scores))).fit(cov_type="cluster", cov_kwds=groups)
    return float(fit.bse[0])


def _jackknife(sample: Sample) -> tuple[float, float]:
    """The bias-corrected value, and the standard error, leaving out one user at a time."""
    left_out, clusters = without_each(sample), sample.clusters
    mean = left_out.mean()
    error = math.sqrt((clusters - 1) / clusters * float(((left_out - mean) ** 2).sum()))
    return clusters * sample.measured() - (clusters - 1) * float(mean), error


def _wilson(sample: Sample, found: Estimate, level: float) -> Interval:
    share, examples = found.value, float(len(sample))
    if sample.clustered:
        examples = _effective_examples(sample, found, level)
    ends = proportion_confint(share * examples, examples, 1 - level, method="wilson")
    low, high = (float(end) for end in ends)
    return Interval(share, low, high, level, _named("Wilson interval", sample))


def _effective_examples(sample: Sample, found: Estimate, level: float) -> float:
    """As many independent examples as would tell the share this well (Korn and Graubard 1998).

    Where all answers are alike nothing tells how alike a user's are: each user counts once.
    """
    spread = found.value * (1 - found.value)
    if not spread:
        return float(sample.clusters)
    examples = float(len(sample))
    if not found.missing:
        examples = min(examples, spread / found.error**2)
    tail = (1 + level) / 2
    return examples * float(stats.norm.ppf(tail) / stats.t.ppf(tail, found.freedom)) ** 2


def _named(method: str, sample: Sample) -> str:
    return f"{method}, clustered by user" if sample.clustered else method
