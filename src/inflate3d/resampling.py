"""Interpolation of a stack of slices to another number of slices."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def slice_weights(
    length_from: int, length_to: int
) -> tuple[Int[np.ndarray, "to"], Int[np.ndarray, "to"], Float[np.ndarray, "to"]]:
    """Weights to interpolate a stack of slices linearly to another number of slices between the same outer edges.

    Returns:
        ``lower``, ``upper`` and ``weight``, each ``(length_to,)``: slice ``n`` is ``(1 - weight[n])`` times slice
        ``lower[n]`` plus ``weight[n]`` times slice ``upper[n]`` of the original ones. The ends are repeated.
    """
    # twice the wanted count times the position, in whole numbers: equal counts give whole positions, to the bit
    scaled = (2 * np.arange(length_to) + 1) * length_from - length_to
    return _neighbors(scaled / (2 * length_to), length_from)


def nearest_slices(length_from: int, length_to: int) -> Int[np.ndarray, "to"]:
    """For each slice of a stack with another number of slices between the same outer edges, the nearest existing one.

    Label maps are resampled with them; to a larger number of slices and back, they do not change.

    Returns:
        ``(length_to,)``, indices of existing slices; halfway between two, the upper one.
    """
    lower, upper, weight = slice_weights(length_from, length_to)
    return np.where(weight < 0.5, lower, upper)


def _neighbors(
    positions: Float[np.ndarray, "*points"], length: int
) -> tuple[Int[np.ndarray, "*points"], Int[np.ndarray, "*points"], Float[np.ndarray, "*points"]]:
    """The voxels below and above positions along an axis, and the weight of the one above; clamped at the ends."""
    clipped = positions.clip(0, length - 1)
    lower = clipped.astype(np.int64)
    return lower, np.minimum(lower + 1, length - 1), clipped - lower
