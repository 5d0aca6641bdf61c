"""Which steps are worth doing: those that raise the Dice of cross-validated cases by more than chance does.

As in nnU-Net (Isensee et al. 2021, Nature Methods 18:203-211, ``determine_postprocessing``) a step is tried for each
class and kept where it raises the mean Dice of held-out cases. Here it has to do so clearly: at least five cases
change (five out of five in one direction have p = 1/32), and the 95 % interval of the gain, by a bootstrap in pairs
over the cases, lies above 0. Where several values of a step are tried, the interval is widened for that (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from jaxtyping import Float, Integer

from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing
from inflate3d.evaluation.postprocessing.tallies import ClassTally
from inflate3d.evaluation.statistics import CONFIDENCE, Estimate, case_weights, class_means

FEWEST_CHANGED = 5
"""Cases whose Dice has to change for a step to be kept."""

_FALSE_PARTS = (0.5, 0.9, 1.0)
"""Candidates for the minimum volume remove so many of the predicted components without any labeled voxel."""

_DIGITS = 3
"""Of a minimum volume."""


@dataclass(frozen=True)
class StepTrial:
    """A step that was tried for a class.

    Attributes:
        name: The class.
        step: The step in words, with its value.
        changed: Cases whose Dice it changes.
        before: Mean Dice over the cases without it.
        after: Mean Dice with it.
        gain: The difference, with its interval in pairs over the cases.
        kept: Whether it is worth doing.
    """

    name: str
    step: str
    changed: int
    before: float
    after: float
    gain: Estimate
    kept: bool


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        postprocessing: The steps that are kept.
        trials: All that were tried, in their order.
    """

    postprocessing: Postprocessing
    trials: tuple[StepTrial, ...]


def choose(tallies: Sequence[Sequence[ClassTally]], classes: Mapping[int, str]) -> Choice:
    """Chooses each class's steps.

    Steps are tried one after another, each on what the ones before leave: the largest component alone, a minimum
    volume, holes filled.

    Args:
        tallies: Of each case, its classes but the background.
        classes: Their names by label value.
    """
    weights = case_weights(len(tallies)) if tallies else np.empty((0, 0), dtype=np.int64)
    chosen, trials = [], []
    for place, (value, name) in enumerate(classes.items()):
        steps, tried = _choose_class([case[place] for case in tallies], ClassSteps(value=value, name=name), weights)
        trials += tried
        if steps.in_words() != "nothing":
            chosen.append(steps)
    return Choice(Postprocessing(classes=tuple(chosen)), tuple(trials))


def choose_on_others(
    tallies: Mapping[str, Sequence[ClassTally]], parts: Mapping[str, str], classes: Mapping[int, str]
) -> dict[str, Postprocessing]:
    """For each part of the cases, what is chosen on all others: applied to the part, it gives an honest score.

    Args:
        tallies: By case.
        parts: The part of each case, such as its fold.
        classes: Names by label value.
    """
    return {
        part: choose([tally for case, tally in tallies.items() if parts[case] != part], classes).postprocessing
        for part in dict.fromkeys(parts.values())
    }


def gain_estimate(
    before: Float[np.ndarray, " cases"],
    after: Float[np.ndarray, " cases"],
    weights: Integer[np.ndarray, "resamples cases"],
    *,
    tried: int = 1,
) -> Estimate:
    """By how much a class's mean Dice rises, and its percentile interval over the cases, resampled in pairs.

    Each mean is over the cases in which the class has a score, as in the tables: a case whose only voxels were wrong
    and are removed leaves the mean.

    Args:
        before: Dice of each case; NaN where there is none.
        after: Likewise.
        weights: How often each case is drawn in each resample.
        tried: How many such gains the best is taken of: the interval holds for all of them together.
    """
    pair, as_is = np.stack([before, after], axis=1), np.ones((1, len(before)), dtype=np.int64)
    means, resampled = class_means(pair, as_is)[0], class_means(pair, weights)
    gains = resampled[:, 1] - resampled[:, 0]
    gains, tail = gains[~np.isnan(gains)], (1 - CONFIDENCE) / 2 / tried
    low, high = np.quantile(gains, [tail, 1 - tail]) if len(gains) else (math.nan, math.nan)
    return Estimate(float(means[1] - means[0]), float(low), float(high))


def _choose_class(
    tallies: Sequence[ClassTally], steps: ClassSteps, weights: Integer[np.ndarray, "resamples cases"]
) -> tuple[ClassSteps, list[StepTrial]]:
    trials: list[StepTrial] = []
    for candidates in (_largest, _volumes, _holes):
        tried = candidates(tallies, steps)
        told = [_try(tallies, steps, each, weights, len(tried)) for each in tried]
        trials += told
        kept = [(trial.gain.low, each) for trial, each in zip(told, tried, strict=True) if trial.kept]
        if kept:
            best = max(low for low, _ in kept)
            steps = next(each for low, each in kept if low == best)
    return steps, trials


def _largest(tallies: Sequence[ClassTally], steps: ClassSteps) -> list[ClassSteps]:
    several = any(len(each.voxels) > 1 for each in tallies)
    return [steps.model_copy(update={"largest_component": True})] if several else []


def _volumes(tallies: Sequence[ClassTally], steps: ClassSteps) -> list[ClassSteps]:
    """Minimum volumes that remove some, most and all of the components that are wrong from end to end."""
    wrong = []
    for each in tallies:
        kept = ~steps.removed(each.voxels, each.voxel_volume)
        wrong += each.volumes[kept & (each.matched == 0) & (each.predicted > 0)].tolist()
    if not wrong:
        return []
    limits = [_above(float(limit)) for limit in np.quantile(wrong, _FALSE_PARTS, method="higher")]
    return [steps.model_copy(update={"minimum_volume": limit}) for limit in dict.fromkeys(limits)]


def _holes(tallies: Sequence[ClassTally], steps: ClassSteps) -> list[ClassSteps]:
    return [steps.model_copy(update={"fill_holes": True})] if any(each.fillable for each in tallies) else []


def _try(
    tallies: Sequence[ClassTally],
    before: ClassSteps,
    after: ClassSteps,
    weights: Integer[np.ndarray, "resamples cases"],
    tried: int,
) -> StepTrial:
    first, second = (np.array([case.dice_after(steps) for case in tallies]) for steps in (before, after))
    changed = int(np.count_nonzero(~((first == second) | (np.isnan(first) & np.isnan(second)))))
    gain = gain_estimate(first, second, weights, tried=tried)
    means = class_means(np.stack([first, second], axis=1), np.ones((1, len(first)), dtype=np.int64))[0]
    return StepTrial(
        name=after.name,
        step=_new_in(before, after),
        changed=changed,
        before=float(means[0]),
        after=float(means[1]),
        gain=gain,
        kept=changed >= FEWEST_CHANGED and gain.low > 0,
    )


def _new_in(before: ClassSteps, after: ClassSteps) -> str:
    """The step that one has and the other has not, in words."""
    values = {name: value for name, value in after if value != getattr(before, name)}
    return ClassSteps(value=after.value, name=after.name, **values).in_words()


def _above(volume: float) -> float:
    """The next larger volume of few digits."""
    exact = Decimal(volume)
    step = Decimal(1).scaleb(exact.adjusted() - _DIGITS + 1)
    above = (exact // step + 1) * step
    return float(above) if float(above) > volume else float(above + step)
