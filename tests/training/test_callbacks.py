import csv
import io
import re
import signal
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import pytorch_lightning as lightning
import torch
from rich.console import Console

from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted
from inflate3d.training.checkpoints import CheckpointOnSignal
from inflate3d.training.csv_log import CsvLog
from inflate3d.training.run import train
from inflate3d.training.show_progress import ShowProgress
from inflate3d.training.waiting import LoaderWait, WaitShare
from inflate3d.windows.sampling import WindowSampler


def rows_of(folder):
    with folder.metrics.open(newline="") as file:
        return list(csv.DictReader(file))


def test_wait_for_a_slow_loader_is_logged_and_shown(tiny_config, phantom_store, tmp_path, monkeypatch):
    real = WindowSampler.draw

    def slow(self, number):
        time.sleep(0.5)
        return real(self, number)

    monkeypatch.setattr(WindowSampler, "draw", slow)
    folder, shown = RunFolder(tmp_path / "run"), io.StringIO()
    train(tiny_config, folder, phantom_store, console=Console(file=shown, width=200))
    shares = [row["wait"] for row in rows_of(folder)]
    assert [bool(share) for share in shares] == [True, True, False]  # the last row is a validation's
    assert all(0.3 < float(share) <= 1 for share in shares if share)
    told = [int(figure) for figure in re.findall(r"wait (\d+)%", shown.getvalue())]
    assert len(told) == 2
    assert min(told) > 30


def test_share_is_of_the_time_since_the_last_look(monkeypatch):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.value)
    wait = LoaderWait()
    share = WaitShare(wait)
    for seconds, action in ((3.0, "[_TrainingEpochLoop].train_dataloader_next"), (5.0, "another")):
        wait.start(action)
        now.value += seconds
        wait.stop(action)
    assert wait.seconds == 3.0
    assert share.take() == pytest.approx(3 / 8)
    now.value += 2.0
    assert share.take() == 0.0


def test_log_without_the_column_of_waits_is_gone_on_with(tiny_config, phantom_store, tmp_path, monkeypatch):
    """Runs of earlier versions have none."""
    folder = RunFolder(tmp_path / "run")
    training = tiny_config.training.model_copy(update={"steps": 4, "validate_every": 4})
    config = tiny_config.model_copy(update={"training": training})
    real = CheckpointOnSignal.on_train_batch_end

    def ask(self, *arguments):
        self.asked = signal.SIGINT
        real(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(CheckpointOnSignal, "on_train_batch_end", ask)
        train(config, folder, phantom_store)
    (row,) = rows_of(folder)
    with folder.metrics.open("w", newline="") as file:
        log = csv.DictWriter(file, [name for name in row if name != "wait"], extrasaction="ignore")
        log.writeheader()
        log.writerow(row)
    train(config, folder, phantom_store, resume=True)
    rows = rows_of(folder)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "4"]
    assert [bool(row["wait"]) for row in rows] == [False, True, True, True, False]


def test_losses_are_not_read_before_they_are_shown(tmp_path):
    """A value of the meta device can't be read at all; reading one of a GPU would wait for it."""
    outputs = {"loss": torch.empty((), device="meta")}
    wait = LoaderWait()
    log = CsvLog(tmp_path / "metrics.csv", 1000, (), wait)
    bars = [ShowProgress(Console(file=io.StringIO(), force_terminal=shown), 1000, wait) for shown in (True, False)]
    trainer, module = Mock(spec=lightning.Trainer), Mock(spec=lightning.LightningModule)
    trainer.is_global_zero, trainer.accumulate_grad_batches = True, 1
    for step in range(1, 10):
        trainer.global_step = step
        for callback in (log, *bars):
            callback.on_train_batch_end(trainer, module, outputs, None, step)
    trainer.global_step = 10
    with pytest.raises(RuntimeError, match="meta"):
        log.on_train_batch_end(trainer, module, outputs, None, 10)
