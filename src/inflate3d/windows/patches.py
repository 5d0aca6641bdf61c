"""3D patches for volumetric networks, on the same grid for training and prediction.

The grid has the slices of the model's frame. In plane it has the plan's pixel spacing, or else the scan's own pixels.
Outside the scan there is 0 and background. A patch lies inside the scan where it fits; along an axis where the scan is
smaller, the scan lies in its middle, as MONAI's sliding window has it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Integer

from inflate3d.config import AugmentationConfig
from inflate3d.io.voxels import find_values
from inflate3d.preparation.store import Store, StoredCase
from inflate3d.windows.datamodule import Draw, Samples, WindowBatch
from inflate3d.windows.sampling import SampleLocation

PixelSpacing = tuple[float, float] | None
"""Millimeters between rows and between columns; None: a scan's own."""

_DRAW_IN_PLANE = 1
"""Makes the draw of a row and a column independent of the sampler's other draws."""


class PlaneGrid(NamedTuple):
    """The in-plane grid that a scan's slices are resampled to.

    Attributes:
        size: Rows and columns.
        spacing: Millimeters between them; the grid and the slice have the same center.
    """

    size: tuple[int, int]
    spacing: tuple[float, float]


def plane_grid(shape: tuple[int, int], spacing: tuple[float, float], wanted: PixelSpacing) -> PlaneGrid:
    """The grid for slices of a shape and spacing (rows, columns), at the given spacing or their own."""
    if wanted is None:
        wanted = spacing
    rows, columns = (max(1, round(pixels * own / new)) for pixels, own, new in zip(shape, spacing, wanted, strict=True))
    return PlaneGrid((rows, columns), wanted)


def median_grid(store: Store) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Slices, rows and columns of the median scan on its grid, and millimeters between them."""
    cases = list(store.cases.values())
    grids = [plane_grid(case.shape[1:], case.spacing[1:], store.plan.pixel_spacing) for case in cases]
    shapes = np.array([(case.shape[0], *grid.size) for case, grid in zip(cases, grids, strict=True)])
    spacings = np.array([(case.spacing[0], *grid.spacing) for case, grid in zip(cases, grids, strict=True)])
    slices, rows, columns = (round(side) for side in np.median(shapes, axis=0).tolist())
    through, down, right = np.median(spacings, axis=0).tolist()
    return (slices, rows, columns), (through, down, right)


def patch_start(center: int, size: int, length: int) -> int:
    """First voxel, along one axis, of a patch around a voxel; below 0 if the patch is larger than the grid."""
    if size >= length:
        return -((size - length) // 2)
    return min(max(center - size // 2, 0), length - size)


class Patches(Samples):
    """3D patches around voxels of a class or anywhere.

    Only what augmentation can bring into the patch is cut out of the slices.

    Args:
        draw: Where their center slices lie.
        size: Slices, rows and columns of a patch.
        pixel_spacing: Millimeters between its rows and between its columns; None: the scan's own.
        augmentation: What may become of it.
        seed: Seed of the draws in plane.
    """

    def __init__(
        self,
        store: Store,
        draw: Draw,
        *,
        size: tuple[int, int, int],
        pixel_spacing: PixelSpacing,
        augmentation: AugmentationConfig,
        seed: int,
    ) -> None:
        super().__init__(store, draw)
        self.size, self.pixel_spacing, self.augmentation, self.seed = size, pixel_spacing, augmentation, seed

    def cut(self, location: SampleLocation, number: int) -> WindowBatch:
        """The patch around the location's slice, and around a voxel of its target if it has one."""
        case = self.store.cases[location.case]
        grid = plane_grid(case.shape[1:], case.spacing[1:], self.pixel_spacing)
        axes = (self._draw_voxel(location, case, number), case.shape[1:], case.spacing[1:], self.size[1:], *grid)
        middles = [_patch_middle(*along) for along in zip(*axes, strict=True)]
        reach = self._reach(grid.spacing)
        rows, columns = (
            _crop(middle, length, reach / spacing)
            for middle, length, spacing in zip(middles, case.shape[1:], case.spacing[1:], strict=True)
        )
        centers = [
            2 * (middle - part.start) / (part.stop - part.start) - 1
            for middle, part in zip(middles, (rows, columns), strict=True)
        ]
        image, label = self._read(location, case, rows, columns)
        extent = torch.tensor([image.shape[2:]], dtype=torch.float32)
        return WindowBatch(
            windows=torch.from_numpy(image)[None],
            labels=torch.from_numpy(label)[None],
            extents=extent,
            sides=extent * torch.tensor(case.spacing[1:]),
            centers=torch.tensor([centers], dtype=torch.float32),
            ranges=torch.tensor([case.ranges], dtype=torch.float32),
            cases=torch.tensor([self.numbers[location.case]]),
            axes=torch.tensor([0]),
        )

    def _draw_voxel(self, location: SampleLocation, case: StoredCase, number: int) -> tuple[int, int]:
        """Row and column of the voxel that the patch is to contain."""
        random = np.random.default_rng((self.seed, number, _DRAW_IN_PLANE))
        if not location.target:
            return int(random.integers(case.shape[1])), int(random.integers(case.shape[2]))
        found = np.flatnonzero(find_values(self.store.label_slice(location.case, location.slice), location.target))
        row, column = divmod(int(found[random.integers(len(found))]), case.shape[2])
        return row, column

    def _reach(self, spacing: tuple[float, float]) -> float:
        """In-plane distance in mm from the patch's middle to the farthest point that augmentation can bring into it."""
        sides = [pixels * side for pixels, side in zip(self.size[1:], spacing, strict=True)]
        return self.augmentation.max_zoom * math.hypot(*sides) / 2 + self.augmentation.max_shift * max(sides)

    def _read(
        self, location: SampleLocation, case: StoredCase, rows: slice, columns: slice
    ) -> tuple[np.ndarray, Integer[np.ndarray, "d h w"]]:
        depth = self.size[0]
        start = patch_start(location.slice, depth, case.shape[0])
        first, last = max(start, 0), min(start + depth, case.shape[0])
        slices = list(range(first, last))
        found = self.store.image_slices(location.case, slices)[..., rows, columns]
        lows = np.array(case.ranges, np.float32)[:, 0]
        image = np.broadcast_to(lows[:, None, None, None], (len(found), depth, *found.shape[2:])).copy()
        image[:, first - start : last - start] = found
        label = np.zeros(image.shape[1:], np.int64)
        label[first - start : last - start] = self.store.label_slices(location.case, slices)[..., rows, columns]
        return image, label


def _patch_middle(voxel: int, length: int, own: float, size: int, count: int, spacing: float) -> float:
    """The middle of a patch along an axis, in voxels of the slice from its first edge.

    Args:
        voxel: Index of the voxel that the patch is drawn round.
        length: Voxels of the slice.
        own: Millimeters between them.
        size: Voxels of the patch; they are voxels of the grid.
        count: Voxels of the grid.
        spacing: Millimeters between them.
    """
    wanted = math.floor((voxel + 0.5 - length / 2) * own / spacing + count / 2)
    start = patch_start(min(max(wanted, 0), count - 1), size, count)
    return (start + size / 2 - count / 2) * spacing / own + length / 2


def _crop(middle: float, length: int, reach: float) -> slice:
    """Voxels along an axis within reach of a point, and one more on both sides for interpolation."""
    return slice(max(0, math.floor(middle - reach) - 1), min(length, math.ceil(middle + reach) + 1))
