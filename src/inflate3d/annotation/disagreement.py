"""Where a label map and a network disagree although the network is certain, by class and slice.

A network that did not learn from a label map is wrong about it in places, mostly along outlines, where it is uncertain.
So each voxel in which both differ counts by the network's certainty: one less the normalized entropy of its
probabilities. What remains large is implausible, and how large is usual can be seen in the other cases of the dataset.
The idea is that of confident learning (Northcutt et al. 2021, arXiv:1911.00068), with entropy in place of thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8

from inflate3d.datasets.classes import IGNORED

_FLOOR, _STEP_FLOOR = 0.01, 0.05
"""Added to fractions before their logarithm, so that cases without any disagreement don't count as extreme."""

_TINY = 1e-9

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

    Examples:
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


Aspect = Literal["overlap", "size", "slice"]


class Worst(NamedTuple):
    """The most unusual aspect of a case.

    Attributes:
        score: Robust standard deviations from the median of all cases.
        aspect: Overlap or size of the whole label map, or a single slice.
        number: The class, from 0 on without background.
        place: The slice, from 0; None for the whole label map.
    """

    score: float
    aspect: Aspect
    number: int
    place: int | None


@dataclass(frozen=True, eq=False)
class Unusual:
    """How unusual a case's disagreement is among all cases, in robust standard deviations from the median.

    Attributes:
        overlap: Of the whole label map, for each class; NaN for a class that neither has.
        size: Of the labeled volume relative to the predicted one, positive where too much is labeled.
        slices: Of the step from a slice's neighbors to the slice, for each class.
    """

    overlap: Float[np.ndarray, " classes"]
    size: Float[np.ndarray, " classes"]
    slices: Float[np.ndarray, "classes slices"]

    @property
    def worst(self) -> Worst:
        """The largest of all."""
        overlap, size = np.nan_to_num(self.overlap, nan=-np.inf), np.abs(self.size)
        number, index = (int(place) for place in np.unravel_index(int(self.slices.argmax()), self.slices.shape))
        found = (
            Worst(float(overlap.max()), "overlap", int(overlap.argmax()), None),
            Worst(float(size.max()), "size", int(size.argmax()), None),
            Worst(float(self.slices[number, index]), "slice", number, index),
        )
        return max(found, key=lambda each: each.score)


def compare_disagreements(cases: Sequence[Disagreement]) -> list[Unusual]:
    """Holds the disagreement of each case against that of all, class by class.

    Compared are logarithms of three figures, each of which finds other mistakes:

    - one less the certain Dice of the whole label map: swapped, shifted and flipped labels;
    - the labeled volume over the predicted one: labels that go too far, or lack a part;
    - in each slice the area of disagreement less the mean of its two neighbors', as a fraction of the class's usual
      largest slice, compared with the largest of every case: a slice that was forgotten. Networks err smoothly from
      slice to slice.

    A robust standard deviation is 1.4826 times the median absolute deviation (Hampel 1974).
    """
    labeled, predicted = (
        np.array([part.sum(axis=1) for part in parts])
        for parts in ([case.labeled for case in cases], [case.predicted for case in cases])
    )
    smoothing = _SMOOTHING * _median_of_positive(labeled)
    largest = _median_of_positive(np.array([case.labeled.max(axis=1) for case in cases]))
    steps = [_steps((case.missing + case.surplus) / np.maximum(largest, _TINY)[:, None]) for case in cases]
    overlap = _Usual.of(np.log(np.array([_distance(case, smoothing) for case in cases]) + _FLOOR))
    size = _Usual.of(np.log((labeled + smoothing + _TINY) / (predicted + smoothing + _TINY)))
    slices = _Usual.of(np.log(np.array([step.max(axis=1) for step in steps]) + _STEP_FLOOR))
    return [
        Unusual(
            overlap.scores(overlap.values[place]),
            size.scores(size.values[place]),
            slices.scores(np.log(step + _STEP_FLOOR).T).T,
        )
        for place, step in enumerate(steps)
    ]


class _Usual(NamedTuple):
    """A figure of all cases, with its median and robust standard deviation by class."""

    values: Float[np.ndarray, "cases classes"]
    middle: Float[np.ndarray, " classes"]
    spread: Float[np.ndarray, " classes"]

    @classmethod
    def of(cls, values: Float[np.ndarray, "cases classes"]) -> _Usual:
        columns = [column[~np.isnan(column)] for column in values.T]
        middle = np.array([np.median(known) if len(known) else 0.0 for known in columns])
        spread = np.array(
            [
                1.4826 * np.median(np.abs(known - center)) if len(known) else 0.0
                for known, center in zip(columns, middle, strict=True)
            ]
        )
        return cls(values, middle, np.maximum(spread, _SMALLEST_SPREAD))

    def scores(self, values: Float[np.ndarray, "*some classes"]) -> Float[np.ndarray, "*some classes"]:
        return (values - self.middle) / self.spread


def _steps(areas: Float[np.ndarray, "classes slices"]) -> Float[np.ndarray, "classes slices"]:
    """By how much each slice exceeds the mean of its two neighbors; 0 where it doesn't."""
    padded = np.pad(areas, ((0, 0), (1, 1)))
    return np.maximum(areas - (padded[:, :-2] + padded[:, 2:]) / 2, 0.0)


def _distance(case: Disagreement, smoothing: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
    """One less the Dice of which certain disagreement is the denominator's rest; NaN where both lack the class."""
    matched, wrong = 2 * case.matched.sum(axis=1), (case.missing + case.surplus).sum(axis=1)
    known = (case.labeled + case.predicted).sum(axis=1) > 0
    size = matched + wrong + smoothing
    return np.divide(wrong, size, out=np.full(len(size), np.nan), where=known & (size > 0))


def _median_of_positive(values: Float[np.ndarray, "cases classes"]) -> Float[np.ndarray, " classes"]:
    """Over the cases that have the class; 0 where none has."""
    return np.array([np.median(column[column > 0]) if (column > 0).any() else 0.0 for column in values.T])
