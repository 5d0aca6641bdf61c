"""Where the surface of a mask lies, by two definitions, and its distances to that of another mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.spatial import KDTree

Spacing = tuple[float, float, float]

_LEAF = 32
"""Points in a leaf of the search tree: each tree is built for a single query, so that building it counts."""


@dataclass(frozen=True)
class Distances:
    """Distance from each point of one mask's surface to the nearest one of the other's, in both directions, in mm.

    Attributes:
        back: Those from the second mask to the first.
    """

    there: Float[np.ndarray, " n"]
    back: Float[np.ndarray, " m"]


def boundary_distances(
    first: Bool[np.ndarray, "d h w"], second: Bool[np.ndarray, "d h w"], spacing: Spacing
) -> Distances:
    """Distances between the boundary voxels of two masks: those that share a face with a voxel outside the mask.

    Args:
        first: A non-empty mask that does not touch the array's edge.
        second: Another one on the same grid.
        spacing: Millimeters between voxels along the three axes.
    """
    return _both_ways(_boundary(first), _boundary(second), spacing)


def element_distances(
    first: Bool[np.ndarray, "d h w"], second: Bool[np.ndarray, "d h w"], spacing: Spacing
) -> tuple[Distances, Distances]:
    """Distances between the surface elements of two masks, and the areas of the elements.

    An element lies between eight voxels, some in the mask and some not, and has an area that depends on which (Nikolov
    et al. 2021, J Med Internet Res 23(7):e26151; the table of areas is that of their code, ``surface-distance``, as
    MONAI keeps it).

    Args:
        first: A non-empty mask that does not touch the array's edge.
        second: Another one on the same grid.
        spacing: Millimeters between voxels along the three axes.

    Returns:
        The distances, and the areas in square millimeters in the same form.
    """
    codes, other_codes = _neighbor_codes(first), _neighbor_codes(second)
    elements, other_elements = _mixed(codes), _mixed(other_codes)
    areas = _areas(spacing)
    return (
        _both_ways(elements, other_elements, spacing),
        Distances(areas[codes[elements]], areas[other_codes[other_elements]]),
    )


def _boundary(mask: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """Voxels of a mask with at least one of their six neighbors outside it."""
    boundary = np.zeros_like(mask)
    inner = mask[1:-1, 1:-1, 1:-1]
    inside = inner & mask[:-2, 1:-1, 1:-1]
    inside &= mask[2:, 1:-1, 1:-1]
    inside &= mask[1:-1, :-2, 1:-1]
    inside &= mask[1:-1, 2:, 1:-1]
    inside &= mask[1:-1, 1:-1, :-2]
    inside &= mask[1:-1, 1:-1, 2:]
    np.not_equal(inner, inside, out=boundary[1:-1, 1:-1, 1:-1])
    return boundary


def _neighbor_codes(mask: Bool[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d-1 h-1 w-1"]:
    """For each cube of eight voxels, which of them are in the mask, as bits in the order of the table."""
    voxels = mask.view(np.uint8)
    pairs = (voxels[:, :, :-1] << 1) | voxels[:, :, 1:]
    fours = (pairs[:, :-1] << 2) | pairs[:, 1:]
    return (fours[:-1] << 4) | fours[1:]


def _mixed(codes: UInt8[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """Cubes that are partly in the mask: neither 0 nor 255."""
    return (codes + np.uint8(1)) > 1


@cache
def _areas(spacing: Spacing) -> Float[np.ndarray, "256"]:
    """Area in square millimeters of the surface within eight voxels, for each of the 256 combinations."""
    from monai.metrics.utils import get_code_to_measure_table

    table, _ = get_code_to_measure_table(spacing)
    return table.numpy().astype(np.float64)


def _both_ways(first: Bool[np.ndarray, "d h w"], second: Bool[np.ndarray, "d h w"], spacing: Spacing) -> Distances:
    """Distance from each point of one set to the nearest point of the other, in both directions."""
    there, back = (np.flatnonzero(points) for points in (first, second))
    shared = first & second
    places = [_places(points, first.shape, spacing) for points in (there, back)]
    return Distances(
        _to_nearest(places[0], ~shared.ravel()[there], places[1]),
        _to_nearest(places[1], ~shared.ravel()[back], places[0]),
    )


def _places(flat: np.ndarray, shape: tuple[int, ...], spacing: Spacing) -> Float[np.ndarray, "n 3"]:
    """Position in millimeters of voxels given by flat index."""
    return np.stack(np.unravel_index(flat, shape), axis=1) * np.array(spacing)


def _to_nearest(
    points: Float[np.ndarray, "n 3"], apart: Bool[np.ndarray, " n"], others: Float[np.ndarray, "m 3"]
) -> Float[np.ndarray, " n"]:
    """Distance to the nearest of the others; only points that are not in both sets are searched for."""
    distances = np.zeros(len(points))
    if apart.any():
        distances[apart], _ = KDTree(others, leafsize=_LEAF).query(points[apart])
    return distances
