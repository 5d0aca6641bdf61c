"""Scores of label maps by case and class, what they come to, and the files they are kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
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
from inflate3d.evaluation.documents import by_name, measure_document, number, plain, ranking_document, values_of
from inflate3d.evaluation.measures import MEASURES, TOLERANCE
from inflate3d.evaluation.statistics import Estimate, rank_correlation
from inflate3d.evaluation.summaries import INTERVALS, Summary, summarize
from inflate3d.evaluation.tables import ALL_CLASSES, NOT_DEFINED, score_rows, show, summary_rows, to_csv

__all__ = ["NOT_DEFINED", "TOLERANCE", "Scores", "show"]

FEWEST_RANKED = 10
"""Cases that the rank correlation of confidence and Dice needs: that of fewer says nothing."""

_DICE = "native_dice"
"""What Dice is called in ``scores.json``, apart from the pooled one."""


@dataclass(frozen=True)
class Scores:
    """Scores of a run's held-out cases, or of any label maps.

    Attributes:
        cases: Their ids.
        classes: Foreground class names.
        native_dice: Dice of each case and class over the voxels of the scan's own grid; NaN where a class is in
            neither map, 0 where it is in only one.
        pooled_dice: The paper's figure: Dice of each class over the pixels of all slices of all cases together,
            on the model's grid. It is not comparable with a mean over cases. NaN if not known.
        measured: By name, all other of `MEASURES` that were taken, of each case and class on the scan's own grid.
        tolerances: Millimeters within which each class's surface counts as right in NSD, if that was measured.
        confidence: How far each case's prediction can be trusted, by class, told without its label: the soft Dice of
            the label map with the network's own probabilities; NaN where the class is not predicted. None if not known.
        seconds: How long each case's prediction took, from the scan in memory to its label map; NaN if not known.
        groups: Kinds of groups that the cases fall into, such as ``spacing``, and the group of each case.
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    native_dice: Float[np.ndarray, "cases classes"]
    pooled_dice: Float[np.ndarray, " classes"]
    measured: Mapping[str, Float[np.ndarray, "cases classes"]] = field(default_factory=dict)
    tolerances: Float[np.ndarray, " classes"] | None = None
    confidence: Float[np.ndarray, "cases classes"] | None = None
    seconds: Float[np.ndarray, " cases"] | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def measures(self) -> list[str]:
        """Names of the measures that were taken, in the order of `MEASURES`."""
        return [name for name in MEASURES if name == "dice" or name in self.measured]

    @property
    def tolerance(self) -> float:
        """The tolerance of NSD in millimeters; NaN if it was not measured, or not with one tolerance for all."""
        if self.tolerances is None or len(set(self.tolerances.tolist())) != 1:
            return math.nan
        return float(self.tolerances[0])

    def values(self, measure: str = "dice") -> Float[np.ndarray, "cases classes"]:
        """A measure of each case and class; NaN where it is not defined, or was not taken."""
        if measure == "dice":
            return self.native_dice
        return self.measured.get(measure, np.full_like(self.native_dice, np.nan))

    def class_means(self, measure: str = "dice") -> list[float]:
        """Mean over the cases, for each class."""
        return [_over_defined(np.mean, column) for column in self.values(measure).T]

    def class_medians(self, measure: str = "dice") -> list[float]:
        """Median over the cases, for each class."""
        return [_over_defined(np.median, column) for column in self.values(measure).T]

    def case_means(self, measure: str = "dice") -> list[float]:
        """Mean over the classes, for each case."""
        return _means(self.values(measure))

    def case_confidence(self) -> list[float]:
        """Mean over the predicted classes, for each case; NaN where nothing is predicted, or it is not known."""
        return [math.nan] * len(self.cases) if self.confidence is None else _means(self.confidence)

    @cached_property
    def confidence_ranking(self) -> Estimate | None:
        """How well confidence ranks the cases by their mean Dice: Spearman's correlation; none of too few cases."""
        confidence, dice = np.array(self.case_confidence()), np.array(self.case_means())
        known = np.count_nonzero(~np.isnan(confidence) & ~np.isnan(dice))
        return rank_correlation(confidence, dice) if known >= FEWEST_RANKED else None

    def mean(self, measure: str = "dice") -> float:
        """Mean over the classes of their means over the cases: that of Dice is the one figure for a run."""
        return _over_defined(np.mean, np.array(self.class_means(measure)))

    def median(self, measure: str = "dice") -> float:
        """Mean over the classes of their medians over the cases."""
        return _over_defined(np.mean, np.array(self.class_medians(measure)))

    def pooled_mean(self) -> float:
        """Mean over the classes of the paper's pooled Dice."""
        return _over_defined(np.mean, self.pooled_dice)

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """Means and medians of each measure with their intervals."""
        return {measure: summarize(self.values(measure)) for measure in self.measures}

    def in_groups(self, kind: str) -> dict[str, Scores]:
        """The scores of each group of a kind, in the order of the groups' names; pooled Dice is not known of them."""
        named = np.array(self.groups[kind])
        return {group: self._of_cases(np.flatnonzero(named == group)) for group in sorted(set(self.groups[kind]))}

    def _of_cases(self, places: Integer[np.ndarray, " chosen"]) -> Scores:
        return replace(
            self,
            cases=tuple(self.cases[place] for place in places),
            native_dice=self.native_dice[places],
            pooled_dice=np.full(len(self.classes), np.nan),
            measured={name: values[places] for name, values in self.measured.items()},
            confidence=None if self.confidence is None else self.confidence[places],
            seconds=None if self.seconds is None else self.seconds[places],
            groups={kind: tuple(each[place] for place in places) for kind, each in self.groups.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON; what is not defined is ``null``."""
        seconds = [math.nan] * len(self.cases) if self.seconds is None else self.seconds.tolist()
        return {
            "classes": list(self.classes),
            "intervals": INTERVALS,
            **{_DICE if name == "dice" else name: self._measure_to_dict(name) for name in self.measures},
            **({} if np.isnan(self.pooled_dice).all() else {"pooled_dice": self._pooled_to_dict()}),
            **({} if self.confidence is None else {"confidence": self._confidence_to_dict(self.confidence)}),
            "groups": {kind: self._groups_to_dict(kind) for kind in self.groups},
            "case_groups": {kind: dict(zip(self.cases, each, strict=True)) for kind, each in self.groups.items()},
            "prediction_seconds": dict(zip(self.cases, map(plain, seconds), strict=True)),
        }

    def _measure_to_dict(self, measure: str) -> dict[str, Any]:
        document = measure_document(self.values(measure), self.summaries[measure], self.cases, self.classes)
        if measure == "nsd" and self.tolerances is not None:
            document = {"tolerances_mm": by_name(self.classes, self.tolerances.tolist()), **document}
        definition = f"{MEASURES[measure].definition}; null where it is in neither. On each scan's own grid"
        return {"definition": definition, **document}

    def _pooled_to_dict(self) -> dict[str, Any]:
        return {
            "definition": "the paper's: over the pixels of all slices of all cases together, on the model's grid",
            "mean": plain(self.pooled_mean()),
            "classes": by_name(self.classes, self.pooled_dice.tolist()),
        }

    def _confidence_to_dict(self, confidence: Float[np.ndarray, "cases classes"]) -> dict[str, Any]:
        return {
            "definition": "soft Dice of the label map with the network's own probabilities (Borges et al. 2026); null "
            "where the class is not predicted",
            "rank_correlation_with_dice": ranking_document(self.confidence_ranking),
            "means": by_name(self.cases, self.case_confidence()),
            "cases": {
                case: by_name(self.classes, row) for case, row in zip(self.cases, confidence.tolist(), strict=True)
            },
        }

    def _groups_to_dict(self, kind: str) -> dict[str, Any]:
        def means(part: Scores) -> dict[str, Any]:
            figures = {
                name: {"mean": plain(part.mean(name)), "class_means": by_name(self.classes, part.class_means(name))}
                for name in self.measures
            }
            return {"cases": len(part.cases), **figures}

        return {group: means(part) for group, part in self.in_groups(kind).items()}

    def write(self, folder: Path) -> None:
        """Writes all of it, each file whole or not at all.

        ``scores.json`` holds everything; ``scores.csv`` a row for each case and class; ``summary.csv`` means and
        medians; ``groups.csv`` means in groups of cases, where there are groups.

        Raises:
            OutputError: A file can't be written.
        """
        measured = {name: self.values(name) for name in self.measures}
        if self.confidence is not None:
            measured["confidence"] = self.confidence
        write_text(folder / "scores.csv", to_csv(score_rows(self.cases, self.classes, measured, self.groups)))
        write_text(folder / "summary.csv", to_csv(summary_rows(self.classes, self.summaries)))
        if self.groups:
            write_text(folder / "groups.csv", to_csv(self._group_rows()))
        write_text(folder / "scores.json", json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")

    def _group_rows(self) -> Iterator[list[str]]:
        """The columns' names, then a row for each group and class, and one over the classes: means over the cases."""
        yield ["groups", "group", "cases", "class", *self.measures]
        for kind in self.groups:
            for group, part in self.in_groups(kind).items():
                means = [[*part.class_means(name), part.mean(name)] for name in self.measures]
                for name, *row in zip([*self.classes, ALL_CLASSES], *means, strict=True):
                    yield [kind, group, str(len(part.cases)), name, *map(show, row)]

    @classmethod
    def read(cls, folder: Path) -> Scores:
        """Reads what :meth:`write` wrote, of earlier versions too.

        Raises:
            DataError: The file is missing, damaged, or holds no scores.
        """
        file = folder / "scores.json"
        try:
            return cls._from_dict(parse_json(read_text(file)))
        except (OSError, *DAMAGED_JSON, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise DataError(
                "the scores can't be read",
                expected="what `inflate3d evaluate` writes",
                got=f"{type(error).__name__}: {error}",
                hint="remove the file and evaluate the run again",
                file=file,
            ) from error

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> Scores:
        pooled = values["pooled_dice"]["classes"] if "pooled_dice" in values else {}
        cases, classes = tuple(map(check_id, values[_DICE]["cases"])), tuple(values.get("classes", pooled))
        seconds = values.get("prediction_seconds", {})
        groups = values.get("case_groups", {})
        return cls(
            cases=cases,
            classes=classes,
            native_dice=values_of(values[_DICE], cases, classes),
            pooled_dice=np.array([number(pooled.get(name)) for name in classes]),
            measured={name: values_of(values[name], cases, classes) for name in MEASURES if name in values},
            tolerances=_tolerances(values["nsd"], classes) if "nsd" in values else None,
            confidence=values_of(values["confidence"], cases, classes) if "confidence" in values else None,
            seconds=np.array([number(seconds.get(case)) for case in cases]),
            groups={kind: tuple(str(each[case]) for case in cases) for kind, each in groups.items()},
        )


def _tolerances(document: dict[str, Any], classes: tuple[str, ...]) -> Float[np.ndarray, " classes"]:
    """Of each class; files of version 0.1 have one for all."""
    by_class = document.get("tolerances_mm") or dict.fromkeys(classes, document.get("tolerance_mm"))
    return np.array([number(by_class[name]) for name in classes])


def _means(values: Float[np.ndarray, "rows n"]) -> list[float]:
    return [_over_defined(np.mean, row) for row in values]


def _over_defined(reduce: Callable[[np.ndarray], np.floating], values: Float[np.ndarray, " n"]) -> float:
    defined = values[~np.isnan(values)]
    return float(reduce(defined)) if len(defined) else math.nan
