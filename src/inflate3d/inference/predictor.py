"""From a scan to its label map.

An inflated network goes slice by slice: no array of classes × voxels is ever made. A 3D network's patches overlap in
all directions, and are blended in one such array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from inflate3d.errors import DataError, ModelError
from inflate3d.inference.sliding import plane_sides, volume_logits
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.framing import frame_case
from inflate3d.preparation.plan import Plan, window_span
from inflate3d.resampling import slice_weights
from inflate3d.volume import Orientation, Volume
from inflate3d.windows.patches import PlaneGrid, plane_grid
from inflate3d.windows.resample import (
    field_matrices,
    field_sides,
    normalise,
    resample_labels,
    resample_logits,
    resample_windows,
)
from inflate3d.windows.windows import centre_logits, cut_windows

WINDOWS_PER_PATCH = 8
"""A patch needs as much memory as so many windows, about."""


@dataclass(frozen=True)
class FramedScan:
    """A scan brought into the model's frame.

    Attributes:
        orientation: The way back to the scan's own grid.
        image: Voxel values, ``(C, D, H, W)``.
        ranges: For each modality the voxel values that become 0 and 1, ``(C, 2)``.
        sides: Height and width of a slice in millimetres, ``(1, 2)``.
        own_slices: How many slices the scan itself has along the frame's depth.
        pixel_spacing: Millimetres between rows and between columns.
    """

    orientation: Orientation
    image: Tensor
    ranges: Tensor
    sides: Tensor
    own_slices: int
    pixel_spacing: tuple[float, float]

    @property
    def own_shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns of the scan itself."""
        return self.own_slices, self.image.shape[2], self.image.shape[3]


class Predictor:
    """Segments scans with a trained network.

    Args:
        model: A network with its plan.
        device: Where to compute; the GPU if there is one.
        batch_size: Windows predicted at a time; of a 3D network an eighth as many patches.

    Raises:
        ModelError: The network has no plan, or there is no such device.
    """

    def __init__(
        self, model: Segmenter | VolumetricSegmenter, *, device: str | None = None, batch_size: int = 16
    ) -> None:
        if model.plan is None:
            raise ModelError(
                "model has no plan, so scans can't be prepared for it",
                remedy="train it with inflate3d, or set model.plan",
            )
        self.plan: Plan = model.plan
        self.batch_size = batch_size
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.model = model.eval().to(self.device)
        except (RuntimeError, AssertionError) as error:  # torch's, for names and for devices that are not there
            raise ModelError("device can't be used", expected="cpu, cuda, cuda:1, mps", got=device) from error

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None, batch_size: int = 16) -> Predictor:
        """Loads a run's folder or a model folder.

        Raises:
            ModelError: There is no model, or it can't be used.
        """
        return cls(load_model(folder), device=device, batch_size=batch_size)

    def predict(self, volume: Volume) -> Integer[np.ndarray, "i j k"]:
        """Segments a scan.

        Args:
            volume: ``(C, I, J, K)`` in any orientation, with its affine.

        Returns:
            The data set's label values on the very grid of the scan, ``(I, J, K)``.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
        """
        scan = self.frame(volume)
        classes = np.empty(scan.own_shape, dtype=np.int64)
        for first, logits in self.slice_logits(scan):
            classes[first : first + len(logits)] = self.on_own_grid(logits, scan).cpu().numpy()
        values = self.plan.label_values
        smallest = np.min_scalar_type(int(values.max()))
        return np.ascontiguousarray(scan.orientation.undo(values.astype(smallest)[classes]))

    def frame(self, volume: Volume) -> FramedScan:
        """Brings a scan into the model's frame, exactly as the store does for training.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
        """
        framed = frame_case(volume, self.plan)
        needed = self._fewest_slices()
        if framed.image.shape[1] < needed:
            raise DataError(
                "scan is thinner than the window",
                expected=f"at least {needed} slices along the {self.plan.depth_axis} direction",
                got=f"{framed.image.shape[1]} slices",
            )
        # A copy: flipped views have negative strides, and torch takes neither those nor unsigned 16 bit.
        voxels = torch.from_numpy(np.ascontiguousarray(framed.image, dtype=np.float32))
        _, rows, columns = voxels.shape[1:]
        sides = torch.tensor([[rows * framed.spacing[1], columns * framed.spacing[2]]], dtype=torch.float32)
        ranges = torch.tensor(framed.ranges, dtype=torch.float32)
        return FramedScan(framed.orientation, voxels, ranges, sides, framed.own_slices, framed.spacing[1:])

    def slice_logits(self, scan: FramedScan) -> Iterator[tuple[int, Float[Tensor, "b k height width"]]]:
        """Scores all of the scan's own slices in order, a batch at a time.

        Where the plan resamples slices, logits are interpolated back; only a batch of them is held at a time.

        Yields:
            The first slice's index, and logits ``(B, K, H, W)`` at the model's input size.
        """
        length = scan.image.shape[1]
        if length == scan.own_slices:
            yield from self._framed_logits(scan)
            return
        lower, upper, weight = (torch.from_numpy(part) for part in slice_weights(length, scan.own_slices))
        done, before = 0, None
        for first, logits in self._framed_logits(scan):
            if before is not None:
                first, logits = first - 1, torch.cat([before, logits])
            before = logits[-1:]
            ready = int(torch.searchsorted(upper, first + len(logits)))  # slices with both neighbours known
            if ready > done:
                part = slice(done, ready)
                share = weight[part, None, None, None].to(logits)
                yield done, torch.lerp(logits[lower[part] - first], logits[upper[part] - first], share)
                done = ready

    def _fewest_slices(self) -> int:
        """Slices that a scan must have; a patch may be larger than the scan, a window not."""
        if isinstance(self.model, VolumetricSegmenter):
            return 1
        return window_span(self.model.architecture.depth, self.plan.stride)

    def _framed_logits(self, scan: FramedScan) -> Iterator[tuple[int, Float[Tensor, "b k height width"]]]:
        """Scores the slices of the model's frame in order, a batch at a time."""
        if isinstance(self.model, VolumetricSegmenter):
            return self._patch_logits(self.model, scan)
        return self._window_logits(self.model, scan)

    def _patch_logits(
        self, model: VolumetricSegmenter, scan: FramedScan
    ) -> Iterator[tuple[int, Float[Tensor, "b k height width"]]]:
        logits = volume_logits(
            model,
            scan.image,
            scan.ranges,
            scan.sides,
            self._plane_grid(scan),
            device=self.device,
            patches_at_once=max(1, self.batch_size // WINDOWS_PER_PATCH),
        )
        for first in range(0, logits.shape[1], self.batch_size):
            yield first, logits[:, first : first + self.batch_size].movedim(1, 0).to(self.device)

    @torch.inference_mode()
    def _window_logits(
        self, model: Segmenter, scan: FramedScan
    ) -> Iterator[tuple[int, Float[Tensor, "b k height width"]]]:
        architecture, plan = model.architecture, self.plan
        depth, stride, length = architecture.depth, plan.stride, scan.image.shape[1]
        fields = field_sides(scan.sides, architecture.image_size, plan.pixel_spacing)
        geometry = field_matrices(scan.sides, fields).to(self.device)
        ranges = scan.ranges.to(self.device)
        for first in range(0, length, self.batch_size):
            centres = torch.arange(first, min(first + self.batch_size, length))
            low = max(0, first - depth * stride)
            near = scan.image[:, low : int(centres[-1]) + depth * stride + 1].to(self.device)
            windows = cut_windows(near, centres.to(self.device) - low, depth, stride)
            windows = normalise(windows, ranges.expand(len(centres), -1, -1))
            geometries = geometry.expand(len(centres), -1, -1)
            logits = model(resample_windows(windows, geometries, architecture.image_size)).float()
            yield first, centre_logits(logits)

    def on_own_grid(self, logits: Float[Tensor, "b k height width"], scan: FramedScan) -> Integer[Tensor, "b h w"]:
        """The likeliest class of each pixel of the scan's own slices, ``(B, H, W)``."""
        _, rows, columns = scan.own_shape
        ends = (side.to(logits.device).expand(len(logits), -1) for side in (scan.sides, self._shown(scan)[1]))
        return resample_logits(logits, (rows, columns), *ends).argmax(1)

    def on_model_grid(self, labels: Integer[Tensor, "b h w"], scan: FramedScan) -> Integer[Tensor, "b height width"]:
        """Class numbers of the scan's own slices, on the grid of the network's logits."""
        size, fields = self._shown(scan)
        return resample_labels(labels, field_matrices(scan.sides, fields).expand(len(labels), -1, -1), size)

    def _shown(self, scan: FramedScan) -> tuple[tuple[int, int], Float[Tensor, "1 2"]]:
        """Rows and columns of the logits, and height and width in millimetres of what they show."""
        if isinstance(self.model, VolumetricSegmenter):
            grid = self._plane_grid(scan)
            return grid.size, plane_sides(grid)
        size = self.model.architecture.image_size
        return size, field_sides(scan.sides, size, self.plan.pixel_spacing)

    def _plane_grid(self, scan: FramedScan) -> PlaneGrid:
        _, rows, columns = scan.own_shape
        return plane_grid((rows, columns), scan.pixel_spacing, self.plan.pixel_spacing)
