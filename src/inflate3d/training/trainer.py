"""Lightning's trainer, configured for a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from lightning_fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console

from inflate3d.config import RunConfig
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import RunFolder
from inflate3d.training.checkpoints import AtomicCheckpoints, CheckpointOnSignal, RelocatableCheckpoint
from inflate3d.training.csv_log import CsvLog
from inflate3d.training.loggers import LogPictures, open_board
from inflate3d.training.processes import BroadcastBuffers, Processes, make_strategy
from inflate3d.training.show_progress import ShowProgress
from inflate3d.training.stop_on_nan import StopOnNaN

VALIDATIONS = 5
"""Default number of validations in a whole training, the last one after its last step."""


def make_trainer(
    config: RunConfig,
    folder: RunFolder,
    plan: Plan,
    cases: Sequence[str],
    processes: Processes,
    console: Console | None,
    callbacks: Sequence[lightning.Callback] = (),
) -> lightning.Trainer:
    """Lightning's trainer for a run, on all of its devices.

    Args:
        cases: All ids of the store in order.
        processes: Who trains it together; the first one alone logs and shows.
        console: Where to show progress; by default nowhere.
        callbacks: The user's own.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    training = config.training
    assert training.precision != "auto", "choose_precision decides on it"
    every = training.validate_every or -(-training.steps // VALIDATIONS)
    board = open_board(config, folder) if processes.first else None
    log = CsvLog(folder.metrics, training.steps, plan.class_names[1:])
    own: list[lightning.Callback] = [
        log,
        *([LogPictures(board, plan.class_names[1:])] if board else []),
        *([ShowProgress(console, training.steps)] if console and processes.first else []),
        StopOnNaN(folder.last, cases, log.every),
        CheckpointOnSignal(folder.last, every),
        BroadcastBuffers(),
        *([_checkpoint(folder.best, monitor="dice", mode="max")] if training.keep == "best" else []),
        _checkpoint(folder.last),
    ]
    try:
        return lightning.Trainer(
            max_steps=training.steps,
            val_check_interval=every * training.accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            accumulate_grad_batches=training.accumulate,
            gradient_clip_val=training.gradient_clip or None,
            precision=training.precision,
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.nodes,
            strategy=make_strategy(processes),
            use_distributed_sampler=False,
            callbacks=[*callbacks, *own],
            plugins=[AtomicCheckpoints(), processes.environment],
            logger=board.logger if board else False,
            log_every_n_steps=log.every,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder.root,
        )
    except MisconfigurationException as error:
        raise ConfigError(
            "invalid accelerator",
            got=f"--accelerator {training.accelerator} --devices {training.devices}: {error}",
            hint="give --accelerator auto, and no more devices than available",
        ) from error


def _checkpoint(file: Path, **how: Any) -> RelocatableCheckpoint:
    """Writes a file after validations."""
    return RelocatableCheckpoint(file.parent, filename=file.stem, enable_version_counter=False, **how)
