"""Overlap of label maps, from counts that can be added up over slices, cases and processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torchmetrics import Metric

from inflate3d.datasets.classes import IGNORED

MATCHED, PREDICTED, LABELED = range(3)
"""What is counted for each class: voxels in both, in the prediction, in the label."""

_COUNTED_AT_ONCE = 2**22
"""Voxels per pass: each takes eight bytes while it is counted."""


def overlap_counts(
    prediction: Integer[Tensor, "*grid"],
    label: Integer[Tensor, "*grid"],
    num_classes: int,
    members: Bool[np.ndarray, "regions k"] | None = None,
) -> Integer[Tensor, "n 3"]:
    """Counts voxels for each class: in both maps, in the prediction, in the label.

    A few million voxels are counted at a time, so that memory does not depend on the scan's size.

    Args:
        label: Class numbers of the same shape; voxels of `IGNORED` are not counted.
        num_classes: Number of classes, background included.
        members: Which classes each region holds, to count the background and the regions instead of the classes.
    """
    pairs = torch.zeros(num_classes * num_classes, dtype=torch.long, device=label.device)
    parts = zip(prediction.flatten().split(_COUNTED_AT_ONCE), label.flatten().split(_COUNTED_AT_ONCE), strict=True)
    for predicted, labeled in parts:
        known = labeled != IGNORED
        if not known.all():
            predicted, labeled = predicted[known], labeled[known]
        pairs += torch.bincount(labeled.long() * num_classes + predicted, minlength=len(pairs))
    table = pairs.view(num_classes, num_classes)
    if members is not None:
        held = torch.from_numpy(with_background(members)).to(table)
        both, predicted, labeled = held @ table @ held.T, held @ table.sum(0), held @ table.sum(1)
        return torch.stack([both.diagonal(), predicted, labeled], dim=-1)
    return torch.stack([table.diagonal(), table.sum(0), table.sum(1)], dim=-1)


def with_background(members: Bool[np.ndarray, "regions k"]) -> Bool[np.ndarray, "_ k"]:
    """The regions after the background, which is what is in none of them."""
    return np.concatenate([~members.any(0, keepdims=True), members])


def dice(counts: Integer[Tensor, "*cases 3"]) -> Float[Tensor, "*cases"]:
    """Dice coefficient, 2·|A∩B| / (|A|+|B|) (Dice 1945), for each triple of counts.

    It is NaN for a class that is absent from both maps, and 0 for one that is absent from one of them.
    """
    counts = counts.double()
    return 2 * counts[..., MATCHED] / (counts[..., PREDICTED] + counts[..., LABELED])


def count_measures(
    counts: Integer[Tensor, "*cases 3"], voxel_ml: Float[Tensor, "*cases"]
) -> dict[str, Float[Tensor, "*cases"]]:
    """All other measures that can be computed from counts; `MEASURES` defines them.

    Args:
        counts: Counts from `overlap_counts`.
        voxel_ml: Volume of a voxel in milliliters.

    Returns:
        By name of the measure; NaN where it is not defined.
    """
    matched, predicted, labeled = counts.double().unbind(-1)
    surplus, union = predicted - labeled, predicted + labeled - matched
    return {
        "iou": matched / union,
        "precision": matched / predicted,
        "recall": matched / labeled,
        "volume_difference_ml": torch.where(union > 0, surplus * voxel_ml, torch.nan),
        "volume_difference_percent": torch.where(labeled > 0, 100 * surplus / labeled, torch.nan),
    }


class CaseDice(Metric):
    """Dice per case, accumulated over slices and processes without keeping predictions.

    Args:
        num_cases: Number of cases that slices may come from.
        num_classes: Number of classes, background included.
        members: See `overlap_counts`.
    """

    full_state_update = False
    counts: Tensor

    def __init__(
        self,
        num_cases: int,
        num_classes: int,
        members: Bool[np.ndarray, "regions k"] | None = None,
        **how: Any,
    ) -> None:
        super().__init__(**how)
        self.num_classes, self.members = num_classes, members
        counted = num_classes if members is None else 1 + len(members)
        empty = torch.zeros(num_cases, counted, 3, dtype=torch.long)
        self.add_state("counts", default=empty, dist_reduce_fx="sum")

    def update(self, case: int, prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"]) -> None:
        self.counts[case] += overlap_counts(prediction, label, self.num_classes, self.members)

    def compute(self) -> Float[Tensor, "cases n"]:
        """Dice of each case and class, or region after the background; NaN where it is not defined."""
        return dice(self.counts)
