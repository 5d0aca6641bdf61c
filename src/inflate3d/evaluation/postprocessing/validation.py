"""Choosing the post-processing of evaluated cases, and the unbiased score of what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer

from inflate3d.atomic import write_text
from inflate3d.datasets import kfold_split
from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.distances import Spacing
from inflate3d.evaluation.measures import TOLERANCE
from inflate3d.evaluation.metrics import dice, overlap_counts
from inflate3d.evaluation.postprocessing.choice import (
    Choice,
    ClassTally,
    choose,
    choose_depth_filter,
    gain_estimate,
    tally_case,
)
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import Estimate
from inflate3d.evaluation.tables import Table, plain
from inflate3d.preparation.plan import Plan
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import ScoredFolder

NOTE = (
    "each part's cases are post-processed by what was chosen on the other parts, so that no case has a say in how it "
    "is treated; what is stored was chosen on all of them"
)
"""How the scores were computed, for the files."""

_PARTS = 5

ReadCase = Callable[[str, float], tuple[Integer[np.ndarray, "i j k"], Integer[np.ndarray, "i j k"], Spacing]]
"""Returns the label values of a case's prediction with a depth filter, and of its label, on one grid, and its spacing
in millimeters."""


@dataclass(frozen=True)
class ChosenPostprocessing:
    """The chosen post-processing, and how much it gains.

    Attributes:
        by_part: For each part of the cases, the choice on the other parts.
        scores: Scores of each case with the post-processing that was chosen on the other parts.
        gains: Gain in mean Dice by class.
    """

    choice: Choice
    by_part: dict[str, Postprocessing]
    scores: Scores
    gains: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "chosen": self.choice.postprocessing.model_dump(mode="json"),
            "chosen_without": {part: each.model_dump(mode="json") for part, each in self.by_part.items()},
            "note": NOTE,
            "dice": plain(self.scores.mean()),
            "gains": {
                name: {"gain": plain(gain.value), "interval": [plain(gain.low), plain(gain.high)]}
                for name, gain in self.gains.items()
            },
        }

    def write(self, folder: ScoredFolder, file: Path) -> None:
        """Writes the post-processing, the table of everything that was tried, and the scores.

        Args:
            file: The file in which `predict` looks for the post-processing.
        """
        self.scores.write(folder.evaluation / "postprocessed")
        write_text(folder.evaluation / "postprocessing.csv", self.table().to_csv())
        self.choice.postprocessing.write(file)

    def table(self) -> Table:
        """A row per step that was tried."""
        columns = ("class", "step", "cases_changed", "before", "after", "gain", "gain_low", "gain_high", "kept")
        rows = [
            (
                *(each.name, each.step, each.changed, each.before, each.after),
                *(each.gain.value, each.gain.low, each.gain.high, "yes" if each.kept else "no"),
            )
            for each in self.choice.candidates
        ]
        return Table(columns, rows)


def random_parts(cases: Mapping[str, str | None]) -> dict[str, str]:
    """Divides the held-out cases of one network into at most five parts, as for cross-validation.

    Args:
        cases: Group of each case by id.

    Returns:
        The part of each case; the same for all if there is nothing to divide.
    """
    count = min(_PARTS, len({group or case for case, group in cases.items()}))
    if count < 2:
        return dict.fromkeys(cases, "all")
    splits = [kfold_split(cases, fold, count) for fold in range(count)]
    return {case: f"part-{number}" for number, split in enumerate(splits) for case in split.validation}


def choose_postprocessing(
    read: ReadCase,
    plan: Plan,
    scores: Scores,
    parts: Mapping[str, str],
    *,
    depth_filters: Sequence[float] = (),
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> ChosenPostprocessing:
    """Chooses the post-processing from evaluated cases, and scores each part with what was chosen on the others.

    Args:
        read: Returns the label values of a case's prediction and label, and its spacing.
        scores: Scores of the label maps as predicted, without a depth filter.
        parts: The part of each case, such as its fold.
        depth_filters: Standard deviations in millimeters to try.
        tolerance: Distance in millimeters up to which a surface counts as matched in NSD.
    """
    chooser = _Chooser(read, plan, scores)
    for case in progress(scores.cases, len(scores.cases), "choosing post-processing"):
        chooser.add(case, depth_filters)
    others = {part: [case for case in scores.cases if parts[case] != part] for part in dict.fromkeys(parts.values())}
    by_part = {part: chooser.choose(cases).postprocessing for part, cases in others.items()}
    after = _score(read, plan, scores, {case: by_part[parts[case]] for case in scores.cases}, tolerance, progress)
    gains = {
        name: gain_estimate(scores.dice[:, [number]], after.dice[:, [number]], scores.patients)
        for number, name in enumerate(scores.classes)
    }
    return ChosenPostprocessing(chooser.choose(scores.cases), by_part, after, gains)


class _Chooser:
    """Chooses on any subset of the evaluated cases; each label map is counted once."""

    def __init__(self, read: ReadCase, plan: Plan, scores: Scores) -> None:
        self._read, self._plan = read, plan
        self._patients = dict(zip(scores.cases, scores.patients, strict=True))
        self._regions = plan.regions and plan.regions.renumber(plan.class_numbers)
        names = enumerate(plan.regions.names, start=1) if plan.regions else plan.classes.items()
        self._classes = {value: name for value, name in names if value != 0}
        self._dice: dict[float, dict[str, Float[np.ndarray, " classes"]]] = {
            0.0: dict(zip(scores.cases, scores.dice, strict=True))
        }
        self._tallies: dict[tuple[str, float], tuple[ClassTally, ...]] = {}

    def add(self, case: str, depth_filters: Sequence[float]) -> None:
        """Scores a case with each depth filter."""
        for each in depth_filters:
            predicted, label, _ = self._numbers(case, each)
            maps = torch.from_numpy(predicted), torch.from_numpy(label)
            counts = overlap_counts(*maps, len(self._plan.classes), self._plan.members)
            self._dice.setdefault(each, {})[case] = dice(counts)[1:].numpy()

    def choose(self, cases: Sequence[str]) -> Choice:
        """Chooses the depth filter, then the steps for the label maps that result from it."""
        patients = {case: self._patients[case] for case in cases}
        shape = len(cases), len(self._classes)
        by_filter = {
            each: np.array([known[case] for case in cases]).reshape(shape) for each, known in self._dice.items()
        }
        depth_filter, tried = choose_depth_filter(by_filter, list(patients.values()))
        choice = choose({case: self._tally(case, depth_filter) for case in cases}, self._classes, patients)
        regions = self._plan.regions if choice.postprocessing.classes else None
        chosen = choice.postprocessing.model_copy(update={"depth_filter": depth_filter, "regions": regions})
        return Choice(chosen, (*tried, *choice.candidates))

    def _tally(self, case: str, depth_filter: float) -> tuple[ClassTally, ...]:
        if (case, depth_filter) not in self._tallies:
            predicted, label, spacing = self._numbers(case, depth_filter)
            classes = len(self._plan.classes)
            self._tallies[case, depth_filter] = tally_case(predicted, label, classes, spacing, self._regions)
        return self._tallies[case, depth_filter]

    def _numbers(
        self, case: str, depth_filter: float
    ) -> tuple[Integer[np.ndarray, "i j k"], Integer[np.ndarray, "i j k"], Spacing]:
        predicted, label, spacing = self._read(case, depth_filter)
        return self._plan.number_classes(predicted), self._plan.number_classes(label), spacing


def _score(
    read: ReadCase,
    plan: Plan,
    scores: Scores,
    treatments: Mapping[str, Postprocessing],
    tolerance: float,
    progress: Progress,
) -> Scores:
    """The scores after each case's own post-processing; unchanged label maps keep theirs."""
    treated = [case for case in scores.cases if treatments[case] != Postprocessing()]
    accumulator = ScoreAccumulator(plan.class_names, tolerance=tolerance, members=plan.members)
    for case in progress(treated, len(treated), "scoring post-processing") if treated else ():
        predicted, label, spacing = read(case, 0.0)
        depth_filter = treatments[case].depth_filter
        smoothed = read(case, depth_filter)[0] if depth_filter else predicted
        cleaned = treatments[case].apply(smoothed, spacing)
        if not np.array_equal(cleaned, predicted):
            accumulator.add(case, plan.number_classes(cleaned), plan.number_classes(label), spacing)
    measured = {name: values.copy() for name, values in scores.measured.items()}
    if accumulator.cases:
        after = accumulator.scores()
        places = [scores.cases.index(case) for case in after.cases]
        for name in scores.measures:
            measured[name][places] = after.measured[name]
    return replace(scores, measured=measured, micro_dice=None)
