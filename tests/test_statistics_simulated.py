"""What intervals and p-values promise, kept on made-up data whose truth is known.

The population: users with a taste of their own (an effect that all their examples share, partly
the same for both runs, partly not) answer 1 to 6 questions each, or one each. Each run turns
what it sees into a rank between 0 and 1, uniform over the population, from which every metric
of the benchmark is made so that its true value is known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lamp_exp.report.statistics import (
    Sample,
    compare,
    f1_sample,
    interval,
    mean_sample,
    rmse_sample,
)

LABELS = [f"label {number}" for number in range(15)]
ASKED = 1 / np.arange(1, 16) / (1 / np.arange(1, 16)).sum()  # the labels' shares: a long tail
NAMED = np.append(ASKED * 0.9, 0.1)  # what a wrong answer names; at the end what is no label
ERRORS = np.array([[0.55, 0.3, 0.1, 0.03, 0.02], [0.6, 0.25, 0.1, 0.03, 0.02]])  # of 0, 1, … 4
ACCURACY, SKEW, KNOWN = (0.6, 0.64), (3.0, 2.8), (0.5, 0.55)  # of run a, of run b

Runs = tuple[np.ndarray, np.ndarray, np.ndarray]  # users, the ranks of a, the ranks of b


def drawn(chance: np.random.Generator, users: int, clustered: bool) -> Runs:
    """The users of the examples, and the two runs' ranks, uniform over the population."""
    sizes = chance.integers(1, 7, users) if clustered else np.ones(users, dtype=int)
    whose = np.repeat(np.arange(users), sizes)
    n = len(whose)
    shared = chance.normal(size=users)[whose] * 0.6 + chance.normal(size=n) * 0.4
    own = chance.normal(size=(2, users))[:, whose] * 0.6 + chance.normal(size=(2, n)) * 0.35
    a, b = stats.norm.cdf((shared + own) / math.sqrt(0.36 + 0.16 + 0.36 + 0.1225))
    return whose, a, b


def accuracy(rank: np.ndarray, run: int, whose: np.ndarray, golds: Any) -> Sample:
    return mean_sample(rank < ACCURACY[run], whose, True, binary=True)


def rouge(rank: np.ndarray, run: int, whose: np.ndarray, golds: Any) -> Sample:
    return mean_sample(rank ** SKEW[run], whose, True)


def errors(rank: np.ndarray, run: int) -> np.ndarray:
    return np.searchsorted(ERRORS[run].cumsum()[:-1], rank).astype(float)


def mae(rank: np.ndarray, run: int, whose: np.ndarray, golds: Any) -> Sample:
    return mean_sample(errors(rank, run), whose, False)


def rmse(rank: np.ndarray, run: int, whose: np.ndarray, golds: Any) -> Sample:
    return rmse_sample(errors(rank, run), whose)


def f1(rank: np.ndarray, run: int, whose: np.ndarray, golds: Any) -> Sample:
    """An unknown answer is drawn anew by what is left of the rank, independent of the gold."""
    rest = np.clip((rank - KNOWN[run]) / (1 - KNOWN[run]), 0, 1 - 1e-12)
    guess = np.searchsorted(NAMED.cumsum(), rest, side="right")
    answers = np.where(rank < KNOWN[run], golds, guess)
    names = [*LABELS, "?"]
    return f1_sample([names[i] for i in answers], [names[i] for i in golds], LABELS, whose)


def true_f1(run: int) -> float:
    hit = ASKED * (KNOWN[run] + (1 - KNOWN[run]) * NAMED[:-1])
    named = ASKED * KNOWN[run] + (1 - KNOWN[run]) * NAMED[:-1]
    return float((2 * hit / (named + ASKED)).mean())


Maker = Callable[[np.ndarray, int, np.ndarray, Any], Sample]
METRICS: dict[str, tuple[Maker, Callable[[int], float]]] = {
    "accuracy": (accuracy, lambda run: ACCURACY[run]),
    "rouge": (rouge, lambda run: 1 / (1 + SKEW[run])),
    "mae": (mae, lambda run: float(ERRORS[run] @ range(5))),
    "rmse": (rmse, lambda run: math.sqrt(ERRORS[run] @ np.square(range(5)))),
    "f1": (f1, true_f1),
}


def pairs(
    metric: str, trials: int, users: int, clustered: bool, runs: tuple[int, int] = (0, 1)
) -> Any:
    """Samples of the two runs, trial by trial; `runs` (0, 0) makes both equally good."""
    chance = np.random.default_rng([trials, users, clustered, *metric.encode()])
    make = METRICS[metric][0]
    for _ in range(trials):
        whose, a, b = drawn(chance, users, clustered)
        golds = labels_of(chance, whose)
        yield make(a, runs[0], whose, golds), make(b, runs[1], whose, golds)


def labels_of(chance: np.random.Generator, whose: np.ndarray) -> np.ndarray:
    """Golds: each user has a favourite, which three in ten of the answers are."""
    any_label, favourite = chance.choice(15, (2, len(whose)), p=ASKED)
    return np.where(chance.random(len(whose)) < 0.3, favourite[whose], any_label)


def unclustered(sample: Sample) -> Sample:
    return replace(sample, users=np.arange(len(sample)))


def coverage(metric: str, trials: int, users: int, clustered: bool, naive: bool = False) -> Any:
    """The shares of intervals that hold the truth: of run a, and of the difference."""
    truth = METRICS[metric][1]
    held = []
    for a, b in pairs(metric, trials, users, clustered):
        if naive:
            a, b = unclustered(a), unclustered(b)
        one, apart = interval(a), compare(a, b, thorough=False).difference
        gap = truth(1) - truth(0)
        held.append((one.low <= truth(0) <= one.high, apart.low <= gap <= apart.high))
    return np.mean(held, axis=0)


def null_ps(
    metric: str, trials: int, users: int, clustered: bool, thorough: bool, naive: bool = False
) -> dict[str, np.ndarray]:
    """The p-values of runs that differ by chance alone, by test."""
    found: dict[str, list[float]] = {}
    for a, b in pairs(metric, trials, users, clustered, runs=(0, 0)):
        if naive:
            a, b = unclustered(a), unclustered(b)
        for test in compare(a, b, thorough=thorough, resamples=500).tests:
            found.setdefault(test.name, []).append(test.p)
    return {name: np.array(ps) for name, ps in found.items()}


def binomial_bounds(trials: int, share: float = 0.05, sure: float = 0.998) -> tuple[float, float]:
    low, high = stats.binom.interval(sure, trials, share)
    return low / trials, high / trials


@pytest.mark.slow
@pytest.mark.parametrize("users", [100, 300])
@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_intervals_cover_what_they_claim(metric: str, clustered: bool, users: int):
    if metric == "f1" and not clustered and users == 100:
        pytest.skip("too few examples for 15 labels: see the test of that limit")
    one, apart = coverage(metric, 1000, users, clustered)
    assert 0.93 <= one <= 0.97, one
    assert 0.93 <= apart <= 0.97, apart
