"""How far a prediction can be trusted, as a number that needs no label: it ranks cases by their expected Dice.

Where a prediction has several members (the networks of an ensemble, or a network's mirror images), the number is the
mean pairwise Dice of their label maps: structure-wise uncertainty after Roy et al. 2019 (Bayesian QuickNAT, NeuroImage
195:11-22), which did best of all for finding failures in Zenk et al. 2025 (Medical Image Analysis 101:103392).

A single one has its soft Dice confidence: the Dice to be expected if its probabilities were true and voxels independent
(Borges et al. 2026, Machine Learning 115:176, arXiv 2402.10665), here for each class against all others.

Both are counted part by part; what is held are counts by class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer
from torch import Tensor

Kind = Literal["networks", "mirrors", "soft dice"]

KINDS: dict[Kind, str] = {
    "networks": "mean pairwise Dice of the networks' label maps",
    "mirrors": "mean pairwise Dice of the mirror images' label maps",
    "soft dice": "soft Dice of the label map with the network's own probabilities",
}
"""What the number is, in words."""


@dataclass(frozen=True)
class Confidence:
    """How far a prediction can be trusted.

    Attributes:
        kind: What the number is, see `KINDS`. Numbers of different kinds can't be compared.
        classes: By name, that of each foreground class, from 0 to 1; NaN where no member predicts the class.
    """

    kind: Kind
    classes: Mapping[str, float]

    @property
    def value(self) -> float:
        """Mean over the predicted classes, from 0 to 1; NaN where nothing is predicted at all."""
        known = [value for value in self.classes.values() if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan

    @property
    def least(self) -> str | None:
        """The predicted class that can be trusted least; none where nothing is predicted."""
        known = {name: value for name, value in self.classes.items() if not math.isnan(value)}
        return min(known, key=known.__getitem__) if known else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN: ``null`` where nothing is predicted."""
        classes = {name: _plain(value) for name, value in self.classes.items()}
        return {"kind": self.kind, "value": _plain(self.value), "classes": classes}


class AgreementCounter:
    """Mean pairwise Dice of several label maps of one scan, counted part by part.

    Args:
        members: How many label maps.
        classes: Classes, background counted.
    """

    def __init__(self, members: int, classes: int) -> None:
        self._classes = classes
        self._pairs = list(combinations(range(members), 2))
        self._sizes = np.zeros((members, classes), np.int64)
        self._shared = np.zeros((len(self._pairs), classes), np.int64)

    def add(self, maps: Integer[np.ndarray, "members *grid"]) -> None:
        """Counts a part of the scan, class numbers."""
        voxels = maps.reshape(len(maps), -1)
        voxels = voxels[:, voxels.any(axis=0)]  # most are background to all
        self._sizes += [np.bincount(each, minlength=self._classes) for each in voxels]
        for number, (one, other) in enumerate(self._pairs):
            shared = voxels[one][voxels[one] == voxels[other]]
            self._shared[number] += np.bincount(shared, minlength=self._classes)

    def values(self) -> Float[np.ndarray, " foreground"]:
        """The mean over the pairs in which at least one predicts the class; NaN where none does."""
        totals = np.array([self._sizes[one] + self._sizes[other] for one, other in self._pairs])
        dice = _ratio(2 * self._shared, totals)
        return _ratio(np.nansum(dice, axis=0), (totals > 0).sum(axis=0))[1:]


class SoftDiceCounter:
    """Dice of a label map with the probabilities that it was taken from, counted part by part.

    Args:
        classes: Classes, background counted.
    """

    def __init__(self, classes: int) -> None:
        self._shared, self._expected, self._size = np.zeros((3, classes))

    def add(self, chosen: Integer[Tensor, "h w"], probabilities: Float[Tensor, "k h w"]) -> None:
        """Counts a part of the scan.

        Args:
            chosen: The label map's class numbers.
            probabilities: Of all classes.
        """
        numbers = chosen.cpu().numpy().ravel()
        own = probabilities.gather(0, chosen[None].long()).cpu().numpy().ravel()
        self._shared += np.bincount(numbers, weights=own, minlength=len(self._size))
        self._size += np.bincount(numbers, minlength=len(self._size))
        self._expected += probabilities.sum((1, 2)).cpu().numpy()

    def values(self) -> Float[np.ndarray, " foreground"]:
        """2·Σp / (Σp + voxels), the first sum over the class's voxels, the second over all; NaN where it has none."""
        return np.where(self._size > 0, _ratio(2 * self._shared, self._expected + self._size), np.nan)[1:]


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
