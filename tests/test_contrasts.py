"""Contrasts over several runs: their tests are those of the values by example, or by user."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lamp_exp.statistics import (
    Sample,
    compare,
    contrast,
    f1_sample,
    interval,
    mean_sample,
    rmse_sample,
    share_of_gain,
)
from lamp_exp.statistics.samples import ratio_sample

CHANCE = np.random.default_rng(0)
SCORES = CHANCE.random((4, 60))
USERS = np.arange(60) // 3
WEIGHTS = (0.5, -0.5, 0.5, -0.5)
LABELS = ("a", "b", "c")


def means(users: np.ndarray) -> list[Sample]:
    return [mean_sample(scores, users, True) for scores in SCORES]


@pytest.mark.parametrize("kind", ["binary", "mean", "f1"])
def test_a_contrast_of_two_runs_is_their_comparison(kind: str):
    right = SCORES[:2] > 0.4
    answers = [np.array(LABELS)[(scores * 3).astype(int)] for scores in SCORES]
    a, b = {
        "binary": [mean_sample(one, USERS, True, binary=True) for one in right],
        "mean": means(USERS)[:2],
        "f1": [f1_sample(list(one), list(answers[2]), LABELS, USERS) for one in answers[:2]],
    }[kind]
    expected = compare(a, b, thorough=False, family=3)
    for samples, weights in (([a, b], [-1, 1]), ([b, a], [1.0, -1.0]), ([a, b, b], [-1, 1, 0])):
        found = contrast(samples, weights, family=3)
        assert (found.value, found.test) == (expected.difference, expected.decisive)
        assert found.detectable == expected.detectable


def test_a_contrast_of_means_is_the_t_test_of_its_values():
    values = SCORES.T @ WEIGHTS
    found, expected = contrast(means(np.arange(60)), WEIGHTS), stats.ttest_1samp(values, 0)
    assert found.value.value == pytest.approx(values.mean())
    assert found.test.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (found.value.low, found.value.high) == pytest.approx((ends.low, ends.high))
    assert found.test.name == "t of the contrast"


def test_with_as_many_questions_a_user_it_is_the_t_test_of_the_users_means():
    by_user = (SCORES.T @ WEIGHTS).reshape(20, 3).mean(axis=1)
    found, expected = contrast(means(USERS), WEIGHTS), stats.ttest_1samp(by_user, 0)
    assert found.test.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (found.value.low, found.value.high) == pytest.approx((ends.low, ends.high))
    assert found.value.users == 20
    assert found.test.name == "t of the contrast, clustered by user"


def test_a_contrast_of_what_is_no_mean_is_that_of_the_metrics():
    samples = [rmse_sample(scores, USERS) for scores in SCORES]
    found = contrast(samples, WEIGHTS)
    values = [math.sqrt((scores**2).mean()) for scores in SCORES]
    assert found.value.value == pytest.approx(np.dot(values, WEIGHTS))
    left_out = [
        np.dot([math.sqrt((s[user != USERS] ** 2).mean()) for s in SCORES], WEIGHTS)
        for user in range(20)
    ]
    error = math.sqrt(19 / 20 * ((left_out - np.mean(left_out)) ** 2).sum())
    centre = 20 * np.dot(values, WEIGHTS) - 19 * np.mean(left_out)
    assert found.test.p == pytest.approx(2 * stats.t.sf(abs(centre) / error, 19))
    assert found.test.name == "jackknife t of the contrast, clustered by user"


def test_an_effect_that_is_rounding_is_none():
    thirds = [mean_sample([0.1, 0.7, 0.3], range(3), True) for _ in range(6)]
    found = contrast(thirds, [1 / 3, 1 / 3, 1 / 3, -1 / 3, -1 / 3, -1 / 3])
    assert (found.value.value, found.test.p) == (0.0, 1.0)
    assert math.isnan(found.detectable)


def test_the_same_effect_everywhere_cannot_be_tested():
    scores = [[0.1, 0.7, 0.3], [0.2, 0.8, 0.4], [0.1, 0.7, 0.3], [0.1, 0.7, 0.3]]
    found = contrast([mean_sample(one, range(3), True) for one in scores], [1, -1, -1, 1])
    assert found.value.value == pytest.approx(-0.1)
    assert math.isnan(found.test.p) and math.isnan(found.value.low)


@pytest.mark.parametrize("higher", [True, False])
def test_the_share_of_a_gain_is_the_same_for_errors(higher: bool):
    base, part, joint = (np.repeat(one, 20) for one in ([0.2, 0.4], [0.4, 0.5], [0.6, 0.8]))
    scores = [base, part, joint] if higher else [1 - base, 1 - part, 1 - joint]
    found = share_of_gain(*(mean_sample(one, np.arange(40), higher) for one in scores))
    assert found.value == pytest.approx(0.3 / 0.8)
    assert found.low < found.value < found.high


def test_a_share_of_a_gain_that_may_be_zero_has_no_bound():
    base, part, joint = (mean_sample(one, range(4), True) for one in (
        [0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]))  # fmt: skip
    assert share_of_gain(base, part, joint).high == math.inf
    assert math.isnan(share_of_gain(base, part, base).value)


def test_a_ratio_that_one_user_alone_makes_has_no_interval():
    found = interval(ratio_sample([0.5, 0.0, 0.0], [1.0, 0.0, 0.0], range(3)))
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert found.method == "none: without one of the users it has no value"
    assert math.isnan(interval(ratio_sample([1.0, 0.0], [0.0, 0.0], range(2))).value)
