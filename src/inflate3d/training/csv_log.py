"""``metrics.csv``: loss and validation Dice over the steps."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from inflate3d.atomic import write_text
from inflate3d.run_folder import TrainingLog

LOG_INTERVALS = 100
"""Rows of the log for a whole training, in addition to those of validations."""


class CsvLog(lightning.Callback):
    """Writes ``metrics.csv``: a row for some steps, and one for each validation.

    ``step``, ``loss`` (mean over the batches since the row before), ``learning_rate`` (the largest), ``seconds`` (since
    the start, without the time between a stop and its resume), ``data_time`` (seconds since the row before that the
    training waited for the loader), ``dice`` and ``dice/CLASS`` (of validations).

    A resumed training keeps the rows up to the step that it resumes from. The file is small and is rewritten atomically
    with each row. Of several processes, the first one writes; the loss is that of all, the data time its own.
    """

    def __init__(self, path: Path, steps: int, class_names: tuple[str, ...]) -> None:
        self.path = path
        self.every = max(1, steps // LOG_INTERVALS)
        dice = ("dice", *(f"dice/{name}" for name in class_names))
        self.columns = ["step", "loss", "learning_rate", "seconds", "data_time", *dice]
        self._lines: list[list[str]] = [self.columns]
        self._waited = 0.0
        self._started = time.monotonic()
        self._losses: list[Tensor] = []
        self._logged = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Starts a new file, or truncates it to the step that the training resumes from."""
        self._logged = trainer.global_step
        if not trainer.is_global_zero:
            return
        kept = self._read_rows(trainer.global_step) if trainer.global_step and self.path.exists() else []
        self._started = time.monotonic() - (kept[-1]["seconds"] if kept else 0.0)
        self._lines = [self.columns, *map(self._cells, kept)]
        self._write()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Collects losses on the device, and writes their mean now and then: only that waits for a GPU."""
        self._losses.append(outputs["loss"].detach())
        step = trainer.global_step
        if step % self.every == 0 and step > self._logged:
            loss = float(torch.stack(self._losses).double().mean()) * trainer.accumulate_grad_batches
            loader: Any = trainer.train_dataloader  # a `TimedLoader`
            waited = loader.seconds
            self._row(trainer, {"loss": loss, "data_time": waited - self._waited})
            self._losses, self._logged, self._waited = [], step, waited

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name in self.columns}
        self._row(trainer, {name: value for name, value in values.items() if name.startswith("dice")})

    def _row(self, trainer: lightning.Trainer, values: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        seconds = time.monotonic() - self._started
        self._lines.append(
            self._cells({"step": float(trainer.global_step), "learning_rate": rate, "seconds": seconds, **values})
        )
        self._write()

    def _cells(self, row: Mapping[str, float]) -> list[str]:
        return [str(int(row["step"])), *(f"{row[name]:.6g}" if name in row else "" for name in self.columns[1:])]

    def _read_rows(self, last: int) -> list[dict[str, float]]:
        """The rows up to a step."""
        return [row for row in TrainingLog.read(self.path).rows if row["step"] <= last]

    def _write(self) -> None:
        write_text(self.path, "".join(map(_csv_line, self._lines)), flush=False)  # no power cut is worth waiting for it


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
