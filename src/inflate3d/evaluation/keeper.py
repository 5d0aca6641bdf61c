"""From label maps to scores, case by case, keeping counts only."""

from __future__ import annotations

import torch
from jaxtyping import Integer
from torch import Tensor

from inflate3d.evaluation.metrics import dice, overlap_counts
from inflate3d.evaluation.scores import Scores


class ScoreKeeper:
    """Gathers scores case by case, keeping counts only.

    Args:
        class_names: Names of the classes 0 to K-1, background first.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.native: dict[str, Tensor] = {}
        self.pooled = torch.zeros(len(class_names), 3, dtype=torch.long)

    def add_native(self, case: str, prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"]) -> None:
        """Counts a part of a case, class numbers on the scan's own grid."""
        counts = overlap_counts(prediction, label, len(self.class_names))
        self.native[case] = self.native.get(case, torch.zeros_like(counts)) + counts

    def add_pooled(self, prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"]) -> None:
        """Counts some slices, class numbers on the model's grid."""
        self.pooled += overlap_counts(prediction, label, len(self.class_names))

    def scores(self) -> Scores:
        """What has been gathered."""
        return Scores(
            cases=tuple(self.native),
            classes=self.class_names[1:],
            native_dice=dice(torch.stack(list(self.native.values())))[:, 1:].numpy(),
            pooled_dice=dice(self.pooled)[1:].numpy(),
        )
