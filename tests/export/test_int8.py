"""8 bits: calibrated on the training cases, accepted by the Dice of the held-out ones."""

import json

import numpy as np
import pytest
import torch

from inflate3d.errors import ConfigError, ModelError
from inflate3d.export import int8
from inflate3d.export.export import export_model
from inflate3d.export.int8 import quantize
from inflate3d.export.runtimes import OpenVino, without_statistics
from inflate3d.models.segmenter import load_model


@pytest.mark.slow
def test_a_run_in_8_bits(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "MOST_LOST", 1.0)  # a network of two training steps has nothing to lose
    monkeypatch.setattr(int8, "CALIBRATION_WINDOWS", 8)
    exported = export_model(tiny_run.root, tmp_path / "out", format="openvino", int8=True)
    assert exported.weights == "int8" and exported.int8 is not None
    values = json.loads((tmp_path / "out" / "model.json").read_text(encoding="utf-8"))
    assert values["int8"] == exported.int8.model_dump()
    assert f"{exported.int8.dice_int8:.4f} in 8 bits" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert 'precision="I8"' in (tmp_path / "out" / "model.xml").read_text(encoding="utf-8")
    model = load_model(tiny_run.root)
    windows = torch.rand(2, 1, 3, 64, 64)
    with torch.inference_mode():
        expected = model(windows)
    got = OpenVino(tmp_path / "out" / "model.xml")(windows)
    assert 0 < (got - expected).abs().max() < 0.3 * expected.abs().max()


def test_a_loss_of_dice_is_refused_with_its_figure(tiny_run, tmp_path, monkeypatch):
    with without_statistics():
        import openvino

    model = load_model(tiny_run.root)
    dice = iter([0.8, 0.7975])
    monkeypatch.setattr(int8, "_quantized", lambda *arguments: None)
    monkeypatch.setattr(openvino, "save_model", lambda *arguments, **options: None)
    monkeypatch.setattr(int8, "OpenVino", lambda file: model)
    monkeypatch.setattr(int8, "_mean_dice", lambda *arguments: next(dice))
    with pytest.raises(ModelError) as caught:
        quantize(model, tiny_run, tmp_path / "model.xml")  # type: ignore[arg-type]
    assert caught.value.got == "0.0025, from 0.8000 to 0.7975"


def test_calibration_windows_are_those_of_training_cases(tiny_run, phantom_store, monkeypatch):
    monkeypatch.setattr(int8, "CALIBRATION_WINDOWS", 6)
    model = load_model(tiny_run.root)
    cases = sorted(phantom_store.cases)[:2]
    windows = list(int8._calibration_windows(model, phantom_store, cases))  # type: ignore[arg-type]
    assert len(windows) == 6
    assert {each.shape for each in windows} == {(1, 1, 3, 64, 64)}
    assert all(each.min() >= 0 and each.max() <= 1 and each.std() > 0 for each in map(np.asarray, windows))


@pytest.mark.parametrize("options", [{"format": "onnx"}, {"format": "openvino", "half": True}])
def test_8_bits_are_openvinos_alone(tiny_run, tmp_path, options):
    with pytest.raises(ConfigError, match="8-bit models are written"):
        export_model(tiny_run.root, tmp_path / "out", int8=True, **options)


def test_8_bits_need_a_run(random_folder, tmp_path):
    with pytest.raises(ConfigError, match="calibrated on a run"):
        export_model(random_folder, tmp_path / "out", format="openvino", int8=True)
