"""Scores of label maps by case and class, their summary, and the files they are kept in."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from inflate3d.atomic import write_text
from inflate3d.errors import DataError

SURFACES = ("hd95", "nsd")
"""What is measured between surfaces, in the order in which `surface_scores` gives it."""

TOLERANCE = 2.0
"""Millimetres that a surface may be off and still count as right in NSD, if the user does not say."""

NOT_DEFINED = "n/a"
"""How a score is shown where a class is in neither map."""


@dataclass(frozen=True)
class SurfaceScores:
    """How far apart the surfaces of label and prediction are, on the scan's own grid.

    Attributes:
        hd95: The larger of the two directed 95th percentiles of the distances between the surfaces, in millimetres;
            NaN where a class is in neither map, the scan's diagonal where it is in only one.
        nsd: Normalised surface Dice, 0 to 1; NaN where a class is in neither map, 0 where it is in only one.
        tolerance: Millimetres within which a surface counts as right in ``nsd``.
    """

    hd95: Float[np.ndarray, "cases classes"]
    nsd: Float[np.ndarray, "cases classes"]
    tolerance: float

    def class_means(self, measure: str) -> list[float]:
        """Mean over the cases, for each class, of ``hd95`` or ``nsd``."""
        return [_over_defined(np.mean, column) for column in getattr(self, measure).T]

    def mean(self, measure: str) -> float:
        """Mean over the classes of their means over the cases, of ``hd95`` or ``nsd``."""
        return _over_defined(np.mean, np.array(self.class_means(measure)))


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
        surfaces: What was measured between the surfaces; none in the files of versions before 0.2.
        seconds: How long each case's prediction took, from the scan in memory to its label map; NaN if not known.
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    native_dice: Float[np.ndarray, "cases classes"]
    pooled_dice: Float[np.ndarray, " classes"]
    surfaces: SurfaceScores | None = None
    seconds: Float[np.ndarray, " cases"] | None = None

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
        seconds = [math.nan] * len(self.cases) if self.seconds is None else self.seconds.tolist()
        return {
            "native_dice": {
                "definition": "2|A∩B|/(|A|+|B|) over the voxels of each scan's own grid; "
                "null where a class is in neither map (left out of means), 0 where it is in only one",
                "mean": _plain(self.mean()),
                "median": _plain(self.median()),
                "class_means": self._by_class(self.class_means()),
                "class_medians": self._by_class(self.class_medians()),
                "cases": self._by_case(self.native_dice),
            },
            "pooled_dice": {
                "definition": "the paper's: over the pixels of all slices of all cases together, on the model's grid",
                "mean": _plain(self.pooled_mean()),
                "classes": self._by_class(self.pooled_dice.tolist()),
            },
            **({} if self.surfaces is None else self._surfaces_to_dict(self.surfaces)),
            "prediction_seconds": dict(zip(self.cases, map(_plain, seconds), strict=True)),
        }

    def _surfaces_to_dict(self, surfaces: SurfaceScores) -> dict[str, object]:
        definitions = {
            "hd95": "mm, the larger of the two directed 95th percentiles of the distances between boundary voxels; "
            "null where a class is in neither map, the scan's diagonal where it is in only one",
            "nsd": "part of both surfaces that lies within the tolerance of the other; "
            "null where a class is in neither map, 0 where it is in only one",
        }
        return {
            measure: {
                "definition": definitions[measure],
                **({"tolerance_mm": surfaces.tolerance} if measure == "nsd" else {}),
                "mean": _plain(surfaces.mean(measure)),
                "class_means": self._by_class(surfaces.class_means(measure)),
                "cases": self._by_case(getattr(surfaces, measure)),
            }
            for measure in SURFACES
        }

    def _by_class(self, values: list[float]) -> dict[str, float | None]:
        return dict(zip(self.classes, map(_plain, values), strict=True))

    def _by_case(self, values: Float[np.ndarray, "cases classes"]) -> dict[str, dict[str, float | None]]:
        return {case: self._by_class(row) for case, row in zip(self.cases, values.tolist(), strict=True)}

    def write(self, folder: Path) -> None:
        """Writes ``scores.csv`` (a row a case) and ``scores.json`` (all of it), each atomically.

        Raises:
            OutputError: A file can't be written.
        """
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(self._table())
        write_text(folder / "scores.csv", rows.getvalue())
        write_text(folder / "scores.json", json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")

    def _table(self) -> Iterator[list[str]]:
        """The columns' names, then a row a case."""
        measured = [] if self.surfaces is None else [getattr(self.surfaces, measure) for measure in SURFACES]
        named = [f"{name} {measure}" for measure in SURFACES[: len(measured)] for name in self.classes]
        yield ["case", *self.classes, "mean", *named]
        for number, (case, mean) in enumerate(zip(self.cases, self.case_means(), strict=True)):
            surfaces = [value for values in measured for value in values[number].tolist()]
            yield [case, *map(show, [*self.native_dice[number].tolist(), mean, *surfaces])]

    @classmethod
    def read(cls, folder: Path) -> Scores:
        """Reads what :meth:`write` wrote, of earlier versions too.

        Raises:
            DataError: The file is missing, damaged, or holds no scores.
        """
        file = folder / "scores.json"
        try:
            return cls._from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "the scores can't be read",
                expected="what `inflate3d evaluate` writes",
                got=f"{type(error).__name__}: {error}",
                remedy="remove the file and evaluate the run again",
                file=file,
            ) from error

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> Scores:
        cases, classes = tuple(values["native_dice"]["cases"]), tuple(values["pooled_dice"]["classes"])

        def by_case(measure: str) -> Float[np.ndarray, "cases classes"]:
            rows = values[measure]["cases"]
            numbers = [_number(rows[case][name]) for case in cases for name in classes]
            return np.array(numbers, dtype=np.float64).reshape(len(cases), len(classes))

        seconds = values.get("prediction_seconds", {})
        return cls(
            cases=cases,
            classes=classes,
            native_dice=by_case("native_dice"),
            pooled_dice=np.array([_number(values["pooled_dice"]["classes"][name]) for name in classes]),
            surfaces=SurfaceScores(by_case("hd95"), by_case("nsd"), values["nsd"]["tolerance_mm"])
            if "nsd" in values
            else None,
            seconds=np.array([_number(seconds.get(case)) for case in cases]),
        )


def show(value: float, digits: int = 4) -> str:
    """A score in so many digits behind the point, or that it is not defined."""
    return NOT_DEFINED if math.isnan(value) else f"{value:.{digits}f}"


def _over_defined(reduce, values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(reduce(defined)) if len(defined) else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
