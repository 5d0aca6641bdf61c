"""What the prediction of files asks of a predictor."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Integer

from inflate3d.inference.assessment import AssessedLabels
from inflate3d.volume import Volume


@runtime_checkable
class ScanPredictor(Protocol):
    """What makes a label map of a scan, as `Predictor` does."""

    def predict(self, volume: Volume) -> Integer[np.ndarray, "i j k"]:
        """Segments a scan ``(C, I, J, K)`` on its own grid."""
        ...


@runtime_checkable
class AssessingPredictor(ScanPredictor, Protocol):
    """What also tells how far a label map can be trusted, as `Predictor` does."""

    def predict_with_confidence(self, volume: Volume, *, with_uncertainty: bool = False) -> AssessedLabels:
        """Segments a scan on its own grid, and judges the result, voxel by voxel too if so wanted."""
        ...
