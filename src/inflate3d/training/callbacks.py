"""What happens beside the training steps: the log, the progress display, a stop that loses nothing."""

from __future__ import annotations

import csv
import io
import math
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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, distributed

from inflate3d.atomic import atomic_path, write_text
from inflate3d.training.waiting import LoaderWait, WaitShare

LOG_INTERVALS = 100
"""Rows of the log for a whole training, besides those of validations."""

REFRESH = 1.0
"""Seconds between looks at a GPU's loss for the progress bar: each look waits for the GPU."""

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

    Of several processes one that is asked suffices: after each step they tell each other, and leave together.
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
        self._group: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes the signals over, Lightning's own handler included."""
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo")  # between CPUs: no GPU is waited for
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
        if batches % trainer.accumulate_grad_batches == 0 and not validation_is_due and self._any_asked():
            trainer.save_checkpoint(self.checkpoint)
            raise Interrupted(trainer.global_step)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remembers which step has been validated."""
        self._validated = trainer.global_step

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leaves after a validation, if asked."""
        if self._validated == trainer.global_step and self._any_asked():
            raise Interrupted(trainer.global_step)

    def _any_asked(self) -> bool:
        """Whether one of the processes was asked; all of them must ask this at the same places."""
        if self._group is None:
            return self.asked
        asked = torch.tensor(int(self.asked))
        distributed.all_reduce(asked, op=distributed.ReduceOp.MAX, group=self._group)
        return bool(asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


class CsvLog(lightning.Callback):
    """Writes ``metrics.csv``: a row for some steps, and one for each validation.

    ``step``, ``loss`` (mean over the batches since the row before), ``learning_rate`` (the largest), ``seconds`` (since
    the start, without the time between a stop and its resume), ``wait`` (part of the time since the row before, from
    0 to 1, that the training waited for the loader), ``dice`` and ``dice/CLASS`` (of validations).

    A resumed training keeps the rows up to the step it goes on from. Of several processes the first one writes; the
    loss is that of all, the wait its own.

    Args:
        path: The file.
        steps: Steps of the whole training.
        class_names: Foreground classes.
        wait: What adds up the seconds.
    """

    def __init__(self, path: Path, steps: int, class_names: tuple[str, ...], wait: LoaderWait) -> None:
        self.path = path
        self.every = max(1, steps // LOG_INTERVALS)
        self.columns = [
            "step",
            "loss",
            "learning_rate",
            "seconds",
            "wait",
            "dice",
            *(f"dice/{c}" for c in class_names),
        ]
        self._share = WaitShare(wait)
        self._started = time.monotonic()
        self._losses: list[Tensor] = []
        self._logged = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Starts the file anew, or cuts it back to the step that the training goes on from."""
        self._share.restart()
        self._logged = trainer.global_step
        if not trainer.is_global_zero:
            return
        kept: list[dict[str, str]] = []
        if trainer.global_step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.global_step]
        self._started = time.monotonic() - (float(kept[-1]["seconds"]) if kept else 0.0)
        # Logs of earlier versions have fewer columns.
        lines = [self.columns, *([row.get(column, "") for column in self.columns] for row in kept)]
        write_text(self.path, "".join(map(_csv_line, lines)))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Gathers losses where they are, and writes their mean now and then: only that waits for a GPU."""
        self._losses.append(outputs["loss"].detach())
        step = trainer.global_step
        if step % self.every == 0 and step > self._logged:
            loss = float(torch.stack(self._losses).double().mean()) * trainer.accumulate_grad_batches
            self._row(trainer, {"loss": loss, "wait": self._share.take()})
            self._losses, self._logged = [], step

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Writes the validation's Dice."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name in self.columns}
        self._row(trainer, {name: value for name, value in values.items() if name.startswith("dice")})
        self._share.restart()

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
    """A bar with loss, wait for the loader, validation Dice and time left; single lines where there is no terminal.

    Args:
        console: Where to show it.
        steps: Steps of the whole training.
        wait: What adds up the seconds that are waited for the loader.
    """

    def __init__(self, console: Console, steps: int, wait: LoaderWait) -> None:
        self.console, self.steps = console, steps
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  wait {task.fields[wait]:.0%}  dice {task.fields[dice]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("training", total=steps, loss=math.nan, wait=0.0, dice="–", visible=True)
        self._share = WaitShare(wait)
        self._shown = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Shows the bar."""
        self._share.restart()
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
        """Moves on; looks at the loss only when it is shown."""
        step = trainer.global_step
        self.bar.update(self.task, completed=step)
        on_terminal = self.console.is_terminal
        due = self._share.elapsed >= REFRESH if on_terminal else step % max(1, self.steps // 20) == 0
        if not due or step == self._shown:
            return
        self._shown = step
        loss, wait = float(outputs["loss"]) * trainer.accumulate_grad_batches, self._share.take()
        self.bar.update(self.task, loss=loss, wait=wait)
        if not on_terminal:
            remaining = self.bar.tasks[0].time_remaining
            left = f", {remaining:.0f} s left" if remaining is not None else ""
            figures = f"loss {loss:.3f}, wait {wait:.0%}{left}"
            self.console.print(f"training: step {step}/{self.steps}, {figures}", highlight=False)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Shows the validation's Dice."""
        self._share.restart()
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
