"""Scores of label maps: one long table by case, class and measure, its summaries, and its files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from inflate3d.atomic import write_text
from inflate3d.datasets.case import check_id
from inflate3d.documents import DAMAGED_JSON, parse_json, read_text
from inflate3d.errors import DataError
from inflate3d.evaluation.groups import UNKNOWN
from inflate3d.evaluation.measures import MEASURES, TOLERANCE
from inflate3d.evaluation.statistics import (
    INTERVALS,
    Estimate,
    MeasureSummary,
    over_defined,
    rank_correlation,
    summarize,
)
from inflate3d.evaluation.tables import ALL_CLASSES, NOT_DEFINED, Table, Value, plain, show

__all__ = ["NOT_DEFINED", "TOLERANCE", "Scores", "show"]

FEWEST_RANKED = 10
"""Fewest cases for the rank correlation of confidence and Dice; with fewer it means nothing."""

CONFIDENCE, MICRO_DICE, SECONDS = "confidence", "micro_dice", "prediction_seconds"
"""What the long table holds besides `MEASURES`: per case and class, per class, and per case."""

PATIENT_KINDS = ("patient", "subject", "group")
"""Kinds of groups whose members are not independent, so that resampling draws them together."""

_DEFINITIONS = {
    CONFIDENCE: "soft Dice of the label map with the network's own probabilities (Borges et al. 2026); null where the "
    "class is not predicted",
    MICRO_DICE: "micro-averaged Dice, the paper's figure: over the pixels of all slices of all cases together, on the "
    "model's grid",
    SECONDS: "from the scan in memory to its label map",
}


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Scores of a run's held-out cases, or of any label maps.

    Examples:
        >>> import numpy as np
        >>> scores = Scores(("a", "b"), ("liver",), {"dice": np.array([[0.9], [0.7]])})
        >>> scores
        Scores(2 cases, 1 classes, mean Dice 0.8000)
        >>> scores.case_means()
        [0.9, 0.7]

    Attributes:
        cases: Their ids.
        classes: Foreground class names.
        measured: The computed `MEASURES` by name, for each case and class on the scan's own grid; NaN where undefined.
            ``dice`` is always included. ``confidence`` may be: an estimate of the Dice without the label; NaN where the
            class is not predicted.
        micro_dice: The paper's figure: Dice of each class over all pixels of all cases together, on the model's grid.
            It is not comparable with a mean over cases. None if unknown.
        tolerance: Distance in millimeters up to which a surface counts as matched in NSD, if that was computed.
        seconds: Duration of each case's prediction, from the scan in memory to its label map; NaN if unknown.
        groups: By kind, such as ``spacing``, the group of each case.

    Examples:
        >>> scores = Scores.read(Path("runs/Liver/evaluation"))
        >>> scores.classes, scores.values("dice").shape  # (cases, classes)
        (('liver', 'tumor'), (1, 2))
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    measured: Mapping[str, Float[np.ndarray, "cases classes"]]
    micro_dice: Float[np.ndarray, " classes"] | None = None
    tolerance: float | None = None
    seconds: Float[np.ndarray, " cases"] | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Whether all values are the same, NaN being equal to NaN."""
        if not isinstance(other, Scores):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.cases, self.classes))

    def __repr__(self) -> str:
        return f"Scores({len(self.cases)} cases, {len(self.classes)} classes, mean Dice {show(self.mean())})"

    def _key(self) -> tuple[Any, ...]:
        records = [[*row[:3], plain(row[3])] for row in self.table().rows]
        return self.cases, self.classes, self.tolerance, dict(self.groups), records

    @property
    def measures(self) -> list[str]:
        """Names of the measures that were computed, in the order of `MEASURES`."""
        return [name for name in MEASURES if name in self.measured]

    @property
    def dice(self) -> Float[np.ndarray, "cases classes"]:
        """Dice on the scan's own grid; NaN where a class is in neither map, 0 where it is in only one."""
        return self.measured["dice"]

    @property
    def confidence(self) -> Float[np.ndarray, "cases classes"] | None:
        """See ``measured``; None if unknown."""
        return self.measured.get(CONFIDENCE)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient (or other independent unit) of each case; the case itself if unknown."""
        kind = next((each for each in PATIENT_KINDS if each in self.groups), None)
        if kind is None:
            return self.cases
        pairs = zip(self.cases, self.groups[kind], strict=True)
        return tuple(f"case {case}" if group == UNKNOWN else f"group {group}" for case, group in pairs)

    def values(self, measure: str = "dice") -> Float[np.ndarray, "cases classes"]:
        """A measure per case and class; NaN where it is undefined or was not computed."""
        return self.measured.get(measure, np.full_like(self.dice, np.nan))

    def class_means(self, measure: str = "dice") -> list[float]:
        """Mean over the cases, for each class."""
        return [over_defined(np.mean, column) for column in self.values(measure).T]

    def class_medians(self, measure: str = "dice") -> list[float]:
        """Median over the cases, for each class."""
        return [over_defined(np.median, column) for column in self.values(measure).T]

    def case_means(self, measure: str = "dice") -> list[float]:
        """Mean over the classes, for each case."""
        return [over_defined(np.mean, row) for row in self.values(measure)]

    def case_confidence(self) -> list[float]:
        """Mean over the predicted classes, for each case; NaN if nothing is predicted or it is unknown."""
        return self.case_means(CONFIDENCE)

    def mean(self, measure: str = "dice") -> float:
        """Mean over the classes of their means over the cases. For Dice, this is the headline figure of a run."""
        return over_defined(np.mean, np.array(self.class_means(measure)))

    def median(self, measure: str = "dice") -> float:
        """Mean over the classes of their medians over the cases."""
        return over_defined(np.mean, np.array(self.class_medians(measure)))

    def micro_mean(self) -> float:
        """Mean over the classes of the micro-averaged Dice; NaN if unknown."""
        return over_defined(np.mean, np.array(self.micro_values()))

    def micro_values(self) -> list[float]:
        """The micro-averaged Dice of each class; NaN if unknown."""
        return [math.nan] * len(self.classes) if self.micro_dice is None else self.micro_dice.tolist()

    @cached_property
    def confidence_ranking(self) -> Estimate | None:
        """How well confidence ranks cases by mean Dice (Spearman's correlation); None if there are too few cases."""
        confidence, dice = np.array(self.case_confidence()), np.array(self.case_means())
        known = np.count_nonzero(~np.isnan(confidence) & ~np.isnan(dice))
        return rank_correlation(confidence, dice) if known >= FEWEST_RANKED else None

    @cached_property
    def summaries(self) -> dict[str, MeasureSummary]:
        """Mean and median of each measure; means with their intervals over the patients."""
        return {
            name: summarize(self.values(name), self.patients, bounds=MEASURES[name].bounds) for name in self.measures
        }

    def in_groups(self, kind: str) -> dict[str, Scores]:
        """The scores of each group of a kind, sorted by group; without micro-averaged Dice."""
        named = np.array(self.groups[kind])
        return {group: self._of_cases(np.flatnonzero(named == group)) for group in sorted(set(self.groups[kind]))}

    def _of_cases(self, places: Integer[np.ndarray, " chosen"]) -> Scores:
        return replace(
            self,
            cases=tuple(self.cases[place] for place in places),
            measured={name: values[places] for name, values in self.measured.items()},
            micro_dice=None,
            seconds=None if self.seconds is None else self.seconds[places],
            groups={kind: tuple(each[place] for place in places) for kind, each in self.groups.items()},
        )

    def table(self) -> Table:
        """The long table: case, class, measure, value.

        Rows without a class apply to the whole case, rows without a case to all cases.
        """
        return Table(("case", "class", "measure", "value"), list(self._rows()))

    def _rows(self) -> Iterator[tuple[str | None, str | None, str, float]]:
        names = [*self.measures, *([CONFIDENCE] if CONFIDENCE in self.measured else [])]
        for place, case in enumerate(self.cases):
            for column, class_name in enumerate(self.classes):
                for name in names:
                    yield case, class_name, name, float(self.measured[name][place, column])
            if self.seconds is not None:
                yield case, None, SECONDS, float(self.seconds[place])
        if self.micro_dice is not None:
            for class_name, value in zip(self.classes, self.micro_values(), strict=True):
                yield None, class_name, MICRO_DICE, value

    def summary_table(self) -> Table:
        """One row per measure and class, and one for the mean of the classes: means with intervals, and medians."""
        rows: list[list[Value]] = []
        for measure, summary in self.summaries.items():
            cases: list[int | None] = [*summary.cases, None]
            means, medians = (*summary.means, summary.mean), (*summary.medians, summary.median)
            for name, count, mean, median in zip((*self.classes, ALL_CLASSES), cases, means, medians, strict=True):
                rows.append([measure, name, count, mean.value, mean.low, mean.high, median])
        return Table(("measure", "class", "cases", "mean", "mean_low", "mean_high", "median"), rows)

    def group_table(self) -> Table:
        """One row per group, measure and class, and one for the mean of the classes: means over the cases."""
        rows: list[list[Value]] = []
        for kind in self.groups:
            for group, part in self.in_groups(kind).items():
                for measure in self.measures:
                    means = [*part.class_means(measure), part.mean(measure)]
                    for name, mean in zip((*self.classes, ALL_CLASSES), means, strict=True):
                        rows.append([kind, group, len(part.cases), measure, name, mean])
        return Table(("groups", "group", "cases", "measure", "class", "mean"), rows)

    def to_dict(self) -> dict[str, Any]:
        """All scores as plain values for JSON; undefined ones are ``null``."""
        known = {name: _definition(name) for name in self.measures}
        extra = {
            name: _DEFINITIONS[name]
            for name, there in (
                (CONFIDENCE, self.confidence is not None),
                (MICRO_DICE, self.micro_dice is not None),
                (SECONDS, self.seconds is not None),
            )
            if there
        }
        ranking = self.confidence_ranking
        return {
            "classes": list(self.classes),
            "mean_dice": plain(self.mean()),
            "mean_micro_dice": plain(self.micro_mean()),
            "confidence_ranking": None if ranking is None else {k: plain(v) for k, v in vars(ranking).items()},
            "definitions": known | extra,
            "intervals": INTERVALS,
            "nsd_tolerance_mm": self.tolerance,
            "groups": {kind: dict(zip(self.cases, each, strict=True)) for kind, each in self.groups.items()},
            "summary": self.summary_table().to_records(),
            "group_means": self.group_table().to_records(),
            "scores": self.table().to_records(),
        }

    def write(self, folder: Path) -> None:
        """Writes all files, each atomically.

        ``scores.json`` holds everything; ``scores.csv`` is the long table; ``summary.csv`` has means and medians;
        ``groups.csv`` has means in groups of cases, if there are groups.

        Raises:
            OutputError: A file can't be written.
        """
        write_text(folder / "scores.csv", self.table().to_csv(digits=6))
        write_text(folder / "summary.csv", self.summary_table().to_csv())
        if self.groups:
            write_text(folder / "groups.csv", self.group_table().to_csv())
        write_text(folder / "scores.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Scores:
        """Reads the files of :meth:`write`.

        Raises:
            DataError: The file is missing, damaged, or contains no scores.
        """
        file = folder / "scores.json"
        try:
            return cls._from_dict(parse_json(read_text(file)))
        except (OSError, *DAMAGED_JSON, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise DataError(
                "cannot read the scores",
                expected="what `inflate3d evaluate` writes",
                got=f"{type(error).__name__}: {error}",
                hint="remove the file and evaluate the run again",
                file=file,
            ) from error

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> Scores:
        found: dict[str, dict[tuple[Any, Any], float]] = {}
        for row in values["scores"]:
            value = math.nan if row["value"] is None else float(row["value"])
            found.setdefault(row["measure"], {})[row["case"], row["class"]] = value
        cases = tuple(dict.fromkeys(check_id(case) for case, name in found["dice"]))
        classes, tolerance = tuple(map(str, values["classes"])), values["nsd_tolerance_mm"]

        def by_case_and_class(name: str) -> Float[np.ndarray, "cases classes"]:
            listed = [found[name][case, each] for case in cases for each in classes]
            return np.array(listed, dtype=np.float64).reshape(len(cases), len(classes))

        micro, seconds = found.get(MICRO_DICE), found.get(SECONDS)
        return cls(
            cases=cases,
            classes=classes,
            measured={name: by_case_and_class(name) for name in (*MEASURES, CONFIDENCE) if name in found},
            micro_dice=None if micro is None else np.array([micro[None, name] for name in classes]),
            tolerance=None if tolerance is None else float(tolerance),
            seconds=None if seconds is None else np.array([seconds[case, None] for case in cases]),
            groups={kind: tuple(str(each[case]) for case in cases) for kind, each in values["groups"].items()},
        )


def _definition(measure: str) -> str:
    return f"{MEASURES[measure].definition}; null where it is in neither. On each scan's own grid"
