"""What `inflate3d export` writes, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest
import torch

from inflate3d.cli import main
from inflate3d.datasets.regions import Regions
from inflate3d.errors import ConfigError, ModelError, OutputError
from inflate3d.export import export, runtimes
from inflate3d.export.export import export_model
from inflate3d.export.runtimes import OnnxRuntime, OpenVino
from inflate3d.models.architecture import VolumetricArchitecture
from inflate3d.models.volumetric import VolumetricSegmenter


def logits(model, count=2):
    windows = torch.rand(count, 1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return windows, model(windows)


def test_the_description_says_what_a_program_needs(exported_onnx, random_model):
    values = json.loads((exported_onnx / "model.json").read_text(encoding="utf-8"))
    assert values["input"] == {
        "name": "windows",
        "axes": ["window", "modality", "slice", "row", "column"],
        "shape": [None, 1, 3, 64, 64],
    }
    assert values["output"]["shape"] == [None, 5, 64, 64]
    assert [each["value"] for each in values["classes"]] == [0, 3, 4, 90, 700]
    assert values["plan"] == json.loads(random_model.plan.model_dump_json())
    (windows,) = values["windows"]
    assert (windows["axes"], windows["offsets"]) == ("SRA", [-1, 0, 1])
    assert values["check"]["program"] == "onnxruntime"
    assert values["check"]["largest_difference"] < 1e-4


def test_the_file_describes_its_own_input_and_output(exported_onnx):
    import onnx

    graph = onnx.load(exported_onnx / "model.onnx").graph
    shapes = {
        each.name: [size.dim_value or size.dim_param for size in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.output)
    }
    batch = shapes["windows"][0]
    assert isinstance(batch, str) and batch
    assert shapes == {"windows": [batch, 1, 3, 64, 64], "logits": [batch, 5, 64, 64]}


def test_the_card_names_files_and_classes(exported_onnx, random_folder):
    card = (exported_onnx / "README.md").read_text(encoding="utf-8")
    assert "| 4 | 700 | lesion |" in card
    assert "any × 1 × 3 × 64 × 64" in card
    assert "model.onnx" in card and "model.bin" not in card
    assert (exported_onnx / "model-card.md").read_bytes() == (random_folder / "README.md").read_bytes()


@pytest.mark.slow
def test_openvino(random_folder, random_model, tmp_path):
    """In a process of its own, whose home shows that OpenVINO's usage statistics were not started."""
    out, home = tmp_path / "exported", tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "inflate3d", "export", str(random_folder), str(out), "--format", "openvino"]
    done = subprocess.run(
        [*command, "--json"], env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["file"] == str(out / "model.xml")
    assert not (home / "intel").exists()
    windows, expected = logits(random_model)
    torch.testing.assert_close(OpenVino(out / "model.xml")(windows), expected, rtol=0, atol=1e-4)
    assert "model.bin" in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_torch_export_of_regions(random_model, tmp_path, monkeypatch):
    regions = Regions(values={"all": (3, 4, 90, 700), "a": (3,), "b": (4,), "c": (90,), "d": (700,)})
    monkeypatch.setattr(random_model, "plan", random_model.plan.model_copy(update={"regions": regions}))
    random_model.save(tmp_path / "model")
    exported = export_model(tmp_path / "model", tmp_path / "out", format="torch-export")
    assert exported.output.axes == ("window", "region", "row", "column")
    assert "| 0 | 3, 4, 90, 700 | all |" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    windows, expected = logits(random_model, 3)
    loaded = torch.export.load(tmp_path / "out" / "model.pt2").module()
    torch.testing.assert_close(loaded(windows), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_half_halves_the_file_and_keeps_the_labels(random_folder, random_model, exported_onnx, tmp_path):
    out = tmp_path / "half"
    exported = export_model(random_folder, out, half=True)
    assert exported.weights == "float16"
    sizes = [(folder / "model.onnx").stat().st_size for folder in (out, exported_onnx)]
    assert sizes[0] < 0.55 * sizes[1]
    windows, expected = logits(random_model)
    got = OnnxRuntime(out / "model.onnx")(windows)
    assert (got - expected).abs().max() < 0.01 * expected.abs().max()
    assert (got.argmax(1) != expected.argmax(1)).float().mean() < 0.01


@pytest.mark.slow
def test_a_file_with_other_logits_is_refused_and_nothing_is_left(random_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "largest_difference", lambda model, runtime: float("nan"))
    with pytest.raises(ModelError) as caught:
        export_model(random_folder, tmp_path / "out", format="torch-export")
    assert caught.value.got == "nan"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(random_folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError):
        export_model(random_folder, tmp_path, format="torch-export")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missing_package_is_named_with_its_extra(random_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError) as caught:
        export_model(random_folder, tmp_path / "out")
    assert caught.value.hint == "pip install 'inflate3d[export]'"


def test_several_models_are_refused(random_folder, tmp_path):
    for name in ("fold-0", "fold-1"):
        (tmp_path / name).symlink_to(random_folder)
    with pytest.raises(ConfigError) as caught:
        export_model(tmp_path, tmp_path / "out", format="torch-export")
    assert caught.value.got == 2


def test_a_3d_network_is_refused(random_model, tmp_path):
    architecture = VolumetricArchitecture(
        network="segresnet", in_channels=1, num_classes=5, patch_size=(16, 16, 16), width=8
    )
    network = VolumetricSegmenter(architecture)
    network.plan = random_model.plan
    network.save(tmp_path / "model")
    with pytest.raises(ModelError) as caught:
        export_model(tmp_path / "model", tmp_path / "out", format="torch-export")
    assert caught.value.got == "segresnet"


@pytest.mark.slow
def test_the_command_says_how_equal_the_file_is(random_folder, tmp_path, capsys):
    assert main(["export", str(random_folder), str(tmp_path / "out"), "--format", "torch-export"]) == 0
    assert "of the largest logit" in capsys.readouterr().out


def test_an_exported_folder_is_not_taken_for_a_model(exported_onnx, tmp_path, phantoms, capsys):
    assert main(["predict", str(exported_onnx), str(phantoms.cases[0].scan), str(tmp_path / "out")]) == 2
    assert "exported" in capsys.readouterr().err


@pytest.mark.slow
def test_a_matrix_beyond_16_bits_stays_in_32(random_model):
    from inflate3d.export.network import HalfWeights

    first = next(name for name, weight in random_model.named_parameters() if weight.ndim == 4)
    large = HalfWeights(random_model)
    assert large.network.get_parameter(first).dtype == torch.float16
    changed = type(random_model)(random_model.encoder, random_model.architecture)
    kept = changed.get_parameter(first).detach().clone()
    try:
        changed.get_parameter(first).data[0, 0, 0, 0] = 1e5
        assert HalfWeights(changed).network.get_parameter(first).dtype == torch.float32
    finally:
        changed.get_parameter(first).data.copy_(kept)
