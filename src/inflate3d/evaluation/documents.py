"""Scores as plain values for JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from inflate3d.evaluation.statistics import Estimate
from inflate3d.evaluation.summaries import Summary


def measure_document(
    values: Float[np.ndarray, "cases classes"], summary: Summary, cases: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """A measure of all cases and classes, its means and medians, and their intervals."""
    return {
        "mean": plain(summary.mean.value),
        "mean_interval": _interval(summary.mean),
        "median": plain(summary.median.value),
        "median_interval": _interval(summary.median),
        "class_means": by_name(classes, [each.value for each in summary.means]),
        "class_mean_intervals": dict(zip(classes, map(_interval, summary.means), strict=True)),
        "class_medians": by_name(classes, [each.value for each in summary.medians]),
        "class_median_intervals": dict(zip(classes, map(_interval, summary.medians), strict=True)),
        "cases": {case: by_name(classes, row) for case, row in zip(cases, values.tolist(), strict=True)},
    }


def ranking_document(ranking: Estimate | None) -> dict[str, Any] | None:
    """A rank correlation and its interval; none where there is no such figure."""
    if ranking is None or math.isnan(ranking.value):
        return None
    return {"measure": "Spearman's rank correlation", "value": ranking.value, "interval": _interval(ranking)}


def values_of(
    document: Mapping[str, Any], cases: Sequence[str], classes: Sequence[str]
) -> Float[np.ndarray, "cases classes"]:
    """The values that `measure_document` was given.

    Raises:
        KeyError: A case or a class is missing.
        TypeError: A value is no number.
    """
    numbers = [number(document["cases"][case][name]) for case in cases for name in classes]
    return np.array(numbers, dtype=np.float64).reshape(len(cases), len(classes))


def by_name(names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """Each value by its name."""
    return dict(zip(names, map(plain, values), strict=True))


def plain(value: float) -> float | None:
    """A value for JSON, which knows no NaN."""
    return None if math.isnan(value) else value


def number(value: float | None) -> float:
    """The value that `plain` was given."""
    return math.nan if value is None else float(value)


def _interval(estimate: Estimate) -> list[float] | None:
    return None if math.isnan(estimate.low) else [estimate.low, estimate.high]
