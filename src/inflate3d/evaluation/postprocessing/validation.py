"""Choosing the post-processing of evaluated cases, and the honest score of what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer

from inflate3d.atomic import write_text
from inflate3d.datasets import kfold_split
from inflate3d.evaluation.documents import plain
from inflate3d.evaluation.keeper import ScoreKeeper
from inflate3d.evaluation.measures import TOLERANCE, Tolerance
from inflate3d.evaluation.postprocessing.choice import Choice, choose, choose_on_others, gain_estimate
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.evaluation.postprocessing.tallies import tally_case
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import Estimate, case_weights
from inflate3d.evaluation.tables import show, to_csv
from inflate3d.preparation.plan import Plan
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import ScoredFolder

NOTE = (
    "each part's cases are post-processed by what was chosen on the other parts, so that no case has a say in how it "
    "is treated; what is stored was chosen on all of them"
)
"""How the scores come about, for the files."""

_PARTS = 5

ReadCase = Callable[
    [str], tuple[Integer[np.ndarray, "i j k"], Integer[np.ndarray, "i j k"], tuple[float, float, float]]
]
"""Returns the label values of a case's prediction and of its label, on one grid, and its spacing in millimeters."""


@dataclass(frozen=True)
class ChosenPostprocessing:
    """A choice and what it is worth.

    Attributes:
        choice: What is chosen on all cases.
        by_part: For each part of the cases, what is chosen on the others.
        scores: Of each case, post-processed by what was chosen on the other parts.
        gains: By class, how much that raises the mean Dice.
    """

    choice: Choice
    by_part: dict[str, Postprocessing]
    scores: Scores
    gains: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
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
        """Writes the post-processing, the table of what was tried, and the scores.

        Args:
            folder: Of the evaluation.
            file: Where `predict` looks for the post-processing.

        Raises:
            OutputError: A file can't be written.
        """
        self.scores.write(folder.evaluation / "postprocessed")
        write_text(folder.evaluation / "postprocessing.csv", to_csv(self._rows()))
        self.choice.postprocessing.write(file)

    def _rows(self) -> Iterator[list[str]]:
        yield ["class", "step", "cases_changed", "before", "after", "gain", "gain_low", "gain_high", "kept"]
        for each in self.choice.trials:
            means = map(show, (each.before, each.after, each.gain.value, each.gain.low, each.gain.high))
            yield [each.name, each.step, str(each.changed), *means, "yes" if each.kept else "no"]


def random_parts(cases: Mapping[str, str | None]) -> dict[str, str]:
    """Divides cases that one network held out into five parts or fewer, as folds are divided.

    Args:
        cases: By id, what each must stay together with.

    Returns:
        The part of each; one and the same for all where there is nothing to divide.
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
    tolerance: Tolerance = TOLERANCE,
    progress: Progress = silent,
) -> ChosenPostprocessing:
    """Chooses the post-processing of evaluated cases, and scores it on each part as chosen on the others.

    Args:
        read: Returns the label values of a case's prediction and of its label, and its spacing.
        plan: Which label values there are.
        scores: Of the label maps as they were predicted.
        parts: The part of each case, such as its fold.
        tolerance: Millimeters within which a surface counts as right, for all classes or by class.
        progress: Shows how far it is.

    """
    classes = {value: name for value, name in plan.classes.items() if value != 0}
    tallies = {}
    for case in progress(scores.cases, len(scores.cases), "choosing post-processing"):
        predicted, label, spacing = read(case)
        numbers = [plan.number_classes(each) for each in (predicted, label)]
        tallies[case] = tally_case(numbers[0], numbers[1], len(plan.classes), spacing)
    by_part = choose_on_others(tallies, parts, classes)
    after = _score(read, plan, scores, {case: by_part[parts[case]] for case in scores.cases}, tolerance, progress)
    weights = case_weights(len(scores.cases))
    gains = [gain_estimate(*pair, weights) for pair in zip(scores.native_dice.T, after.native_dice.T, strict=True)]
    return ChosenPostprocessing(
        choose(list(tallies.values()), classes), by_part, after, dict(zip(scores.classes, gains, strict=True))
    )


def _score(
    read: ReadCase,
    plan: Plan,
    scores: Scores,
    treatments: Mapping[str, Postprocessing],
    tolerance: Tolerance,
    progress: Progress,
) -> Scores:
    """The scores after each case's own post-processing."""
    if not any(each.classes for each in treatments.values()):
        return replace(scores, pooled_dice=np.full(len(scores.classes), np.nan))
    keeper = ScoreKeeper(plan.class_names, tolerance=tolerance)
    for case in progress(scores.cases, len(scores.cases), "scoring post-processing"):
        predicted, label, spacing = read(case)
        cleaned = treatments[case].apply(predicted, spacing)
        ours, truth = (torch.from_numpy(plan.number_classes(each)) for each in (cleaned, label))
        keeper.add_native(case, ours, truth)
        keeper.add_surfaces(case, ours, truth, spacing)
    after = keeper.scores()
    return replace(
        scores, native_dice=after.native_dice, pooled_dice=after.pooled_dice, measured=after.measured
    )  # what else is known of the cases stays
