"""Cross-validation: one training per fold, each an ordinary run in its own folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inflate3d.config import DataConfig, RunConfig, TrainingConfig
from inflate3d.errors import ConfigError
from inflate3d.run_folder import FoldsFolder, RunFolder


def check_alone(training: TrainingConfig, data: DataConfig, root: Path) -> None:
    """Checks that a single process can train the folds one after another.

    Args:
        data: The data settings, with the fold if one was given.
    """
    if training.devices * training.nodes > 1:
        raise ConfigError(
            "folds are trained one after another by one process",
            expected="--devices 1 and --nodes 1 beside --folds",
            got=f"--devices {training.devices} --nodes {training.nodes}",
            hint=f"train each fold with its own command, such as --fold 0 --run {root / 'fold-0'}",
        )
    if data.fold:
        raise ConfigError(
            "a fold is named twice",
            expected="--fold for one, or --folds for several",
            got=f"--fold {data.fold} beside --folds",
            hint=f"use --folds {data.fold} for that one alone",
        )


def plan_folds(
    config: RunConfig, numbers: Sequence[int], folder: FoldsFolder, *, resume: bool = False
) -> list[tuple[RunConfig, RunFolder]]:
    """The runs of a cross-validation, checked before the first is trained.

    Args:
        numbers: Numbers of the folds, see `choose_folds`.
        resume: Whether runs may exist already.

    Returns:
        Each run's configuration and folder.
    """
    if RunFolder(folder.root).config.exists():
        raise ConfigError(
            "the folder of the folds holds a single run",
            expected="a new folder, or one of folds",
            hint="choose another folder with --run",
            file=folder.root,
        )
    folds = []
    for number in numbers:
        data = config.data.model_copy(update={"fold": number})
        folds.append((config.model_copy(update={"data": data}), folder.fold(number)))
    there = [(settings, fold) for settings, fold in folds if fold.config.exists()]
    if there and not resume:
        raise ConfigError(
            "runs of these folds already exist",
            got=", ".join(fold.root.name for _, fold in there),
            hint="resume them with --resume, or choose another folder with --run",
            file=folder.root,
        )
    for settings, fold in there:
        settings.check_unchanged(fold.config)
    return folds
