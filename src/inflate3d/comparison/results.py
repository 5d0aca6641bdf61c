"""The rows of a comparison: figures with intervals, differences from the first arm, and costs."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from inflate3d.comparison.arms import difference_in_words
from inflate3d.comparison.cost import Cost, measure_costs
from inflate3d.comparison.paper import paper_figure
from inflate3d.comparison.runs import ComparisonRun
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import (
    Estimate,
    estimate,
    group_values,
    holm,
    mean_over_defined,
    paired_p,
    sign_flip,
    wilcoxon,
)
from inflate3d.evaluation.tables import Table


@dataclass(frozen=True)
class Difference:
    """The gain of an arm over the first one, with the same training cases and seeds.

    Attributes:
        dice: Difference in mean Dice with its paired interval, over cases and seeds, or only over cases with one seed.
        better: Number of cases in which its Dice is higher, mean over classes and seeds.
        p: p-value that the methods are equal, over cases and seeds; with one seed from sign flips.
        p_holm: The same corrected by Holm for all differences of the comparison.
        sign_flip_p: p-value of the sign-flip permutation test over cases (or patients), for the trained networks.
    """

    dice: Estimate
    better: int
    cases: int
    p: float
    sign_flip_p: float
    wilcoxon_p: float
    p_holm: float = math.nan


@dataclass(frozen=True)
class Row:
    """The results of an arm with one number of training cases and one budget, over its seeds.

    Attributes:
        all_training_cases: Whether these are all training cases of the split.
        budget: Seconds per training; None for a number of steps.
        differs: Its differences from the first arm, in words.
        dice: Mean Dice per case in native space (mean over classes of means over cases, mean over seeds), with its
            interval over the cases and, if there are several, the seeds.
        dice_of_seeds: The same for each seed.
        dice_of_classes: Mean Dice of each class.
        dice_of_cases: Dice of each held-out case, mean over its classes, then over the seeds; NaN if undefined.
        hd95: Mean HD95 in millimeters; NaN if not computed.
        nsd: Mean NSD; NaN if not computed.
        difference: Difference from the first arm; None for that one.
        paper: The paper's figure for this arm and dataset, micro-averaged Dice in percent.
    """

    arm: str
    training_cases: int
    all_training_cases: bool
    budget: float | None
    differs: str
    dice: Estimate
    dice_of_seeds: dict[int, float]
    dice_of_classes: dict[str, float]
    dice_of_cases: tuple[float, ...]
    hd95: float
    nsd: float
    micro_dice: float
    difference: Difference | None
    cost: Cost
    paper: float | None

    @property
    def seed_deviation(self) -> float:
        """Standard deviation of the mean Dice over the seeds; NaN for one seed."""
        values = list(self.dice_of_seeds.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        held_out: The cases that were scored.
        patients: Number of independent cases: all of a patient count as one.
        seeds: Seeds of each row.
        nsd_tolerance: In millimeters; NaN if NSD was not computed.
        rows: By number of training cases, then by budget, then by arm.
    """

    dataset: str
    held_out: tuple[str, ...]
    patients: int
    seeds: tuple[int, ...]
    nsd_tolerance: float
    rows: tuple[Row, ...]

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in order."""
        return list(dict.fromkeys(row.arm for row in self.rows))

    @property
    def sizes(self) -> list[int]:
        return list(dict.fromkeys(row.training_cases for row in self.rows))

    @property
    def budgets(self) -> list[float | None]:
        return list(dict.fromkeys(row.budget for row in self.rows))

    @property
    def most_cases(self) -> list[Row]:
        return [row for row in self.rows if row.training_cases == self.sizes[-1]]

    @property
    def largest(self) -> list[Row]:
        """The rows with the most training cases and the largest budget."""
        return [row for row in self.most_cases if row.budget == self.budgets[-1]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; unknown ones are ``null``."""
        return json.loads(TypeAdapter(Comparison).dump_json(self))


def summarize_runs(dataset: str, runs: Sequence[ComparisonRun], whole: int) -> Comparison:
    """Reads the scores of finished runs and compares the arms with the first one."""
    scores = read_scores(runs)
    first_scores = scores[runs[0].name]
    alike: dict[tuple[int, float], dict[str, list[ComparisonRun]]] = {}
    for run in runs:
        alike.setdefault((run.cases or whole, run.budget or 0.0), {}).setdefault(run.arm, []).append(run)
    rows = []
    for _, arms in sorted(alike.items()):
        first = next(iter(arms.values()))
        rows += [_row(dataset, arm, first, scores, whole) for arm in arms.values()]
    return Comparison(
        dataset=dataset,
        held_out=first_scores.cases,
        patients=len(set(first_scores.patients)),
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        nsd_tolerance=math.nan if first_scores.tolerance is None else first_scores.tolerance,
        rows=tuple(_corrected(rows)),
    )


def read_scores(runs: Sequence[ComparisonRun]) -> dict[str, Scores]:
    """The scores of finished runs, by their names."""
    scores = {run.name: Scores.read(run.folder.evaluation) for run in runs}
    first = scores[runs[0].name]
    for run in runs:
        own = scores[run.name]
        if (own.cases, own.classes) != (first.cases, first.classes):
            raise DataError(
                "runs of the comparison were scored on different cases or classes",
                expected=f"those of {runs[0].name}: {len(first.cases)} cases, {', '.join(first.classes)}",
                got=f"{run.name}: {len(own.cases)} cases, {', '.join(own.classes)}",
                hint="choose another folder with --out",
                file=run.folder.evaluation,
            )
    return scores


def score_table(runs: Sequence[ComparisonRun], scores: Mapping[str, Scores]) -> Table:
    """The score tables of all runs in one."""
    rows = [[run.arm, run.cases, run.budget, run.seed, *row] for run in runs for row in scores[run.name].table().rows]
    return Table(("arm", "training_cases", "budget", "seed", "case", "class", "measure", "value"), rows)


def _row(
    dataset: str,
    runs: Sequence[ComparisonRun],
    first: Sequence[ComparisonRun],
    scores: Mapping[str, Scores],
    whole: int,
) -> Row:
    own, run = [scores[each.name] for each in runs], runs[0]
    dice, patients = np.stack([each.dice for each in own]), own[0].patients
    class_means = np.array([each.class_means() for each in own]).T
    return Row(
        arm=run.arm,
        training_cases=run.cases or whole,
        all_training_cases=run.cases is None,
        budget=run.budget,
        differs=f"the program {shlex.join(run.command)}"
        if run.command
        else difference_in_words(first[0].config, run.config),
        dice=estimate(group_values(dice, patients), bounds=(0.0, 1.0)),
        dice_of_seeds={each.seed: scores[each.name].mean() for each in runs},
        dice_of_classes=dict(zip(own[0].classes, mean_over_defined(class_means).tolist(), strict=True)),
        dice_of_cases=tuple(_case_means(dice).tolist()),
        hd95=_mean([each.mean("hd95") for each in own]),
        nsd=_mean([each.mean("nsd") for each in own]),
        micro_dice=_mean([each.micro_mean() for each in own]),
        difference=None
        if run is first[0]
        else find_difference(np.stack([scores[each.name].dice for each in first]), dice, patients),
        cost=measure_costs([each.folder for each in runs], own),
        paper=paper_figure(dataset, run.arm) if run.cases is None else None,
    )


def find_difference(
    first: Float[np.ndarray, "seeds cases classes"],
    other: Float[np.ndarray, "seeds cases classes"],
    patients: Sequence[str] | None = None,
) -> Difference:
    """The difference in Dice between two methods, paired by seed and case.

    Args:
        first: Dice by seed, case and class; NaN where undefined.
        patients: The patient of each case; by default all cases are independent.
    """
    seeds = len(first)
    values = group_values(np.concatenate([first, other]), patients)
    differences = values[seeds:] - values[:seeds]
    by_case = _case_means(other) - _case_means(first)
    return Difference(
        dice=estimate(differences, bounds=(-1.0, 1.0)),
        better=int(np.sum(by_case > 0)),
        cases=int(np.sum(~np.isnan(by_case))),
        p=paired_p(differences),
        sign_flip_p=sign_flip(differences.mean(axis=0)),
        wilcoxon_p=wilcoxon(differences.mean(axis=0)),
    )


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """The rows with Holm's correction over all of their tests."""
    corrected = iter(holm([row.difference.p for row in rows if row.difference]))
    return [
        replace(row, difference=replace(row.difference, p_holm=next(corrected))) if row.difference else row
        for row in rows
    ]


def _case_means(dice: Float[np.ndarray, "seeds cases classes"]) -> Float[np.ndarray, " cases"]:
    """Each case's mean over its classes, then over the seeds."""
    return mean_over_defined(mean_over_defined(dice).T)


def _mean(values: Sequence[float]) -> float:
    return float(mean_over_defined(np.array(values, dtype=np.float64)))
