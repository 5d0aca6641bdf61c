"""Stops by a signal at every kind of place: what is gone on with ends as the undisturbed training does."""

import csv
import os
import signal
import time
from unittest.mock import Mock

import pytest
import pytorch_lightning as lightning
import torch

from inflate3d.datasets import Split
from inflate3d.evaluation.metrics import CaseDice
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted
from inflate3d.training import checkpoints
from inflate3d.training.checkpoints import CheckpointOnSignal
from inflate3d.training.run import train

pytestmark = pytest.mark.slow


class KilledError(Exception):
    """No error that a training knows."""


def with_training(config, **training):
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def rows_of(folder):
    """The log without what is measured in seconds."""
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        return [
            [cell for name, cell in row.items() if name not in ("seconds", "data_time")] for row in csv.DictReader(file)
        ]


def weights_of(path):
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def config(tiny_config):
    return with_training(tiny_config, steps=4, validate_every=2)


@pytest.fixture(scope="module")
def straight(config, phantom_store, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("straight") / "run")
    train(config, folder, phantom_store)
    return folder


def as_straight(folder, straight):
    return (rows_of(folder), weights_of(folder.last)) == (rows_of(straight), weights_of(straight.last))


@pytest.mark.parametrize("validation", [1, 2])
def test_stopped_in_a_validation_leaves_at_once_and_validates_when_it_goes_on(
    config, straight, phantom_store, tmp_path, monkeypatch, validation
):
    """The second one is the last of the training, whose steps are all done."""
    folder = RunFolder(tmp_path / "run")
    (case,) = Split.read(straight.split).validation
    wanted = (validation - 1) * phantom_store.cases[case].shape[0] + 2
    real, slices = CaseDice.update, []

    def stop(self, *arguments):
        slices.append(1)
        if len(slices) == wanted:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(CaseDice, "update", stop)
        train(config, folder, phantom_store)
    assert caught.value.number == signal.SIGTERM
    assert caught.value.step == 2 * validation
    assert len(slices) == wanted  # no slice after the one that was computed
    assert torch.load(folder.last, weights_only=True)["global_step"] == 2 * validation
    train(config, folder, phantom_store, resume=True)
    assert as_straight(folder, straight)


def test_killed_between_validations_goes_on_from_the_last_ten_minutes(
    config, straight, phantom_store, tmp_path, monkeypatch
):
    """Ten minutes are none here; the kill comes right after the third step's checkpoint."""
    folder, steps = RunFolder(tmp_path / "run"), []
    real = CheckpointOnSignal.on_train_batch_end

    def fail(self, trainer, *rest):
        steps.append(trainer.global_step)
        real(self, trainer, *rest)
        if trainer.global_step == 3:
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(CheckpointOnSignal, "on_train_batch_end", fail)
        train(config, folder, phantom_store)
    assert steps == [1, 2, 3]
    assert torch.load(folder.last, weights_only=True)["global_step"] == 3
    train(config, folder, phantom_store, resume=True)
    assert as_straight(folder, straight)


def test_nothing_is_written_between_validations_before_it_is_time(tmp_path, monkeypatch):
    begun = time.monotonic()
    keep = CheckpointOnSignal(tmp_path / "last.ckpt", 100)
    trainer, module = Mock(spec=lightning.Trainer), Mock(spec=lightning.LightningModule)
    trainer.accumulate_grad_batches, trainer.global_step, trainer.fit_loop = 1, 7, Mock()
    trainer.fit_loop.epoch_loop.batch_progress.current.ready = 7
    for seconds, saves in ((0.0, 0), (599.0, 0), (602.0, 1)):
        monkeypatch.setattr(time, "monotonic", lambda now=begun + seconds: now)
        keep.on_train_batch_end(trainer, module, None, None, 7)
        assert trainer.save_checkpoint.call_count == saves
