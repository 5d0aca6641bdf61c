"""From the runs of a comparison to its rows: figures with intervals, differences from the first arm, costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Integer

from inflate3d.comparison.arms import difference_in_words
from inflate3d.comparison.cost import Cost, measure_costs
from inflate3d.comparison.paper import paper_figure
from inflate3d.comparison.trials import Trial
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import (
    Estimate,
    case_weights,
    estimate,
    holm,
    mean_of_class_means,
    mean_over_defined,
    wilcoxon,
)


@dataclass(frozen=True)
class Difference:
    """What an arm gains over the first one, with the same training cases and seeds.

    Attributes:
        dice: Difference in mean Dice, with its paired interval.
        better: In how many cases its Dice is higher, mean over classes and seeds.
        cases: How many cases have a Dice in both.
        p: Of Wilcoxon's test on the cases' differences.
        p_corrected: The same by Holm, for all differences of the comparison.
    """

    dice: Estimate
    better: int
    cases: int
    p: float
    p_corrected: float = math.nan


@dataclass(frozen=True)
class Row:
    """An arm with one number of training cases, over its seeds.

    Attributes:
        arm: Its name.
        cases: How many cases it learned from.
        all_cases: Whether these are all training cases of the split.
        words: What it has different from the first arm.
        dice: Mean Dice per case in native space (mean over classes of means over cases, mean over seeds), with its
            interval over the cases.
        seeds: The same of each seed.
        hd95: Mean HD95 in millimeters, likewise; NaN if not measured.
        nsd: Mean NSD, likewise; NaN if not measured.
        pooled: The paper's pooled Dice, likewise.
        classes: Mean Dice of each class, likewise.
        by_case: Dice of each held-out case, mean over its classes, then over the seeds; NaN where it has none.
        difference: From the first arm; none for itself.
        cost: What it needs.
        paper: The paper's own figure for this arm on this dataset, in percent.
    """

    arm: str
    cases: int
    all_cases: bool
    words: str
    dice: Estimate
    seeds: dict[int, float]
    hd95: float
    nsd: float
    pooled: float
    classes: dict[str, float]
    by_case: tuple[float, ...]
    difference: Difference | None
    cost: Cost
    paper: float | None

    @property
    def seed_deviation(self) -> float:
        """Standard deviation of the mean Dice over the seeds; NaN for one seed."""
        values = list(self.seeds.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found.

    Attributes:
        dataset: The dataset's name.
        held_out: The cases that were scored.
        seeds: Seeds of each row.
        tolerance: Millimeters of NSD; NaN if it was not measured.
        rows: By number of training cases, then by arm.
    """

    dataset: str
    held_out: tuple[str, ...]
    seeds: tuple[int, ...]
    tolerance: float
    rows: tuple[Row, ...]

    @property
    def arms(self) -> list[str]:
        """Names of the arms, the first one first."""
        return list(dict.fromkeys(row.arm for row in self.rows))

    @property
    def sizes(self) -> list[int]:
        """Numbers of training cases."""
        return list(dict.fromkeys(row.cases for row in self.rows))


def summarize(dataset: str, trials: Sequence[Trial], whole: int) -> Comparison:
    """Reads what finished trials left and holds their arms against the first one.

    Args:
        dataset: The dataset's name, for the paper's figures.
        trials: All of the comparison's, finished.
        whole: How many training cases the split has.

    Raises:
        DataError: A run's scores can't be read, or are of other cases or classes than another's.
    """
    scores = {trial.name: Scores.read(trial.folder.evaluation) for trial in trials}
    _check_same_cases(trials, scores)
    groups: dict[int | None, dict[str, list[Trial]]] = {}
    for trial in trials:
        groups.setdefault(trial.cases, {}).setdefault(trial.arm, []).append(trial)
    weights = case_weights(len(scores[trials[0].name].cases))
    rows = []
    for size in sorted(groups, key=lambda size: size or whole):
        first = next(iter(groups[size].values()))
        rows += [_row(dataset, arm, first, scores, weights, whole) for arm in groups[size].values()]
    return Comparison(
        dataset=dataset,
        held_out=scores[trials[0].name].cases,
        seeds=tuple(dict.fromkeys(trial.seed for trial in trials)),
        tolerance=scores[trials[0].name].tolerance,
        rows=tuple(_corrected(rows)),
    )


def _row(
    dataset: str,
    trials: Sequence[Trial],
    first: Sequence[Trial],
    scores: Mapping[str, Scores],
    weights: Integer[np.ndarray, "resamples cases"],
    whole: int,
) -> Row:
    own = [scores[trial.name] for trial in trials]
    dice = np.stack([each.native_dice for each in own])
    trial = trials[0]
    return Row(
        arm=trial.arm,
        cases=trial.cases or whole,
        all_cases=trial.cases is None,
        words=difference_in_words(first[0].config, trial.config),
        dice=_estimated(dice, weights),
        seeds={each.seed: scores[each.name].mean() for each in trials},
        hd95=_mean([each.mean("hd95") for each in own]),
        nsd=_mean([each.mean("nsd") for each in own]),
        pooled=_mean([each.pooled_mean() for each in own]),
        classes={
            name: _mean([each.class_means()[number] for each in own]) for number, name in enumerate(own[0].classes)
        },
        by_case=tuple(_case_means(dice).tolist()),
        difference=None
        if trial is first[0]
        else _difference(np.stack([scores[each.name].native_dice for each in first]), dice, weights),
        cost=measure_costs([each.folder for each in trials], own),
        paper=paper_figure(dataset, trial.arm) if trial.cases is None else None,
    )


def _difference(
    first: Float[np.ndarray, "seeds cases classes"],
    other: Float[np.ndarray, "seeds cases classes"],
    weights: Integer[np.ndarray, "resamples cases"],
) -> Difference:
    value = _as_they_are(other) - _as_they_are(first)
    resampled = mean_of_class_means(other, weights) - mean_of_class_means(first, weights)
    by_case = _case_means(other) - _case_means(first)
    return Difference(
        dice=estimate(value, resampled) if len(by_case) > 1 else Estimate(value, math.nan, math.nan),
        better=int(np.sum(by_case > 0)),
        cases=int(np.sum(~np.isnan(by_case))),
        p=wilcoxon(by_case),
    )


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """The rows with Holm's correction for all of their tests together."""
    corrected = iter(holm([row.difference.p for row in rows if row.difference]))
    return [
        replace(row, difference=replace(row.difference, p_corrected=next(corrected))) if row.difference else row
        for row in rows
    ]


def _estimated(dice: Float[np.ndarray, "seeds cases classes"], weights: Integer[np.ndarray, "r cases"]) -> Estimate:
    if dice.shape[1] < 2:  # a single case can't be resampled
        return Estimate(_as_they_are(dice), math.nan, math.nan)
    return estimate(_as_they_are(dice), mean_of_class_means(dice, weights))


def _as_they_are(dice: Float[np.ndarray, "seeds cases classes"]) -> float:
    """The figure of the cases as they are, each counted once."""
    return float(mean_of_class_means(dice, np.ones((1, dice.shape[1]), dtype=np.int64))[0])


def _case_means(dice: Float[np.ndarray, "seeds cases classes"]) -> Float[np.ndarray, " cases"]:
    """Each case's mean over its classes, then over the seeds."""
    return mean_over_defined(mean_over_defined(dice).T)


def _mean(values: Sequence[float]) -> float:
    return float(mean_over_defined(np.array(values, dtype=np.float64))) if values else math.nan


def _check_same_cases(trials: Sequence[Trial], scores: Mapping[str, Scores]) -> None:
    first = scores[trials[0].name]
    for trial in trials:
        own = scores[trial.name]
        if (own.cases, own.classes) != (first.cases, first.classes):
            raise DataError(
                "runs of the comparison were scored on other cases or classes",
                expected=f"those of {trials[0].name}: {len(first.cases)} cases, {', '.join(first.classes)}",
                got=f"{trial.name}: {len(own.cases)} cases, {', '.join(own.classes)}",
                hint="choose another folder by --out",
                file=trial.folder.evaluation,
            )
