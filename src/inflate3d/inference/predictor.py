"""From a scan to its label map, slice by slice: no array of classes × voxels is ever made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from inflate3d.errors import DataError, ModelError
from inflate3d.models.decoders.layers import resize
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import frame_case
from inflate3d.volume import Orientation, Volume
from inflate3d.windows.resample import identity_matrices, normalise, resample_windows
from inflate3d.windows.windows import cut_windows


@dataclass(frozen=True)
class FramedScan:
    """A scan brought into the model's frame.

    Attributes:
        orientation: The way back to the scan's own grid.
        image: Voxel values, ``(C, D, H, W)``.
        ranges: For each modality the voxel values that become 0 and 1, ``(C, 2)``.
    """

    orientation: Orientation
    image: Tensor
    ranges: Tensor


class Predictor:
    """Segments scans with a trained network.

    Args:
        model: A network with its plan.
        device: Where to compute; the GPU if there is one.
        batch_size: Windows predicted at a time.

    Raises:
        ModelError: The network has no plan, or there is no such device.
    """

    def __init__(self, model: Segmenter, *, device: str | None = None, batch_size: int = 16) -> None:
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
        classes = np.empty(tuple(scan.image.shape[1:]), dtype=np.int64)
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
        orientation, image, ranges = frame_case(volume, self.plan)
        depth = self.model.architecture.depth
        if image.shape[1] < depth:
            raise DataError(
                "scan is thinner than the window",
                expected=f"at least {depth} slices along the {self.plan.depth_axis} direction",
                got=f"{image.shape[1]} slices",
            )
        # A copy: flipped views have negative strides, and torch takes neither those nor unsigned 16 bit.
        voxels = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
        return FramedScan(orientation, voxels, torch.tensor(ranges, dtype=torch.float32))

    @torch.inference_mode()
    def slice_logits(self, scan: FramedScan) -> Iterator[tuple[int, Float[Tensor, "b k height width"]]]:
        """Scores all slices in order, a batch at a time.

        Yields:
            The first slice's index, and logits ``(B, K, H, W)`` at the model's input size.
        """
        architecture = self.model.architecture
        length = scan.image.shape[1]
        for first in range(0, length, self.batch_size):
            centres = torch.arange(first, min(first + self.batch_size, length))
            low = max(0, first - architecture.depth)
            near = scan.image[:, low : int(centres[-1]) + architecture.depth + 1].to(self.device)
            windows = cut_windows(near, centres.to(self.device) - low, architecture.depth)
            ranges = scan.ranges.to(self.device).expand(len(centres), -1, -1)
            geometry = identity_matrices(len(centres), self.device)
            windows = resample_windows(normalise(windows, ranges), geometry, architecture.image_size)
            yield first, self.model(windows).float()

    def on_own_grid(self, logits: Float[Tensor, "b k height width"], scan: FramedScan) -> Integer[Tensor, "b h w"]:
        """The likeliest class of each pixel of the scan's own slices, ``(B, H, W)``."""
        rows, columns = scan.image.shape[2:]
        return resize(logits, (rows, columns)).argmax(1)
