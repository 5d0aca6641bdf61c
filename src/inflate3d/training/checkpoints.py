"""The training state in ``last.ckpt``: saved after each validation, at intervals in between, and when stopped."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import distributed

from inflate3d.atomic import atomic_path
from inflate3d.stopping import STOP_SIGNALS, Interrupted
from inflate3d.training.task import SegmentationTask

CHECKPOINT_SECONDS = 600.0
"""Seconds between checkpoints: a killed training loses at most this, and the validation that it was in."""

_DUE = "validation_is_due"
"""Key in a checkpoint: whether its step has yet to be validated."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically; Lightning itself can leave a partial one in place of the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic_path(path, refusals=(RuntimeError,)) as temporary:
            torch.save(checkpoint, temporary)


class RelocatableCheckpoint(ModelCheckpoint):
    """Keeps the best score when a run's folder was moved; Lightning would forget it and take a worse one."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Treats files of an earlier session as those in the folder's current place."""
        assert self.dirpath is not None
        folder = Path(self.dirpath)

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else ""

        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "dirpath": self.dirpath, "best_k_models": scores})


class CheckpointOnSignal(lightning.Callback):
    """Writes the state every ten minutes, and on Ctrl-C or SIGTERM before it stops; a second Ctrl-C stops at once.

    A stop only waits for the current optimizer step or the current slice of a validation (the scan, if there are
    several processes): a step that has yet to be validated is validated when the training is resumed. The last step is
    always validated.

    With several processes, a signal to one suffices: after each step they synchronize, and stop together.
    """

    def __init__(self, checkpoint: Path, validate_every: int) -> None:
        self.checkpoint, self.validate_every = checkpoint, validate_every
        self.asked = 0
        self.started = False
        self._due = False
        self._validated: int | None = None
        self._steps: int | None = None
        self._written = time.monotonic()
        self._shared_batches = 0
        self._group: Any = None

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[_DUE] = self._due
        self._written = time.monotonic()

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A training whose last validation is still due must not be taken for a finished one."""
        self._due = checkpoint.get(_DUE, False)
        if self._due and checkpoint["global_step"] == trainer.max_steps:
            self._steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps += 1  # until the training has started

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Installs the signal handlers, also over Lightning's, and runs the validation that is due."""
        self.started = True
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo")  # between CPUs: no GPU is waited for
        if threading.current_thread() is threading.main_thread():  # others can't
            for number in STOP_SIGNALS:
                signal.signal(number, self._ask)
        self._written = time.monotonic()
        if self._due:
            _validate(trainer)
        if self._steps is not None:
            trainer.fit_loop.epoch_loop.max_steps = self._steps

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        """Writes the state between two optimizer steps if it is time, and stops if asked to."""
        self._validated = None
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready % trainer.accumulate_grad_batches:
            return
        finished = trainer.global_step == trainer.max_steps
        if finished:
            trainer.should_stop = True  # Lightning validates before it stops
        self._due = finished or trainer.global_step % self.validate_every == 0
        late = time.monotonic() - self._written > CHECKPOINT_SECONDS
        asked, late = self._most(self.asked, int(late))
        self._leave_if_asked(trainer, asked)
        if late:
            trainer.save_checkpoint(self.checkpoint)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Finds out how many scans every process has: only at those can they communicate."""
        if trainer.world_size == 1 and isinstance(pl_module, SegmentationTask):
            pl_module.after_slice = lambda: self._leave_if_asked(trainer, self.asked)
        (least,) = self._most(-int(trainer.num_val_batches[0]))
        self._shared_batches = -least

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        """Stops in the middle of a validation if asked to."""
        if batch_idx >= self._shared_batches:
            return
        self._leave_if_asked(trainer, *self._most(self.asked))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._due, self._validated = False, trainer.global_step

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stops after a validation if asked to; the state was written there."""
        if self._validated != trainer.global_step:
            return
        (asked,) = self._most(self.asked)
        if asked:
            raise _stopped(trainer, asked)

    def _leave_if_asked(self, trainer: lightning.Trainer, asked: int) -> None:
        if asked:
            trainer.save_checkpoint(self.checkpoint)
            raise _stopped(trainer, asked)

    def _most(self, *values: int) -> list[int]:
        """The maximum over all processes, which must call this at the same points."""
        if self._group is None:
            return list(values)
        largest = torch.tensor(values)
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=self._group)
        return largest.tolist()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise Interrupted("stopped at once", number=number)
        self.asked = number


def _stopped(trainer: lightning.Trainer, number: int) -> Interrupted:
    step = trainer.global_step
    return Interrupted(f"stopped after step {step}", number=number, step=step)


def _validate(trainer: lightning.Trainer) -> None:
    """Validates before the first step, as Lightning does after one."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True
