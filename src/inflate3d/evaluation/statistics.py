"""How sure a difference is: bootstrap intervals over cases, Wilcoxon's signed-rank test, Holm's correction."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

RESAMPLES = 10_000
CONFIDENCE = 0.95

_FEWEST_RANKED = 3
"""Cases that a rank correlation needs: two are always in the same or the opposite order."""

_PARTS = 10
"""Resamples are ranked in so many parts, which takes less memory."""

_DIGITS = 12
"""Digits of a difference that are no rounding error of the two scores."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: The figure itself.
        low: The interval's lower end; NaN where there is none.
        high: Its upper end.
    """

    value: float
    low: float
    high: float


def case_weights(
    cases: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> Integer[np.ndarray, "{resamples} {cases}"]:
    """How often each case is drawn in each resample of all cases, with replacement (Efron 1979).

    The same weights serve every arm of a comparison, so that differences are resampled in pairs.

    Args:
        cases: How many there are.
        resamples: How many resamples to draw.
        seed: Seed of the draws.
    """
    return np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / cases), size=resamples)


def mean_of_class_means(
    scores: Float[np.ndarray, "seeds cases classes"], weights: Integer[np.ndarray, "resamples cases"]
) -> Float[np.ndarray, " resamples"]:
    """The figure of a run, `Scores.mean`, in each resample; mean over the seeds.

    As there, a class's mean is over the cases in which it has a score, and a class without any is left out.

    Args:
        scores: NaN where a class has no score.
        weights: How often each case counts.

    Returns:
        NaN in a resample without any score.
    """
    return mean_over_defined(mean_over_defined(np.stack([class_means(each, weights) for each in scores], axis=1)))


def class_means(
    scores: Float[np.ndarray, "cases classes"], weights: Integer[np.ndarray, "resamples cases"]
) -> Float[np.ndarray, "resamples classes"]:
    """Mean of each class over the cases in which it has a score, in each resample; NaN where it has none."""
    defined, drawn = ~np.isnan(scores), weights.astype(np.float64)
    return _ratio(drawn @ np.where(defined, scores, 0.0), drawn @ defined.astype(np.float64))


def class_medians(
    scores: Float[np.ndarray, "cases classes"], weights: Integer[np.ndarray, "resamples cases"]
) -> Float[np.ndarray, "resamples classes"]:
    """Median of each class over the cases in which it has a score, in each resample; NaN where it has none."""
    return np.stack([_medians(column, weights) for column in scores.T], axis=1)


def _medians(
    scores: Float[np.ndarray, " cases"], weights: Integer[np.ndarray, "resamples cases"]
) -> Float[np.ndarray, " resamples"]:
    """The middle of the scores in ascending order, or the mean of the two in the middle."""
    order = np.argsort(scores)[: np.count_nonzero(~np.isnan(scores))]  # those without a score stand last
    if not len(order):
        return np.full(len(weights), np.nan)
    upto = np.cumsum(weights[:, order], axis=1)
    number = upto[:, -1:]
    low, high = (scores[order][np.argmax(upto > place, axis=1)] for place in ((number - 1) // 2, number // 2))
    return np.where(number[:, 0] > 0, (low + high) / 2, np.nan)


def mean_over_defined(values: Float[np.ndarray, "*shape n"]) -> Float[np.ndarray, "*shape"]:
    """Mean along the last axis of the values that are not NaN; NaN where there are none."""
    defined = ~np.isnan(values)
    return _ratio(np.asarray(np.where(defined, values, 0.0).sum(-1)), np.asarray(defined.sum(-1, dtype=np.float64)))


def estimate(value: float, resampled: Float[np.ndarray, " resamples"]) -> Estimate:
    """A figure with its percentile interval: the middle 95 % of its resamples.

    Args:
        value: The figure for the cases as they are.
        resampled: The figure in each resample; those without one are left out.
    """
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))


def wilcoxon(differences: Float[np.ndarray, " cases"]) -> float:
    """Two-sided p-value of the signed-rank test (Wilcoxon 1945) that differences lie symmetrically about 0.

    Differences of 0 take part in the ranking and are then dropped (Pratt 1959). Exact up to 50 cases where there are
    neither zeros nor ties, else by the normal approximation.

    Args:
        differences: One for each case; NaN, where a case has none, is left out.

    Returns:
        1 where all differences are 0, NaN where there are none.
    """
    from scipy import stats

    known = np.round(differences[~np.isnan(differences)], _DIGITS)
    if not known.any():
        return 1.0 if len(known) else math.nan
    sizes = np.abs(known)
    exact = len(known) <= 50 and sizes.all() and len(np.unique(sizes)) == len(sizes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sample size too small for normal approximation")
        tested = stats.wilcoxon(known, zero_method="pratt", method="exact" if exact else "approx")
    return float(tested.pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def rank_correlation(first: Float[np.ndarray, " cases"], second: Float[np.ndarray, " cases"]) -> Estimate:
    """Spearman's rank correlation (Spearman 1904) of two figures of cases, with its bootstrap interval over the cases.

    Args:
        first: One for each case; a case that has none of either, NaN, is left out.
        second: Likewise.

    Returns:
        From -1 to 1; NaN where there are fewer than three cases, or one of the figures is the same for all.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    pairs = np.stack([first[known], second[known]])
    cases = pairs.shape[1]
    if cases < _FEWEST_RANKED:
        return Estimate(math.nan, math.nan, math.nan)
    weights = case_weights(cases)
    resampled = [_rank_correlations(pairs, part) for part in np.array_split(weights, _PARTS)]
    as_they_are = _rank_correlations(pairs, np.ones((1, cases), dtype=np.int64))
    return estimate(float(as_they_are[0]), np.concatenate(resampled))


def _rank_correlations(
    pairs: Float[np.ndarray, "2 cases"], weights: Integer[np.ndarray, "resamples cases"]
) -> Float[np.ndarray, " resamples"]:
    """Pearson's correlation of the ranks in each resample, equal figures sharing theirs; NaN where one never varies."""
    from scipy import stats

    drawn = np.repeat(np.tile(np.arange(weights.shape[1]), len(weights)), weights.ravel()).reshape(weights.shape)
    ranks = stats.rankdata(pairs[:, drawn], axis=-1)
    one, other = ranks - ranks.mean(axis=-1, keepdims=True)
    return _ratio((one * other).sum(-1), np.sqrt((one**2).sum(-1) * (other**2).sum(-1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for being several (Holm 1979): one below 0.05 stands although the others were tested too.

    Args:
        p_values: NaN, where nothing was tested, stays so and doesn't count.

    Returns:
        The corrected ones, in the order given, at most 1.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[place] = largest
    return corrected


def _ratio(total: Float[np.ndarray, "*shape"], count: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
