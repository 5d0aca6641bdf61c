"""From label maps to scores, case by case, keeping counts and distances only."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from inflate3d.evaluation.metrics import dice, overlap_counts
from inflate3d.evaluation.scores import TOLERANCE, Scores, SurfaceScores
from inflate3d.evaluation.surfaces import Spacing, surface_scores


class ScoreKeeper:
    """Gathers scores case by case, keeping counts and distances only.

    Args:
        class_names: Names of the classes 0 to K-1, background first.
        tolerance: Millimetres within which a surface counts as right.
    """

    def __init__(self, class_names: tuple[str, ...], *, tolerance: float = TOLERANCE) -> None:
        self.class_names, self.tolerance = class_names, tolerance
        self.surfaces: dict[str, np.ndarray] = {}
        self.seconds: dict[str, float] = {}
        self.native: dict[str, Tensor] = {}
        self.pooled = torch.zeros(len(class_names), 3, dtype=torch.long)

    def add_native(self, case: str, prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"]) -> None:
        """Counts a part of a case, class numbers on the scan's own grid."""
        counts = overlap_counts(prediction, label, len(self.class_names))
        self.native[case] = self.native.get(case, torch.zeros_like(counts)) + counts

    def add_surfaces(
        self,
        case: str,
        prediction: Integer[Tensor, "d h w"],
        label: Integer[Tensor, "d h w"],
        spacing: Spacing,
    ) -> None:
        """Measures a whole case, class numbers on the scan's own grid, millimetres between its voxels."""
        maps = prediction.numpy(), label.numpy()
        self.surfaces[case] = surface_scores(*maps, len(self.class_names), spacing, self.tolerance)

    def add_pooled(self, prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"]) -> None:
        """Counts some slices, class numbers on the model's grid."""
        self.pooled += overlap_counts(prediction, label, len(self.class_names))

    def add_seconds(self, case: str, seconds: float) -> None:
        """Adds to the time that a case's prediction took."""
        self.seconds[case] = self.seconds.get(case, 0.0) + seconds

    def scores(self) -> Scores:
        """What has been gathered."""
        measured = np.stack([self.surfaces[case] for case in self.native]) if self.surfaces else None
        return Scores(
            cases=tuple(self.native),
            classes=self.class_names[1:],
            native_dice=dice(torch.stack(list(self.native.values())))[:, 1:].numpy(),
            pooled_dice=dice(self.pooled)[1:].numpy(),
            surfaces=None if measured is None else SurfaceScores(measured[..., 0], measured[..., 1], self.tolerance),
            seconds=np.array([self.seconds.get(case, math.nan) for case in self.native]),
        )
