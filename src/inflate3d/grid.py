"""Where the voxels of a scan lie: shape and affine, and how one grid's voxels lie on another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from inflate3d.errors import DataError
from inflate3d.orientation import Orientation

SAME_PLACE = 0.01
"""Largest distance in voxels between positions that count as the same: headers are rounded differently."""

_SMALLEST_SPACING, _LARGEST_SPACING = 1e-6, 1e5
"""Millimeters between voxels: from those of an electron microscope to more than any body."""

_FURTHEST = 1e9
"""Millimeters of a voxel from the origin; further away, float64 can't tell the voxels of a microscope apart."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie. Grids are equal when shape and affine are.

    Examples:
        >>> grid = Grid((64, 64, 20), np.diag([0.8, 0.8, 3.0, 1.0]))
        >>> grid.spacing
        (0.8, 0.8, 3.0)

    Attributes:
        shape: Number of voxels along ``(I, J, K)``.
        affine: ``(4, 4)``, from voxel index ``(i, j, k, 1)`` to the voxel's center, in millimeters in RAS+ world
            space; may be oblique, left-handed or sheared.

    Raises:
        DataError: There are no voxels, or the affine can't be inverted.
    """

    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise DataError("a grid has no voxels", expected="one or more along each axis", got=self.shape)
        check_affine(self.affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, *self.affine.flat))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimeters between voxels along ``(I, J, K)``."""
        return spacing_of(self.affine)

    def has_same_voxels(self, other: Grid) -> bool:
        """Whether the other grid has the same voxels, perhaps in another order or direction of the axes."""
        try:
            orientation, first = placement(other, self)
        except DataError:
            return False
        i, j, k = orientation.axes
        return (other.shape[i], other.shape[j], other.shape[k]) == self.shape and not first.any()


def common_grid(one: Grid, other: Grid) -> Grid:
    """The smallest grid that has the voxels of both, with the axes of the first.

    Raises:
        DataError: The voxels of the one lie between those of the other.
    """
    _, first = placement(other, one)
    turned = np.abs(np.rint(np.linalg.solve(one.affine, other.affine)))[:3, :3] @ other.shape
    start = np.minimum(first, 0)
    stop = np.maximum(first + turned.astype(int), one.shape)
    i, j, k = (stop - start).tolist()
    return Grid((i, j, k), starting_at(start, one.affine))


def check_affine(affine: Float[np.ndarray, "4 4"]) -> None:
    """Refuses an affine that maps no box of voxels to a box in space of a size that scans have.

    Raises:
        DataError: It is not finite, or flat, or its numbers are out of bounds.
    """
    if not (_is_box(affine) and np.array_equal(affine[3], (0, 0, 0, 1))):
        raise DataError(
            "the affine can't be inverted, so the scan's position in space is unknown",
            expected="finite numbers, three axes that don't lie in one plane, and (0, 0, 0, 1) as the last row",
            got=affine.tolist(),
            hint="export the scan again, or correct its header",
        )
    spacing = spacing_of(affine)
    if min(spacing) < _SMALLEST_SPACING or max(spacing) > _LARGEST_SPACING or abs(affine[:3, 3]).max() > _FURTHEST:
        raise DataError(
            "the affine is impossible for a scan",
            expected=f"{_SMALLEST_SPACING:g} to {_LARGEST_SPACING:g} mm between voxels, "
            f"and the first voxel at most {_FURTHEST:g} mm from the origin",
            got=f"{', '.join(f'{length:g}' for length in spacing)} mm, from {affine[:3, 3].tolist()} on",
            hint="export the scan again, or correct its header",
        )


def _is_box(affine: Float[np.ndarray, "4 4"]) -> bool:
    # the determinant of the unit axes is the volume of their box: 1 at right angles, 0 in one plane
    if not np.isfinite(affine).all():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3])) > 1e-6 * np.prod(spacing_of(affine)))


def spacing_of(affine: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """Millimeters between voxels along each of the three voxel axes of ``affine``."""
    i, j, k = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return i, j, k


def starting_at(first: Int[np.ndarray, "3"], affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The affine after voxel ``first`` has become voxel 0."""
    moved = affine.astype(np.float64)
    moved[:3, 3] += moved[:3, :3] @ first
    return moved


def placement(grid: Grid, target: Grid) -> tuple[Orientation, Int[np.ndarray, "3"]]:
    """The way to lay a grid's voxels along the target's axes, and the target's index of the first one so laid."""
    to_target = np.rint(np.linalg.solve(target.affine, grid.affine))  # from index to index
    turn = to_target[:3, :3]
    is_turn = (np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all()
    last = np.array(grid.shape) - 1
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*last, 1]
    apart = np.linalg.norm((grid.affine - target.affine @ to_target)[:3] @ corners.T, axis=0).max()
    if not is_turn or apart > SAME_PLACE * min(target.spacing):
        raise DataError(
            "the volume's voxels are not on the grid",
            expected=f"voxels of the affine {target.affine.round(4).tolist()}",
            got=f"voxels of the affine {grid.affine.round(4).tolist()}",
            hint="resample the volume to the grid first",
        )
    (i, j, k), flips = np.abs(turn).argmax(axis=1).tolist(), turn.sum(axis=1) < 0
    first = to_target[:3, 3].astype(int) - np.where(flips, last[[i, j, k]], 0)
    return Orientation((i, j, k), (bool(flips[0]), bool(flips[1]), bool(flips[2]))), first
