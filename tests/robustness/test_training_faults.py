"""Trainings that come to no number, or to the end of the memory."""

import io
import multiprocessing
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.models.encoders import Encoder
from inflate3d.run_folder import RunFolder
from inflate3d.training.run import _Training, train
from inflate3d.training.stop_on_nan import DivergedError
from inflate3d.training.task import SegmentationTask

pytestmark = pytest.mark.slow


def with_changes(config, model=(), **training):
    model = config.model.model_copy(update=dict(model))
    return config.model_copy(update={"model": model, "training": config.training.model_copy(update=training)})


def test_loss_that_is_not_a_number_ends_the_training_and_keeps_the_last_good_state(
    tiny_config, phantom_store, tmp_path, monkeypatch
):
    """The third step of four is bad: the state of the validation after the second is kept."""
    folder, cases = RunFolder(tmp_path / "run"), []
    real = SegmentationTask.training_step

    def spoil(self, batch, number):
        loss = real(self, batch, number)
        if self.global_step != 2:
            return loss
        cases.extend(sorted({list(phantom_store.cases)[case] for case in batch.cases.tolist()}))
        return loss * torch.nan

    monkeypatch.setattr(SegmentationTask, "training_step", spoil)
    with pytest.raises(DivergedError, match="the loss is no longer finite") as caught:
        train(with_changes(tiny_config, steps=4, validate_every=2), folder, phantom_store)
    assert "nan in step 3, cases of the batch: " in str(caught.value.got)
    assert cases and all(case in str(caught.value.got) for case in cases)
    assert "the last good checkpoint is of step 2" in str(caught.value.hint)
    assert caught.value.file == str(folder.last)
    state = torch.load(folder.last, weights_only=True)
    assert state["global_step"] == 2
    assert all(values.isfinite().all() for values in state["state_dict"].values() if values.is_floating_point())
    assert not folder.finished


def test_weights_that_are_no_numbers_come_into_no_checkpoint(tiny_config, phantom_store, tmp_path, monkeypatch):
    """Gradients can overflow though the loss does not."""
    folder = RunFolder(tmp_path / "run")
    real = SegmentationTask.on_validation_epoch_end

    def spoil(self):
        next(self.model.parameters()).data.fill_(torch.inf)
        real(self)

    monkeypatch.setattr(SegmentationTask, "on_validation_epoch_end", spoil)
    with pytest.raises(DivergedError, match="weights that are infinite") as caught:
        train(tiny_config, folder, phantom_store)
    assert "there was no checkpoint yet" in str(caught.value.hint)
    assert not folder.last.exists()


@pytest.fixture
def small_memory(monkeypatch):
    """Makes the encoder run out of memory where it is given more windows than so many."""

    def limit(windows):
        real = Encoder.forward

        def forward(self, batch):
            if len(batch) > windows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return real(self, batch)

        monkeypatch.setattr(Encoder, "forward", forward)

    return limit


def test_batch_that_does_not_fit_the_memory_is_taken_in_parts_and_the_result_is_the_same(
    tiny_config, phantom_store, tmp_path, small_memory
):
    """A ConvNeXt's encoder has no batch norms; the decoder has, and sees the whole batch."""
    config = with_changes(tiny_config, model={"encoder": "convnext_atto", "image_size": (32, 32)}, batch_size=4, seed=3)
    whole, parted, shown = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parted"), io.StringIO()
    train(config, whole, phantom_store)
    small_memory(2)
    train(config, parted, phantom_store, console=Console(file=shown, width=300))
    assert "CUDA out of memory. Tried to allocate 20.00 GiB." in shown.getvalue()
    assert "in 2 parts" in shown.getvalue()
    assert "in 4 parts" not in shown.getvalue()  # a validation takes fewer windows at a time instead
    states = [torch.load(folder.last, weights_only=True)["state_dict"] for folder in (whole, parted)]
    for name, expected in states[0].items():
        torch.testing.assert_close(states[1][name], expected, rtol=1e-3, atol=1e-4, msg=name)


def test_memory_too_small_for_one_window_is_an_error(tiny_config, phantom_store, tmp_path, small_memory):
    small_memory(0)
    with pytest.raises(ConfigError, match="memory") as caught:
        train(tiny_config, RunFolder(tmp_path / "run"), phantom_store)
    assert "one window at a time" in str(caught.value.got)


def test_memory_that_one_of_several_devices_lacks_is_an_error(tiny_config, tmp_path):
    """The others don't know of it, so that none can go on in parts."""

    def fit(trainer, model, parts):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 1 has ...")

    trainer = SimpleNamespace(world_size=2)
    with pytest.raises(ConfigError, match="memory") as caught:
        _Training.fit_in_memory(SimpleNamespace(fit=fit, config=tiny_config), trainer, None)  # type: ignore[arg-type]
    assert caught.value.got == "CUDA out of memory. Tried to allocate 20.00 GiB."


def test_killed_worker_is_an_error(tiny_config, phantom_store, tmp_path, monkeypatch):
    """As the system does that has no memory left; the state of the last validation is kept."""
    folder = RunFolder(tmp_path / "run")
    real = SegmentationTask.training_step

    def kill(self, batch, number):
        if self.global_step == 2:
            oldest = min(process.pid or 0 for process in multiprocessing.active_children())
            os.kill(oldest, signal.SIGKILL)  # the training's; the validation's is not waited for now
        return real(self, batch, number)

    monkeypatch.setattr(SegmentationTask, "training_step", kill)
    config = with_changes(tiny_config, steps=40, validate_every=2, workers=1)
    with pytest.raises(Inflate3dError, match="a data loader process was killed") as caught:
        train(config, folder, phantom_store)
    assert "--workers" in str(caught.value.hint)
    assert torch.load(folder.last, weights_only=True)["global_step"] == 2


@pytest.mark.parametrize(
    "lost",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        pytest.param(EOFError(), marks=pytest.mark.long),
        pytest.param(FileNotFoundError(2, "-"), marks=pytest.mark.long),
    ],
)
def test_worker_killed_while_its_batch_is_fetched(tiny_config, phantom_store, tmp_path, monkeypatch, lost):
    """A batch lies in shared memory of the worker, and the connection that it is fetched by ends with the worker."""

    def reset(*_):
        raise lost

    monkeypatch.setattr("multiprocessing.resource_sharer._resource_sharer.get_connection", reset)
    with pytest.raises(Inflate3dError, match="a data loader process was killed"):
        train(with_changes(tiny_config, steps=4, workers=1), RunFolder(tmp_path / "run"), phantom_store)
