"""3D networks through the commands and the training that inflated networks go through."""

import csv
import json
import os
import signal

import numpy as np
import pytest
import torch

from inflate3d.cli import main
from inflate3d.config import RunConfig, VolumetricConfig
from inflate3d.errors import ConfigError
from inflate3d.io import read_volume
from inflate3d.models.segmenter import load_model
from inflate3d.preparation.prepare import prepare
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted
from inflate3d.training.csv_log import CsvLog
from inflate3d.training.run import train

pytestmark = pytest.mark.slow

OPTIONS = {
    "unetr": ["--patch-size", "16", "32", "32", "--network-width", "1"],
    "swin-unetr": ["--patch-size", "32", "32", "64", "--network-width", "12"],
    "segresnet": ["--network-width", "8"],
    "dynunet": ["--patch-size", "4", "16", "16", "--network-width", "2"],
}
SHORT = ["--steps", "2", "--validation-cases", "1", "--validate-every", "2", "--accelerator", "cpu", "--workers", "0"]


@pytest.fixture(scope="module")
def toys(write_toys, tmp_path_factory):
    return write_toys(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def store(toys, tmp_path_factory):
    return prepare(toys, tmp_path_factory.mktemp("store"), workers=1)


@pytest.mark.parametrize("network", OPTIONS)
def test_trained_evaluated_and_predicted_by_the_commands(network, toys, store, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", str(toys.root), "--store", str(store.folder), "--run", str(run), "--network", network]
    assert main([*words, *OPTIONS[network], *SHORT]) == 0
    assert f"{network}: " in capsys.readouterr().err
    assert main(["evaluate", str(run), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["classes"] == ["liver", "tumor"]
    scan = toys.cases[0].scan
    assert main(["predict", str(run), str(scan), str(tmp_path / "out")]) == 0
    labels = read_volume(tmp_path / "out" / scan.name)
    assert labels.shape == read_volume(scan).shape
    assert set(np.unique(labels.array)) <= {0, 2, 5}
    config = RunConfig.read(RunFolder(run).config)
    assert (config.model.network, config.training.batch_size, config.training.accumulate) == (network, 2, 1)


@pytest.fixture(scope="module")
def config(toys, store, tiny_training):
    return RunConfig(
        dataset=toys.root,
        store=store.folder,
        model=VolumetricConfig(network="dynunet", patch_size=(4, 16, 16), network_width=2),
        training=tiny_training.model_copy(update={"steps": 4}),
    )


def test_stopped_and_resumed_is_as_undisturbed(config, store, tmp_path, monkeypatch):
    straight, stopped = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
    train(config, straight, store)
    real, steps = CsvLog.on_train_batch_end, []

    def count(self, *arguments):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        real(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(CsvLog, "on_train_batch_end", count)
        train(config, stopped, store)
    train(config, stopped, store, resume=True)
    first, second = (load_model(folder.root).state_dict() for folder in (straight, stopped))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns(config, store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    training = config.training.model_copy(update={"steps": 60, "validate_every": 60, "learning_rate": 1e-2})
    model = config.model.model_copy(update={"network_width": 8})
    train(config.model_copy(update={"training": training, "model": model}), folder, store)
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    assert float(last["dice"]) > 0.3


def test_patch_size_that_does_not_fit_leaves_no_run(config, store, tmp_path):
    model = config.model.model_copy(update={"network": "unetr", "patch_size": (5, 16, 16)})
    with pytest.raises(ConfigError, match="does not support this patch size"):
        train(config.model_copy(update={"model": model}), RunFolder(tmp_path / "run"), store)
    assert not (tmp_path / "run").exists()


def test_resampled_to_the_wanted_spacing(toys, tmp_path):
    words = ["train", str(toys.root), "--store", str(tmp_path / "store"), "--run", str(tmp_path / "run")]
    how = ["--network", "segresnet", "--network-width", "8", "--spacing", "2.0", "1.5", "1.5"]
    assert main([*words, *how, *SHORT]) == 0
    model = load_model(tmp_path / "run")
    assert model.plan is not None
    assert (model.plan.slice_spacing, model.plan.pixel_spacing) == (2.0, (1.5, 1.5))
    assert main(["evaluate", str(tmp_path / "run")]) == 0
