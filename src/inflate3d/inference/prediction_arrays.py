"""The arrays of a prediction while they are filled."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from inflate3d.inference.scan import FramedScan
from inflate3d.preparation.plan import Plan
from inflate3d.volume import Volume


class PredictionArrays:
    """The arrays of a prediction in the axis order of the scan's file, filled slice by slice in model space."""

    def __init__(
        self, volume: Volume, scan: FramedScan, plan: Plan, *, uncertainty: bool = False, class_scores: bool = False
    ) -> None:
        values = plan.label_values
        self._values = values.astype(np.min_scalar_type(int(values.max())))
        like = volume.array[0]  # the file's own memory order is faster to write
        self.labels = np.empty_like(like, dtype=self._values.dtype)
        self.uncertainty = np.empty_like(like, dtype=np.uint8) if uncertainty else None
        self.class_scores = np.empty((plan.outputs, *like.shape), np.float32) if class_scores else None
        apply = scan.orientation.apply  # gives views
        self._labels = apply(self.labels)
        self._uncertainty = None if self.uncertainty is None else apply(self.uncertainty)
        self._class_scores = (
            None if self.class_scores is None else [apply(self.class_scores[number]) for number in range(plan.outputs)]
        )

    @property
    def nbytes(self) -> int:
        arrays = (self.labels, self.uncertainty, self.class_scores)
        return sum(array.nbytes for array in arrays if array is not None)

    def add(
        self, index: int, classes: Tensor, uncertainty: Tensor | None = None, probabilities: Tensor | None = None
    ) -> None:
        self._labels[index] = self._values[classes.cpu().numpy()]
        if self._uncertainty is not None and uncertainty is not None:
            self._uncertainty[index] = uncertainty.cpu().numpy()
        if self._class_scores is not None and probabilities is not None:
            for one, slice_ in zip(self._class_scores, probabilities.cpu().numpy(), strict=True):
                one[index] = slice_
