"""Stops a training when its loss becomes NaN, and keeps the last good state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, distributed

from inflate3d.errors import Inflate3dError, truncate


class DivergedError(Inflate3dError):
    """The loss or the weights of a training became infinite or NaN."""


class StopOnNaN(lightning.Callback):
    """Ends a training whose loss or weights are infinite or NaN, before they get into a checkpoint.

    Losses stay where they are, and are read where they are logged, before each validation and before each checkpoint:
    reading one of a GPU waits for it. The step that is reported is the first bad one all the same.

    Args:
        cases: All ids of the store in order; a batch names its cases by their numbers in it.
    """

    def __init__(self, checkpoint: Path, cases: Sequence[str], every: int) -> None:
        self.checkpoint, self.cases, self.every = checkpoint, list(cases), every
        self._losses: list[Tensor] = []
        self._batches: list[tuple[int, Tensor]] = []
        self._saved: int | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._saved = trainer.global_step or None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Keeps the loss and the cases of the batch, and checks now and then."""
        accumulated = trainer.fit_loop.epoch_loop.batch_progress.current.ready % trainer.accumulate_grad_batches
        self._losses.append(outputs["loss"].detach())
        self._batches.append((trainer.global_step + bool(accumulated), batch.cases))
        if not accumulated and trainer.global_step % self.every == 0:
            self._look()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Checks before a validation, which takes long."""
        self._look()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Checks losses and weights: an error here prevents the checkpoint from being written."""
        self._look()
        for name, values in checkpoint["state_dict"].items():
            if values.is_floating_point() and not values.isfinite().all():
                raise self._diverged(
                    "the training has come to weights that are infinite or not numbers",
                    f"{name.removeprefix('model.')} after step {trainer.global_step}",
                )
        self._saved = trainer.global_step

    def _look(self) -> None:
        losses, batches = self._losses, self._batches
        self._losses, self._batches = [], []
        if not losses:
            return
        values = torch.stack(losses)
        bad = (~values.isfinite()).nonzero()
        if not len(bad):
            return
        first = int(bad[0])
        step, cases = batches[first]
        raise self._diverged(
            "the loss is no longer finite",
            f"{float(values[first])} in step {step}, cases of the batch: {truncate(self._names(cases), 20)}",
        )

    def _names(self, cases: Tensor) -> list[str]:
        """The cases in the batches of all processes, which share one loss."""
        numbers = cases.tolist()
        if distributed.is_available() and distributed.is_initialized():
            gathered: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(gathered, numbers)
            numbers = [number for part in gathered for number in part]
        return [self.cases[number] for number in dict.fromkeys(numbers)]

    def _diverged(self, what: str, got: str) -> DivergedError:
        kept = f"the last good checkpoint is of step {self._saved}" if self._saved else "there was no checkpoint yet"
        return DivergedError(
            what,
            expected="a finite number",
            got=got,
            hint=f"look at these cases; train again with a smaller --learning-rate, or --precision 32 ({kept})",
            file=self.checkpoint if self._saved else None,
        )
