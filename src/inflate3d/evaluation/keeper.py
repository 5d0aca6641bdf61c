"""From label maps to scores, case by case, keeping counts and measures only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from inflate3d.evaluation.distances import Spacing
from inflate3d.evaluation.groups import SPACING
from inflate3d.evaluation.measures import TOLERANCE, Tolerance, class_tolerances
from inflate3d.evaluation.metrics import count_measures, dice, overlap_counts
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.shapes import shape_measures
from inflate3d.evaluation.summaries import spacing_group

UNKNOWN = "unknown"
"""The group of a case of which nobody said one."""

_ML = 1e-3
"""Millilitres in a cubic millimeter."""


class ScoreKeeper:
    """Gathers scores case by case, keeping counts and measures only.

    Args:
        class_names: Names of the classes 0 to K-1, background first.
        tolerance: Millimeters within which a surface counts as right, for all classes or by class.

    Raises:
        ConfigError: A tolerance is negative, or given for a class that there is not.
    """

    def __init__(self, class_names: tuple[str, ...], *, tolerance: Tolerance = TOLERANCE) -> None:
        self.class_names = class_names
        self.tolerances = class_tolerances(tolerance, class_names[1:])
        self.shapes: dict[str, dict[str, np.ndarray]] = {}
        self.spacings: dict[str, Spacing] = {}
        self.groups: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        self.confidence: dict[str, Sequence[float]] = {}
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
        """Measures surfaces and lesions of a whole case.

        Args:
            case: Its id.
            prediction: Class numbers on the scan's own grid.
            label: Likewise.
            spacing: Millimeters between voxels along the three axes.
        """
        self.shapes[case] = shape_measures(prediction.numpy(), label.numpy(), spacing, self.tolerances)
        self.spacings[case] = spacing
        self.add_group(case, SPACING, spacing_group(spacing))

    def add_pooled(self, prediction: Integer[Tensor, "*grid"], label: Integer[Tensor, "*grid"]) -> None:
        """Counts some slices, class numbers on the model's grid."""
        self.pooled += overlap_counts(prediction, label, len(self.class_names))

    def add_seconds(self, case: str, seconds: float) -> None:
        """Adds to the time that a case's prediction took."""
        self.seconds[case] = self.seconds.get(case, 0.0) + seconds

    def add_confidence(self, case: str, classes: Sequence[float]) -> None:
        """Says how far a case's prediction can be trusted, by foreground class; NaN where a class is not predicted."""
        self.confidence[case] = classes

    def add_group(self, case: str, kind: str, group: str | None) -> None:
        """Says what group a case is in, such as ``("site", "Ulm")``; a kind that no case has a group of is left out."""
        if group is not None:
            self.groups.setdefault(kind, {})[case] = group

    def scores(self) -> Scores:
        """What has been gathered."""
        counts = torch.stack(list(self.native.values()))
        return Scores(
            cases=tuple(self.native),
            classes=self.class_names[1:],
            native_dice=dice(counts)[:, 1:].numpy(),
            pooled_dice=dice(self.pooled)[1:].numpy(),
            measured=self._counted(counts[:, 1:]) | self._shaped() if self.shapes else {},
            tolerances=self.tolerances if self.shapes else None,
            confidence=self._confidence() if self.confidence else None,
            seconds=np.array([self.seconds.get(case, math.nan) for case in self.native]),
            groups={kind: tuple(each.get(case, UNKNOWN) for case in self.native) for kind, each in self.groups.items()},
        )

    def _confidence(self) -> Float[np.ndarray, "cases classes"]:
        unknown = [math.nan] * len(self.class_names[1:])
        return np.array([self.confidence.get(case, unknown) for case in self.native], dtype=np.float64)

    def _counted(self, counts: Integer[Tensor, "cases classes 3"]) -> dict[str, Float[np.ndarray, "cases classes"]]:
        volumes = torch.tensor([_ML * math.prod(self.spacings[case]) for case in self.native], dtype=torch.float64)
        measured = count_measures(counts, volumes[:, None].expand(counts.shape[:-1]))
        return {name: values.numpy() for name, values in measured.items()}

    def _shaped(self) -> dict[str, Float[np.ndarray, "cases classes"]]:
        measures: Iterable[str] = next(iter(self.shapes.values()))
        return {name: np.stack([self.shapes[case][name] for case in self.native]) for name in measures}
