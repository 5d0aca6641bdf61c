"""Scoring a run on the cases that it held out: predict each once, count on both grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import ScoreKeeper, Scores
from inflate3d.inference.predictor import Predictor
from inflate3d.io import write_labels
from inflate3d.preparation.store import number_classes
from inflate3d.preparation.verify import check_case
from inflate3d.progress import Progress, silent
from inflate3d.windows.resample import identity_matrices, resample_labels


def score_held_out(
    predictor: Predictor,
    dataset: Dataset,
    held_out: tuple[str, ...],
    *,
    predictions: Path | None = None,
    progress: Progress = silent,
) -> Scores:
    """Predicts and scores the held-out cases from their own files.

    Args:
        predictor: The trained network.
        dataset: Where the cases are.
        held_out: Their ids.
        predictions: Folder for their predicted label maps; none are written if not given.
        progress: Shows how far it is.

    Raises:
        DataError: A case is not in the data set, or can't be read.
        OutputError: A label map can't be written.
    """
    cases = {case.id: case for case in dataset.cases}
    if missing := [case for case in held_out if case not in cases]:
        raise DataError(
            "held-out case is not in the data set",
            case=missing[0],
            file=dataset.root,
            remedy="evaluate with the data set that the run was trained on",
        )
    keeper = ScoreKeeper(predictor.plan.class_names)
    for name in progress(iter(held_out), len(held_out), "evaluating"):
        _score_case(predictor, dataset, cases[name], keeper, predictions)
    return keeper.scores()


def _score_case(
    predictor: Predictor, dataset: Dataset, case: Case, keeper: ScoreKeeper, predictions: Path | None
) -> None:
    volume, label_volume = check_case(case, dataset)
    scan = predictor.frame(volume)
    labels = number_classes(scan.orientation.apply(label_volume.array[0]), predictor.plan)
    label = torch.from_numpy(labels.astype(np.int64))
    predicted = torch.empty_like(label)
    for first, logits in predictor.slice_logits(scan):
        part = slice(first, first + len(logits))
        predicted[part] = predictor.on_own_grid(logits, scan).cpu()
        size = (logits.shape[-2], logits.shape[-1])
        on_model_grid = resample_labels(label[part], identity_matrices(len(logits)), size)
        keeper.add_pooled(logits.argmax(1).cpu(), on_model_grid)
    keeper.add_native(case.id, predicted, label)
    if predictions is not None:
        values = predictor.plan.label_values[predicted.numpy()]
        write_labels(predictions / f"{case.id}.nii.gz", scan.orientation.undo(values), like=case.images[0])
