"""How reliable a prediction is: a confidence for each class, and a map of each voxel's uncertainty.

The confidence needs no label, and ranks scans by their expected Dice. If a prediction has several members (the
networks of an ensemble, or a network's flips), it is the mean pairwise Dice of their label maps: structure-wise
uncertainty after Roy et al. 2019 (Bayesian QuickNAT, NeuroImage 195:11-22), which detected failures best in Zenk et al.
2025 (Medical Image Analysis 101:103392). A single network has its soft Dice confidence: the Dice to expect if its
probabilities were correct and voxels independent (Borges et al. 2026, Machine Learning 115:176, arXiv 2402.10665), here
for each class against all others.

Both are counted band by band; only counts for each class are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, UInt8
from torch import Tensor

from inflate3d.evaluation.metrics import with_background
from inflate3d.inference.slices import OwnPixels

Kind = Literal["planes", "networks", "flips", "soft dice"]

KINDS: dict[Kind, str] = {
    "planes": "mean pairwise Dice of the planes' label maps",
    "networks": "mean pairwise Dice of the networks' label maps",
    "flips": "mean pairwise Dice of the flips' label maps",
    "soft dice": "soft Dice of the label map with the network's own probabilities",
}
"""Descriptions of the kinds of confidence."""

ASSESSMENT_BANDS = 4
"""Bands in memory beyond those of a plain prediction: a member's logits, its probabilities, their sum, the entropy."""


@dataclass(frozen=True)
class Confidence:
    """How far a prediction can be trusted.

    Attributes:
        kind: Kind of confidence, see `KINDS`. Different kinds are not comparable.
        classes: Confidence of each foreground class by name, 0 to 1; NaN if no member predicts the class.
        soft: Soft Dice of the mean probabilities for each class, whatever the kind; NaN if the class is not predicted.
            None if it was not computed. From it, `inflate3d.evaluation.calibration` expects the Dice.

    Examples:
        >>> confidence = Confidence("soft dice", {"liver": 0.9, "tumor": 0.5})
        >>> confidence.value, confidence.least
        (0.7, 'tumor')
    """

    kind: Kind
    classes: Mapping[str, float]
    soft: Mapping[str, float] | None = None

    @property
    def value(self) -> float:
        """Mean over the predicted classes, 0 to 1; NaN if only background is predicted."""
        known = [value for value in self.classes.values() if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan

    @property
    def least(self) -> str | None:
        """The predicted class with the lowest confidence; None if only background is predicted."""
        known = {name: value for name, value in self.classes.items() if not math.isnan(value)}
        return min(known, key=known.__getitem__) if known else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ``null`` in place of NaN."""
        classes = {name: _or_null(value) for name, value in self.classes.items()}
        return {"kind": self.kind, "value": _or_null(self.value), "classes": classes}


class AgreementCounter:
    """Mean pairwise Dice of several label maps of one scan, accumulated part by part.

    Args:
        classes: Number of classes, background included.
        regions: Which classes each region holds, to compare regions instead of classes.
    """

    def __init__(self, members: int, classes: int, regions: Bool[np.ndarray, "regions k"] | None = None) -> None:
        self._classes = classes
        self._held = None if regions is None else with_background(regions).astype(np.int64)
        self._pairs = list(combinations(range(members), 2))
        counted = classes if self._held is None else len(self._held)
        self._sizes = np.zeros((members, counted), np.int64)
        self._shared = np.zeros((len(self._pairs), counted), np.int64)

    def add(self, maps: Integer[np.ndarray, "members *grid"]) -> None:
        """Adds a part of the scan, given as class numbers."""
        voxels = maps.reshape(len(maps), -1)
        voxels = voxels[:, voxels.any(axis=0)]  # most are background in all
        if self._held is not None:
            self._add_regions(voxels, self._held)
            return
        self._sizes += [np.bincount(each, minlength=self._classes) for each in voxels]
        for number, (one, other) in enumerate(self._pairs):
            shared = voxels[one][voxels[one] == voxels[other]]
            self._shared[number] += np.bincount(shared, minlength=self._classes)

    def _add_regions(self, voxels: Integer[np.ndarray, "members n"], held: Int[np.ndarray, "counted k"]) -> None:
        self._sizes += [held @ np.bincount(each, minlength=self._classes) for each in voxels]
        for number, (one, other) in enumerate(self._pairs):
            both = voxels[one].astype(np.int64) * self._classes + voxels[other]
            table = np.bincount(both, minlength=self._classes**2).reshape(self._classes, self._classes)
            self._shared[number] += np.einsum("rk,kl,rl->r", held, table, held, optimize=True)

    def values(self) -> Float[np.ndarray, " foreground"]:
        """Mean over the pairs in which at least one predicts the class; NaN if none does."""
        totals = np.array([self._sizes[one] + self._sizes[other] for one, other in self._pairs])
        dice = _ratio(2 * self._shared, totals)
        return _ratio(np.nansum(dice, axis=0), (totals > 0).sum(axis=0))[1:]


class SoftDiceCounter:
    """Dice of a label map with the probabilities it was taken from, accumulated part by part.

    Args:
        classes: Number of classes, background included.
        regions: Which classes each region holds, if the probabilities are of regions.
    """

    def __init__(self, classes: int, regions: Bool[np.ndarray, "regions k"] | None = None) -> None:
        self._held = None if regions is None else torch.from_numpy(regions)
        self._shared, self._expected, self._size = np.zeros((3, classes if regions is None else 1 + len(regions)))

    def add(self, chosen: Integer[Tensor, "h w"], probabilities: Float[Tensor, "n h w"]) -> None:
        if self._held is not None:
            masks = self._held.to(chosen.device)[:, chosen.long()]
            self._shared[1:] += (probabilities * masks).sum((1, 2)).cpu().numpy()
            self._size[1:] += masks.sum((1, 2)).cpu().numpy()
            self._expected[1:] += probabilities.sum((1, 2)).cpu().numpy()
            return
        numbers = chosen.cpu().numpy().ravel()
        own = probabilities.gather(0, chosen[None].long()).cpu().numpy().ravel()
        self._shared += np.bincount(numbers, weights=own, minlength=len(self._size))
        self._size += np.bincount(numbers, minlength=len(self._size))
        self._expected += probabilities.sum((1, 2)).cpu().numpy()

    def values(self) -> Float[np.ndarray, " foreground"]:
        """2·Σp / (Σp + voxels), the first sum over the class's voxels, the second over all; NaN if it has none."""
        return np.where(self._size > 0, _ratio(2 * self._shared, self._expected + self._size), np.nan)[1:]


class AssessedSlice(NamedTuple):
    """A slice on the scan's own pixels.

    Attributes:
        classes: Class numbers from `OwnPixels.classes`.
        uncertainty: Normalized entropy of the mean probabilities in percent, if requested.
        probabilities: Mean probabilities of all classes or regions, if requested.
    """

    classes: Integer[Tensor, "h w"]
    uncertainty: UInt8[Tensor, "h w"] | None
    probabilities: Float[Tensor, "n h w"] | None


class Assessment:
    """Turns a scan's slices into classes one by one, and accumulates the confidence.

    Args:
        pixels: The scan's pixels, for the grids of the sums, then of each member.
        sums: How many of these grids belong to sums.
        members: Number of members; 0 for the soft Dice of the sum.
    """

    def __init__(
        self,
        pixels: OwnPixels,
        *,
        sums: int,
        networks: int,
        members: int,
        kind: Kind,
    ) -> None:
        self._pixels, self._sums, self._summed = pixels, sums, members or networks
        self._outputs = outputs = pixels.outputs
        self._kind: Kind = kind
        self._soft = SoftDiceCounter(outputs.classes, outputs.members)
        self._agreement = AgreementCounter(members, outputs.classes, outputs.members) if members else None

    def add(
        self, logits: Sequence[Float[Tensor, "1 k _ _"]], *, uncertainty: bool = False, probabilities: bool = False
    ) -> AssessedSlice:
        """Adds a slice.

        Args:
            logits: The sums, then each member's logits if there are members.
            probabilities: Whether to return the mean probabilities.
        """
        classes = self._pixels.empty_classes(logits)
        percent = torch.empty(self._pixels.shape, dtype=torch.uint8, device=classes.device) if uncertainty else None
        kept = logits[0].new_empty(self._outputs.count, *self._pixels.shape) if probabilities else None
        for rows in self._pixels.bands(logits):
            total = self._pixels.total(logits[: self._sums], rows)
            classes[rows] = self._outputs.choose(total)
            mean = self._outputs.probabilities(total.div(self._summed))
            self._soft.add(classes[rows], mean)
            del total
            if self._agreement:
                del mean
                mean = self._count_members(self._agreement, logits, rows, averaged=uncertainty or probabilities)
            if percent is not None and mean is not None:
                percent[rows] = self._outputs.uncertainty(mean)
            if kept is not None and mean is not None:
                kept[:, rows] = mean
        return AssessedSlice(classes, percent, kept)

    def confidence(self) -> Confidence:
        """The confidence over the slices so far."""
        values = (self._agreement or self._soft).values()
        return Confidence(self._kind, self._by_name(values), soft=self.soft())

    def soft(self) -> dict[str, float]:
        """Soft Dice of the mean probabilities by class, over the slices so far."""
        return self._by_name(self._soft.values())

    def _by_name(self, values: Float[np.ndarray, " foreground"]) -> dict[str, float]:
        return dict(zip(self._outputs.names, values.tolist(), strict=True))

    def _count_members(
        self, agreement: AgreementCounter, logits: Sequence[Float[Tensor, "1 k _ _"]], rows: slice, *, averaged: bool
    ) -> Float[Tensor, "k rows w"] | None:
        """Counts where the members agree in a band; returns the mean of their probabilities if asked to."""
        maps, total, members = [], None, range(self._sums, len(logits))
        for index in members:
            own = self._pixels.resampled(logits, index, rows)
            maps.append(self._outputs.choose(own).cpu().numpy())
            if averaged:
                probabilities = self._outputs.probabilities(own)
                total = probabilities if total is None else total.add_(probabilities)
        agreement.add(np.stack(maps))
        return None if total is None else total.div_(len(members))


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """NaN where the count is 0."""
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
