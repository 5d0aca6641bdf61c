"""What one network says of slices of a scan: logits on its own grid in plane."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inflate3d.config import Precision
from inflate3d.inference.accumulate import LogitGrid
from inflate3d.inference.mirrors import UNMIRRORED, Mirror, mean_over_mirrors, mirrors_of
from inflate3d.inference.scan import FramedScan
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import window_span
from inflate3d.windows.patches import PlaneGrid, plane_grid
from inflate3d.windows.resample import field_matrices, field_sides, normalize, resample_windows
from inflate3d.windows.sliding import plane_sides, volume_logits
from inflate3d.windows.windows import center_logits, window_indices

Score = Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b k height width"]]
"""Takes slices of the frame, by their indices, to their logits."""

Model = TypeVar("Model", Segmenter, VolumetricSegmenter)

_NUMBER_FORMATS: dict[Precision, torch.dtype] = {
    "32": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}

WINDOWS_PER_PATCH = 8
"""A patch needs as much memory as so many windows, about."""


class _Planned(Generic[Model]):
    """What networks of both kinds have."""

    def __init__(self, model: Model, *, mirror: bool = False, precision: Precision = "32") -> None:
        assert model.plan is not None
        self.model, self.plan = model, model.plan
        self.mirrors = mirrors_of(model.plan.flips) if mirror else UNMIRRORED
        self._number_format = _NUMBER_FORMATS[precision]

    def _arithmetic(self, device: torch.device) -> torch.autocast:
        """Computes in the wanted number format while it is on."""
        mixed = self._number_format is not torch.float32
        return torch.autocast(device.type, self._number_format if mixed else None, enabled=mixed)


class WindowNetwork(_Planned[Segmenter]):
    """An inflated network, which sees a window and scores its center slice.

    Args:
        model: The network.
        mirror: See `network_of`.
        precision: Likewise.
    """

    @property
    def members(self) -> list[WindowNetwork]:
        """The same network for each of its mirror images alone."""
        return [self._of_mirror(mirror) for mirror in self.mirrors]

    @property
    def fewest_slices(self) -> int:
        """Those of a window."""
        return window_span(self.model.architecture.depth, self.plan.stride)

    def grid(self, scan: FramedScan) -> LogitGrid:
        """That of the network's input."""
        height, width = self._field(scan)[0].tolist()
        return LogitGrid(self.model.architecture.image_size, (height, width))

    def begin(self, scan: FramedScan, batch_size: int) -> Score:
        """Prepares for a scan whose slices are asked for in order, so many at a time or fewer; computes nothing yet."""
        del batch_size
        matrices = field_matrices(scan.sides, self._field(scan)).to(scan.device)
        return lambda centers: self._score(scan, matrices, centers)

    @torch.inference_mode()
    def _score(
        self, scan: FramedScan, matrices: Float[Tensor, "1 2 3"], centers: Int[np.ndarray, " b"]
    ) -> Float[Tensor, "b k height width"]:
        windows = self._windows(scan, matrices, centers)
        with self._arithmetic(scan.device):
            return mean_over_mirrors(lambda mirrored: center_logits(self.model(mirrored)), windows, self.mirrors)

    def _windows(
        self, scan: FramedScan, matrices: Float[Tensor, "1 2 3"], centers: Int[np.ndarray, " b"]
    ) -> Float[Tensor, "b c d height width"]:
        """Cuts windows out of slices that are resampled once each, however many windows show them."""
        architecture = self.model.architecture
        shown = window_indices(centers, architecture.depth, self.plan.stride, scan.slices)
        needed, places = np.unique(shown, return_inverse=True)
        slices = normalize(scan.read(needed)[None], scan.ranges(self.plan.normalization)[None])
        slices = slices[0].movedim(1, 0)[:, :, None]
        # one by one: the grid of sampling points takes more than a slice, and many channels at a time more time
        slices = torch.cat([resample_windows(one[None], matrices, architecture.image_size) for one in slices])
        chosen = torch.from_numpy(places.reshape(shown.shape)).to(slices.device)
        return slices[chosen][:, :, :, 0].movedim(2, 1).contiguous()

    def _of_mirror(self, mirror: Mirror) -> WindowNetwork:
        alone = copy(self)
        alone.mirrors = (mirror,)
        return alone

    def _field(self, scan: FramedScan) -> Float[Tensor, "1 2"]:
        return field_sides(scan.sides, self.model.architecture.image_size, self.plan.pixel_spacing)


class PatchNetwork(_Planned[VolumetricSegmenter]):
    """A 3D network, which sees patches that overlap in all directions, blended in one array of classes × voxels.

    Args:
        model: The network.
        mirror: See `network_of`.
        precision: Likewise.
    """

    @property
    def members(self) -> list[PatchNetwork]:
        """Itself: mirror images are averaged patch by patch, for each alone would take classes × voxels."""
        return [self]

    @property
    def fewest_slices(self) -> int:
        """A patch may be larger than the scan."""
        return 1

    def grid(self, scan: FramedScan) -> LogitGrid:
        """That of the patches."""
        plane = self._plane(scan)
        height, width = plane_sides(plane)[0].tolist()
        return LogitGrid(plane.size, (height, width))

    def begin(self, scan: FramedScan, batch_size: int) -> Score:
        """Scores the whole scan, so many windows' worth of patches at a time."""
        with self._arithmetic(scan.device):
            logits = volume_logits(
                lambda patches: mean_over_mirrors(self.model, patches, self.mirrors),
                scan.read(np.arange(scan.slices)),
                scan.ranges(self.plan.normalization),
                scan.sides,
                self._plane(scan),
                patch_size=self.model.architecture.patch_size,
                device=scan.device,
                batch_size=max(1, batch_size // WINDOWS_PER_PATCH),
            )
        return lambda centers: logits[:, torch.from_numpy(centers)].movedim(1, 0).to(scan.device)

    def _plane(self, scan: FramedScan) -> PlaneGrid:
        _, rows, columns = scan.own_shape
        return plane_grid((rows, columns), scan.pixel_spacing, self.plan.pixel_spacing)


Network = WindowNetwork | PatchNetwork
"""Scores the slices of a scan: ``begin`` prepares for it, ``grid`` tells where in plane the logits lie; ``members`` are
the networks whose logits it is the mean of."""


def network_of(model: Segmenter | VolumetricSegmenter, *, mirror: bool, precision: Precision) -> Network:
    """A model, ready to score.

    Args:
        model: In eval mode, on its device, with its plan.
        mirror: Whether to take the mean over the mirror images that its plan allows.
        precision: Number format of the arithmetic.
    """
    if isinstance(model, VolumetricSegmenter):
        return PatchNetwork(model, mirror=mirror, precision=precision)
    return WindowNetwork(model, mirror=mirror, precision=precision)
