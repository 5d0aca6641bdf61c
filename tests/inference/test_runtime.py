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
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model
from inflate3d.models.volumetric import VolumetricSegmenter


@pytest.fixture(scope="module")
def model(phantom_store):
    torch.manual_seed(0)
    encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
    model = create_model(encoder=encoder, num_classes=5, decoder_channels=8, detail_channels=4)
    torch.nn.init.zeros_(model.classifier.bias)  # type: ignore[arg-type]
    torch.nn.init.zeros_(model.correct.bias)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.correct.weight, std=3.0)
    model.plan = phantom_store.plan.model_copy(update={"image_size": (64, 64)})
    return model.eval()


@pytest.fixture(scope="module")
def scan(phantoms):
    return read_volume(phantoms.cases[0].scan)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_label_maps_are_those_of_torch(model, scan, name):
    predictor = Predictor(model, device="cpu", runtime=name)
    assert isinstance(predictor.models[0], ForeignSegmenter)
    ours, theirs = (each.predict(scan, confidence=True) for each in (Predictor(model, device="cpu"), predictor))
    assert len(np.unique(ours.labels)) > 2
    assert (ours.labels != theirs.labels).mean() < 1e-4
    assert ours.confidence is not None and theirs.confidence is not None
    assert theirs.confidence.value == pytest.approx(ours.confidence.value, abs=1e-3)


def test_memory_is_planned_as_for_torch(model):
    foreign = ForeignSegmenter(model, lambda windows: torch.zeros(len(windows), 5, 64, 64))
    peaks = []
    for network in (model, foreign):
        with torch.inference_mode(), LiveTensors() as live:
            network(torch.zeros(3, 1, 3, 64, 64))
        peaks.append(live.peak)
    assert peaks[0] <= 1.1 * peaks[1]


def test_auto_takes_the_fastest(model, monkeypatch):
    made = {}
    monkeypatch.setattr(
        runtime, "_computed_by", lambda name, model, file: made.setdefault(name, ForeignSegmenter(model, model))
    )
    monkeypatch.setattr(runtime, "onnx_bytes", lambda model: b"")
    speeds = {"onnxruntime": 2.0, "openvino": 0.5}
    monkeypatch.setattr(
        runtime, "_seconds", lambda each, windows: next((speeds[name] for name in made if made[name] is each), 1.0)
    )
    assert runtime._fastest(model) is made["openvino"]
    speeds["openvino"] = 3.0
    assert runtime._fastest(model) is model


def test_auto_takes_none_that_gives_other_logits(model, monkeypatch):
    monkeypatch.setattr(runtime, "largest_difference", lambda model, network: 1.0)
    monkeypatch.setattr(runtime, "onnx_bytes", lambda model: b"")
    monkeypatch.setattr(runtime, "RUNTIMES", {"onnxruntime": lambda file: None})
    assert runtime._fastest(model) is model
    with pytest.raises(ModelError) as caught:
        Predictor(model, device="cpu", runtime="onnxruntime")
    assert caught.value.got == "1"


def test_16_bits_are_left_to_torch(model):
    assert Predictor(model, device="cpu", runtime="auto", precision="bf16-mixed").models == (model,)
    with pytest.raises(ConfigError, match="--runtime openvino"):
        Predictor(model, device="cpu", runtime="openvino", precision="bf16-mixed")


def test_a_3d_network_is_left_to_torch(model):
    architecture = VolumetricArchitecture(
        network="segresnet", in_channels=1, num_classes=5, patch_size=(16, 16, 16), width=8
    )
    network = VolumetricSegmenter(architecture)
    network.plan = model.plan
    assert Predictor(network, device="cpu", runtime="auto").models == (network,)
    with pytest.raises(ConfigError) as caught:
        Predictor(network, device="cpu", runtime="onnxruntime")
    assert caught.value.got == "a 3D network"


def test_a_runtime_that_is_missing_is_named_with_its_extra(model, monkeypatch):
    monkeypatch.setattr("inflate3d.export.runtimes.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        Predictor(model, device="cpu", runtime="openvino")
    assert caught.value.hint == "pip install 'inflate3d[export]'"
    assert Predictor(model, device="cpu", runtime="auto").models == (model,)
