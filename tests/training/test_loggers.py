from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from inflate3d.errors import ConfigError
from inflate3d.models.segmenter import load_model
from inflate3d.run_folder import RunFolder
from inflate3d.training import loggers
from inflate3d.training.loggers import Board, LogPictures, draw_slice
from inflate3d.training.run import train
from inflate3d.training.task import ValidatedSlice


def logged_by(config, name):
    return config.model_copy(update={"training": config.training.model_copy(update={"logger": name})})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tensorboard_has_settings_curves_pictures_and_a_table(tiny_config, tiny_run, phantom_store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path / "run")
    train(logged_by(tiny_config, "tensorboard"), folder, phantom_store)
    events = EventAccumulator(str(folder.root / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    classes = {f"dice/{name}" for name in phantom_store.plan.class_names[1:]}
    assert {"loss", "dice", *classes} <= set(tags["scalars"])
    assert tags["images"] == ["validation/0"]
    assert [event.step for event in events.Scalars("dice")] == [2 - 1]
    assert any("last validation dice" in tag for tag in tags["tensors"])
    assert "model.encoder: resnet10t" in (folder.root / "tensorboard" / "hparams.yaml").read_text(encoding="utf-8")
    first, second = (load_model(run.root).state_dict() for run in (folder, tiny_run))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_disabled_weights_and_biases(tiny_config, phantom_store, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = RunFolder(tmp_path / "run")
    train(logged_by(tiny_config, "wandb"), folder, phantom_store)
    assert folder.finished


@pytest.mark.slow
def test_mlflow_writes_into_the_run_and_goes_on_with_its_entry(tmp_path, monkeypatch):
    asked = []

    class Recorder:
        def __init__(self, **settings):
            asked.append(settings)
            self.run_id = settings["run_id"] or "a-new-entry"

    monkeypatch.setattr("pytorch_lightning.loggers.MLFlowLogger", Recorder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = RunFolder(tmp_path)
    loggers._MLflow(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    loggers._MLflow(folder)
    assert [settings["tracking_uri"] for settings in asked] == [
        f"sqlite:///{tmp_path}/mlflow.db",
        "https://mlflow.example.org",
    ]
    assert asked[0]["artifact_location"].startswith("file://") and asked[1]["artifact_location"] is None
    assert [settings["run_id"] for settings in asked] == [None, "a-new-entry"]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_logger_that_is_not_installed(tiny_config, phantom_store, tmp_path, monkeypatch, name):
    monkeypatch.setattr(loggers, "find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=f"{name} is not installed") as caught:
        train(logged_by(tiny_config, name), RunFolder(tmp_path / "run"), phantom_store)
    assert caught.value.hint == f"pip install 'inflate3d[{name}]'"
    assert not (tmp_path / "run").exists()


def test_picture_shows_scan_labels_and_prediction():
    label, predicted = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64)
    label[0, 1], predicted[1, 2] = 1, 7
    picture = draw_slice(ValidatedSlice(torch.full((2, 3), 0.4), label, predicted))
    assert picture.shape == (2, 9, 3)
    colored = np.argwhere((picture != 102).any(axis=2)).tolist()
    assert colored == [[0, 4], [1, 8]]
    assert np.array_equal(picture[0, 4], picture[1, 8])  # six colors, then the first again


def test_table_is_of_the_last_validation():
    board, trainer = create_autospec(Board, instance=True), create_autospec(Trainer, instance=True, is_global_zero=True)
    task, callback = create_autospec(LightningModule, instance=True), LogPictures(board, ("liver",))
    for mean in (0.5, 0.75, 0.25):
        trainer.callback_metrics = {"dice": mean, "dice/liver": mean / 2}
        callback.on_validation_end(trainer, task)
    callback.on_train_end(trainer, task)
    board.show_table.assert_called_once_with("last validation dice", ["mean", "liver"], [0.25, 0.125])
