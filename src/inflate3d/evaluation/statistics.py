"""How certain a figure is: intervals over cases and seeds, tests of paired differences, Holm's correction.

Everything works on *group values*: one number per group of related cases (the scans of a patient), defined such that
their mean is the figure in question. Groups, not cases, are independent.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped

RESAMPLES = 10_000
CONFIDENCE = 0.95

FEWEST_GROUPS = 5
"""Fewest independent cases for an interval."""

INTERVALS = (
    "95 %, bootstrap-t over the cases (the scans of a patient are drawn together), 10,000 resamples, seed 0; null for "
    "fewer than five patients"
)
"""What the intervals of one network mean, for the files."""

_EXACT = 13
"""Up to this many groups, all sign flips are enumerated."""

_SMALLEST_P = 1 / RESAMPLES

_DIGITS = 12
"""Digits to which differences are rounded: the rest is rounding error of the two scores."""

_FEWEST_RANKED = 3
"""Fewest cases for a rank correlation: two are always in the same or the opposite order."""

_PARTS = 10
"""Resamples are ranked in this many parts, to save memory."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        low: The interval's lower end; NaN without an interval.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class MeasureSummary:
    """A measure summarized over cases.

    Attributes:
        means: For each class, the mean over the cases in which it is defined.
        cases: For each class, the number of cases in which it is defined.
    """

    means: tuple[Estimate, ...]
    medians: tuple[float, ...]
    mean: Estimate
    median: float
    cases: tuple[int, ...]


def summarize(
    scores: Float[np.ndarray, "cases classes"],
    groups: Sequence[str] | None = None,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> MeasureSummary:
    """Means with intervals, and medians.

    Args:
        scores: A measure; NaN where undefined.
        groups: The group of each case, such as its patient, resampled as a whole; by default each case is its own.
        bounds: The measure's lowest and highest possible value.
    """
    classes = [scores[:, [number]] for number in range(scores.shape[1])]
    medians = [over_defined(np.median, column) for column in classes]
    return MeasureSummary(
        means=tuple(estimate(group_values(column[None], groups), bounds=bounds) for column in classes),
        medians=tuple(medians),
        mean=estimate(group_values(scores[None], groups), bounds=bounds),
        median=float(mean_over_defined(np.array(medians))) if medians else math.nan,
        cases=tuple(np.count_nonzero(~np.isnan(scores), axis=0).tolist()),
    )


def mean_over_defined(values: Float[np.ndarray, "*shape n"]) -> Float[np.ndarray, "*shape"]:
    """Mean along the last axis of the values that are not NaN; NaN if there are none."""
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0.0).sum(-1), defined.sum(-1)
    return np.where(count, total / np.maximum(count, 1), np.nan)


def over_defined(reduce: Callable[[np.ndarray], np.floating], values: Float[np.ndarray, "*shape"]) -> float:
    """The mean or median of all values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(reduce(defined)) if len(defined) else math.nan


def group_values(
    scores: Float[np.ndarray, "runs cases classes"], groups: Sequence[str] | None = None
) -> Float[np.ndarray, "runs groups"]:
    """A value for each run and group such that their mean over the groups is the run's figure.

    The figure is the mean over the classes of their means over the cases in which they are defined. A group's value is
    that figure plus the group's influence on it, times the number of groups (a jackknife's pseudo-value, to first
    order); where every class is defined in every case and all groups are of one size, it is the group's own mean.

    Args:
        groups: The group of each case; by default each case is its own.

    Returns:
        Groups without a score in all runs are left out; NaN for a run without any score.
    """
    cases = scores.shape[1]
    known = ~np.isnan(scores).all(axis=(0, 2)) if scores.size else np.zeros(cases, dtype=bool)
    names = np.arange(cases) if groups is None else np.array(groups)
    kept, index = np.unique(names[known], return_inverse=True)
    return np.stack([_influences(run[known], index, len(kept)) for run in scores])


def _influences(
    scores: Float[np.ndarray, "cases classes"], index: Shaped[np.ndarray, " cases"], groups: int
) -> Float[np.ndarray, " groups"]:
    defined = ~np.isnan(scores)
    counts = defined.sum(axis=0)
    used = counts > 0
    if not used.any():
        return np.full(groups, np.nan)
    scores, defined, counts = scores[:, used], defined[:, used], counts[used]
    means = np.where(defined, scores, 0.0).sum(axis=0) / counts
    by_case = (np.where(defined, scores - means, 0.0) / counts).mean(axis=1)
    return means.mean() + groups * np.bincount(index, weights=by_case, minlength=groups)


def estimate(
    values: Float[np.ndarray, "seeds groups"],
    *,
    level: float = 1 - CONFIDENCE,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """The mean of group values with its interval, over the groups and, if there are several, over the seeds.

    Over the groups it is a bootstrap-t interval (Efron 1982), which keeps its level even with few or skewed values.
    With several seeds, it is widened by the variation between seeds beyond the groups' share in it, with Student's t;
    the two are added in quadrature (Zou and Donner 2008). With one seed, it is for the trained network only.

    Args:
        values: Value of each seed and group.
        level: Fraction of intervals that may miss the true value.
        bounds: The lowest and highest possible value.

    Returns:
        The estimate; without an interval for fewer than `FEWEST_GROUPS` groups.
    """
    value = float(values.mean()) if values.size else math.nan
    if values.shape[1] < FEWEST_GROUPS or math.isnan(value):
        return Estimate(value)
    below, above = (float(each[0]) for each in _half_widths(values, np.array([level])))
    return Estimate(value, max(value - below, bounds[0]), min(value + above, bounds[1]))


def paired_p(values: Float[np.ndarray, "seeds groups"]) -> float:
    """Two-sided p-value that paired differences have the mean 0.

    With several seeds it is the level at which the interval of :func:`estimate` just excludes 0, which includes
    variation between seeds. With one seed it is that of :func:`sign_flip`, for the two trained networks only.

    Returns:
        NaN without a difference, or with several seeds without an interval.
    """
    if len(values) == 1:
        return sign_flip(values[0])
    value = float(values.mean()) if values.size else math.nan
    if values.shape[1] < FEWEST_GROUPS or math.isnan(value):
        return math.nan
    if not np.round(values, _DIGITS).any():
        return 1.0
    levels = np.geomspace(_SMALLEST_P, 1, 500)
    below, above = _half_widths(values, levels)
    excluded = below < value if value > 0 else above < -value
    return float(levels[np.argmax(excluded)]) if excluded.any() else 1.0


def _half_widths(
    values: Float[np.ndarray, "seeds groups"], levels: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The distance from the mean to the lower and to the upper end of the interval, for some levels."""
    seeds, count = values.shape
    means = values.mean(axis=0)
    centered = means - means.mean()
    error = math.sqrt((centered**2).sum() / (count - 1) / count)
    drawn = _weights(count) @ np.stack([centered, centered**2], axis=1) / count
    spread = np.sqrt(np.maximum(drawn[:, 1] - drawn[:, 0] ** 2, 0) / (count - 1))
    varied = spread > 1e-9 * max(error, 1e-300)  # the others drew equal values only
    ratios = drawn[varied, 0] / spread[varied]
    high, low = np.quantile(ratios, [1 - levels / 2, levels / 2]) if varied.any() else np.zeros((2, len(levels)))
    below, above = np.maximum(high, 0) * error, np.maximum(-low, 0) * error
    if seeds == 1:
        return below, above
    from scipy import stats

    beyond = stats.t.ppf(1 - levels / 2, seeds - 1) * math.sqrt(_seed_variance(values) / seeds)
    return np.hypot(below, beyond), np.hypot(above, beyond)


def _seed_variance(values: Float[np.ndarray, "seeds groups"]) -> float:
    """Variance of the seeds' means minus the part explained by the groups' randomness, at least 0 (two-way ANOVA)."""
    seeds, count = values.shape
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    residual = (rest**2).sum() / ((seeds - 1) * (count - 1))
    return max(float(values.mean(axis=1).var(ddof=1) - residual / count), 0.0)


@lru_cache(maxsize=8)
def _weights(count: int) -> Float[np.ndarray, "resamples {count}"]:
    """How often each group is drawn in each bootstrap resample."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float64)


def sign_flip(differences: Float[np.ndarray, " groups"]) -> float:
    """Two-sided p-value of the sign-flip permutation test that paired differences have the mean 0.

    Exact for up to 13 groups, else by 10,000 random flips (seed 0).

    Args:
        differences: One per group.

    Returns:
        1 if all differences are 0, NaN if there are none.
    """
    known = np.round(differences[~np.isnan(differences)], _DIGITS)
    if not len(known):
        return math.nan
    found = abs(known.sum()) - 10.0**-_DIGITS
    if len(known) <= _EXACT:
        return float(np.mean(np.abs(_signs(len(known)) @ known) >= found))
    return float((1 + np.count_nonzero(np.abs(_signs(len(known)) @ known) >= found)) / (1 + RESAMPLES))


@lru_cache(maxsize=8)
def _signs(count: int) -> Float[np.ndarray, "flips {count}"]:
    if count <= _EXACT:
        return 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    return 1.0 - 2.0 * np.random.default_rng(0).integers(0, 2, size=(RESAMPLES, count))


def wilcoxon(differences: Float[np.ndarray, " groups"]) -> float:
    """Two-sided p-value of the signed-rank test (Wilcoxon 1945) that differences lie symmetrically about 0.

    Differences of 0 take part in the ranking and are then dropped (Pratt 1959). Exact up to 50 groups without zeros or
    ties, otherwise by the normal approximation.

    Args:
        differences: One per group; NaN is left out.

    Returns:
        1 if all differences are 0, NaN if there are none.
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for multiple testing (Holm 1979).

    Args:
        p_values: The p-values; NaN, if nothing was tested, stays NaN and does not count.

    Returns:
        The corrected p-values in the given order, at most 1.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[place] = largest
    return corrected


def rank_correlation(first: Float[np.ndarray, " cases"], second: Float[np.ndarray, " cases"]) -> Estimate:
    """Spearman's rank correlation (Spearman 1904) of two figures of cases, with a percentile interval over the cases.

    Args:
        first: One value per case; cases in which either is NaN are left out.

    Returns:
        From -1 to 1; NaN for fewer than three cases, or if one of the figures is constant.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    pairs = np.stack([first[known], second[known]])
    cases = pairs.shape[1]
    if cases < _FEWEST_RANKED:
        return Estimate(math.nan)
    parts = np.array_split(_weights(cases).astype(np.int64), _PARTS)
    resampled = np.concatenate([_rank_correlations(pairs, part) for part in parts])
    value = float(_rank_correlations(pairs, np.ones((1, cases), dtype=np.int64))[0])
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return Estimate(value)
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))


def _rank_correlations(
    pairs: Float[np.ndarray, "2 cases"], weights: Shaped[np.ndarray, "resamples cases"]
) -> Float[np.ndarray, " resamples"]:
    """Pearson's correlation of the ranks in each resample, with mid-ranks for ties; NaN if one is constant."""
    from scipy import stats

    drawn = np.repeat(np.tile(np.arange(weights.shape[1]), len(weights)), weights.ravel()).reshape(weights.shape)
    ranks = stats.rankdata(pairs[:, drawn], axis=-1)
    one, other = ranks - ranks.mean(axis=-1, keepdims=True)
    scale = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    return np.where(scale > 0, (one * other).sum(-1) / np.where(scale > 0, scale, 1), np.nan)
