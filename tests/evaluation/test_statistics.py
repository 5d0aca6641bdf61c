"""Intervals and tests: against scipy, by hand, and by simulation of what they promise."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from inflate3d.evaluation import statistics
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import (
    Estimate,
    estimate,
    group_values,
    holm,
    paired_p,
    rank_correlation,
    sign_flip,
    summarize,
    wilcoxon,
)

NAN = math.nan
REPEATS = 600


@pytest.fixture
def few_resamples(monkeypatch):
    """A tenth of the resamples, so that many intervals take little time."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    statistics._weights.cache_clear()
    statistics._signs.cache_clear()
    yield
    statistics._weights.cache_clear()
    statistics._signs.cache_clear()


# --- group values -----------------------------------------------------------------------------------------


def test_group_values_have_the_runs_own_figure_as_their_mean():
    dice = np.array([[0.9, NAN, NAN], [0.8, 0.0, NAN], [0.1, 0.5, NAN]])
    own = Scores(("a", "b", "c"), ("x", "y", "z"), {"dice": dice}).mean()
    assert group_values(dice[None]).mean() == pytest.approx(own)
    assert group_values(dice[None], ["p", "p", "q"]).mean() == pytest.approx(own)


def test_values_of_equal_groups_without_gaps_are_their_means():
    dice = np.random.default_rng(0).random((2, 6, 3))
    assert group_values(dice) == pytest.approx(dice.mean(axis=2))
    pairs = group_values(dice, ["a", "b", "c", "a", "b", "c"])
    assert pairs == pytest.approx((dice.mean(axis=2)[:, :3] + dice.mean(axis=2)[:, 3:]) / 2)


def test_groups_without_a_score_are_left_out():
    dice = np.array([[[0.5], [NAN], [NAN]], [[0.7], [0.9], [NAN]]])
    assert group_values(dice).shape == (2, 2)
    assert group_values(np.full((1, 3, 2), NAN)).shape == (1, 0)


# --- intervals --------------------------------------------------------------------------------------------


def test_interval_of_many_is_students():
    values = np.random.default_rng(0).normal(0.8, 0.1, 200)
    found, error = estimate(values[None]), values.std(ddof=1) / math.sqrt(200)
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 199, loc=values.mean(), scale=error), abs=0.002
    )
    assert found.value == values.mean()


def test_interval_keeps_to_what_is_possible():
    found = estimate(np.array([[1.0, 1.0, 0.98, 0.2, 1.0, 0.9]]), bounds=(0.0, 1.0))
    assert 0 <= found.low < found.value < found.high <= 1


def test_four_groups_have_no_interval():
    found = estimate(np.array([[0.1, 0.2, 0.3, 0.4]]))
    assert found.value == pytest.approx(0.25) and math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(estimate(np.empty((1, 0))).value)


def test_equal_values_have_no_spread():
    assert estimate(np.full((1, 8), 0.25)) == Estimate(0.25, 0.25, 0.25)


def test_seeds_that_scatter_widen_the_interval():
    cases = np.random.default_rng(0).normal(0, 0.01, 30)
    same = estimate(np.stack([cases, cases, cases]))
    apart = estimate(np.stack([cases - 0.02, cases, cases + 0.02]))
    assert same == estimate(cases[None])
    assert apart.high - apart.value == pytest.approx(stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3), rel=0.05)


def test_p_agrees_with_the_interval():
    random = np.random.default_rng(1)
    for shift in np.linspace(0, 0.02, 20):
        values = shift + random.normal(0, 0.005, (3, 1)) + random.normal(0, 0.02, (3, 25))
        found, p = estimate(values), paired_p(values)
        assert (p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.slow
@pytest.mark.parametrize("cases", [11, 40])
def test_intervals_of_skewed_scores_hold_95_percent(cases, few_resamples):
    random = np.random.default_rng(cases)
    found = [estimate(random.beta(8, 1.3, (1, cases)), bounds=(0.0, 1.0)) for _ in range(REPEATS)]
    assert 0.93 <= np.mean([each.low <= 8 / 9.3 <= each.high for each in found]) <= 0.97


@pytest.mark.slow
def test_scans_of_a_patient_are_not_independent(few_resamples):
    """20 patients with two scans each, whose differences correlate by 0.8: taken for 40 cases they cover 83 %."""
    random, alone, together, p = np.random.default_rng(2), [], [], []
    patients = [f"patient{number // 2}" for number in range(40)]
    for _ in range(REPEATS):
        shared = np.repeat(random.normal(0, math.sqrt(0.8), 20), 2)
        dice = 0.015 * (shared + random.normal(0, math.sqrt(0.2), 40))[None, :, None]
        grouped = group_values(dice, patients)
        alone.append(estimate(group_values(dice)))
        together.append(estimate(grouped))
        p.append(sign_flip(grouped[0]))
    assert np.mean([each.low <= 0 <= each.high for each in alone]) < 0.9
    assert 0.93 <= np.mean([each.low <= 0 <= each.high for each in together]) <= 0.97
    assert np.mean(np.array(p) <= 0.05) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_methods_rarely_differ(seeds, few_resamples):
    """Networks of another seed scatter: over the cases alone two equal methods "differ" in half of the comparisons."""
    random, found, of_networks = np.random.default_rng(seeds), [], []
    for _ in range(REPEATS):
        values = random.normal(0, 0.005 * math.sqrt(2), (seeds, 1)) + random.normal(0, 0.015, 52)
        values += random.normal(0, 0.005, values.shape)
        found.append(estimate(values))
        of_networks.append(estimate(values.mean(axis=0, keepdims=True)))
    assert np.mean([each.low <= 0 <= each.high for each in of_networks]) < 0.8
    assert 0.93 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.98  # rather too wide than too narrow


# --- summaries --------------------------------------------------------------------------------------------


def test_one_case_has_no_interval():
    summary = summarize(np.array([[0.5, NAN]]))
    assert (summary.mean.value, summary.median, summary.cases) == (0.5, 0.5, (1, 0))
    assert math.isnan(summary.mean.low)


def test_no_case_has_no_figure():
    assert math.isnan(summarize(np.empty((0, 2))).mean.value)


def test_a_rare_class_counts_by_the_cases_that_have_it():
    dice = np.full((40, 2), 0.8)
    dice[:, 1] = NAN
    dice[:4, 1] = (0.2, 0.4, 0.6, 0.8)
    summary = summarize(dice)
    assert summary.cases == (40, 4)
    assert summary.means[1].value == pytest.approx(0.5) and math.isnan(summary.means[1].low)


# --- tests ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("count", [4, 12, 30])
def test_sign_flips_are_scipys(count):
    values = np.random.default_rng(count).normal(0.3, 1, count)
    expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1).pvalue
    assert sign_flip(values) == pytest.approx(expected, abs=0.02 if count > 13 else 1e-9)


@pytest.mark.parametrize("test", [wilcoxon, sign_flip])
def test_nothing_to_test(test):
    assert test(np.zeros(5)) == 1
    assert math.isnan(test(np.array([NAN])))
    assert test(np.array([0.1, NAN])) == 1
    assert test(np.array([0.3 - (0.1 + 0.2), 0.0])) == 1  # no difference but rounding


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, NAN, 0.5]) == pytest.approx([1.0, NAN, 1.0], nan_ok=True)
    assert holm([]) == []


# --- rank correlation -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rank_correlation_is_scipys():
    random = np.random.default_rng(5)
    first = random.normal(size=30)
    second = np.round(first + random.normal(size=30))  # with ties
    found = rank_correlation(first, second)

    def spearman(one, other):
        return stats.spearmanr(one, other).statistic  # pyright: ignore[reportAttributeAccessIssue]

    assert found.value == pytest.approx(spearman(first, second))
    expected = stats.bootstrap(
        (first, second), spearman, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=1
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.04)


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
