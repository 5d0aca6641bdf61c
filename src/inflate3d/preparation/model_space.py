"""From a scan's own grid to model space, in one way for the store and for prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Integer, Shaped

from inflate3d.errors import DataError
from inflate3d.orientation import Orientation
from inflate3d.preparation.plan import ModelSpace, Normalization
from inflate3d.preparation.units import in_units
from inflate3d.resampling import nearest_slices, slice_weights
from inflate3d.volume import Volume

MOST_SLICES = 100_000
"""More than any scan has; a spacing in a wrong unit or a damaged plan would need more than any memory."""


@dataclass(frozen=True, eq=False)
class ModelSpaceScan:
    """A scan in model space: RAS+, depth axis first, at the slice spacing of the plan.

    Slices are computed when they are read, so that no copy of all voxels is needed.

    Attributes:
        orientation: Conversion between the scan's voxel axes and model space.
        voxels: The scan's own voxel values along the axes of model space, ``(C, own D, H, W)``; a view of the volume.
        num_slices: Number of slices in model space, D.
        spacing: Millimeters along ``(D, H, W)``.
        ranges: Value ranges from a store; None if not measured yet.
    """

    orientation: Orientation
    voxels: Shaped[np.ndarray, "c own_d h w"]
    num_slices: int
    spacing: tuple[float, float, float]
    ranges: tuple[tuple[float, float], ...] | None = None

    @property
    def own_slices(self) -> int:
        return self.voxels.shape[1]

    @property
    def is_resampled(self) -> bool:
        """Whether slices are interpolated to float32, or keep the scan's own type and values."""
        return self.num_slices != self.own_slices

    def read(self, indices: Int[np.ndarray, " n"]) -> Shaped[np.ndarray, "c n h w"]:
        """Computes some slices, ``(C, n, H, W)``."""
        if not self.is_resampled:
            return self.voxels[:, indices]
        lower, upper, weight = (part[indices] for part in slice_weights(self.own_slices, self.num_slices))
        below, above = (share.astype(np.float32)[:, None, None] for share in (1 - weight, weight))
        return self.voxels[:, lower].astype(np.float32) * below + self.voxels[:, upper].astype(np.float32) * above

    def image(self) -> Shaped[np.ndarray, "c d h w"]:
        """All slices, ``(C, D, H, W)``; a view of the volume where nothing is resampled."""
        if not self.is_resampled:
            return self.voxels
        channels, _, height, width = self.voxels.shape
        image = np.empty((channels, self.num_slices, height, width), np.float32)
        for index in range(self.num_slices):
            image[:, index] = self.read(np.array([index]))[:, 0]
        return image

    def labels(self, labels: Integer[np.ndarray, "i j k"]) -> Integer[np.ndarray, "d h w"]:
        """Brings a label map from the scan's own grid to model space; each slice takes the nearest one's labels."""
        own = self.orientation.apply(labels)
        return own[nearest_slices(self.own_slices, self.num_slices)] if self.is_resampled else own

    def value_ranges(self, normalization: tuple[Normalization, ...]) -> tuple[tuple[float, float], ...]:
        """For each modality the voxel values that are mapped to 0 and 1, from the scan's own slices."""
        if self.ranges is not None:
            return self.ranges
        return tuple(rule.value_range(channel) for rule, channel in zip(normalization, self.voxels, strict=True))


def to_model_space(volume: Volume, space: ModelSpace) -> ModelSpaceScan:
    """Brings a scan to model space; copies no voxel yet, unless values have to be brought to the plan's unit.

    Args:
        volume: The scan, ``(C, I, J, K)``.
        space: The plan, or its part that is decided first.
    """
    if len(volume.array) != len(space.modalities):
        raise DataError(
            "wrong number of modalities",
            expected=f"{len(space.modalities)} ({', '.join(space.modalities)})",
            got=len(volume.array),
            hint="put a scan's modalities into one 4D file, or into files CASE_0000, CASE_0001, ... in the order of "
            "the model's, and give their folder",
        )
    volume = in_units(volume, space.units)
    orientation = Orientation.of(volume.affine, space.depth_axis)
    voxels = orientation.apply(volume.array)
    depth, height, width = (volume.spacing[axis] for axis in orientation.axes)
    own = voxels.shape[1]
    count = space.slice_count(own, depth)
    if count > MOST_SLICES:
        raise DataError(
            "scan would have too many slices in model space",
            expected=f"at most {MOST_SLICES}",
            got=f"{count}: {own} slices, {depth:g} mm apart, resampled to {space.slice_spacing:g} mm",
            hint="check the spacing in the scan's header, and the plan's slice spacing",
        )
    return ModelSpaceScan(orientation, voxels, count, (depth * own / count, height, width))
