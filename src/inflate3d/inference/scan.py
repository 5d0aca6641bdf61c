"""A scan in the model's frame: voxels stay as they were read until slices of them are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from inflate3d.preparation.framing import turn_scan, value_ranges
from inflate3d.preparation.plan import Normalization, Plan
from inflate3d.resampling import slice_weights
from inflate3d.volume import Orientation, Volume

_ON_DEVICE = {
    "uint16": np.int32,
    "uint32": np.float32,
    "uint64": np.float32,
    "int64": np.float32,
    "float64": np.float32,
}
"""What voxels become on a device for types that torch can't compute with, or that are larger than need be."""


@dataclass(frozen=True, eq=False)
class FramedScan:
    """A scan brought into the model's frame, exactly as the store does for training.

    No array of all voxels is made in main memory: slices are resampled, where the plan says so, when they are read.

    Attributes:
        orientation: The way back to the scan's own grid.
        voxels: The scan's own voxel values, ``(C, D, H, W)``; a view of the volume.
        slices: How many slices the frame has.
        sides: Height and width of a slice in millimeters, ``(1, 2)``.
        pixel_spacing: Millimeters between rows and between columns.
        device: Where slices are wanted.
        moved: The same voxels on a device that has a memory of its own, moved there once; none if they stay.
    """

    orientation: Orientation
    voxels: Shaped[np.ndarray, "c d h w"]
    slices: int
    sides: Float[Tensor, "1 2"]
    pixel_spacing: tuple[float, float]
    device: torch.device
    moved: Shaped[Tensor, "c d h w"] | None
    _ranges: dict[tuple[Normalization, ...], Float[Tensor, "c 2"]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, volume: Volume, plan: Plan, device: torch.device, *, room: int = 0) -> FramedScan:
        """Brings a scan into the frame.

        Args:
            volume: ``(C, I, J, K)``.
            plan: How.
            device: Where slices are wanted.
            room: Bytes that the voxels may take there, where it has a memory of its own. If they need more, only the
                slices that are read are moved.

        Raises:
            DataError: Wrong number of modalities.
        """
        turned = turn_scan(volume, plan)
        _, height, width = turned.spacing
        rows, columns = turned.image.shape[2:]
        sides = torch.tensor([[rows * height, columns * width]], dtype=torch.float32)
        moved = None
        dtype = np.dtype(_ON_DEVICE.get(turned.image.dtype.name, turned.image.dtype.newbyteorder("=")))
        if device.type != "cpu" and turned.image.size * dtype.itemsize <= room:
            moved = torch.from_numpy(np.ascontiguousarray(turned.image, dtype)).to(device)
        return cls(turned.orientation, turned.image, turned.slices, sides, (height, width), device, moved)

    @property
    def own_shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns of the scan itself."""
        _, slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    def ranges(self, normalization: tuple[Normalization, ...]) -> Float[Tensor, "c 2"]:
        """For each modality the voxel values that become 0 and 1; measured once."""
        if normalization not in self._ranges:
            ranges = value_ranges(self.voxels, normalization)
            self._ranges[normalization] = torch.tensor(ranges, dtype=torch.float32, device=self.device)
        return self._ranges[normalization]

    def read(self, indices: Int[np.ndarray, " n"]) -> Float[Tensor, "c n h w"]:
        """Slices of the frame, float32, on the device."""
        own = self.own_shape[0]
        if self.slices == own:
            return self._read_own(indices)
        lower, upper, weight = (part[indices] for part in slice_weights(own, self.slices))
        # in float32 as resample_slices has it, so that prediction sees what training saw, to the bit
        shares = (torch.from_numpy(share.astype(np.float32)).to(self.device) for share in (1 - weight, weight))
        below, above = (share[:, None, None] for share in shares)
        return self._read_own(lower) * below + self._read_own(upper) * above

    def _read_own(self, indices: Int[np.ndarray, " n"]) -> Float[Tensor, "c n h w"]:
        """The scan's own slices: what is converted are these alone."""
        if self.moved is not None:
            return self.moved[:, torch.from_numpy(indices).to(self.device)].float()
        # flipped views have negative strides, and torch takes neither those nor every type
        return torch.from_numpy(np.ascontiguousarray(self.voxels[:, indices], np.float32)).to(self.device)
