"""The choice of post-processing steps: those that raise the Dice of cross-validated cases by more than chance.

As in nnU-Net (Isensee et al. 2021, Nature Methods 18:203-211, ``determine_postprocessing``) a step is tried for each
class and kept where it raises the mean Dice of held-out cases. Here it has to do so clearly: at least five cases
change (five out of five in one direction have p = 1/32), and the 95 % interval of the gain, paired over the cases,
lies above 0. Where several values of a step are tried, the interval is widened for that (Bonferroni).

A depth filter smooths the logits of all classes along the depth by a Gaussian (`inflate3d.inference.depth_filter`). It
helps where slices are thin compared with the structures, and harms where they are thick.

What removing components and filling holes does to Dice is computed from counts, a `ClassTally` of each case and class,
without the label maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

from inflate3d.datasets.classes import IGNORED
from inflate3d.datasets.regions import Regions
from inflate3d.evaluation.components import count_numbers, find_box, find_holes, number_components
from inflate3d.evaluation.distances import Spacing
from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing, fillable_values
from inflate3d.evaluation.statistics import CONFIDENCE, Estimate, estimate, group_values, mean_over_defined
from inflate3d.io.voxels import find_values

FEWEST_CHANGED = 5
"""A step is kept only if it changes the Dice of this many cases."""

_FALSE_PARTS = (0.5, 0.9, 1.0)
"""Candidates for the minimum volume remove these parts of the predicted components without any labeled voxel."""

_FILTERS_IN_SLICES = (0.5, 1.0, 1.5, 2.0)

_DIGITS = 3
"""Significant digits of a minimum volume."""


@dataclass(frozen=True)
class ClassTally:
    """Counts of one class in a predicted case; ignored voxels are excluded from all but the first.

    Attributes:
        voxels: Of each predicted component.
        predicted: Likewise, without those where the label is ignored.
        labeled: Voxels of the label.
        fillable: Background voxels in the holes of the predicted class; of a region, all that can be in it.
        voxel_volume: Cubic millimeters.
    """

    voxels: Int[np.ndarray, " components"]
    predicted: Int[np.ndarray, " components"]
    matched: Int[np.ndarray, " components"]
    labeled: int
    fillable: int
    fillable_matched: int
    voxel_volume: float

    @property
    def volumes(self) -> Float[np.ndarray, " components"]:
        return self.voxels * self.voxel_volume

    def dice_after(self, steps: ClassSteps) -> float:
        """Dice of the class after the steps; NaN if it is then in neither map.

        Holes are those of the class as predicted; holes that other removals leave are not counted.
        """
        kept = ~steps.removed(self.voxels, self.voxel_volume)
        predicted, matched = int(self.predicted[kept].sum()), int(self.matched[kept].sum())
        if steps.fill_holes:
            predicted, matched = predicted + self.fillable, matched + self.fillable_matched
        total = predicted + self.labeled
        return 2 * matched / total if total else math.nan


def tally_case(
    prediction: Integer[np.ndarray, "i j k"],
    label: Integer[np.ndarray, "i j k"],
    num_classes: int,
    spacing: Spacing,
    regions: Regions | None = None,
) -> tuple[ClassTally, ...]:
    """Counts each foreground class, or each region.

    Args:
        prediction: Class numbers on the scan's own grid.
        label: Class numbers on the same grid, or `IGNORED`.
        num_classes: Number of classes, background included.
        spacing: Millimeters between voxels along the three axes.
        regions: What to count instead of classes, as regions of class numbers.
    """
    known = label != IGNORED
    voxel_volume = math.prod(spacing)
    if regions is None:
        counted = {(number,): (0,) for number in range(1, num_classes)}
        boxes = ndimage.find_objects(prediction, max_label=num_classes - 1)
    else:
        counted = {held: tuple(fillable_values(regions, name)) for name, held in regions.values.items()}
        boxes = [find_box(prediction, *held) for held in counted]
    tallies = []
    for (held, fillable), box in zip(counted.items(), boxes, strict=True):
        labeled = int(np.count_nonzero(find_values(label, held)))
        if box is None:
            none = np.zeros(0, dtype=np.int64)
            tallies.append(ClassTally(none, none, none, labeled, 0, 0, voxel_volume))
        else:
            parts = prediction[box], label[box], known[box]
            tallies.append(_tally(*parts, held, fillable, labeled, voxel_volume))
    return tuple(tallies)


def _tally(
    prediction: Integer[np.ndarray, "i j k"],
    label: Integer[np.ndarray, "i j k"],
    known: Bool[np.ndarray, "i j k"],
    held: tuple[int, ...],
    filled: tuple[int, ...],
    labeled: int,
    voxel_volume: float,
) -> ClassTally:
    mask, right = find_values(prediction, held), find_values(label, held)
    fillable = find_holes(mask) & find_values(prediction, filled) & known
    numbers, voxels = number_components(mask)
    highest = len(voxels) - 1
    return ClassTally(
        voxels=voxels[1:],
        predicted=count_numbers(numbers, highest, known)[1:],
        matched=count_numbers(numbers, highest, right)[1:],
        labeled=labeled,
        fillable=int(np.count_nonzero(fillable)),
        fillable_matched=int(np.count_nonzero(fillable & right)),
        voxel_volume=voxel_volume,
    )


@dataclass(frozen=True)
class Candidate:
    """A step that was tried for a class.

    Attributes:
        before: Mean Dice over the cases without the step.
        gain: The difference, with its paired interval over the cases.
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
    """The chosen post-processing, and all that was tried.

    Attributes:
        candidates: All that were tried, in order.
    """

    postprocessing: Postprocessing
    candidates: tuple[Candidate, ...]


def choose(
    tallies: Mapping[str, Sequence[ClassTally]], classes: Mapping[int, str], patients: Mapping[str, str] | None = None
) -> Choice:
    """Chooses the steps of each class.

    Steps are tried one after another, each after those before it: the largest component, a minimum volume, filled
    holes.

    Args:
        tallies: The foreground classes of each case.
        patients: The patient of each case; by default all cases are independent.
    """
    groups = [case if patients is None else patients[case] for case in tallies]
    chosen, tried = [], []
    for place, (value, name) in enumerate(classes.items()):
        column = [case[place] for case in tallies.values()]
        steps, candidates = _choose_class(column, ClassSteps(value=value, name=name), groups)
        tried += candidates
        if steps.in_words() != "nothing":
            chosen.append(steps)
    return Choice(Postprocessing(classes=tuple(chosen)), tuple(tried))


def gain_estimate(
    before: Float[np.ndarray, "cases classes"],
    after: Float[np.ndarray, "cases classes"],
    groups: Sequence[str] | None = None,
    *,
    tried: int = 1,
) -> Estimate:
    """The rise of the classes' mean Dice with its interval, paired by case.

    A class's mean is over the cases in which it has a score, as in the tables: a case whose wrong voxels are all
    removed no longer counts.

    Args:
        before: Dice; NaN where undefined.
        groups: The group of each case, which is resampled as a whole.
        tried: Number of gains of which the best is chosen; the interval is corrected for it.
    """
    values = group_values(np.stack([before, after]), groups)
    return estimate(values[1:] - values[:1], level=(1 - CONFIDENCE) / tried, bounds=(-1.0, 1.0))


def _try_out(
    name: str,
    step: str,
    before: Float[np.ndarray, "cases classes"],
    after: Float[np.ndarray, "cases classes"],
    groups: Sequence[str],
    tried: int,
) -> Candidate:
    """Measures the effect of a step, and whether it is worth keeping.

    Args:
        before: Dice of the affected classes without it.
        groups: The group of each case, which is resampled as a whole.
    """
    changed = int(np.count_nonzero(((before != after) & ~(np.isnan(before) & np.isnan(after))).any(axis=1)))
    gain = gain_estimate(before, after, groups, tried=tried)
    means = mean_over_defined(mean_over_defined(np.stack([before.T, after.T]))).tolist()
    kept = changed >= FEWEST_CHANGED and gain.low > 0
    return Candidate(name, step, changed, before=means[0], after=means[1], gain=gain, kept=kept)


def _best_of(tried: Sequence[Candidate]) -> Candidate | None:
    """The kept step with the largest lower bound of its gain, or None."""
    return max((each for each in tried if each.kept), key=lambda each: each.gain.low, default=None)


def _choose_class(
    tallies: Sequence[ClassTally], steps: ClassSteps, groups: Sequence[str]
) -> tuple[ClassSteps, list[Candidate]]:
    candidates: list[Candidate] = []
    for propose in (_largest, _volumes, _holes):
        proposed = propose(tallies, steps)
        tried = [
            _try_out(
                each.name, _new_in(steps, each), _dice(tallies, steps), _dice(tallies, each), groups, len(proposed)
            )
            for each in proposed
        ]
        candidates += tried
        best = _best_of(tried)
        steps = next((each for each, candidate in zip(proposed, tried, strict=True) if candidate is best), steps)
    return steps, candidates


def _dice(tallies: Sequence[ClassTally], steps: ClassSteps) -> Float[np.ndarray, "cases 1"]:
    return np.array([[case.dice_after(steps)] for case in tallies])


def _largest(tallies: Sequence[ClassTally], steps: ClassSteps) -> list[ClassSteps]:
    several = any(len(each.voxels) > 1 for each in tallies)
    return [steps.model_copy(update={"largest_component": True})] if several else []


def _volumes(tallies: Sequence[ClassTally], steps: ClassSteps) -> list[ClassSteps]:
    """Minimum volumes that would remove some, most and all of the false positive components."""
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


def _new_in(before: ClassSteps, after: ClassSteps) -> str:
    """What the second has in addition to the first, in words."""
    values = {name: value for name, value in after if value != getattr(before, name)}
    return ClassSteps(value=after.value, name=after.name, **values).in_words()


def _above(volume: float) -> float:
    """The next larger volume with three digits."""
    exact = Decimal(volume)
    step = Decimal(1).scaleb(exact.adjusted() - _DIGITS + 1)
    above = (exact // step + 1) * step
    return float(above) if float(above) > volume else float(above + step)


def depth_filters(slice_spacing: float) -> tuple[float, ...]:
    """The standard deviations to try, in millimeters: 0.5, 1, 1.5 and 2 slices.

    Args:
        slice_spacing: Usual distance between slices in millimeters.
    """
    return tuple(float(f"{slices * slice_spacing:.3g}") for slices in _FILTERS_IN_SLICES)


def choose_depth_filter(
    dice: Mapping[float, Float[np.ndarray, "cases classes"]], groups: Sequence[str]
) -> tuple[float, tuple[Candidate, ...]]:
    """Chooses the standard deviation.

    Args:
        dice: By standard deviation in millimeters; 0 is without a filter.
        groups: The group of each case, such as its patient, which is resampled as a whole.

    Returns:
        The chosen one, or 0, and all that were tried.
    """
    tried = {
        each: _try_out("all classes", f"depth filter {each:g} mm", dice[0.0], after, groups, len(dice) - 1)
        for each, after in dice.items()
        if each
    }
    best = _best_of(tuple(tried.values()))
    return next((each for each, candidate in tried.items() if candidate is best), 0.0), tuple(tried.values())
