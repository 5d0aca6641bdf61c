"""What a choice of post-processing needs to know of a case: each predicted component's volume and what of it is right.

Any removal of components, and the filling of holes, can be reckoned from these counts without the label maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from inflate3d.datasets.classes import IGNORED
from inflate3d.evaluation.distances import Spacing
from inflate3d.evaluation.postprocessing.components import count_numbers, find_holes, number_components
from inflate3d.evaluation.postprocessing.steps import ClassSteps


@dataclass(frozen=True)
class ClassTally:
    """One class of a predicted case; voxels where the label is ignored are left out of all but the first.

    Attributes:
        voxels: Of each predicted component.
        predicted: Likewise, without those where the label is ignored.
        matched: Those that are labeled as the class.
        labeled: Voxels of the label.
        fillable: Background voxels in the holes of the predicted class.
        fillable_matched: Those that are labeled as the class.
        voxel_volume: Cubic millimeters.
    """

    voxels: Int[np.ndarray, " components"]
    predicted: Int[np.ndarray, " components"]
    matched: Int[np.ndarray, " components"]
    labeled: int
    fillable: int
    fillable_matched: int
    voxel_volume: float

    @property
    def volumes(self) -> Float[np.ndarray, " components"]:
        """Cubic millimeters of each component."""
        return self.voxels * self.voxel_volume

    def dice_after(self, steps: ClassSteps) -> float:
        """Dice of the class after the steps; NaN where it is then in neither map.

        Holes are those of the class as it was predicted: what other removals leave in it is not counted here.
        """
        kept = ~steps.removed(self.voxels, self.voxel_volume)
        predicted, matched = int(self.predicted[kept].sum()), int(self.matched[kept].sum())
        if steps.fill_holes:
            predicted, matched = predicted + self.fillable, matched + self.fillable_matched
        total = predicted + self.labeled
        return 2 * matched / total if total else math.nan


def tally_case(
    prediction: Integer[np.ndarray, "i j k"], label: Integer[np.ndarray, "i j k"], num_classes: int, spacing: Spacing
) -> tuple[ClassTally, ...]:
    """Counts each class but the background.

    Args:
        prediction: Class numbers on the scan's own grid.
        label: Class numbers on the same grid, or `IGNORED`.
        num_classes: Classes, background counted.
        spacing: Millimeters between voxels along the three axes.
    """
    known = label != IGNORED
    boxes = ndimage.find_objects(prediction, max_label=num_classes - 1)
    voxel_volume = math.prod(spacing)
    tallies = []
    for number, box in enumerate(boxes, start=1):
        labeled = int(np.count_nonzero(label == number))
        if box is None:
            none = np.zeros(0, dtype=np.int64)
            tallies.append(ClassTally(none, none, none, labeled, 0, 0, voxel_volume))
        else:
            tallies.append(_tally(prediction[box], label[box], known[box], number, labeled, voxel_volume))
    return tuple(tallies)


def _tally(
    prediction: Integer[np.ndarray, "i j k"],
    label: Integer[np.ndarray, "i j k"],
    known: Bool[np.ndarray, "i j k"],
    number: int,
    labeled: int,
    voxel_volume: float,
) -> ClassTally:
    mask, right = prediction == number, label == number
    fillable = find_holes(mask) & (prediction == 0) & known
    numbers, voxels = number_components(mask)
    highest = len(voxels) - 1
    return ClassTally(
        voxels=voxels[1:],
        predicted=count_numbers(numbers, highest, known)[1:],
        matched=count_numbers(numbers, highest, right)[1:],
        labeled=labeled,
        fillable=int(np.count_nonzero(fillable)),
        fillable_matched=int(np.count_nonzero(fillable & right)),
        voxel_volume=voxel_volume,
    )
