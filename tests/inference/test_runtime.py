"""Prediction by other programs than torch."""

import numpy as np
import pytest
import torch

from inflate3d.errors import ConfigError, ModelError
from inflate3d.inference import runtime
from inflate3d.inference.memory import LiveTensors
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.runtime import ForeignSegmenter
from inflate3d.io import read_volume
from inflate3d.models.architecture import VolumetricArchitecture
from inflate3d.models.volumetric import VolumetricSegmenter


@pytest.fixture(scope="module")
def scan(phantoms):
    return read_volume(phantoms.cases[0].scan)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_label_maps_are_those_of_torch(random_model, scan, name):
    predictor = Predictor(random_model, device="cpu", runtime=name)
    assert isinstance(predictor.models[0], ForeignSegmenter)
    ours, theirs = (each.predict(scan, confidence=True) for each in (Predictor(random_model, device="cpu"), predictor))
    assert len(np.unique(ours.labels)) > 2
    assert (ours.labels != theirs.labels).mean() < 1e-4
    assert ours.confidence is not None and theirs.confidence is not None
    assert theirs.confidence.value == pytest.approx(ours.confidence.value, abs=1e-3)


def test_memory_is_planned_as_for_torch(random_model):
    foreign = ForeignSegmenter(random_model, lambda windows: torch.zeros(len(windows), 5, 64, 64))
    peaks = []
    for network in (random_model, foreign):
        with torch.inference_mode(), LiveTensors() as live:
            network(torch.zeros(3, 1, 3, 64, 64))
        peaks.append(live.peak)
    assert peaks[0] <= 1.1 * peaks[1]


def test_auto_takes_the_fastest(random_model, monkeypatch):
    made = {}
    monkeypatch.setattr(
        runtime,
        "_computed_by",
        lambda name, model, file: made.setdefault(name, ForeignSegmenter(random_model, random_model)),
    )
    monkeypatch.setattr(runtime, "onnx_bytes", lambda model: b"")
    speeds = {"onnxruntime": 2.0, "openvino": 0.5}
    monkeypatch.setattr(
        runtime, "_seconds", lambda each, windows: next((speeds[name] for name in made if made[name] is each), 1.0)
    )
    assert runtime._fastest(random_model) is made["openvino"]
    speeds["openvino"] = 3.0
    assert runtime._fastest(random_model) is random_model


def test_auto_takes_none_that_gives_other_logits(random_model, monkeypatch):
    monkeypatch.setattr(runtime, "largest_difference", lambda model, network: 1.0)
    monkeypatch.setattr(runtime, "onnx_bytes", lambda model: b"")
    monkeypatch.setattr(runtime, "RUNTIMES", {"onnxruntime": lambda file: None})
    assert runtime._fastest(random_model) is random_model
    with pytest.raises(ModelError) as caught:
        Predictor(random_model, device="cpu", runtime="onnxruntime")
    assert caught.value.got == "1"


def test_16_bits_are_left_to_torch(random_model):
    assert Predictor(random_model, device="cpu", runtime="auto", precision="bf16-mixed").models == (random_model,)
    with pytest.raises(ConfigError, match="--runtime openvino"):
        Predictor(random_model, device="cpu", runtime="openvino", precision="bf16-mixed")


def test_a_3d_network_is_left_to_torch(random_model):
    architecture = VolumetricArchitecture(
        network="segresnet", in_channels=1, num_classes=5, patch_size=(16, 16, 16), width=8
    )
    network = VolumetricSegmenter(architecture)
    network.plan = random_model.plan
    assert Predictor(network, device="cpu", runtime="auto").models == (network,)
    with pytest.raises(ConfigError) as caught:
        Predictor(network, device="cpu", runtime="onnxruntime")
    assert caught.value.got == "a 3D network"


def test_a_runtime_that_is_missing_is_named_with_its_extra(random_model, monkeypatch):
    monkeypatch.setattr("inflate3d.export.runtimes.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        Predictor(random_model, device="cpu", runtime="openvino")
    assert caught.value.hint == "pip install 'inflate3d[export]'"
    assert Predictor(random_model, device="cpu", runtime="auto").models == (random_model,)
