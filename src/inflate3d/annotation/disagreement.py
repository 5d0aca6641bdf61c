"""Where a label map and a network disagree although the network is certain, by class and slice.

A network that did not learn from a label map is wrong about it in places, mostly along outlines, where it is uncertain.
So each voxel in which both differ counts by the network's certainty: one less the normalized entropy of its
probabilities. What remains large is implausible, and how large is usual can be seen in the other cases of the dataset.
The idea is that of confident learning (Northcutt et al. 2021, arXiv:1911.00068), with entropy in place of thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer, UInt8

from inflate3d.datasets.classes import IGNORED

_FLOOR = 0.01
"""Added to fractions before their logarithm, so that cases without any disagreement don't count as extreme."""

_SMALLEST_SPREAD = 0.1
"""Least spread of logarithms: where all cases are alike, ten percent more is not unusual."""

_SMOOTHING = 0.1
"""Added to an overlap, as a fraction of the class's usual volume: a speck of a class that is absent is no flaw."""


@dataclass(frozen=True, eq=False)
class Disagreement:
    """Areas in mm² of each foreground class in each slice of a case.

    Attributes:
        labeled: What the label map has.
        predicted: What the network has.
        matched: What both have.
        missing: What only the network has, weighted by its certainty.
        surplus: What only the label map has, weighted by the network's certainty of something else.
    """

    labeled: Float[np.ndarray, "classes slices"]
    predicted: Float[np.ndarray, "classes slices"]
    matched: Float[np.ndarray, "classes slices"]
    missing: Float[np.ndarray, "classes slices"]
    surplus: Float[np.ndarray, "classes slices"]

    @property
    def dice(self) -> Float[np.ndarray, " classes"]:
        """Plain Dice of the label map with the prediction; NaN where both lack the class."""
        size = (self.labeled + self.predicted).sum(axis=1)
        return np.divide(2 * self.matched.sum(axis=1), size, out=np.full(len(size), np.nan), where=size > 0)


def measure_disagreement(
    label: Integer[np.ndarray, "d h w"],
    prediction: Integer[np.ndarray, "d h w"],
    uncertainty: UInt8[np.ndarray, "d h w"],
    classes: int,
    pixel_area: float,
) -> Disagreement:
    """Compares the label map of a case with a prediction, slice by slice.

    Args:
        label: Class numbers; voxels of `IGNORED` do not count.
        prediction: Class numbers.
        uncertainty: Normalized entropy of the prediction in percent.
        classes: Number of classes, background included.
        pixel_area: Of a pixel, in mm².

    Example:
        >>> label, prediction = np.zeros((2, 1, 2, 2), np.uint8)
        >>> label[0, 0, 0] = 1
        >>> found = measure_disagreement(label, prediction, np.full((1, 2, 2), 25, np.uint8), 2, pixel_area=1.0)
        >>> found.surplus[0, 0], found.missing[0, 0]
        (1.5, 0.0)
    """
    counts = np.zeros((5, classes, len(label)))
    for index, (known, ours, entropy) in enumerate(zip(label, prediction, uncertainty, strict=True)):
        counted = known != IGNORED
        known, ours = known[counted].astype(np.int64), ours[counted].astype(np.int64)
        differing = known != ours
        certainty = 1 - entropy[counted][differing] / 100
        counts[0, :, index] = np.bincount(known, minlength=classes)
        counts[1, :, index] = np.bincount(ours, minlength=classes)
        counts[2, :, index] = np.bincount(known[~differing], minlength=classes)
        counts[3, :, index] = np.bincount(ours[differing], certainty, minlength=classes)
        counts[4, :, index] = np.bincount(known[differing], certainty, minlength=classes)
    return Disagreement(*(counts[:, 1:] * pixel_area))


@dataclass(frozen=True, eq=False)
class Unusual:
    """How unusual a case's disagreement is among all cases, in robust standard deviations above the median.

    Attributes:
        whole: Of the whole label map, for each class; NaN for a class that neither has.
        slices: Of each slice, for each class.
    """

    whole: Float[np.ndarray, " classes"]
    slices: Float[np.ndarray, "classes slices"]

    @property
    def worst(self) -> tuple[float, int, int | None]:
        """The largest of all, its class from 0 on, and its slice, which is None for the whole label map."""
        whole = np.nan_to_num(self.whole, nan=-np.inf)
        number, index = np.unravel_index(int(self.slices.argmax()), self.slices.shape)
        if whole.max() >= self.slices[number, index]:
            return float(whole.max()), int(whole.argmax()), None
        return float(self.slices[number, index]), int(number), int(index)


def compare_disagreements(cases: Sequence[Disagreement]) -> list[Unusual]:
    """Holds the disagreement of each case against that of all, on a logarithmic scale.

    A whole label map is compared by one less its certain Dice; a slice by its area of disagreement, as a fraction of
    the class's usual largest slice, with the worst slice of every case. A robust standard deviation is 1.4826 times the
    median absolute deviation (Hampel 1974).
    """
    labeled = np.array([case.labeled.sum(axis=1) for case in cases])
    usual = _median_of_positive(labeled)
    largest = _median_of_positive(np.array([case.labeled.max(axis=1) for case in cases]))
    wholes = np.array([_distance(case, _SMOOTHING * usual) for case in cases])
    parts = [(case.missing + case.surplus) / np.maximum(largest, 1e-9)[:, None] for case in cases]
    tops = np.array([part.max(axis=1) for part in parts])
    middle, spread = _middle_and_spread(wholes)
    slice_middle, slice_spread = _middle_and_spread(tops)
    return [
        Unusual(
            (np.log(whole + _FLOOR) - middle) / spread,
            (np.log(part + _FLOOR) - slice_middle[:, None]) / slice_spread[:, None],
        )
        for whole, part in zip(wholes, parts, strict=True)
    ]


def _distance(case: Disagreement, smoothing: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
    """One less the Dice of which certain disagreement is the denominator's rest; NaN where both lack the class."""
    matched, wrong = 2 * case.matched.sum(axis=1), (case.missing + case.surplus).sum(axis=1)
    known = (case.labeled + case.predicted).sum(axis=1) > 0
    size = matched + wrong + smoothing
    return np.divide(wrong, size, out=np.full(len(size), np.nan), where=known & (size > 0))


def _median_of_positive(values: Float[np.ndarray, "cases classes"]) -> Float[np.ndarray, " classes"]:
    """Over the cases that have the class; 0 where none has."""
    return np.array([np.median(column[column > 0]) if (column > 0).any() else 0.0 for column in values.T])


def _middle_and_spread(
    values: Float[np.ndarray, "cases classes"],
) -> tuple[Float[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """Median and robust standard deviation of the logarithms, by class."""
    middles, spreads = [], []
    for column in np.log(values.T + _FLOOR):
        known = column[~np.isnan(column)]
        middle = float(np.median(known)) if len(known) else 0.0
        spread = 1.4826 * float(np.median(np.abs(known - middle))) if len(known) else 0.0
        middles.append(middle)
        spreads.append(max(spread, _SMALLEST_SPREAD))
    return np.array(middles), np.array(spreads)
