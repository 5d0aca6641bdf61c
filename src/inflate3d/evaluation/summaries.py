"""A measure over all cases: means and medians with intervals, in all and in groups of cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from inflate3d.evaluation.statistics import (
    Estimate,
    case_weights,
    class_means,
    class_medians,
    estimate,
    mean_over_defined,
)

INTERVALS = "95 %, percentile bootstrap over the cases, 10,000 resamples, seed 0; null for fewer than two cases"
"""What the intervals are, for the files."""

_SPACINGS = (1, 2, 3, 5)
"""Millimeters at which a group of spacings ends and the next begins."""


@dataclass(frozen=True)
class Summary:
    """A measure over cases.

    Attributes:
        means: For each class, the mean over the cases in which it is defined.
        medians: Likewise the median.
        mean: Mean over the classes of their means.
        median: Mean over the classes of their medians.
        cases: For each class, in how many cases it is defined.
    """

    means: tuple[Estimate, ...]
    medians: tuple[Estimate, ...]
    mean: Estimate
    median: Estimate
    cases: tuple[int, ...]


def summarize(values: Float[np.ndarray, "cases classes"]) -> Summary:
    """Means and medians with bootstrap intervals over the cases; NaN where there is nothing, and for one case."""
    weights = case_weights(len(values)) if len(values) > 1 else np.empty((0, len(values)), dtype=np.int64)
    as_is = np.ones((1, len(values)), dtype=np.int64)
    means, medians = ((reduce(values, as_is)[0], reduce(values, weights)) for reduce in (class_means, class_medians))
    return Summary(
        means=_by_class(*means),
        medians=_by_class(*medians),
        mean=_over_classes(*means),
        median=_over_classes(*medians),
        cases=tuple(np.count_nonzero(~np.isnan(values), axis=0).tolist()),
    )


def spacing_group(spacing: Sequence[float]) -> str:
    """In words, between which limits a scan's largest spacing lies.

    Args:
        spacing: Millimeters between voxels along the three axes.
    """
    largest = round(max(spacing), 3)  # headers round
    below = [limit for limit in _SPACINGS if limit < largest]
    above = [limit for limit in _SPACINGS if limit >= largest]
    if not below:
        return f"up to {above[0]} mm"
    return f"{below[-1]} to {above[0]} mm" if above else f"over {below[-1]} mm"


def _by_class(
    values: Float[np.ndarray, " classes"], resampled: Float[np.ndarray, "resamples classes"]
) -> tuple[Estimate, ...]:
    return tuple(estimate(float(value), column) for value, column in zip(values, resampled.T, strict=True))


def _over_classes(values: Float[np.ndarray, " classes"], resampled: Float[np.ndarray, "resamples classes"]) -> Estimate:
    value = float(mean_over_defined(values)) if len(values) else math.nan
    return estimate(value, mean_over_defined(resampled))
