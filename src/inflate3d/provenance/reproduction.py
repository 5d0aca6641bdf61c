"""Whether two runs are the same: weights bit by bit, what they logged, and how they score."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from inflate3d.evaluation.documents import plain
from inflate3d.evaluation.scores import Scores
from inflate3d.run_folder import RunFolder

TIMES = ("seconds", "wait")
"""Columns of the log that no two runs share."""

Verdict = Literal["bitwise equal", "equal within the tolerance", "different"]


@dataclass(frozen=True)
class Reproduction:
    """How far two runs are apart.

    Attributes:
        tensors: How many the model has.
        differing: Names of those that are not the same to the bit.
        weight_difference: The largest of their weights' differences; infinite where a shape is another.
        steps: Steps of the log whose rows differ, times left out.
        logged_dice: The best validation Dice of the first run and of the second.
        case_dice: By case, the largest difference of Dice over the classes; empty where the runs are not evaluated.
        mean_dice: Mean Dice of the first run and of the second; NaN where they are not evaluated.
    """

    tensors: int
    differing: tuple[str, ...]
    weight_difference: float
    steps: tuple[int, ...]
    logged_dice: tuple[float, float]
    case_dice: Mapping[str, float]
    mean_dice: tuple[float, float]

    @property
    def bitwise(self) -> bool:
        """Whether nothing differs."""
        return not self.differing and not self.steps and not any(self.case_dice.values())

    @property
    def dice_difference(self) -> float:
        """Of the mean Dice where the runs are evaluated, else of the best validation's."""
        first, second = self.logged_dice if math.isnan(self.mean_dice[0]) else self.mean_dice
        return abs(first - second)

    def verdict(self, *, promised: bool, tolerance: float) -> Verdict:
        """What this comes to.

        Args:
            promised: Whether the same bits are promised: on the same surroundings, on a CPU or deterministically.
            tolerance: Else the Dice may differ by so much.
        """
        if self.bitwise:
            return "bitwise equal"
        close = not promised and self.dice_difference <= tolerance
        return "equal within the tolerance" if close else "different"

    def rows(self) -> list[tuple[str, str]]:
        """A table's rows: what was compared, and what came out."""
        first, second = self.logged_dice
        rows = [
            ("tensors that differ", f"{len(self.differing)} of {self.tensors}"),
            ("largest difference of a weight", f"{self.weight_difference:.3g}"),
            ("steps whose logged figures differ", _first_of(self.steps)),
            ("best validation Dice", f"{first:.6g} then, {second:.6g} now"),
        ]
        if self.case_dice:
            worst = max(self.case_dice, key=lambda case: self.case_dice[case])
            first, second = self.mean_dice
            rows += [
                ("mean Dice", f"{first:.6g} then, {second:.6g} now"),
                ("largest difference of a Dice", f"{self.case_dice[worst]:.3g} (case {worst})"),
            ]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; null is what is not known, and a difference that is no number."""
        return {
            "weights": {
                "tensors": self.tensors,
                "differing": list(self.differing),
                "largest_difference": self.weight_difference if math.isfinite(self.weight_difference) else None,
            },
            "log": {"differing_steps": list(self.steps), "best_dice": [plain(value) for value in self.logged_dice]},
            "scores": {
                "mean_dice": [plain(value) for value in self.mean_dice],
                "largest_difference_by_case": dict(self.case_dice),
            },
        }


def compare_runs(first: RunFolder, second: RunFolder, *, resumed: bool = False) -> Reproduction:
    """Compares two finished runs.

    Args:
        first: The run.
        second: The one that is to be the same.
        resumed: Whether the first was gone on with: a mean of losses that began before a stop is not compared then.

    Raises:
        DataError: Scores can't be read.
    """
    tensors, others = _weights(first), _weights(second)
    names = sorted(tensors.keys() | others.keys())
    pairs = {name: (tensors.get(name), others.get(name)) for name in names}
    differing = {name: _difference(*pair) for name, pair in pairs.items() if not _same_bits(*pair)}
    scores = [Scores.read(run.evaluation) for run in (first, second) if (run.evaluation / "scores.json").exists()]
    both = len(scores) == 2
    return Reproduction(
        tensors=len(names),
        differing=tuple(differing),
        weight_difference=max(differing.values(), default=0.0),
        steps=_differing_steps(first, second, resumed=resumed),
        logged_dice=(_best_dice(first), _best_dice(second)),
        case_dice=_dice_differences(*scores) if both else {},
        mean_dice=(scores[0].mean(), scores[1].mean()) if both else (math.nan, math.nan),
    )


def _weights(run: RunFolder) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(run.model / "model.safetensors")


def _same_bits(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None or first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(*(each.reshape(-1).view(torch.uint8) for each in (first, second)))


def _difference(first: Tensor | None, second: Tensor | None) -> float:
    if first is None or second is None or first.shape != second.shape:
        return math.inf
    return float((first.double() - second.double()).abs().max())


def _differing_steps(first: RunFolder, second: RunFolder, *, resumed: bool) -> tuple[int, ...]:
    """Steps of the logs whose rows differ; of a resumed run the validations' alone."""
    logs = [[row for row in _log(run) if not resumed or row.get("dice")] for run in (first, second)]
    steps: dict[int, None] = {}
    for pair in zip_longest(*logs):
        if pair[0] != pair[1]:
            steps |= dict.fromkeys(int(row["step"]) for row in pair if row)
    return tuple(sorted(steps))


def _log(run: RunFolder) -> Iterator[dict[str, str]]:
    with run.metrics.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {name: cell for name, cell in row.items() if name not in TIMES}


def _best_dice(run: RunFolder) -> float:
    return max((float(row["dice"]) for row in _log(run) if row.get("dice")), default=math.nan)


def _dice_differences(first: Scores, second: Scores) -> dict[str, float]:
    """Of each case, over its classes; 1 where Dice is defined in one run alone, or the case is in one alone."""
    rows = {case: second.native_dice[place] for place, case in enumerate(second.cases)}
    found = dict.fromkeys(rows, 1.0)
    for case, row in zip(first.cases, first.native_dice, strict=True):
        other = rows.get(case)
        same_classes = other is not None and first.classes == second.classes
        found[case] = _largest(row, other) if same_classes and other is not None else 1.0
    return found


def _largest(first: np.ndarray, second: np.ndarray) -> float:
    both, neither = ~np.isnan(first) & ~np.isnan(second), np.isnan(first) & np.isnan(second)
    if not (both | neither).all():
        return 1.0
    return float(np.abs(first[both] - second[both]).max(initial=0.0))


def _first_of(steps: tuple[int, ...]) -> str:
    return f"{len(steps)}, the first is {steps[0]}" if steps else "none"
