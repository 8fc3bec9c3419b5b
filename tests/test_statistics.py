"""The statistics of reports against scipy, statsmodels and published worked examples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from lamp_exp import metrics, statistics
from lamp_exp.errors import InputError
from lamp_exp.statistics import (
    compare,
    f1_sample,
    interval,
    mean_over_seeds,
    mean_sample,
    resampling,
    rmse_sample,
)
from lamp_exp.statistics.paired import _clopper_pearson_ends
from lamp_exp.statistics.samples import Sample, difference

LABELS = [f"label {number}" for number in range(15)]
F1 = metrics.MacroF1(tuple(LABELS))


def shares(right: int, n: int) -> Sample:
    """An accuracy of `right` in `n`, a user each."""
    return mean_sample([1.0] * right + [0.0] * (n - right), range(n), True, binary=True)


def measured(*scores: float, users: list[int] | None = None) -> Sample:
    return mean_sample(scores, range(len(scores)) if users is None else users, True)


def variance_sample(scores: np.ndarray) -> Sample:
    """The plug-in variance, which is biased."""
    terms = np.stack([scores**2, scores, np.ones_like(scores)], axis=-1)

    def variance(sums: Any) -> Any:
        return sums[..., 0] / sums[..., 2] - (sums[..., 1] / sums[..., 2]) ** 2

    return Sample(terms, variance, np.arange(len(scores)), True, "other")


def answers(chance: np.random.Generator, n: int) -> tuple[list[str], list[str]]:
    targets = [LABELS[place] for place in chance.integers(0, 15, n) ** 2 // 15]
    others = [" " + LABELS[place] + "\n" for place in chance.integers(0, 15, n)]
    odds = chance.random(n)
    return [
        t if odd < 0.5 else ("?" if odd > 0.9 else other)
        for t, other, odd in zip(targets, others, odds, strict=True)
    ], targets


def ends(found: statistics.Interval) -> tuple[float, float]:
    return found.low, found.high


def by_name(found: statistics.Comparison) -> dict[str, float]:
    return {test.name: test.p for test in found.tests}


# --- the metric itself


def test_the_values_are_those_of_the_metrics():
    chance = np.random.default_rng(1)
    outputs, targets = answers(chance, 500)
    expected = metrics.score([metrics.Accuracy(), F1], outputs, targets)
    users = range(500)
    assert f1_sample(outputs, targets, LABELS, users).measured() == pytest.approx(
        expected.metrics["f1"], rel=1e-14
    )
    right = mean_sample(expected.per_example["accuracy"], users, True, binary=True)
    assert right.measured() == pytest.approx(expected.metrics["accuracy"], rel=1e-14)
    of_ratings = [metrics.MeanAbsoluteError(), metrics.RootMeanSquareError()]
    ratings = metrics.score(of_ratings, ["1", "3", "five", "4.5"], ["2", "3", "4", "4"])
    errors = ratings.per_example["mae"]
    assert rmse_sample(errors, range(4)).measured() == pytest.approx(ratings.metrics["rmse"])
    assert mean_sample(errors, range(4), False).measured() == pytest.approx(ratings.metrics["mae"])


def test_labels_that_nobody_names_or_wants_count_as_zero_in_every_resample():
    sample = f1_sample(["a", "b"], ["a", "a"], ["a", "b", "never"], range(2))
    assert sample.measured() == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert resampling.without_each(sample) == pytest.approx([0, 1 / 3])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_refused_and_named(bad: float):
    for make in (lambda s: mean_sample(s, range(3), True), lambda s: rmse_sample(s, range(3))):
        with pytest.raises(InputError, match=f"example number 2 is {bad}"):
            make([0.5, bad, 0.5])


def test_mistakes_of_the_caller_are_refused():
    with pytest.raises(ValueError, match="0 or 1"):
        mean_sample([0.5], [0], True, binary=True)
    with pytest.raises(ValueError, match="2 examples, but users"):
        mean_sample([0.5, 1], [0], True)
    with pytest.raises(AssertionError, match="users"):
        compare(measured(1, 2), measured(1, 2, users=[0, 0]))
    with pytest.raises(AssertionError, match="metric"):
        compare(measured(1, 0), shares(1, 2))
    with pytest.raises(AssertionError, match="examples"):
        compare(measured(1, 2), measured(1, 2, 3))


# --- intervals


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_accuracy_has_wilsons_interval(right: int, n: int, low: float, high: float):
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), Table I."""
    found = interval(shares(right, n))
    assert ends(found) == pytest.approx((low, high), abs=5e-5)
    assert found.value == right / n and found.method == "Wilson interval"


def test_a_mean_has_scipys_t_interval():
    scores = np.random.default_rng(2).beta(1, 4, 60)
    low, high = stats.ttest_1samp(scores, 0).confidence_interval(0.9)
    found = interval(mean_sample(scores, range(60), True), level=0.9)
    assert ends(found) == pytest.approx((low, high))
    assert (found.level, found.method) == (0.9, "t interval")


def test_a_clustered_mean_has_the_cluster_robust_interval_whatever_the_users_numbers():
    chance = np.random.default_rng(3)
    users = chance.integers(0, 40, 100) * 7
    scores = chance.random(100) + chance.random(300)[users]
    fit = OLS(scores, np.ones(100)).fit(cov_type="cluster", cov_kwds={"groups": users}, use_t=True)
    found = interval(mean_sample(scores, users, True))
    assert ends(found) == pytest.approx(fit.conf_int()[0])
    clusters = len(set(users.tolist()))
    rests = [sum((scores - scores.mean())[users == user]) for user in set(users.tolist())]
    error = math.sqrt(clusters / (clusters - 1) * np.square(rests).sum()) / 100
    half = stats.t.ppf(0.975, clusters - 1) * error  # Liang and Zeger 1986, by hand
    assert found.high - found.value == pytest.approx(half)
    assert found.method == "t interval, clustered by user"


def test_clustered_accuracy_counts_effective_examples():
    scores, users = [1.0] * 60 + [0.0] * 40, np.arange(100)
    doubled = mean_sample(scores * 2, np.tile(users, 2), True, binary=True)
    once, twice = interval(shares(60, 100)), interval(doubled)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.03)
    assert twice.method == "t interval of the logit, clustered by user"
    perfect = interval(mean_sample([1.0] * 200, np.tile(users, 2), True, binary=True))
    assert ends(perfect) == pytest.approx(ends(interval(shares(100, 100))))
    assert perfect.method == "Wilson interval of the users, clustered by user"
    evened = interval(mean_sample([1.0, 0.0] * 50, np.repeat(range(50), 2), True, binary=True))
    assert evened.low > interval(shares(50, 100)).low + 0.05  # users do not differ at all


def test_a_share_of_few_users_has_the_t_interval_of_its_logit_by_hand():
    """Six users of two examples each, the last half right and half wrong: 7 of 12 are right."""
    scores, users = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    share, keep = 7 / 12, 1 - 2 / 12
    squares = 3 * (2 - 2 * share) ** 2 + 2 * (2 * share) ** 2  # of the five
    squares += 0.5 * 2**2 * (share**2 + (1 - share) ** 2)  # and of the two halves
    error = math.sqrt(5 / 6 * squares) / keep / 12 / (share * (1 - share))
    half = stats.t.ppf(0.975, 5) * error
    centre = math.log(share / (1 - share))
    by_hand = [1 / (1 + math.exp(-end)) for end in (centre - half, centre + half)]
    found = interval(mean_sample(scores, users, True, binary=True))
    assert ends(found) == pytest.approx(tuple(by_hand))
    assert found.value == 0.6


def test_the_jackknife_takes_the_bias_off_the_variance():
    """As the book says: of the plug-in variance it makes the unbiased one."""
    scores = np.random.default_rng(14).random(20)
    found = interval(variance_sample(scores))
    assert found.value == pytest.approx(np.var(scores))
    assert (found.low + found.high) / 2 == pytest.approx(np.var(scores, ddof=1))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """As Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), equation 11.5, say."""
    scores = np.random.default_rng(4).random(30)
    mean = mean_sample(scores, range(30), True)
    other = Sample(mean.terms, mean.value, mean.users, True, "other")
    assert interval(other).low == pytest.approx(interval(mean).low)
    assert interval(other).method == "jackknife interval"


def test_bca_is_efrons_and_tibshiranis_on_the_spatial_test_data():
    """As above, Table 14.2: the (biased) variance of A has the 90% BCa interval 115.8 to 259.6."""
    a = np.array([48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24,
                  47, 41, 24, 26, 30, 41.0])  # fmt: skip
    found = interval(variance_sample(a), level=0.9, resamples=20_000)
    assert found.value == pytest.approx(171.5, abs=0.05)
    assert ends(found) == pytest.approx((115.8, 259.6), abs=4)
    assert found.method == "BCa bootstrap of 20000 resamples"


def test_the_bootstrap_agrees_with_scipys():
    errors = np.random.default_rng(5).integers(0, 4, 40).astype(float)
    found = interval(rmse_sample(errors, range(40)), resamples=10_000, seed=1)
    scipys = stats.bootstrap(
        (errors,), lambda x, axis: np.sqrt((x * x).mean(axis=axis)), n_resamples=10_000, rng=1
    ).confidence_interval
    assert ends(found) == pytest.approx(tuple(scipys), abs=0.02)
    plain = interval(rmse_sample(errors, range(40)))
    assert plain.method == "jackknife of the logarithm"
    assert ends(plain) == pytest.approx(tuple(scipys), abs=0.06)


def test_the_bootstrap_of_users_draws_users():
    chance = np.random.default_rng(6)
    users = np.repeat(np.arange(50), 4)
    errors = np.repeat(chance.integers(0, 4, 50), 4).astype(float)
    clustered = interval(rmse_sample(errors, users), resamples=2000)
    once = interval(rmse_sample(errors[::4], range(50)), resamples=2000)
    assert clustered.low == pytest.approx(once.low) and clustered.high == pytest.approx(once.high)
    assert clustered.method == f"{once.method}, clustered by user"


# --- tests of two runs


def approval() -> tuple[Sample, Sample]:
    """Agresti, "Categorical Data Analysis" (2002), Table 10.1: a prime minister, asked twice."""
    first = [1.0] * 794 + [1.0] * 150 + [0.0] * 86 + [0.0] * 570
    second = [1.0] * 794 + [0.0] * 150 + [1.0] * 86 + [0.0] * 570
    users = range(1600)
    a, b = (mean_sample(asked, users, True, binary=True) for asked in (first, second))
    return a, b


def test_mcnemar_on_the_approval_of_a_prime_minister():
    """The book: the share falls by 0.04, 95% from 0.021 to 0.059; z squared is 17.36."""
    found = compare(*approval())
    (test,) = found.tests
    assert test.name == "McNemar exact"
    assert test.p == pytest.approx(stats.binomtest(86, 236, 0.5).pvalue)
    assert test.p == pytest.approx(stats.chi2.sf(17.36, 1), abs=1e-5)
    assert found.difference.value == pytest.approx(-0.04)
    assert ends(found.difference) == pytest.approx((-0.059, -0.021), abs=5e-4)
    assert found.difference.method.startswith("Agresti-Min interval")
    assert (found.verdict, found.n, found.clusters) == ("worse", 1600, 1600)
    assert compare(*reversed(approval())).verdict == "better"


def test_few_pairs_have_half_a_pair_more_in_each_cell():
    """By hand: of 10 pairs 3 were won and 1 lost."""
    a, b = [0.0] * 3 + [1.0] * 7, [1.0] * 5 + [0.0] + [1.0] * 4
    found = compare(*(mean_sample(s, range(10), True, binary=True) for s in (a, b)))
    assert found.tests[0].p == pytest.approx(stats.binomtest(1, 4).pvalue)
    error = math.sqrt((3.5 + 1.5 - (3.5 - 1.5) ** 2 / 12) / 12**2)
    half = stats.norm.ppf(0.975) * error
    assert ends(found.difference) == pytest.approx((2 / 12 - half, 2 / 12 + half))


SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_the_paired_t_test_on_students_sleep():
    """Student, "The probable error of a mean" (1908); p and interval as R's help of t.test."""
    found = compare(measured(*SLEEP_1), measured(*SLEEP_2))
    assert found.tests[0].name == "paired t"
    assert found.tests[0].p == pytest.approx(0.002833, abs=5e-7)
    assert ends(found.difference) == pytest.approx((0.7001, 2.4599), abs=5e-5)
    assert found.tests[0].p == pytest.approx(stats.ttest_rel(SLEEP_1, SLEEP_2).pvalue)
    assert found.verdict == "better"
    down = [mean_sample(scores, range(10), False) for scores in (SLEEP_1, SLEEP_2)]
    assert compare(*down).verdict == "worse"


def test_the_sign_flip_test_on_darwins_maize():
    """Fisher, "The Design of Experiments" (1935), section 21: 1,726 of 2 ** 15 ways."""
    taller = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    found = compare(measured(*[0] * 15), measured(*taller), resamples=2**15)
    assert by_name(found)["sign-flip permutation"] == 1726 / 2**15
    some = compare(measured(*[0] * 15), measured(*taller), resamples=20_000)
    # It stops after the first 2,000: three standard errors.
    assert by_name(some)["sign-flip permutation"] == pytest.approx(1726 / 2**15, abs=0.015)


def scipys_permutation(a: Any, b: Any, statistic: Any) -> float:
    found = stats.permutation_test(
        (a, b), lambda x, y: statistic(y) - statistic(x), permutation_type="samples",
        vectorized=False, n_resamples=2**14,
    )  # fmt: skip
    return float(found.pvalue)


def test_permutations_of_few_examples_are_exact_as_scipys():
    chance = np.random.default_rng(7)
    a, b = chance.integers(0, 5, (2, 8)).astype(float)
    users = range(8)
    found = compare(mean_sample(a, users, False), mean_sample(b, users, False))
    assert by_name(found)["sign-flip permutation"] == scipys_permutation(a, b, np.mean)
    found = compare(rmse_sample(a, users), rmse_sample(b, users))
    root = scipys_permutation(a, b, lambda x: math.sqrt(np.mean(np.square(x))))
    assert found.tests[0] == statistics.Test("permutation", root)


def test_permutations_of_users_swap_all_that_is_theirs():
    chance = np.random.default_rng(8)
    a, b = chance.random((2, 9))
    triple, users = np.repeat([a, b], 3, axis=1), np.repeat(np.arange(9), 3)
    found = compare(*(mean_sample(scores, users, True) for scores in triple))
    once = compare(*(mean_sample(scores, range(9), True) for scores in (a, b)))
    for name, p in by_name(once).items():
        apart = ", clustered by user" if name == "paired t" else ", by user"
        assert by_name(found)[name + apart] == pytest.approx(p)
    assert found.detectable == pytest.approx(once.detectable)
    assert (found.n, found.clusters) == (27, 9)


def test_macro_f1_is_permuted_and_bootstrapped_as_by_the_metric_itself():
    chance = np.random.default_rng(9)
    outputs, targets = answers(chance, 8)
    others = [targets[0], *outputs[1:4], *targets[4:]]
    users = range(8)

    def f1(places: Any) -> float:
        given = [(outputs if place >= 0 else others)[abs(place) - 1] for place in places]
        golds = [targets[abs(place) - 1] for place in places]
        return metrics.score([F1], given, golds).metrics["f1"]

    ours, theirs = (f1_sample(given, targets, LABELS, users) for given in (outputs, others))
    found = compare(ours, theirs)
    assert found.tests[0].p == scipys_permutation(np.arange(1, 9), -np.arange(1, 9), f1)
    drawn = resampling.draws(8, 50, 3)
    resampled = resampling.bootstrapped(ours, 50, 3)
    for counts, value in zip(drawn, resampled, strict=True):
        assert value == pytest.approx(f1(np.repeat(np.arange(1, 9), counts)))


def test_clustered_accuracy_is_decided_by_the_clustered_t_test():
    chance = np.random.default_rng(10)
    users = np.repeat(np.arange(60), 3)
    a, b = (chance.random((2, 180)) < [[0.5], [0.7]]).astype(float)
    ours, theirs = (mean_sample(scores, users, True, binary=True) for scores in (a, b))
    found = compare(ours, theirs)
    names = list(by_name(found))
    assert names[:2] == ["paired t, clustered by user", "sign-flip permutation, by user"]
    quick = compare(ours, theirs, thorough=False)
    assert quick.tests == found.tests[:1] == (found.decisive,)
    fit = OLS(b - a, np.ones(180)).fit(cov_type="cluster", cov_kwds={"groups": users}, use_t=True)
    assert quick.tests[0].p == pytest.approx(fit.pvalues[0])
    assert quick.tests[0].p == pytest.approx(found.tests[1].p, abs=0.01)
    assert quick.difference == found.difference and quick.detectable == found.detectable


def test_macro_f1_and_rmse_are_decided_by_permutation_however_many_tests_are_made():
    chance = np.random.default_rng(11)
    a, b = chance.integers(0, 4, (2, 300)).astype(float)
    ours, theirs = rmse_sample(a, range(300)), rmse_sample(b, range(300))
    quick, found = compare(ours, theirs, thorough=False), compare(ours, theirs)
    assert quick.tests == found.tests[:1] and quick.difference == found.difference
    names = by_name(found)
    assert list(names) == ["permutation", "paired jackknife t", "paired bootstrap"]
    for name in ("paired jackknife t", "paired bootstrap"):
        assert names[name] == pytest.approx(names["permutation"], abs=0.03)


def all_kinds(chance: np.random.Generator, n: int, users: Any) -> Iterator[tuple[Sample, Sample]]:
    """Pairs of runs whose differences are near the edge of significance."""
    shift = chance.normal(0, 2 / math.sqrt(n))
    a, b = np.clip(chance.normal([[0.5], [0.5 + shift]], 0.2, (2, n)), 0, 1)
    yield mean_sample(a, users, True), mean_sample(b, users, True)
    yield rmse_sample(4 * a, users), rmse_sample(4 * b, users)
    right = (mean_sample(x > 0.5, users, True, binary=True) for x in (a, b))
    yield next(right), next(right)
    labels = ["a", "b", "c"]
    golds = [labels[place] for place in chance.integers(0, 3, n)]
    given = [[g if x > 0.5 else "a" for g, x in zip(golds, s, strict=True)] for s in (a, b)]
    yield f1_sample(given[0], golds, labels, users), f1_sample(given[1], golds, labels, users)


@pytest.mark.parametrize("clustered", [False, True])
def test_the_interval_holds_zero_exactly_where_the_deciding_test_does_not_reject(clustered: bool):
    chance, decided = np.random.default_rng(21), Counter()
    for _ in range(60):
        users = chance.integers(0, 25, 60) if clustered else np.arange(60)
        for number, samples in enumerate(all_kinds(chance, 60, users)):
            found = compare(*samples, thorough=False)
            rejects = found.decisive.p < 0.05
            assert (found.difference.low <= 0 <= found.difference.high) == (not rejects)
            assert (found.verdict == "inconclusive") == (not rejects)
            decided[number, rejects] += 1
    assert len(decided) == 8 and min(decided.values()) > 3  # all kinds, both ways


@pytest.mark.parametrize("family", [1, 30, 400])
def test_a_star_is_possible_in_a_family_of_any_size(family: int):
    errors = np.random.default_rng(22).integers(0, 4, 200).astype(float)
    found = compare(
        rmse_sample(errors + 1, range(200)), rmse_sample(errors, range(200)),
        thorough=False, family=family,
    )  # fmt: skip
    assert found.decisive.name == "permutation"
    assert family * found.decisive.p <= 0.05 / 20


def test_what_is_detectable_is_by_the_level_that_decides():
    for a, b in all_kinds(np.random.default_rng(23), 200, np.arange(200)):
        alone, among_many = (compare(a, b, thorough=False, family=n) for n in (1, 50))
        assert among_many.detectable > 1.3 * alone.detectable


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 3), (5, 0), (4, 9), (30, 41), (200, 260)])
def test_exact_tests_and_intervals_are_those_of_statsmodels(lost: int, won: int, level: float):
    n = lost + won + 20
    a, b = [1.0] * lost + [0.0] * won + [1.0] * 20, [0.0] * lost + [1.0] * won + [1.0] * 20
    runs = [mean_sample(scores, range(n), True, binary=True) for scores in (a, b)]
    expected = mcnemar([[20, lost], [won, 0]], exact=True).pvalue
    assert compare(*runs).decisive.p == pytest.approx(expected, rel=1e-9)
    for run, right in ((runs[0], lost + 20), (runs[1], won + 20)):
        found = interval(run, level=level)
        wilson = proportion_confint(right, n, 1 - level, method="wilson")
        assert ends(found) == pytest.approx(wilson, rel=1e-9)
    exact = proportion_confint(won, lost + won, 1 - level, method="beta") if lost + won else (0, 1)
    assert _clopper_pearson_ends(won, lost + won, level) == pytest.approx(exact, rel=1e-9)


def test_what_mcnemar_can_detect_is_by_its_own_power():
    """Of 40 pairs that differ, 27 must be won; at a share of 0.7427, 80% of samples have them."""
    a, b = [1.0] * 20 + [0.0] * 80, [0.0] * 20 + [1.0] * 20 + [0.0] * 60
    found = compare(*(mean_sample(s, range(100), True, binary=True) for s in (a, b)))
    assert stats.binomtest(27, 40).pvalue < 0.05 < stats.binomtest(26, 40).pvalue
    share = (found.detectable * 100 / 40 + 1) / 2
    assert stats.binom.sf(26, 40, share) == pytest.approx(0.8)
    few = compare(shares(3, 10), shares(5, 10))
    assert math.isnan(few.detectable)  # not even two of two pairs would be significant


@pytest.mark.parametrize("clustered", [False, True])
def test_no_interval_leaves_the_range_of_its_metric(clustered: bool):
    for n in (4, 7, 20, 60):
        users = np.arange(n) // 2 if clustered else np.arange(n)
        for wrong in (0, 1, 2):
            right = np.ones(n)
            right[:wrong] = 0
            seeds = [mean_sample(np.roll(right, by), users, True, binary=True) for by in (0, 1, 2)]
            golds = ["a", "b"] * n
            given = ["b" if not x else g for x, g in zip(right, golds, strict=False)]
            rouge = mean_sample(1 - 0.3 * (right == 0), users, True).within(0, 1)
            error = mean_sample(4.0 * (right == 0), users, False).within(0, None)
            f1 = f1_sample(given, golds[:n], ["a", "b"], users)
            for sample in (*seeds, mean_over_seeds(seeds), rouge, error, f1):
                for found in (interval(sample), interval(sample, resamples=50)):
                    assert not found.low < 0
                    assert not found.high > (sample.highest or math.inf)
            apart = compare(f1, f1_sample(["?"] * n, golds[:n], ["a", "b"], users)).difference
            assert not apart.low < -1 and not apart.high > 1


def test_the_detectable_effect_is_statsmodels():
    chance = np.random.default_rng(12)
    a, b = chance.random((2, 200))
    found = compare(measured(*a), measured(*b), thorough=False)
    effect = TTestPower().solve_power(nobs=200, alpha=0.05, power=0.8)
    assert found.detectable == pytest.approx(effect * np.std(b - a, ddof=1), rel=0.002)


def test_runs_that_cannot_be_told_apart_are_inconclusive():
    chance = np.random.default_rng(13)
    a = chance.random(100)
    found = compare(measured(*a), measured(*(a + chance.normal(0, 0.1, 100))))
    assert found.verdict == "inconclusive" and found.tests[0].p > 0.05
    assert abs(found.difference.value) < found.detectable


# --- data that tell little


def samples_of(n: int, users: list[int]) -> dict[str, Sample]:
    outputs = ["a", "b", "a", "b", "b", "a"][:n]
    return {
        "accuracy": mean_sample([1, 0, 1, 1, 0, 1][:n], users, True, binary=True),
        "mean": mean_sample([0.1, 0.5, 0.3, 0.2, 0.9, 0.4][:n], users, True),
        "f1": f1_sample(outputs, ["a"] * n, ["a", "b"], users),
        "rmse": rmse_sample([1, 0, 2, 1, 0, 3][:n], users),
    }


def others_of(n: int, users: list[int]) -> dict[str, Sample]:
    return {
        "accuracy": mean_sample([0, 0, 1, 0, 1, 0][:n], users, True, binary=True),
        "mean": mean_sample([0.2, 0.1, 0.4, 0.5, 0.1, 0.1][:n], users, True),
        "f1": f1_sample(["b", "a", "a", "a", "a", "b"][:n], ["a"] * n, ["a", "b"], users),
        "rmse": rmse_sample([2, 1, 1, 0, 1, 0][:n], users),
    }


KINDS = ["accuracy", "mean", "f1", "rmse"]


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_no_examples_tell_nothing(kind: str, thorough: bool):
    sample = samples_of(0, [])[kind]
    found = interval(sample)
    assert math.isnan(found.value) and math.isnan(found.low)
    assert found.method == "none: no examples"
    paired = compare(sample, sample, thorough=thorough)
    assert math.isnan(paired.difference.value) and math.isnan(paired.detectable)
    assert paired.tests == (paired.tests[0],) and paired.tests[0].name == "none: no examples"
    assert math.isnan(paired.tests[0].p) and paired.verdict == "inconclusive"


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize("users", [[0], [4, 4, 4, 4, 4, 4]], ids=["one example", "one user"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_example_or_user_has_a_value_but_no_interval(
    kind: str, users: list[int], thorough: bool
):
    a, b = samples_of(len(users), users)[kind], others_of(len(users), users)[kind]
    found, paired = interval(a), compare(a, b, thorough=thorough)
    if kind == "accuracy" and len(users) == 1:
        assert ends(found) == pytest.approx((0.2065, 1), abs=1e-4)
    else:
        why = "a single example" if len(users) == 1 else "all examples are one user's"
        assert found.method == f"none: {why}"
        assert math.isnan(found.low) and math.isfinite(found.value)
    assert paired.tests[0].p == 1 and paired.verdict == "inconclusive"
    assert math.isnan(paired.detectable)
    assert all(math.isnan(test.p) for test in paired.tests if "bootstrap" in test.name)


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize("users", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_runs_are_equal(kind: str, users: list[int], thorough: bool):
    a, b = samples_of(6, users)[kind], samples_of(6, users)[kind]
    found = compare(a, b, thorough=thorough)
    assert found.verdict == "equal" and found.difference.value == 0
    assert {test.p for test in found.tests} == {1.0}
    assert math.isnan(found.detectable)
    if kind == "accuracy" and users[1] == 1:  # some may differ among those not asked
        assert found.difference.low == -found.difference.high < 0
    else:
        assert math.isnan(found.difference.low) and found.difference.method.startswith("none: ")


def test_the_same_gain_everywhere_is_tested_by_permutation_alone():
    a = np.linspace(0, 1, 12)
    found = compare(measured(*a), measured(*(a + 0.1)))
    assert found.tests[0].name == "sign-flip permutation"
    assert found.tests[0].p == pytest.approx(2 / 2**12, abs=0.002)
    assert math.isnan(by_name(found)["paired bootstrap"])
    assert found.verdict == "better" and found.difference.method.startswith("none: ")
    few = compare(measured(*a[:3]), measured(*(a[:3] + 0.1)), thorough=False)
    assert few.tests == (statistics.Test("sign-flip permutation", 2 / 8),)
    assert few.verdict == "inconclusive"


@pytest.mark.parametrize("scores", [[0.0] * 20, [1.0] * 20])
def test_constant_scores(scores: list[float]):
    right = interval(mean_sample(scores, range(20), True, binary=True))
    assert right.value == scores[0] and right.high - right.low == pytest.approx(0.1611, abs=1e-4)
    for sample in (mean_sample(scores, range(20), True), rmse_sample(scores, range(20))):
        for resamples in (0, 100):
            found = interval(sample, resamples=resamples)
            assert found.value == scores[0] and math.isnan(found.low)
            assert found.method == "none: all examples score the same"


def test_perfect_and_useless_answers_have_a_macro_f1():
    golds = ["a", "b"] * 10
    for outputs, value in ((golds, 1.0), (["?"] * 20, 0.0)):
        found = interval(f1_sample(outputs, golds, ["a", "b"], range(20)))
        assert found.value == value and found.method == "none: all examples score the same"


# --- chance


def test_chance_is_seeded_and_no_business_of_numpys_global_state():
    a, b = (rmse_sample(np.random.default_rng(n).random(40), range(40)) for n in (1, 2))
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first = compare(a, b, resamples=40)
    resampling.draws.cache_clear()
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(2)
    assert compare(a, b, resamples=40) == first
    assert compare(a, b, resamples=40, seed=1) != first


@pytest.mark.parametrize("users", [list(range(6)), [0, 0, 1, 2, 2, 3]])
@pytest.mark.parametrize("kind", KINDS)
def test_which_run_comes_first_and_the_order_of_examples_change_only_the_sign(
    kind: str, users: list[int]
):
    a, b = samples_of(6, users)[kind], others_of(6, users)[kind]
    found, mirrored = compare(a, b), compare(b, a)
    assert mirrored.difference.low == pytest.approx(-found.difference.high, nan_ok=True)
    assert [test.p for test in mirrored.tests] == pytest.approx([test.p for test in found.tests])
    backwards = [replace(one, terms=one.terms[::-1], users=one.users[::-1]) for one in (a, b)]
    turned = compare(*backwards)
    assert [test.p for test in turned.tests] == pytest.approx([test.p for test in found.tests])
    assert ends(turned.difference) == pytest.approx(ends(found.difference), nan_ok=True)


@pytest.mark.parametrize("users", [list(range(6)), [0, 0, 1, 2, 2, 3]])
@pytest.mark.parametrize("kind", ["mean", "f1", "rmse"])
def test_the_interval_of_level_1_minus_p_ends_at_zero(kind: str, users: list[int]):
    a, b = samples_of(6, users)[kind], others_of(6, users)[kind]
    (test,) = compare(a, b, thorough=False).tests
    touching = ends(compare(a, b, level=1 - test.p, thorough=False).difference)
    assert min(abs(end) for end in touching) == pytest.approx(0, abs=1e-9)


def test_users_may_be_numbered_with_gaps():
    for kind in KINDS:
        pair = [made(6, [0, 0, 1, 2, 2, 3])[kind] for made in (samples_of, others_of)]
        gaps = [made(6, [4, 4, 7, 9, 9, 50])[kind] for made in (samples_of, others_of)]
        assert compare(*gaps) == compare(*pair)
        assert interval(gaps[0], resamples=50) == interval(pair[0], resamples=50)


def test_p_values_of_resampling_are_never_zero():
    scores = np.linspace(0, 0.1, 40)
    found = compare(measured(*scores), measured(*(scores[::-1] + 5)), resamples=500)
    names = by_name(found)
    assert names["sign-flip permutation"] == names["paired bootstrap"] == 1 / 501


def test_plans_are_drawn_once():
    assert resampling.draws(50, 20, 0) is resampling.draws(50, 20, 0)
    assert (resampling.draws(50, 20, 0).sum(axis=1) == 50).all()
    assert not resampling.draws(50, 20, 0).flags.writeable
    every = resampling.every_swap(4).tolist()
    assert len(every) == len({tuple(row) for row in every}) == 16 and not any(every[0])


def test_random_permutations_are_the_same_for_all_pairs_of_as_many_users():
    swaps = resampling.random_swaps(50, 0, 0)
    assert swaps.shape == (50, resampling.CHUNK) and set(np.unique(swaps)) == {0, 1}
    assert np.array_equal(swaps, resampling.random_swaps(50, 0, 0))
    others = [resampling.random_swaps(50, 0, 1), resampling.random_swaps(50, 1, 0)]
    assert not any(np.array_equal(swaps, other) for other in others)
    assert abs(swaps.mean(axis=1) - 0.5).max() < 0.06  # 5 standard errors
    assert abs(np.corrcoef(swaps) - np.eye(50)).max() < 0.12


@pytest.mark.parametrize("unit", [1, 1000, 0.1])
def test_permutations_are_exact_in_each_type_of_number(unit: float):
    """Sums fit 16 bits, 32 bits, or are no whole numbers."""
    chance = np.random.default_rng(0)
    a, b = (np.round(chance.normal(size=200), 0) for _ in range(2))
    pairs = [tuple(mean_sample(x * scale, range(200), True) for x in (a, b)) for scale in (1, unit)]
    one, scaled = (resampling.permutations(*pair, 3000, 0) for pair in pairs)
    assert scaled.differences == pytest.approx(one.differences * unit, abs=1e-12 * unit)
    assert scaled.p == one.p and scaled.critical(0.05) == pytest.approx(one.critical(0.05) * unit)


def test_the_difference_of_two_samples_is_a_sample():
    users = list(range(6))
    for kind in KINDS:
        a, b = samples_of(6, users)[kind], others_of(6, users)[kind]
        assert difference(a, b).measured() == pytest.approx(b.measured() - a.measured())


# --- many tests


PUBLISHED = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459,
             0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip


def test_corrections_find_what_the_paper_found():
    """Benjamini and Hochberg (1995), section 4.1: theirs rejects four, Holm's three."""
    assert (statistics.benjamini_hochberg(PUBLISHED) <= 0.05).sum() == 4
    assert (statistics.holm(PUBLISHED) <= 0.05).sum() == 3
    assert statistics.holm(PUBLISHED)[1] == pytest.approx(14 * 0.0004)
    assert statistics.benjamini_hochberg(PUBLISHED)[3] == pytest.approx(0.0095 * 15 / 4)


def test_tests_that_could_not_be_made_are_not_counted():
    for correct, name in ((statistics.holm, "holm"), (statistics.benjamini_hochberg, "fdr_bh")):
        assert correct(PUBLISHED[::-1] * 2) == pytest.approx(
            multipletests(PUBLISHED[::-1] * 2, method=name)[1], rel=1e-12
        )
        assert correct([]).tolist() == []
        assert np.isnan(correct([math.nan, math.nan])).all()
        mixed = correct([0.01, math.nan, 0.04])
        assert math.isnan(mixed[1])
        assert mixed[[0, 2]].tolist() == correct([0.01, 0.04]).tolist()
