"""The same seed gives the same bits, whatever the loader processes, of windows and of patches; what isn't promised."""

import os

import numpy as np
import pytest
import torch

from inflate3d.config import TrainingConfig, VolumetricConfig
from inflate3d.errors import ConfigError
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume
from inflate3d.models.segmenter import load_model
from inflate3d.preparation.prepare import prepare
from inflate3d.provenance import Provenance
from inflate3d.run_folder import RunFolder
from inflate3d.training.determinism import WORKSPACE, determinism
from inflate3d.training.run import train

DETERMINISTIC = TrainingConfig(deterministic=True)
PATCHES = VolumetricConfig(network="dynunet", patch_size=(4, 16, 16), network_width=2)


@pytest.fixture
def quiet_environment(monkeypatch):
    """Leaves the variable of cuBLAS as it was."""
    monkeypatch.setenv(WORKSPACE, "to be put back")
    monkeypatch.delenv(WORKSPACE)


def weights_of(config, store, folder):
    train(config, RunFolder(folder), store)
    return load_model(folder).state_dict()


@pytest.fixture(scope="module")
def toy_store(write_toys, tmp_path_factory):
    return prepare(write_toys(tmp_path_factory.mktemp("toys")), tmp_path_factory.mktemp("store"), workers=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than there are cores
@pytest.mark.parametrize(
    ("network", "others"), [("inflated", [2]), pytest.param("dynunet", [1, 2], marks=pytest.mark.long)]
)
def test_the_number_of_loader_processes_changes_no_bit(network, others, tiny_config, toy_store, tmp_path):
    model = tiny_config.model if network == "inflated" else PATCHES
    first, *found = (
        weights_of(
            tiny_config.model_copy(
                update={"model": model, "training": tiny_config.training.model_copy(update={"workers": workers})}
            ),
            toy_store,
            tmp_path / str(workers),
        )
        for workers in (0, *others)
    )
    for other in found:
        assert first.keys() == other.keys()
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_a_deterministic_training_is_noted_and_leaves_torch_as_it_was(
    tiny_config, toy_store, tmp_path, quiet_environment
):
    training = tiny_config.training.model_copy(update={"deterministic": True})
    folder = RunFolder(tmp_path / "run")
    train(tiny_config.model_copy(update={"training": training}), folder, toy_store)
    assert not torch.are_deterministic_algorithms_enabled()
    assert Provenance.read(folder).sessions[0].outcome == "finished"


def test_torch_is_deterministic_within_and_as_before_outside(quiet_environment):
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    try:
        with determinism(DETERMINISTIC):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert not torch.backends.cudnn.benchmark
            assert os.environ[WORKSPACE] == ":4096:8"
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark
        with determinism(TrainingConfig()):
            assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False


def test_an_operation_without_deterministic_form_is_an_error(quiet_environment):
    message = "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set ..."
    with (
        pytest.raises(ConfigError, match="no deterministic version on this device") as caught,
        determinism(DETERMINISTIC),
    ):
        raise RuntimeError(message)
    assert caught.value.got == "adaptive_avg_pool2d_backward_cuda with --deterministic"
    with pytest.raises(RuntimeError, match="something else"), determinism(DETERMINISTIC):
        raise RuntimeError("something else")


def test_what_can_not_be_deterministic_is_refused(monkeypatch, quiet_environment):
    with (
        pytest.raises(ConfigError, match="compiled network"),
        determinism(TrainingConfig(deterministic=True, compile=True)),
    ):
        pass
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ConfigError, match="CUDA was started") as caught, determinism(DETERMINISTIC):
        pass
    assert f"{WORKSPACE}=:4096:8" in str(caught.value.hint)
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with determinism(DETERMINISTIC):
        assert os.environ[WORKSPACE] == ":16:8"


@pytest.mark.slow
def test_prediction_depends_on_its_batch_size_by_rounding_alone(tiny_run, phantoms):
    volume = read_volume(phantoms.cases[0].scan)
    single, batched = (Predictor.load(tiny_run.root, batch_size=size).predict(volume).labels for size in (1, 16))
    assert np.mean(single != batched) < 1e-3
    again = Predictor.load(tiny_run.root, batch_size=16).predict(volume).labels
    np.testing.assert_array_equal(again, batched)
