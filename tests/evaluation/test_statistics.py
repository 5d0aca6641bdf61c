import itertools
import math

import numpy as np
import pytest
from scipy import stats

from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import (
    Estimate,
    case_weights,
    class_means,
    class_medians,
    estimate,
    holm,
    mean_of_class_means,
    rank_correlation,
    wilcoxon,
)

NAN = math.nan


def test_weights_are_draws_with_replacement():
    weights = case_weights(7, resamples=2000, seed=3)
    assert weights.shape == (2000, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1 - 1 / 7, rel=0.05)  # of a multinomial count
    assert np.array_equal(weights, case_weights(7, resamples=2000, seed=3))
    assert not np.array_equal(weights, case_weights(7, resamples=2000, seed=4))


def test_cases_as_they_are_give_the_runs_own_figure():
    dice = np.array([[0.9, NAN, NAN], [0.8, 0.0, NAN], [0.1, 0.5, NAN]])
    own = Scores(("a", "b", "c"), ("x", "y", "z"), dice, np.zeros(3)).mean()
    assert mean_of_class_means(dice[None], np.ones((1, 3), int)) == pytest.approx(own)


def test_resamples_by_hand():
    first = np.array([[1.0, NAN], [0.5, 0.2]])
    second = np.array([[0.8, NAN], [0.3, NAN]])
    weights = np.array([[1, 1], [2, 0], [0, 2]])
    expected = [((0.75 + 0.2) / 2 + 0.55) / 2, (1 + 0.8) / 2, (0.35 + 0.3) / 2]
    assert mean_of_class_means(np.stack([first, second]), weights) == pytest.approx(expected)
    assert np.isnan(mean_of_class_means(np.full((1, 2, 1), NAN), weights)).all()


def test_interval_is_scipys():
    values = np.random.default_rng(0).gamma(2, size=40)
    weights = case_weights(40)
    found = estimate(values.mean(), mean_of_class_means(values[None, :, None], weights))
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.01)
    assert found.value == values.mean()


def test_interval_is_the_middle_95_percent():
    found = estimate(5.0, np.arange(101.0))
    assert (found.value, found.low, found.high) == pytest.approx((5.0, 2.5, 97.5))
    assert estimate(5.0, np.array([NAN, 1.0, 1.0])) == Estimate(5.0, 1.0, 1.0)
    assert np.isnan(estimate(5.0, np.array([NAN])).low)


def test_paired_differences_are_surer_than_their_ends():
    random = np.random.default_rng(0)
    first = random.uniform(0, 1, (1, 30, 1))
    second, weights = first + random.normal(0.02, 0.01, first.shape), case_weights(30)
    alone = estimate(0.0, mean_of_class_means(first, weights))
    together = estimate(0.0, mean_of_class_means(second, weights) - mean_of_class_means(first, weights))
    assert together.high - together.low < 0.2 * (alone.high - alone.low)
    assert together.low > 0.01


@pytest.mark.parametrize("count", [3, 6, 9])
def test_exact_signed_ranks_by_enumeration(count):
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    sums = [sum(ranks[np.array(signs)]) for signs in itertools.product((False, True), repeat=count)]
    found, middle = ranks[differences > 0].sum(), ranks.sum() / 2
    expected = np.mean([abs(value - middle) >= abs(found - middle) for value in sums])
    assert wilcoxon(differences) == pytest.approx(expected)


def test_signed_ranks_with_zeros_are_pratts():
    """Ranks 1.5, 1.5 (the zeros, dropped), 3, 4, 5, 6, 7; positive ones 3, 5, 6, 7 of 25."""
    differences = np.array([0.0, 0.0, 0.1, -0.2, 0.3, 0.4, 0.5])
    expected_mean = (3 + 4 + 5 + 6 + 7) / 2
    deviation = math.sqrt((9 + 16 + 25 + 36 + 49) / 4)
    expected = 2 * stats.norm.sf((21 - expected_mean) / deviation)
    assert wilcoxon(differences) == pytest.approx(expected)


def test_nothing_to_test():
    assert wilcoxon(np.zeros(5)) == 1
    assert math.isnan(wilcoxon(np.array([NAN])))
    assert wilcoxon(np.array([0.1, NAN])) == 1
    assert wilcoxon(np.array([0.3 - (0.1 + 0.2), 0.0])) == 1  # no difference but rounding


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, NAN, 0.5]) == pytest.approx([1.0, NAN, 1.0], nan_ok=True)
    assert holm([]) == []


def test_medians_of_resamples_are_numpys():
    random = np.random.default_rng(0)
    scores = random.normal(size=(9, 3))
    scores[random.random(scores.shape) < 0.3] = NAN
    scores[:, 2] = NAN
    weights = case_weights(9, resamples=50, seed=1)
    found = class_medians(scores, weights)
    means = class_means(scores, weights)
    for row, counts in enumerate(weights):
        drawn = np.repeat(scores, counts, axis=0)[:, :2]
        for column in range(2):
            known = drawn[~np.isnan(drawn[:, column]), column]
            expected = (np.median(known), np.mean(known)) if len(known) else (NAN, NAN)
            assert (found[row, column], means[row, column]) == pytest.approx(expected, nan_ok=True)
    assert np.isnan(found[:, 2]).all()


def test_rank_correlation_is_scipys():
    random = np.random.default_rng(5)
    first = random.normal(size=30)
    second = np.round(first + random.normal(size=30))  # with ties
    found = rank_correlation(first, second)

    def spearman(one, other):
        return stats.spearmanr(one, other).statistic  # pyright: ignore[reportAttributeAccessIssue]

    assert found.value == pytest.approx(spearman(first, second))
    expected = stats.bootstrap(
        (first, second), spearman, paired=True, vectorized=False, n_resamples=2000, method="percentile", rng=1
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_rank_correlation_knows_order_alone():
    figures = np.arange(12.0)
    found = rank_correlation(figures, np.exp(figures))
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert rank_correlation(figures, -figures).value == pytest.approx(-1)
    with_gaps = np.where(figures == 3, NAN, figures)
    assert rank_correlation(with_gaps, figures).value == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "second"), [([1.0, 2], [2.0, 1]), ([1.0, 1, 1, 1], [1.0, 2, 3, 4]), ([NAN, NAN, 1, 2], [1.0, 2, 3, 4])]
)
def test_rank_correlation_of_nothing(first, second):
    assert math.isnan(rank_correlation(np.array(first), np.array(second)).value)
