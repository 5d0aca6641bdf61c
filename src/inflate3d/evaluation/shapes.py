"""Surface and lesion measures of all classes of a case, each class in its bounding box."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from scipy import ndimage

from inflate3d.datasets.classes import IGNORED
from inflate3d.evaluation.components import count_numbers, number_components
from inflate3d.evaluation.distances import Spacing
from inflate3d.evaluation.surfaces import hausdorff_measures, nsd
from inflate3d.io.voxels import find_values

HAUSDORFF = ("hd95", "hd95_pooled", "hd100", "assd")
"""Distances in millimeters; smaller is better."""

SHAPE_MEASURES = (*HAUSDORFF, "nsd", "lesion_f1")
"""Measures that need a whole case at once, unlike those from voxel counts."""


def shape_measures(
    prediction: Integer[np.ndarray, "d h w"],
    label: Integer[np.ndarray, "d h w"],
    spacing: Spacing,
    classes: int,
    tolerance: float,
    measures: Collection[str] = SHAPE_MEASURES,
    *,
    members: Bool[np.ndarray, "regions k"] | None = None,
) -> dict[str, Float[np.ndarray, " classes"]]:
    """Measures each foreground class, or each region.

    If a class is in neither map, all are NaN. If it is in only one of them, distances are the scan's diagonal, the
    largest possible distance, and the others are 0.

    Memory in addition to both maps: two bytes per voxel of the case if they are not of type uint8 or contain ignored
    voxels, and about ten bytes per voxel of the largest class's bounding box.

    Args:
        label: Class numbers on the same grid; voxels of `IGNORED` belong to no class in either map.
        spacing: Millimeters between voxels along the three axes.
        classes: Number of classes without the background, or of regions.
        tolerance: Distance in millimeters up to which a surface counts as matched in NSD.
        measures: Those of `SHAPE_MEASURES` to compute.
        members: Which classes each region holds, to measure regions instead of classes; this takes two more bytes per
            voxel of the case.

    Returns:
        By measure, a value for each foreground class or region.
    """
    diagonal = float(np.linalg.norm(np.array(label.shape) * spacing))
    in_one = {measure: diagonal if measure in HAUSDORFF else 0.0 for measure in measures}
    values = {measure: np.full(classes, np.nan) for measure in measures}
    if members is not None:
        ours, truth = _as_bytes(prediction, label)
        each = []
        for held in (np.flatnonzero(region).tolist() for region in members):
            masks = find_values(ours, held).view(np.uint8), find_values(truth, held).view(np.uint8)
            each.append(shape_measures(*masks, spacing, 1, tolerance, measures))
        return {measure: np.concatenate([values[measure] for values in each]) for measure in measures}
    maps = _as_bytes(prediction, label)
    boxes = [ndimage.find_objects(numbers, max_label=classes) for numbers in maps]
    for index, (predicted, labeled) in enumerate(zip(*boxes, strict=True)):
        if predicted and labeled:
            box = _union(predicted, labeled)
            first, second = (np.pad(numbers[box] == index + 1, 1) for numbers in maps)
            measured = _measure(first, second, spacing, tolerance, measures)
        elif predicted or labeled:
            measured = in_one
        else:
            continue
        for measure in measures:
            values[measure][index] = measured[measure]
    return values


def _measure(
    first: Bool[np.ndarray, "d h w"],
    second: Bool[np.ndarray, "d h w"],
    spacing: Spacing,
    tolerance: float,
    measures: Collection[str],
) -> dict[str, float]:
    measured = {}
    if not set(measures).isdisjoint(HAUSDORFF):
        measured |= hausdorff_measures(first, second, spacing)
    if "nsd" in measures:
        measured["nsd"] = nsd(first, second, spacing, tolerance)
    if "lesion_f1" in measures:
        measured["lesion_f1"] = lesion_f1(first, second)
    return measured


def _as_bytes(
    prediction: Integer[np.ndarray, "d h w"], label: Integer[np.ndarray, "d h w"]
) -> list[UInt8[np.ndarray, "d h w"]]:
    """Both maps as uint8, with background where the label is ignored; copied only if necessary."""
    maps = [values.astype(np.uint8, copy=False) for values in (prediction, label)]
    ignored = maps[1] == IGNORED
    if ignored.any():
        maps = [np.where(ignored, np.uint8(0), values) for values in maps]
    return maps


def _union(first: tuple[slice, ...], second: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def lesion_f1(prediction: Bool[np.ndarray, "d h w"], label: Bool[np.ndarray, "d h w"]) -> float:
    """F1 score of detected components, 2·TP/(2·TP+FP+FN).

    The rule of overlap is that of ISLES 2022 (Hernandez Petzsche et al. 2022, Sci Data 9:762): a component of the label
    is found if any of its voxels is predicted, and a component of the prediction is false if none of its voxels is
    labeled.

    Args:
        prediction: A non-empty mask.
        label: Another one on the same grid.
    """
    missed, found = _missed_and_touched(label, prediction)
    false, _ = _missed_and_touched(prediction, label)
    return 2 * found / (2 * found + false + missed)


def _missed_and_touched(mask: Bool[np.ndarray, "d h w"], other: Bool[np.ndarray, "d h w"]) -> tuple[int, int]:
    """The numbers of a mask's components that share no voxel with another mask, and that do."""
    numbers, voxels = number_components(mask)
    touched = int(np.count_nonzero(count_numbers(numbers, len(voxels) - 1, other)[1:]))
    return len(voxels) - 1 - touched, touched
