"""Scores of label maps by case and class, their summary, and the files they are kept in."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from inflate3d.atomic import write_text

NOT_DEFINED = "n/a"
"""How a score is shown where a class is in neither map."""


@dataclass(frozen=True)
class Scores:
    """Scores of a run's held-out cases.

    Attributes:
        cases: Their ids.
        classes: Foreground class names.
        native_dice: Dice of each case and class over the voxels of the scan's own grid; NaN where a class is in
            neither map, 0 where it is in only one.
        pooled_dice: The paper's figure: Dice of each class over the pixels of all slices of all cases together,
            on the model's grid. It is not comparable with a mean over cases.
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    native_dice: Float[np.ndarray, "cases classes"]
    pooled_dice: Float[np.ndarray, " classes"]

    def class_means(self) -> list[float]:
        """Mean over the cases, for each class."""
        return [_over_defined(np.mean, column) for column in self.native_dice.T]

    def class_medians(self) -> list[float]:
        """Median over the cases, for each class."""
        return [_over_defined(np.median, column) for column in self.native_dice.T]

    def case_means(self) -> list[float]:
        """Mean over the classes, for each case."""
        return [_over_defined(np.mean, row) for row in self.native_dice]

    def mean(self) -> float:
        """Mean over the classes of their means over the cases: the one figure for a run."""
        return _over_defined(np.mean, np.array(self.class_means()))

    def median(self) -> float:
        """Mean over the classes of their medians over the cases."""
        return _over_defined(np.mean, np.array(self.class_medians()))

    def pooled_mean(self) -> float:
        """Mean over the classes of the paper's pooled Dice."""
        return _over_defined(np.mean, self.pooled_dice)

    def to_dict(self) -> dict[str, object]:
        """All of it as plain values for JSON; what is not defined is ``null``."""
        return {
            "native_dice": {
                "definition": "2|A∩B|/(|A|+|B|) over the voxels of each scan's own grid; "
                "null where a class is in neither map (left out of means), 0 where it is in only one",
                "mean": _plain(self.mean()),
                "median": _plain(self.median()),
                "class_means": dict(zip(self.classes, map(_plain, self.class_means()), strict=True)),
                "class_medians": dict(zip(self.classes, map(_plain, self.class_medians()), strict=True)),
                "cases": {
                    case: dict(zip(self.classes, map(_plain, row), strict=True))
                    for case, row in zip(self.cases, self.native_dice.tolist(), strict=True)
                },
            },
            "pooled_dice": {
                "definition": "the paper's: over the pixels of all slices of all cases together, on the model's grid",
                "mean": _plain(self.pooled_mean()),
                "classes": dict(zip(self.classes, map(_plain, self.pooled_dice.tolist()), strict=True)),
            },
        }

    def write(self, folder: Path) -> None:
        """Writes ``scores.csv`` (a row a case) and ``scores.json`` (all of it), each atomically.

        Raises:
            OutputError: A file can't be written.
        """
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(["case", *self.classes, "mean"])
        for case, row, mean in zip(self.cases, self.native_dice.tolist(), self.case_means(), strict=True):
            writer.writerow([case, *map(show, row), show(mean)])
        write_text(folder / "scores.csv", rows.getvalue())
        write_text(folder / "scores.json", json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Scores:
        """Reads what :meth:`write` wrote."""
        values = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        native, pooled = values["native_dice"], values["pooled_dice"]
        rows = [[_number(value) for value in row.values()] for row in native["cases"].values()]
        return cls(
            cases=tuple(native["cases"]),
            classes=tuple(pooled["classes"]),
            native_dice=np.array(rows),
            pooled_dice=np.array([_number(value) for value in pooled["classes"].values()]),
        )


def show(value: float) -> str:
    """A score in four digits, or that it is not defined."""
    return NOT_DEFINED if math.isnan(value) else f"{value:.4f}"


def _over_defined(reduce, values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(reduce(defined)) if len(defined) else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
