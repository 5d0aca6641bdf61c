"""Measures of the distances between the surfaces of two masks: HD95, HD100, ASSD, NSD.

MONAI has the same measures (the tests compare ours with them). Ours are fast for large scans with many classes: they
work in each class's bounding box, and search the nearest point only for points that are not on both surfaces; see
``benchmarks/metrics.py``.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from inflate3d.evaluation.distances import Spacing, boundary_distances, element_distances

_ROUNDING = 1e-6
"""Slack in millimeters: a distance equal to the tolerance is within it despite rounding."""


def hausdorff_measures(
    first: Bool[np.ndarray, "d h w"], second: Bool[np.ndarray, "d h w"], spacing: Spacing
) -> dict[str, float]:
    """HD95, HD100 and ASSD from the distances between two masks' boundary voxels, in millimeters.

    A boundary voxel is a voxel of the mask that shares a face with one outside. Its distance is to the nearest boundary
    voxel of the other mask. Percentiles are interpolated linearly.

    Args:
        first: A non-empty mask that does not touch the array's edge.
        second: Another one on the same grid.
        spacing: Millimeters between voxels along the three axes.

    Returns:
        ``hd95``, the larger of the two directed 95th percentiles; ``hd95_pooled``, the percentile of both directions'
        distances together; ``hd100``, the largest distance; ``assd``, the mean of both directions' distances together.
    """
    distances = boundary_distances(first, second, spacing)
    together = np.concatenate([distances.there, distances.back])
    return {
        "hd95": max(_percentile_95(distances.there), _percentile_95(distances.back)),
        "hd95_pooled": _percentile_95(together),
        "hd100": float(together.max()),
        "assd": float(together.mean()),
    }


def nsd(
    first: Bool[np.ndarray, "d h w"], second: Bool[np.ndarray, "d h w"], spacing: Spacing, tolerance: float
) -> float:
    """Normalized surface Dice: the part of both masks' surfaces that lies within a tolerance of the other's.

    As in Nikolov et al. 2021 (J Med Internet Res 23(7):e26151) and their code, ``surface-distance``: the surface
    consists of elements between eight voxels each, with areas in square millimeters.

    Args:
        first: A non-empty mask that does not touch the array's edge.
        second: Another one on the same grid.
        spacing: Millimeters between voxels along the three axes.
        tolerance: In millimeters; an element at exactly this distance is within.
    """
    distances, areas = element_distances(first, second, spacing)
    most = tolerance + _ROUNDING
    within = areas.there[distances.there <= most].sum() + areas.back[distances.back <= most].sum()
    return float(within / (areas.there.sum() + areas.back.sum()))


def _percentile_95(distances: Float[np.ndarray, " n"]) -> float:
    return float(np.percentile(distances, 95))
