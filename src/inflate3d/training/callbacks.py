"""What happens beside the training steps: the log, the progress display, a stop that loses nothing."""

from __future__ import annotations

import csv
import io
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from inflate3d.atomic import atomic_path, write_text

LOG_INTERVALS = 100
"""Rows of the log for a whole training, besides those of validations."""


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Leaves the process's signal handlers as they were, whatever a training does with them."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


class Interrupted(Exception):  # noqa: N818 - not an error, the user wanted it
    """The training was stopped by a signal, after a checkpoint was written.

    Attributes:
        step: Optimizer steps done.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"stopped after step {step}")


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all; Lightning's own way can leave half of one over the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes one.

        Raises:
            OutputError: The system refuses to write.
        """
        with atomic_path(path, refusals=(RuntimeError,)) as temporary:
            torch.save(checkpoint, temporary)


class StopOnSignal(lightning.Callback):
    """On Ctrl-C or SIGTERM finishes the step, writes a checkpoint, and leaves; a second Ctrl-C leaves at once.

    A step that a validation follows is left after the validation, with the checkpoint that this writes: a resumed
    training would not go back to it.

    Args:
        checkpoint: The file to write.
        validate_every: Steps between validations.
    """

    def __init__(self, checkpoint: Path, validate_every: int) -> None:
        self.checkpoint, self.validate_every = checkpoint, validate_every
        self.asked = False
        self._validated: int | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals over, Lightning's own handler included."""
        if threading.current_thread() is threading.main_thread():  # others can't
            for number in STOP_SIGNALS:
                signal.signal(number, self._ask)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Leaves between two optimizer steps, if asked."""
        self._validated = None
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        validation_is_due = trainer.global_step % self.validate_every == 0
        if self.asked and batches % trainer.accumulate_grad_batches == 0 and not validation_is_due:
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted(trainer.global_step)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remembers which step has been validated."""
        self._validated = trainer.global_step

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leaves after a validation, if asked."""
        if self.asked and self._validated == trainer.global_step:
            raise Interrupted(trainer.global_step)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


class CsvLog(lightning.Callback):
    """Writes ``metrics.csv``: loss, learning rate and time of some steps, Dice of each validation.

    A resumed training keeps the rows up to the step it goes on from.

    Args:
        path: The file.
        steps: Steps of the whole training.
        class_names: Foreground classes.
    """

    def __init__(self, path: Path, steps: int, class_names: tuple[str, ...]) -> None:
        self.path = path
        self.every = max(1, steps // LOG_INTERVALS)
        self.columns = [
            "step",
            "loss",
            "learning_rate",
            "seconds",
            "dice",
            *(f"dice/{c}" for c in class_names),
        ]
        self._started = time.monotonic()
        self._losses: list[float] = []
        self._logged = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Starts the file anew, or cuts it back to the step that the training goes on from."""
        kept: list[dict[str, str]] = []
        if trainer.global_step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.global_step]
        self._started = time.monotonic() - (float(kept[-1]["seconds"]) if kept else 0.0)
        self._logged = trainer.global_step
        lines = [self.columns, *([row[column] for column in self.columns] for row in kept)]
        write_text(self.path, "".join(map(_csv_line, lines)))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Gathers losses, and writes their mean now and then."""
        self._losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        step = trainer.global_step
        if step % self.every == 0 and step > self._logged:
            self._row(trainer, {"loss": sum(self._losses) / len(self._losses)})
            self._losses, self._logged = [], step

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Writes the validation's Dice."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name in self.columns}
        self._row(trainer, {name: value for name, value in values.items() if name.startswith("dice")})

    def _row(self, trainer: lightning.Trainer, values: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        known = {"learning_rate": rate, "seconds": time.monotonic() - self._started, **values}
        cells = [
            str(trainer.global_step),
            *(f"{known[c]:.6g}" if c in known else "" for c in self.columns[1:]),
        ]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_csv_line(cells))


class ShowProgress(lightning.Callback):
    """A bar with loss, validation Dice and time left; single lines where the output is no terminal.

    Args:
        console: Where to show it.
        steps: Steps of the whole training.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  dice {task.fields[dice]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("training", total=steps, loss=float("nan"), dice="–", visible=True)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Shows the bar."""
        self.bar.update(self.task, completed=trainer.global_step)
        if self.console.is_terminal:
            self.bar.start()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Moves on."""
        step, loss = trainer.global_step, float(outputs["loss"]) * trainer.accumulate_grad_batches
        self.bar.update(self.task, completed=step, loss=loss)
        if not self.console.is_terminal and step % max(1, self.steps // 20) == 0:
            remaining = self.bar.tasks[0].time_remaining
            left = f", {remaining:.0f} s left" if remaining is not None else ""
            self.console.print(f"training: step {step}/{self.steps}, loss {loss:.3f}{left}", highlight=False)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Shows the validation's Dice."""
        dice = f"{float(trainer.callback_metrics['dice']):.3f}"
        self.bar.update(self.task, dice=dice)
        if not self.console.is_terminal:
            self.console.print(f"training: step {trainer.global_step}, validation dice {dice}", highlight=False)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Takes the bar away."""
        self.bar.stop()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Takes the bar away: Lightning leaves out the teardown then."""
        self.bar.stop()


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
