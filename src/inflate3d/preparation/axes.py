"""Along which of the world's axes slices are stacked, and what their rows and columns follow."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from inflate3d.volume import DEPTH_AXES, DepthAxis


def thickest_axis(spacing: tuple[float, float, float]) -> DepthAxis:
    """The direction of the largest spacing; ties go to the last, axial.

    Args:
        spacing: Millimeters along the RAS+ axes.
    """
    # scanners round, so one per cent is a tie
    return DEPTH_AXES[max(axis for axis in range(3) if spacing[axis] >= 0.99 * max(spacing))]


def frame_axes(axis: DepthAxis) -> list[int]:
    """World axes of a frame's depth, rows and columns."""
    depth = DEPTH_AXES.index(axis)
    return [depth, *(world for world in range(3) if world != depth)]


def frame_affine(axis: DepthAxis, spacing: tuple[float, float, float]) -> Float[np.ndarray, "4 4"]:
    """An affine of an array in a frame, somewhere in RAS+ space.

    Args:
        axis: The direction along which the frame's slices are stacked.
        spacing: Millimeters along the RAS+ axes.
    """
    affine = np.zeros((4, 4))
    for along, world in enumerate(frame_axes(axis)):
        affine[world, along] = spacing[world]
    affine[3, 3] = 1
    return affine
