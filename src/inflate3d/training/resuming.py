"""What a run's folder must contain to be resumed or extended."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from inflate3d.atomic import remove_temporaries
from inflate3d.config import RunConfig, differing
from inflate3d.datasets.splits import Split
from inflate3d.errors import ConfigError, ModelError
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import RunFolder

logger = logging.getLogger(__name__)


def take_folder(folder: RunFolder, config: RunConfig, resume: bool) -> RunConfig:
    """Checks that the folder is free, or contains this very run; prepares one that is to be extended."""
    if not folder.config.exists():
        return config
    if not resume:
        raise ConfigError(
            "run directory already exists",
            file=folder.root,
            hint="resume it with --resume, or choose another folder with --run",
        )
    remove_temporaries(folder.last.parent)  # a killed training may have left half a checkpoint
    before = RunConfig.read(folder.config)
    kept = {"extended_from": before.training.extended_from}
    config = config.model_copy(update={"training": config.training.model_copy(update=kept)})
    done, steps = before.training.steps, config.training.steps
    aside = folder.root / f"after-{done}-steps"
    if (folder.finished or aside.exists()) and steps > done and set(differing(before, config)) == {"steps"}:
        return _extend(folder, aside, config, done)
    config.check_unchanged(folder.config)
    if before.training.extended_from and not folder.finished:
        _check_begun(folder)
    if before.dataset != config.dataset:
        logger.info("dataset moved from %s to %s; its cases are compared", before.dataset, config.dataset)
    return config


def _extend(folder: RunFolder, aside: Path, config: RunConfig, done: int) -> RunConfig:
    """Sets aside the results of the finished training, if its checkpoint is whole: the run is unfinished again."""
    _check_begun(folder)
    check_checkpoint(folder.last)
    aside.mkdir(exist_ok=True)
    for path in (folder.evaluation, folder.predictions, folder.report, folder.model):
        if path.exists():
            shutil.move(path, aside / path.name)
    config = config.model_copy(update={"training": config.training.model_copy(update={"extended_from": done})})
    config.write(folder.config)
    logger.info(
        "extending the finished training from step %d to %d, with a new learning-rate schedule; its model is in %s",
        done,
        config.training.steps,
        aside,
    )
    return config


def _check_begun(folder: RunFolder) -> None:
    """An extended run has a schedule that begins where its last checkpoint is: it can't start over."""
    if not folder.last.exists():
        raise ModelError(
            "the run can't be extended without its last checkpoint",
            expected=f"{folder.last.name}, which the training wrote at its end",
            hint="start a new run from this one's model: --weights RUN",
            file=folder.last,
        )


def check_plan(folder: RunFolder, plan: Plan) -> None:
    """Checks that an existing run still has the plan it was started with.

    Args:
        plan: What `plan_run` gives now.
    """
    if not folder.plan.exists():
        return
    if differing := Plan.read(folder.plan).differing(plan):
        raise ConfigError(
            "the plan has changed since this run was started",
            expected=", ".join(f"{name} {old}" for name, (old, _) in differing.items()),
            got=", ".join(f"{name} {new}" for name, (_, new) in differing.items()),
            hint="prepare the dataset as it was, or choose another folder with --run or --out",
            file=folder.plan,
        )


def check_split(folder: RunFolder, split: Split) -> None:
    """Checks that a run is resumed with the split it was started with: it might train on held-out cases otherwise."""
    if not folder.split.exists():
        return
    before = Split.read(folder.split)
    if not before.has_cases_of(split):
        raise ConfigError(
            "the split has changed since this run was started",
            expected=before.source,
            got=f"{split.source}, with other cases",
            hint="restore the dataset's split, or choose another folder with --run",
            file=folder.split,
        )


def check_checkpoint(file: Path) -> None:
    """Rejects a damaged checkpoint, and one that claims more than it holds, before torch's loader builds anything."""
    import pickle

    from inflate3d.models.torch_file import DAMAGED, check_sums, check_torch_file

    try:
        if check_torch_file(file):
            check_sums(file)
    except (pickle.UnpicklingError, *DAMAGED) as error:
        raise bad_checkpoint(file, error) from error


def bad_checkpoint(file: Path, error: BaseException) -> ModelError:
    """The error for a checkpoint that can't be resumed from."""
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return ModelError(
        "invalid checkpoint to resume from",
        expected="the checkpoint that this training wrote",
        got=f"{type(error).__name__}: {reason}",
        hint="delete it to start over; a run that was extended can't start over: restore the file",
        file=file,
    )
