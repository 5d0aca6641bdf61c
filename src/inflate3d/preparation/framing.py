"""From a scan on its own grid to the model's frame: the one way for training and prediction alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, Shaped

from inflate3d.errors import DataError
from inflate3d.preparation.plan import Normalization, Plan
from inflate3d.resampling import nearest_slices, resample_slices
from inflate3d.volume import Orientation, Volume


@dataclass(frozen=True)
class FramedCase:
    """A scan in the model's frame.

    Attributes:
        orientation: The way back to the scan's own voxel axes.
        image: Voxel values, ``(C, D, H, W)``; they are the scan's own unless slices were resampled.
        ranges: For each modality the voxel values that become 0 and 1.
        spacing: Millimeters along ``(D, H, W)``.
        own_slices: How many slices the scan itself has along the frame's depth.
    """

    orientation: Orientation
    image: Shaped[np.ndarray, "c d h w"]
    ranges: tuple[tuple[float, float], ...]
    spacing: tuple[float, float, float]
    own_slices: int

    def labels(self, labels: Integer[np.ndarray, "i j k"]) -> Integer[np.ndarray, "d h w"]:
        """Brings a label map on the scan's own grid to this frame's slices, each to the nearest."""
        framed = self.orientation.apply(labels)
        if self.image.shape[1] == self.own_slices:
            return framed
        return framed[nearest_slices(self.own_slices, self.image.shape[1])]


def frame_case(volume: Volume, plan: Plan) -> FramedCase:
    """Brings a scan into the model's frame.

    Args:
        volume: The scan, ``(C, I, J, K)``.
        plan: How.

    Raises:
        DataError: The scan has not the plan's number of modalities.
    """
    turned = turn_scan(volume, plan)
    image = turned.image
    if turned.slices != image.shape[1]:
        image = resample_slices(image.astype(np.float32, copy=False), turned.slices)
    ranges = value_ranges(turned.image, plan.normalization)
    return FramedCase(turned.orientation, image, ranges, turned.spacing, turned.image.shape[1])


@dataclass(frozen=True)
class TurnedScan:
    """A scan along the frame's axes, its slices still its own.

    Attributes:
        orientation: The way back to the scan's own voxel axes.
        image: The scan's own voxel values, ``(C, D, H, W)``; a view.
        slices: How many slices the frame has.
        spacing: Millimeters along ``(D, H, W)`` in the frame.
    """

    orientation: Orientation
    image: Shaped[np.ndarray, "c d h w"]
    slices: int
    spacing: tuple[float, float, float]


def turn_scan(volume: Volume, plan: Plan) -> TurnedScan:
    """Lays a scan along the frame's axes, without copying a voxel.

    Raises:
        DataError: The scan has not the plan's number of modalities.
    """
    if len(volume.array) != len(plan.modalities):
        raise DataError(
            "wrong number of modalities",
            expected=f"{len(plan.modalities)} ({', '.join(plan.modalities)})",
            got=len(volume.array),
            hint="put a scan's modalities into one 4D file, or into files CASE_0000, CASE_0001, ... in the order of "
            "the model's, and give their folder",
        )
    orientation = Orientation.of(volume.affine, plan.depth_axis)
    image = orientation.apply(volume.array)
    depth, height, width = (volume.spacing[axis] for axis in orientation.axes)
    count = plan.slice_count(image.shape[1], depth)
    return TurnedScan(orientation, image, count, (depth * image.shape[1] / count, height, width))


def value_ranges(
    image: Shaped[np.ndarray, "c d h w"], normalization: tuple[Normalization, ...]
) -> tuple[tuple[float, float], ...]:
    """For each modality of a scan the voxel values that become 0 and 1.

    Args:
        image: In the frame: percentiles of a sample must not depend on how the file lies.
        normalization: A rule for each modality.
    """
    return tuple(rule.value_range(channel) for rule, channel in zip(normalization, image, strict=True))
