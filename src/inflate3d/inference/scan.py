"""A scan in model space, whose slices are loaded onto the network's device."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from inflate3d.orientation import Orientation, Turn
from inflate3d.preparation.model_space import ModelSpaceScan
from inflate3d.preparation.plan import Normalization

_ON_DEVICE = {
    "uint16": np.int32,
    "uint32": np.float32,
    "uint64": np.float32,
    "int64": np.float32,
    "float64": np.float32,
}
"""Types of voxels on a device, for those that torch does not support, or that are larger than needed."""


@dataclass(frozen=True, eq=False)
class FramedScan:
    """A scan in model space, exactly as the store has it for training, on a device.

    Attributes:
        scan: The scan in main memory, of which no copy is made there.
        device: The device for slices.
        own_shape: Slices, rows and columns of the original scan.
        moved: All slices on a device with its own memory; None if slices are moved when they are read.
    """

    scan: ModelSpaceScan
    own_shape: tuple[int, int, int]
    device: torch.device
    moved: Shaped[Tensor, "c d h w"] | None
    _ranges: dict[tuple[Normalization, ...], Float[Tensor, "c 2"]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, scan: ModelSpaceScan, device: torch.device, *, room: int = 0) -> FramedScan:
        """Moves a scan to a device.

        Args:
            scan: In model space.
            room: Memory limit for all slices on a device with its own memory, in bytes. If they need more, slices are
                moved when they are read.
        """
        _, *own_shape = scan.voxels.shape
        return cls(scan, tuple(own_shape), device, None if device.type == "cpu" else _move(scan, device, room))

    def along(self, turn: Turn) -> FramedScan:
        """Slices along another axis of model space; nothing is interpolated.

        Args:
            turn: See `plane_turns`.
        """
        depth, rows, columns = turn
        if depth == 0:
            return self
        axes = (0, *(1 + axis for axis in turn))
        spacing, shape = self.scan.spacing, self.own_shape
        voxels = self.scan.image().transpose(axes)
        turned = (spacing[depth], spacing[rows], spacing[columns])
        scan = ModelSpaceScan(self.orientation.then(turn), voxels, voxels.shape[1], turned, self.scan.ranges)
        moved = None if self.moved is None else self.moved.permute(axes)
        return FramedScan(scan, (shape[depth], shape[rows], shape[columns]), self.device, moved, self._ranges)

    @property
    def orientation(self) -> Orientation:
        """Leads back to the scan's own grid."""
        return self.scan.orientation

    @property
    def slices(self) -> int:
        return self.scan.num_slices

    @property
    def slice_spacing(self) -> float:
        """Millimeters between the scan's own slices."""
        return self.scan.spacing[0] * self.scan.num_slices / self.scan.own_slices

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Millimeters between rows and between columns."""
        return self.scan.spacing[1:]

    @property
    def sides(self) -> Float[Tensor, "1 2"]:
        """Height and width of a slice in millimeters."""
        rows, columns = self.scan.voxels.shape[2:]
        height, width = self.pixel_spacing
        return torch.tensor([[rows * height, columns * width]], dtype=torch.float32)

    def ranges(self, normalization: tuple[Normalization, ...]) -> Float[Tensor, "c 2"]:
        """For each modality the voxel values that are mapped to 0 and 1; measured once."""
        if normalization not in self._ranges:
            ranges = self.scan.value_ranges(normalization)
            self._ranges[normalization] = torch.tensor(ranges, dtype=torch.float32, device=self.device)
        return self._ranges[normalization]

    def read(self, indices: Int[np.ndarray, " n"]) -> Float[Tensor, "c n h w"]:
        """Slices in model space, float32, on the device."""
        if self.moved is not None:
            return self.moved[:, torch.from_numpy(indices).to(self.device)].float()
        # flipped views have negative strides, which torch does not support
        return torch.from_numpy(np.ascontiguousarray(self.scan.read(indices), np.float32)).to(self.device)


def _move(scan: ModelSpaceScan, device: torch.device, room: int) -> Shaped[Tensor, "c d h w"] | None:
    """All slices on a device, moved one by one; None if they take more than ``room`` bytes."""
    own = scan.voxels.dtype
    dtype = np.dtype(np.float32 if scan.is_resampled else _ON_DEVICE.get(own.name, own.newbyteorder("=")))
    channels, _, rows, columns = scan.voxels.shape
    if channels * scan.num_slices * rows * columns * dtype.itemsize > room:
        return None
    slices = (
        torch.from_numpy(np.ascontiguousarray(scan.read(np.array([index])), dtype)).to(device)
        for index in range(scan.num_slices)
    )
    return torch.cat(list(slices), dim=1)
