"""Scoring a run on the cases that it held out: predict each once, count on both grids."""

from __future__ import annotations

import time

import numpy as np
import torch

from inflate3d.config import RunConfig
from inflate3d.datasets import Case, Dataset, Split, read_dataset
from inflate3d.errors import DataError
from inflate3d.evaluation.keeper import ScoreKeeper
from inflate3d.evaluation.measures import TOLERANCE, Tolerance
from inflate3d.evaluation.scores import Scores
from inflate3d.inference.predictor import Predictor
from inflate3d.io import write_labels
from inflate3d.models.oom import is_oom, out_of_memory_error
from inflate3d.preparation.verify import check_case
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import RunFolder, ScoredFolder
from inflate3d.volume import spacing_of


def evaluate_run(
    folder: RunFolder, *, batch_size: int = 16, tolerance: Tolerance = TOLERANCE, progress: Progress = silent
) -> Scores:
    """Predicts and scores the cases that a run held out, and writes both into its folder.

    Args:
        folder: A finished run.
        batch_size: Windows predicted at a time.
        tolerance: Millimeters within which a surface counts as right, for all classes or by class.
        progress: Shows how far it is.

    Raises:
        ModelError: The run has no model.
        DataError: Its dataset is gone, or a case can't be read.
        OutputError: A file can't be written, or another process is training or evaluating the run.
    """
    with folder.locked():
        predictor = Predictor.load(folder.model, batch_size=batch_size)
        scores = score_held_out(
            predictor,
            read_dataset(RunConfig.read(folder.config).dataset),
            Split.read(folder.split).held_out,
            folder=folder,
            tolerance=tolerance,
            progress=progress,
        )
        scores.write(folder.evaluation)
    return scores


def score_held_out(
    predictor: Predictor,
    dataset: Dataset,
    held_out: tuple[str, ...],
    *,
    folder: ScoredFolder | None = None,
    tolerance: Tolerance = TOLERANCE,
    progress: Progress = silent,
) -> Scores:
    """Predicts and scores the held-out cases from their own files.

    Args:
        predictor: The trained network.
        dataset: Where the cases are.
        held_out: Their ids.
        folder: The run that keeps their predicted label maps; none are written if not given.
        tolerance: Millimeters within which a surface counts as right, for all classes or by class.
        progress: Shows how far it is.

    Raises:
        DataError: A case is not in the dataset, or can't be read.
        OutputError: A label map can't be written.
    """
    keeper = ScoreKeeper(predictor.plan.class_names, tolerance=tolerance)
    score_cases(predictor, dataset, held_out, keeper, folder=folder, progress=progress)
    return keeper.scores()


def score_cases(
    predictor: Predictor,
    dataset: Dataset,
    held_out: tuple[str, ...],
    keeper: ScoreKeeper,
    *,
    folder: ScoredFolder | None = None,
    progress: Progress = silent,
    doing: str = "evaluating",
) -> None:
    """The same, into a keeper that may hold the scores of other networks' cases.

    Args:
        predictor: The trained network.
        dataset: Where the cases are.
        held_out: Their ids.
        keeper: Gathers the scores.
        folder: Where the predicted label maps go; none are written if not given.
        progress: Shows how far it is.
        doing: What it is called there.

    Raises:
        DataError: A case is not in the dataset, can't be read, or is too large for the memory.
        OutputError: A label map can't be written.
    """
    cases = {case.id: case for case in dataset.cases}
    if missing := [case for case in held_out if case not in cases]:
        raise DataError(
            "held-out case is not in the dataset",
            case=missing[0],
            file=dataset.root,
            hint="evaluate with the dataset that the run was trained on",
        )
    for name in progress(iter(held_out), len(held_out), doing):
        try:
            _score_case(predictor, dataset, cases[name], keeper, folder)
        except (RuntimeError, MemoryError) as error:
            if not is_oom(error):
                raise
            raise out_of_memory_error(error).with_context(case=name, file=cases[name].scan) from error


def _score_case(
    predictor: Predictor, dataset: Dataset, case: Case, keeper: ScoreKeeper, folder: ScoredFolder | None
) -> None:
    plan = predictor.plan
    known = plan.apply_to(dataset)  # what a run ignores or joins, the files need not say
    volume, label_volume = check_case(case, known, allow_missing_modality=plan.allow_missing_modality)
    started = time.perf_counter()
    scan = predictor.frame(volume)
    labels = plan.number_classes(scan.orientation.apply(label_volume.array[0]))
    label = torch.from_numpy(labels.astype(np.int64))
    predicted = torch.empty_like(label)
    assessment = predictor.assess(scan)
    for first, logits in predictor.slice_logits(scan):
        part = slice(first, first + len(logits))
        predicted[part] = assessment.add([logits])[0].cpu()
        keeper.add_pooled(logits.argmax(1).cpu(), predictor.on_model_grid(label[part], scan))
    keeper.add_seconds(case.id, time.perf_counter() - started)
    keeper.add_native(case.id, predicted, label)
    keeper.add_confidence(case.id, list(assessment.confidence().classes.values()))
    own = volume.affine @ scan.orientation.index_matrix(volume.shape)
    keeper.add_surfaces(case.id, predicted, label, spacing_of(own))
    keeper.add_group(case.id, "group", case.group)
    if folder is not None:
        values = scan.orientation.undo(plan.label_values[predicted.numpy()])
        write_labels(folder.prediction(case.id), values, like=case.scan)
