"""The directions of voxel axes, and exact conversions between them by transposition and flips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from inflate3d.errors import ConfigError

DepthAxis = Literal["sagittal", "coronal", "axial"]
"""The anatomical direction along which slices are stacked: left-right, posterior-anterior, inferior-superior."""

DEPTH_AXES: tuple[DepthAxis, ...] = ("sagittal", "coronal", "axial")
"""In the order of the axes of RAS+ world space."""

_FRAME_CODES: dict[DepthAxis, str] = {"sagittal": "RAS", "coronal": "ARS", "axial": "SRA"}

Turn = tuple[int, int, int]
"""The axes of an array that become its axes 0, 1 and 2."""

_WORLD_AXES = ("LR", "PA", "IS")
"""Letters of the two ends of each axis of RAS+ world space, the positive one last."""


def frame_axes(depth_axis: DepthAxis) -> list[int]:
    """World axes of a frame's depth, rows and columns."""
    depth = DEPTH_AXES.index(depth_axis)
    return [depth, *(world for world in range(3) if world != depth)]


def plane_turns(depth_axis: DepthAxis) -> tuple[Turn, ...]:
    """For each axis of a frame, the transposition that makes it the depth axis."""
    worlds = frame_axes(depth_axis)
    depth, rows, columns = ([worlds.index(world) for world in frame_axes(DEPTH_AXES[axis])] for axis in worlds)
    return (depth[0], depth[1], depth[2]), (rows[0], rows[1], rows[2]), (columns[0], columns[1], columns[2])


@dataclass(frozen=True)
class Orientation:
    """Maps a scan's voxel axes to others, such as the model's frame, by transposition and flips alone.

    No voxel value changes, so ``undo(apply(x))`` is exactly ``x``.

    Attributes:
        axes: ``axes[n]`` is the scan's voxel axis that becomes axis ``n``; in model space: depth, row, column.
        flips: Whether axis ``n`` is reversed.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, affine: Float[np.ndarray, "4 4"], depth_axis: DepthAxis) -> Orientation:
        """The orientation that brings a scan to closest-canonical RAS+ with the depth axis first.

        Args:
            affine: ``(4, 4)``, voxel index to RAS+ millimeters; may be oblique or left-handed.
            depth_axis: The anatomical direction that becomes the depth axis. The other two follow in the order
                left-right, posterior-anterior, inferior-superior.
        """
        return cls.toward(affine, _FRAME_CODES[depth_axis])

    @classmethod
    def toward(cls, affine: Float[np.ndarray, "4 4"], codes: str) -> Orientation:
        """The orientation that makes each axis lead, as nearly as it can, to a given side.

        Args:
            affine: ``(4, 4)``, voxel index to RAS+ millimeters; may be oblique, left-handed or sheared.
            codes: For each axis of the result, its direction, such as ``"RAS"`` or ``"LPS"``: one
                letter each of L/R (left, right), P/A (posterior, anterior) and I/S (inferior, superior).
        """
        import nibabel.orientations

        worlds = [world for letter in codes for world, ends in enumerate(_WORLD_AXES) if letter in ends]
        if len(codes) != 3 or sorted(worlds) != [0, 1, 2]:
            raise ConfigError(
                "orientation codes don't name three directions",
                expected="one letter each of L/R, P/A and I/S, such as RAS or LPS",
                got=codes,
            )
        voxel_to_world = nibabel.orientations.io_orientation(affine)  # per voxel axis: world axis, direction
        world_to_voxel = {int(world): voxel for voxel, (world, _) in enumerate(voxel_to_world)}
        axes = [world_to_voxel[world] for world in worlds]
        positive = [letter == _WORLD_AXES[world][1] for letter, world in zip(codes, worlds, strict=True)]
        flips = [bool(voxel_to_world[axis, 1] > 0) != wanted for axis, wanted in zip(axes, positive, strict=True)]
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

    def then(self, turn: Turn) -> Orientation:
        """This orientation followed by a transposition."""
        depth, rows, columns = turn
        axes, flips = self.axes, self.flips
        return Orientation((axes[depth], axes[rows], axes[columns]), (flips[depth], flips[rows], flips[columns]))

    def index_matrix(self, shape: tuple[int, int, int]) -> Float[np.ndarray, "4 4"]:
        """From voxel index after ``apply`` to voxel index before it.

        Args:
            shape: Number of voxels along ``(I, J, K)`` before.

        Returns:
            ``(4, 4)``, for homogeneous indices. The affine of the result is the scan's times this.
        """
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for after, (before, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[before, after] = -1 if flip else 1
            matrix[before, 3] = shape[before] - 1 if flip else 0
        return matrix

    def _steps(self) -> list[slice]:
        return [slice(None, None, -1 if flip else 1) for flip in self.flips]
