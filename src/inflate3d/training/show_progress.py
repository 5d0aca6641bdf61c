"""Progress display of a training."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

REFRESH = 1.0
"""Seconds between updates of the loss in the progress bar: each one waits for the GPU."""


class ShowProgress(lightning.Callback):
    """A bar with loss, data time, validation Dice and time left; without a terminal, single lines.

    The data time is the part of the time, since it was last shown, that the training waited for the loader.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  data {task.fields[data]:.0%}  dice {task.fields[dice]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("training", total=steps, loss=math.nan, data=0.0, dice="–", visible=True)
        self._looked, self._waited = time.monotonic(), 0.0
        self._shown = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._look(trainer)
        self.bar.update(self.task, completed=trainer.global_step)
        if self.console.is_terminal:
            self.bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Advances the bar; reads the loss only when it is shown."""
        step = trainer.global_step
        self.bar.update(self.task, completed=step)
        on_terminal = self.console.is_terminal
        due = time.monotonic() - self._looked >= REFRESH if on_terminal else step % max(1, self.steps // 20) == 0
        if not due or step == self._shown:
            return
        self._shown = step
        loss, data = float(outputs["loss"]) * trainer.accumulate_grad_batches, self._look(trainer)
        self.bar.update(self.task, loss=loss, data=data)
        if not on_terminal:
            remaining = self.bar.tasks[0].time_remaining
            left = f", {remaining:.0f} s left" if remaining is not None else ""
            figures = f"loss {loss:.3f}, data {data:.0%}{left}"
            self.console.print(f"training: step {step}/{self.steps}, {figures}", highlight=False)

    def _look(self, trainer: lightning.Trainer) -> float:
        """The fraction of the time since the last look that the training waited for batches."""
        loader: Any = trainer.train_dataloader  # a `TimedLoader`
        now, waited = time.monotonic(), loader.seconds
        share = (waited - self._waited) / max(now - self._looked, 1e-9)
        self._looked, self._waited = now, waited
        return share

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._look(trainer)
        dice = f"{float(trainer.callback_metrics['dice']):.3f}"
        self.bar.update(self.task, dice=dice)
        if not self.console.is_terminal:
            self.console.print(f"training: step {trainer.global_step}, validation dice {dice}", highlight=False)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self.bar.stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Removes the bar: after an error Lightning does not call `teardown`."""
        self.bar.stop()
