"""From a prediction's confidence to an expected Dice, with a lower bound that holds at a stated level.

The confidence of a network ranks its predictions, but is not their Dice. Cases that were held out have both, and say
how one follows from the other: a line is fitted, and its residuals give the bound. This is the jackknife+ (Barber et
al. 2021, Annals of Statistics 49:486-507, arXiv:1905.02928), one-sided, leaving out one patient at a time. It assumes
nothing about the network or the distribution of errors, only that new scans are like the held-out ones. What it
guarantees for 90 % is 80 %, what is usual is 90 %; `docs/results.md` has what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import Field

from inflate3d.atomic import write_text
from inflate3d.settings import FrozenModel, parse_settings, read_json

CALIBRATION_FILE = "calibration.json"
"""Beside the model, or in the folder of the folds."""

LEVEL = 0.9
"""Share of scans whose Dice should reach the lower bound."""

FEWEST_CASES = 10
"""Fewest held-out cases to calibrate on; with 9 or fewer, no bound above 0 holds at 90 %."""

MEAN = "mean"
"""Stands for the mean over the classes."""


class ExpectedDice(NamedTuple):
    """The Dice to expect.

    Attributes:
        value: The expected Dice.
        low: At `LEVEL`, the Dice is at least this; 0 where the cases are too few to say.
    """

    value: float
    low: float


class CalibrationPairs(FrozenModel):
    """Confidence and Dice of held-out cases, in no particular order.

    Attributes:
        confidence: Of each case in which the class is predicted.
        dice: Of the same cases.
        group: Number of the patient of each case.
    """

    confidence: tuple[float, ...]
    dice: tuple[float, ...]
    group: tuple[int, ...]

    def expect(self, confidence: float, level: float = LEVEL) -> ExpectedDice | None:
        """The Dice to expect at a confidence; None without one, or with too few cases.

        Examples:
            >>> cases = np.linspace(0.5, 0.9, 41)
            >>> pairs = CalibrationPairs(confidence=cases, dice=cases - 0.1, group=range(41))
            >>> expected = pairs.expect(0.8)
            >>> round(expected.value, 3), round(expected.low, 3)
            (0.7, 0.7)
        """
        known, truth, group = np.array(self.confidence), np.array(self.dice), np.array(self.group)
        if len(known) < FEWEST_CASES or math.isnan(confidence):
            return None
        lows = np.empty(len(known))
        for left_out in np.unique(group):
            out = group == left_out
            line = _fit(known[~out], truth[~out])
            lows[out] = line(np.array([confidence])) + truth[out] - line(known[out])
        rank = math.floor((1 - level) * (len(known) + 1))
        low = float(np.partition(lows, rank - 1)[rank - 1]) if rank else 0.0
        value = float(_fit(known, truth)(np.array([confidence]))[0])
        value = min(max(value, 0.0), 1.0)
        return ExpectedDice(value, min(max(low, 0.0), value))


class Calibration(FrozenModel):
    """How Dice follows from confidence, for each class and for the mean over the classes.

    Attributes:
        classes: By name of the class, and `MEAN` for all.
    """

    classes: dict[str, CalibrationPairs] = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        confidence: Float[np.ndarray, "cases classes"],
        dice: Float[np.ndarray, "cases classes"],
        patients: Sequence[str],
    ) -> Calibration:
        """Pairs up confidence and Dice of held-out cases.

        Args:
            names: Names of the foreground classes.
            confidence: Soft Dice of each case and class, NaN where the class is not predicted.
            dice: Dice of each case and class, NaN where it is not defined.
            patients: The patient of each case.
        """
        groups = np.unique(np.array(patients), return_inverse=True)[1]
        columns = {name: (confidence[:, place], dice[:, place]) for place, name in enumerate(names)}
        columns[MEAN] = (_row_means(confidence), _row_means(np.where(np.isnan(confidence), np.nan, dice)))
        return cls(classes={name: _pairs(*pair, groups) for name, pair in columns.items()})

    def expect(self, confidence: Mapping[str, float]) -> dict[str, ExpectedDice]:
        """The Dice to expect of a prediction, for each class that is predicted and `MEAN`; those that are known.

        Args:
            confidence: Soft Dice by class, NaN where it is not predicted.
        """
        known = [value for value in confidence.values() if not math.isnan(value)]
        values = {**confidence, MEAN: sum(known) / len(known) if known else math.nan}
        found = {name: self.classes[name].expect(value) for name, value in values.items() if name in self.classes}
        return {name: each for name, each in found.items() if each is not None}

    def write(self, path: Path) -> None:
        """Writes it as JSON, atomically."""
        write_text(path, self.model_dump_json() + "\n")

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Reads a file of :meth:`write`.

        Raises:
            ConfigError: It can't be read, or is no calibration.
        """
        return parse_settings(cls, read_json(path), file=path)


def find_calibration(folder: Path) -> Calibration | None:
    """The calibration of the models in a folder: of the folds, a model folder or a run; None if there is none."""
    places = (folder / CALIBRATION_FILE, folder / "model" / CALIBRATION_FILE)
    file = next((file for file in places if file.exists()), None)
    return Calibration.read(file) if file else None


def _fit(known: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]) -> np.polynomial.Polynomial:
    """The least-squares line; a constant where all confidences are alike, and where the line falls."""
    centered = known - known.mean()
    variance = float((centered**2).sum())
    slope = max(float((centered * truth).sum()) / variance, 0.0) if variance > 1e-12 else 0.0
    return np.polynomial.Polynomial([float(truth.mean()) - slope * float(known.mean()), slope])


def _row_means(values: Float[np.ndarray, "cases classes"]) -> Float[np.ndarray, " cases"]:
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.divide(np.where(known, values, 0).sum(axis=1), count, out=np.full(len(values), np.nan), where=count > 0)


def _pairs(
    confidence: Float[np.ndarray, " cases"], dice: Float[np.ndarray, " cases"], groups: np.ndarray
) -> CalibrationPairs:
    known = ~np.isnan(confidence) & ~np.isnan(dice)
    order = np.argsort(confidence[known], kind="stable")  # so that the order of the cases stays private
    return CalibrationPairs(
        confidence=tuple(np.round(confidence[known][order], 6).tolist()),
        dice=tuple(np.round(dice[known][order], 6).tolist()),
        group=tuple(np.unique(groups[known][order], return_inverse=True)[1].tolist()),
    )
