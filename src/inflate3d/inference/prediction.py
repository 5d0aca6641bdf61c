"""The result of a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8

from inflate3d.errors import ConfigError, DataError
from inflate3d.grid import Grid
from inflate3d.inference.networks import LogitGrid
from inflate3d.inference.uncertainty import Confidence
from inflate3d.io import write_labels
from inflate3d.io.segments import Segments
from inflate3d.io.voxels import find_values
from inflate3d.orientation import Orientation
from inflate3d.windows.resample import field_matrices, resample_labels


@dataclass(frozen=True, eq=False)
class ModelGridClasses:
    """Predicted class numbers of the scan's own slices on the in-plane grid of the logits, as the paper scores them.

    Attributes:
        classes: ``(D, height, width)``, with the depth axis of model space first.
        orientation: Conversion from the scan's axes to model space.
        grid: The in-plane grid.
        sides: Height and width of a slice in millimeters.
    """

    classes: Integer[np.ndarray, "d height width"]
    orientation: Orientation
    grid: LogitGrid
    sides: tuple[float, float]

    def resample(self, numbers: Integer[np.ndarray, "i j k"]) -> Integer[np.ndarray, "d height width"]:
        """Brings class numbers, such as those of the label, from the scan's own grid to this one, by majority vote."""
        own = self.orientation.apply(numbers)
        matrices = field_matrices(torch.tensor([self.sides]), torch.tensor([self.grid.sides]))
        slices = [torch.from_numpy(np.ascontiguousarray(each))[None].long() for each in own]
        votes = (resample_labels(each, matrices, self.grid.size) for each in slices)
        return np.concatenate([each.mode(1).values.numpy() for each in votes])


@dataclass(frozen=True, eq=False)
class Prediction:
    """The segmentation of a scan, on the scan's own grid.

    Attributes:
        labels: The dataset's label values, ``(I, J, K)``.
        affine: The scan's, from voxel indices to millimeters (RAS+).
        confidence: How reliable the labels are; None if not requested.
        uncertainty: Normalized entropy of each voxel's mean probabilities, in percent; None if not requested.
        class_scores: Mean probabilities of all classes, ``(K, I, J, K)``; None if not requested.
        model_grid: The prediction before in-plane resampling; None if not requested.
        other_labels: The labels for each of the other requested filters.
        segments: Names and codes of the label values, for DICOM objects.
        targets: The label values of each class but the background, or of each region, by name.
        warnings: What is unusual about the scan, such as values that the model was not trained on.

    Examples:
        >>> import inflate3d as i3d
        >>> scan = i3d.read_volume("new_scan.nii.gz")
        >>> prediction = i3d.Predictor.load("runs/Liver", device="cpu").predict(scan)
        >>> prediction.labels.shape == scan.grid.shape
        True
        >>> prediction.save("new_scan_labels.nii.gz", like="new_scan.nii.gz").name
        'new_scan_labels.nii.gz'
    """

    labels: Integer[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    confidence: Confidence | None = None
    uncertainty: UInt8[np.ndarray, "i j k"] | None = None
    class_scores: Float[np.ndarray, "classes i j k"] | None = None
    model_grid: ModelGridClasses | None = None
    other_labels: tuple[Integer[np.ndarray, "i j k"], ...] = ()
    segments: Segments = field(default_factory=Segments)
    targets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[DataError, ...] = ()

    def mask(self, name: str) -> Bool[np.ndarray, "i j k"]:
        """The voxels of a class or region."""
        if name not in self.targets:
            raise ConfigError("unknown class", expected=", ".join(self.targets), got=name)
        return find_values(self.labels, self.targets[name])

    def save(self, path: str | Path, *, like: str | Path | None = None) -> Path:
        """Writes the labels to a file, atomically.

        Args:
            path: The file; its suffix determines the format, such as ``.nii.gz``, or ``.dcm`` for a DICOM SEG; see
                `inflate3d.io.write_labels`.
            like: The scan's file. If its format is of the same family, its geometry is copied bit for bit. By default
                the affine is written. DICOM objects need the path of the series.

        Raises:
            DataError: The format is not supported, or can't express the affine.
            OutputError: The file can't be written.
        """
        grid = Grid((self.labels.shape[0], self.labels.shape[1], self.labels.shape[2]), self.affine)
        write_labels(path, self.labels, like=like or grid, segments=self.segments)
        return Path(path)
