"""A scan as an array with its affine, and the exact way into the model's frame and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

DepthAxis = Literal["sagittal", "coronal", "axial"]
"""The anatomical direction along which slices are stacked: left-right, posterior-anterior, inferior-superior."""

DEPTH_AXES: tuple[DepthAxis, ...] = ("sagittal", "coronal", "axial")
"""In the order of the RAS+ world axes."""


@dataclass(frozen=True)
class Volume:
    """A scan on its own voxel grid.

    Attributes:
        array: Voxel values, ``(C, I, J, K)``: modality, then the file's own three voxel axes.
        affine: ``(4, 4)``, from voxel index ``(i, j, k, 1)`` to millimetres in RAS+ world space.
        notes: What its reader found odd but could use, each a sentence without a full stop.
    """

    array: Shaped[np.ndarray, "c i j k"]
    affine: Float[np.ndarray, "4 4"]
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along ``(I, J, K)``."""
        i, j, k = self.array.shape[1:]
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along ``(I, J, K)``."""
        i, j, k = spacing_of(self.affine)
        return i, j, k


@dataclass(frozen=True)
class Orientation:
    """The way from a scan's voxel axes to the model's frame ``(D, H, W)``, by transposition and flips alone.

    No voxel value changes, so ``undo(apply(x))`` is ``x`` to the bit.

    Attributes:
        axes: ``axes[n]`` is the scan's voxel axis that becomes frame axis ``n`` (depth, row, column).
        flips: Whether frame axis ``n`` runs against the scan's.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, affine: Float[np.ndarray, "4 4"], depth_axis: DepthAxis) -> Orientation:
        """The orientation that brings a scan to closest-canonical RAS+ with the depth axis first.

        Args:
            affine: ``(4, 4)``, voxel index to RAS+ millimetres; may be oblique or left-handed.
            depth_axis: The anatomical direction that becomes the frame's depth. The other two follow in
                the order left-right, posterior-anterior, inferior-superior.
        """
        import nibabel.orientations

        voxel_to_world = nibabel.orientations.io_orientation(affine)  # per voxel axis: world axis, direction
        world_to_voxel = {int(world): voxel for voxel, (world, _) in enumerate(voxel_to_world)}
        depth = DEPTH_AXES.index(depth_axis)
        axes = [world_to_voxel[world] for world in (depth, *(a for a in range(3) if a != depth))]
        flips = [bool(voxel_to_world[axis, 1] < 0) for axis in axes]
        return cls((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    def apply(self, array: Shaped[np.ndarray, "*batch i j k"]) -> Shaped[np.ndarray, "*batch d h w"]:
        """Brings ``(..., I, J, K)`` on the scan's grid to ``(..., D, H, W)``; a view, nothing is copied."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return moved[(..., *self._steps())]

    def undo(self, array: Shaped[np.ndarray, "*batch d h w"]) -> Shaped[np.ndarray, "*batch i j k"]:
        """Brings ``(..., D, H, W)`` back to ``(..., I, J, K)`` on the scan's grid; a view."""
        lead = array.ndim - 3
        back = [self.axes.index(axis) for axis in range(3)]
        return array[(..., *self._steps())].transpose(*range(lead), *(lead + axis for axis in back))

    def _steps(self) -> list[slice]:
        return [slice(None, None, -1 if flip else 1) for flip in self.flips]


def spacing_of(affine: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """Millimetres between voxels along each of the three voxel axes of ``affine``."""
    i, j, k = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return i, j, k
