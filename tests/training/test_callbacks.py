import csv
import io
import re
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import pytorch_lightning as lightning
import torch
from rich.console import Console

from inflate3d.run_folder import RunFolder
from inflate3d.training.csv_log import CsvLog
from inflate3d.training.run import train
from inflate3d.training.show_progress import ShowProgress
from inflate3d.windows.sampling import WindowSampler


def rows_of(folder):
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_wait_for_a_slow_loader_is_logged_and_shown(tiny_config, phantom_store, tmp_path, monkeypatch):
    real = WindowSampler.draw

    def slow(self, number):
        time.sleep(0.5)
        return real(self, number)

    monkeypatch.setattr(WindowSampler, "draw", slow)
    folder, shown = RunFolder(tmp_path / "run"), io.StringIO()
    train(tiny_config, folder, phantom_store, console=Console(file=shown, width=200))
    waits = [row["data_time"] for row in rows_of(folder)]
    assert [bool(seconds) for seconds in waits] == [True, True, False]  # the last row is a validation's
    assert all(float(seconds) >= 0.9 for seconds in waits if seconds)  # two windows in a batch
    assert len(re.findall(r"data (\d+)%", shown.getvalue())) == 2


def test_shown_share_is_of_the_time_since_the_last_look(monkeypatch):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.value)
    progress = ShowProgress(Console(file=io.StringIO()), 10)
    trainer = Mock(spec=lightning.Trainer)
    trainer.train_dataloader.seconds = 3.0
    now.value += 8.0
    assert progress._look(trainer) == pytest.approx(3 / 8)
    now.value += 2.0
    assert progress._look(trainer) == 0.0


def test_losses_are_not_read_before_they_are_shown(tmp_path):
    """A value of the meta device can't be read at all; reading one of a GPU would wait for it."""
    outputs = {"loss": torch.empty((), device="meta")}
    log = CsvLog(tmp_path / "metrics.csv", 1000, ())
    bars = [ShowProgress(Console(file=io.StringIO(), force_terminal=shown), 1000) for shown in (True, False)]
    trainer, module = Mock(spec=lightning.Trainer), Mock(spec=lightning.LightningModule)
    trainer.is_global_zero, trainer.accumulate_grad_batches = True, 1
    trainer.train_dataloader.seconds = 0.0
    for step in range(1, 10):
        trainer.global_step = step
        for callback in (log, *bars):
            callback.on_train_batch_end(trainer, module, outputs, None, step)
    trainer.global_step = 10
    with pytest.raises(RuntimeError, match="meta"):
        log.on_train_batch_end(trainer, module, outputs, None, 10)
