"""Scores label maps case by case, keeping only counts and measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from inflate3d.errors import ConfigError
from inflate3d.evaluation.distances import Spacing
from inflate3d.evaluation.groups import SPACING, UNKNOWN, spacing_group
from inflate3d.evaluation.measures import TOLERANCE
from inflate3d.evaluation.metrics import count_measures, dice, overlap_counts
from inflate3d.evaluation.scores import CONFIDENCE, Scores
from inflate3d.evaluation.shapes import shape_measures

_ML = 1e-3
"""Milliliters in a cubic millimeter."""


class ScoreAccumulator:
    """Collects the scores of one case after another; keeps no label map.

    Examples:
        >>> import numpy as np
        >>> label = np.zeros((4, 8, 8), np.uint8)
        >>> label[1:3, 2:6, 2:6] = 1
        >>> accumulator = ScoreAccumulator(("background", "liver"))
        >>> accumulator.add("case1", label, label, spacing=(2.0, 1.0, 1.0))
        >>> accumulator.scores().mean()
        1.0

    Args:
        class_names: Names of the classes 0 to K-1, background first; of the regions after it if there are some.
        tolerance: Distance in millimeters up to which a surface counts as matched in NSD.
        members: Which of the classes each region holds, to score regions instead of classes.

    Raises:
        ConfigError: The tolerance is negative.
    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        *,
        tolerance: float = TOLERANCE,
        members: Bool[np.ndarray, "regions k"] | None = None,
    ) -> None:
        if not 0 <= tolerance < math.inf:
            raise ConfigError("invalid tolerance", expected="millimeters, 0 or more", got=tolerance)
        self.class_names, self.tolerance, self._members = class_names, tolerance, members
        self._measured: dict[str, dict[str, Float[np.ndarray, " classes"]]] = {}
        self._groups: dict[str, dict[str, str]] = {}
        self._seconds: dict[str, float] = {}
        self._micro: Tensor | None = None

    def add(
        self,
        case: str,
        prediction: Integer[np.ndarray | Tensor, "i j k"],
        label: Integer[np.ndarray | Tensor, "i j k"],
        spacing: Spacing,
        *,
        confidence: Sequence[float] | None = None,
        seconds: float | None = None,
        groups: Mapping[str, str | None] | None = None,
    ) -> None:
        """Scores a case.

        Args:
            prediction: Class numbers on the scan's own grid, its axes in any order.
            label: The same for the label; voxels of `IGNORED` do not count.
            spacing: Millimeters between voxels along the three axes.
            confidence: Confidence of the prediction by foreground class; NaN for classes that are not predicted.
            groups: By kind, such as ``site``, the case's group; None if unknown.
        """
        ours, truth = torch.as_tensor(prediction), torch.as_tensor(label)
        counts = self._counts(ours, truth)[1:]
        voxel_ml = torch.full((len(counts),), _ML * math.prod(spacing), dtype=torch.float64)
        counted = {"dice": dice(counts), **count_measures(counts, voxel_ml)}
        unknown = [math.nan] * len(counts)
        self._measured[case] = {
            **{name: values.numpy() for name, values in counted.items()},
            **shape_measures(ours.numpy(), truth.numpy(), spacing, len(counts), self.tolerance, members=self._members),
            CONFIDENCE: np.array(unknown if confidence is None else confidence, dtype=np.float64),
        }
        self._seconds[case] = math.nan if seconds is None else seconds
        for kind, group in {SPACING: spacing_group(spacing), **(groups or {})}.items():
            if group is not None:
                self._groups.setdefault(kind, {})[case] = group

    def add_micro(
        self, prediction: Integer[np.ndarray | Tensor, "*grid"], label: Integer[np.ndarray | Tensor, "*grid"]
    ) -> None:
        """Adds slices to the micro-averaged Dice: class numbers on the model's grid."""
        counts = self._counts(torch.as_tensor(prediction), torch.as_tensor(label)).cpu()
        self._micro = counts if self._micro is None else self._micro + counts

    def _counts(self, prediction: Tensor, label: Tensor) -> Tensor:
        classes = len(self.class_names) if self._members is None else self._members.shape[1]
        return overlap_counts(prediction, label, classes, self._members)

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(self._measured)

    def scores(self) -> Scores:
        """The scores of all cases so far. Kinds of groups that no case has are left out."""
        cases = self.cases
        names = dict.fromkeys(name for each in self._measured.values() for name in each)
        measured = {name: np.stack([self._measured[case][name] for case in cases]) for name in names}
        if not any(not np.isnan(each[CONFIDENCE]).all() for each in self._measured.values()):
            measured.pop(CONFIDENCE, None)
        seconds = np.array([self._seconds[case] for case in cases])
        return Scores(
            cases=cases,
            classes=self.class_names[1:],
            measured=measured,
            micro_dice=None if self._micro is None else dice(self._micro)[1:].numpy(),
            tolerance=self.tolerance,
            seconds=None if np.isnan(seconds).all() else seconds,
            groups={kind: tuple(each.get(case, UNKNOWN) for case in cases) for kind, each in self._groups.items()},
        )
