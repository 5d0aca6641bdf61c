"""Overlap of label maps, from counts that can be added up over slices, cases and processes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torchmetrics import Metric

from inflate3d.preparation.plan import IGNORED

MATCHED, PREDICTED, LABELLED = range(3)
"""What is counted for each class: voxels in both, in the prediction, in the label."""


def overlap_counts(
    prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"], num_classes: int
) -> Integer[Tensor, "k 3"]:
    """Counts voxels for each class: in both maps, in the prediction, in the label.

    Args:
        prediction: Class numbers, any shape.
        label: Class numbers, the same shape; where it is `IGNORED` nothing is counted.
        num_classes: Classes, background counted.
    """
    predicted, labelled = prediction.flatten().long(), label.flatten().long()
    known = labelled != IGNORED
    if not known.all():
        predicted, labelled = predicted[known], labelled[known]
    matched = torch.bincount(predicted[predicted == labelled], minlength=num_classes)
    return torch.stack(
        [
            matched,
            torch.bincount(predicted, minlength=num_classes),
            torch.bincount(labelled, minlength=num_classes),
        ],
        dim=-1,
    )


def dice(counts: Integer[Tensor, "*cases 3"]) -> Float[Tensor, "*cases"]:
    """Dice coefficient, 2·|A∩B| / (|A|+|B|) (Dice 1945), for each triple of counts.

    A class that is absent from both maps has none: NaN. One that is absent from one of them has 0.
    """
    counts = counts.double()
    return 2 * counts[..., MATCHED] / (counts[..., PREDICTED] + counts[..., LABELLED])


def mean_over_defined(values: Float[Tensor, "*n"]) -> float:
    """Mean of the values that are defined; NaN if none is."""
    return float(torch.nanmean(values))


class CaseDice(Metric):
    """Per-case Dice, gathered slice by slice and over all processes without keeping a prediction.

    Args:
        num_cases: Cases that slices may come from.
        num_classes: Classes, background counted.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_cases: int, num_classes: int, **how: Any) -> None:
        super().__init__(**how)
        self.num_classes = num_classes
        empty = torch.zeros(num_cases, num_classes, 3, dtype=torch.long)
        self.add_state("counts", default=empty, dist_reduce_fx="sum")

    def update(self, case: int, prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"]) -> None:
        """Adds some voxels of a case."""
        self.counts[case] += overlap_counts(prediction, label, self.num_classes)

    def compute(self) -> Float[Tensor, "cases k"]:
        """Dice of each case and class; NaN where it is not defined."""
        return dice(self.counts)
