"""Scoring a cross-validation: every case by the network that held it out, all cases in one table."""

from __future__ import annotations

from collections import Counter

from inflate3d.config import RunConfig
from inflate3d.datasets import Split, read_dataset
from inflate3d.errors import ConfigError, DataError, truncate
from inflate3d.evaluation.keeper import ScoreKeeper
from inflate3d.evaluation.measures import TOLERANCE, Tolerance
from inflate3d.evaluation.scores import Scores
from inflate3d.inference.ensemble import check_agreement, find_models
from inflate3d.inference.held_out import score_cases
from inflate3d.inference.predictor import Predictor
from inflate3d.preparation.plan import Plan
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import FoldsFolder, RunFolder

FOLD = "fold"
"""The kind of group that tells a case's fold."""


def evaluate_folds(
    folder: FoldsFolder, *, batch_size: int = 16, tolerance: Tolerance = TOLERANCE, progress: Progress = silent
) -> Scores:
    """Predicts and scores every case by the network that held it out, and writes all into the folder of the folds.

    Args:
        folder: Finished runs, each of which held out other cases; not every fold need be there.
        batch_size: Windows predicted at a time.
        tolerance: Millimeters within which a surface counts as right, for all classes or by class.
        progress: Shows how far it is.

    Returns:
        The scores of all cases; the group `FOLD` of each is the name of its run's folder.

    Raises:
        ModelError: A run is not finished, or the networks have different classes.
        ConfigError: The runs are of different datasets.
        DataError: Two runs held out the same case, the dataset is gone, or a case can't be read.
        OutputError: A file can't be written.
    """
    held_out = read_held_out(folder)
    dataset = read_dataset(RunConfig.read(folder.runs[0].config).dataset)
    keeper = ScoreKeeper(Plan.read(folder.runs[0].plan).class_names, tolerance=tolerance)
    for fold in folder.runs:
        name = fold.root.name
        predictor = Predictor.load(fold.model, batch_size=batch_size)
        score_cases(
            predictor, dataset, held_out[name], keeper, folder=folder, progress=progress, doing=f"evaluating {name}"
        )
        for case in held_out[name]:
            keeper.add_group(case, FOLD, name)
    scores = keeper.scores()
    scores.write(folder.evaluation)
    return scores


def read_held_out(folder: FoldsFolder) -> dict[str, tuple[str, ...]]:
    """The cases that each fold held out, by the name of its folder, if the runs are folds of one cross-validation.

    Raises:
        ModelError: A run is not finished, or the networks have different classes.
        ConfigError: The runs are of different datasets.
        DataError: Two runs held out the same case.
    """
    find_models(folder.root)  # tells which are not finished
    runs = folder.runs
    check_agreement([Plan.read(run.plan) for run in runs], [run.root for run in runs])
    _check_one_dataset(runs, folder)
    held_out = {run.root.name: Split.read(run.split).held_out for run in runs}
    counts = Counter(case for cases in held_out.values() for case in cases)
    if twice := sorted(case for case, count in counts.items() if count > 1):
        raise DataError(
            "the runs are no folds of one cross-validation: several held out the same case",
            expected="each case held out by one run",
            got=truncate(twice),
            hint="evaluate each run by itself",
            case=twice[0],
            file=folder.root,
        )
    return held_out


def _check_one_dataset(runs: list[RunFolder], folder: FoldsFolder) -> None:
    datasets = sorted({str(RunConfig.read(run.config).dataset) for run in runs})
    if len(datasets) > 1:
        raise ConfigError(
            "the runs are no folds of one cross-validation: they learned from different datasets",
            expected="one dataset",
            got=truncate(datasets),
            hint="evaluate each run by itself",
            file=folder.root,
        )
