"""Dice of predictions with the label maps that people finished."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Integer

from inflate3d.datasets.case import Dataset
from inflate3d.evaluation.metrics import dice, overlap_counts
from inflate3d.evaluation.postprocessing.steps import read_postprocessing
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.scan_warnings import log_warnings
from inflate3d.preparation.verify import check_case


def held_out_dice(
    model: Path, dataset: Dataset, cases: Sequence[str], *, device: str | None = None
) -> dict[str, float]:
    """Predicts cases as the server does, and scores them.

    Args:
        model: Folder of a run or model.
        cases: Ids of labeled cases.

    Returns:
        Mean Dice over the classes of each case on its own grid; cases in which no class is labeled or predicted are
        left out.
    """
    predictor = Predictor.load(model, device=device)
    plan = predictor.plan
    steps = read_postprocessing((model,), plan.classes, plan.regions)
    known, found = plan.apply_to(dataset), {}
    for case in (case for case in dataset.cases if case.id in cases):
        volume, label = check_case(case, known, allow_missing_modality=plan.allow_missing_modality)
        width = steps.depth_filter if steps else 0.0
        prediction = predictor.predict(volume, depth_filter=width, log_warnings=False)
        log_warnings(prediction.warnings, case=case.id)
        labels = prediction.labels
        if steps and steps.classes:
            labels = steps.apply(labels, volume.spacing)
        maps = plan.number_classes(labels), plan.number_classes(label.array[0])
        found[case.id] = mean_dice(*maps, len(plan.classes), plan.members)
    return {case: value for case, value in found.items() if not math.isnan(value)}


def mean_dice(
    predicted: Integer[np.ndarray, "i j k"],
    labels: Integer[np.ndarray, "i j k"],
    classes: int,
    members: Bool[np.ndarray, "regions k"] | None = None,
) -> float:
    """Mean Dice over the classes that are in either map; NaN if none is.

    Args:
        predicted: Class numbers.
        labels: Class numbers; ignored voxels are not counted.
        classes: Number of classes, background included.
        members: Which classes each region holds, to score regions instead.
    """
    one, other = (torch.from_numpy(np.ascontiguousarray(each, np.int64)) for each in (predicted, labels))
    values = dice(overlap_counts(one, other, classes, members))[1:]
    return float(values.nanmean())


def mean_of(scores: Mapping[str, float]) -> float | None:
    """Mean over the cases; None if there are none."""
    return sum(scores.values()) / len(scores) if scores else None
