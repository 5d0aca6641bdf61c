"""MONAI's own command line checks the bundle of a model, and runs it to the label maps of `inflate3d predict`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inflate3d.cli import main
from inflate3d.errors import DataError
from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing
from inflate3d.io import read_volume

SOURCE = Path(__file__).parents[2] / "src"
REQUIRED = [
    "schema",
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
]
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {"channel_def": {"type": "object"}, "spatial_shape": {"items": {"type": ["string", "integer"]}}},
}
SCHEMA = {
    "type": "object",
    "required": REQUIRED,
    "properties": {
        **{name: {"type": "string"} for name in REQUIRED if not name.endswith(("packages_version", "format"))},
        "network_data_format": {"additionalProperties": {"additionalProperties": TENSOR}},
    },
}
"""What MONAI's specification requires; its schema is a download."""


@pytest.fixture
def bundle(random_folder, tmp_path):
    """The bundle of a model with post-processing."""
    (tmp_path / "model").mkdir()
    for file in random_folder.iterdir():
        (tmp_path / "model" / file.name).symlink_to(file)
    steps = Postprocessing(depth_filter=2.0, classes=(ClassSteps(value=4, name="gland", largest_component=True),))
    steps.write(tmp_path / "model" / "postprocessing.json")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "bundle"), "--format", "bundle"]) == 0
    return tmp_path / "bundle"


@pytest.mark.slow
def test_monai_checks_it_and_runs_it(bundle, phantoms, tmp_path):
    scan, schema = phantoms.cases[1].scan, tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / scan.name).symlink_to(scan)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    metadata = ["--meta_file", "configs/metadata.json"]
    config = ["--config_file", "configs/inference.json"]
    for command in (
        ["verify_metadata", *metadata, "--filepath", str(schema)],
        ["verify_net_in_out", "network_def", *metadata, *config, "--device", "cpu"],
        ["run", *config, "--dataset_dir", str(tmp_path / "scans"), "--output_dir", str(tmp_path / "theirs")],
    ):
        monai = [sys.executable, "-m", "monai.bundle", *command]
        done = subprocess.run(monai, cwd=bundle, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert main(["predict", str(tmp_path / "model"), str(scan), str(tmp_path / "ours"), "--device", "cpu"]) == 0
    ours, theirs = (read_volume(tmp_path / name / scan.name) for name in ("ours", "theirs"))
    assert len(np.unique(ours.array)) > 2
    assert np.array_equal(ours.array, theirs.array)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)


def test_its_files_are_those_of_the_specification(bundle, random_model, random_folder):
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(weights[name], tensor) for name, tensor in random_model.state_dict().items())
    values = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    network, whole = values["network_data_format"], values["network_data_format"]["post_processed_outputs"]["pred"]
    assert network["inputs"]["image"]["spatial_shape"] == [3, 64, 64]
    assert network["outputs"]["pred"]["channel_def"]["4"] == "lesion"
    assert whole["channel_def"]["700"] == "lesion"
    text = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert "gland: largest component" in text and "700 lesion" in text
    assert (bundle / "docs" / "model-card.md").read_bytes() == (random_folder / "README.md").read_bytes()
    for file in ("configs/inference.json", "configs/metadata.json", "models/model.json"):
        assert str(bundle.parent) not in (bundle / file).read_text(encoding="utf-8")


def test_a_scan_without_an_affine_is_refused(bundle, random_model):
    from inflate3d.export.bundle import ScanInferer

    with pytest.raises(DataError) as caught:
        ScanInferer(str(bundle / "models"))(torch.zeros(1, 1, 8, 8, 8), random_model)
    assert caught.value.got == "Tensor"


def test_options_that_change_the_weights_are_refused(random_folder, tmp_path, capsys):
    assert main(["export", str(random_folder), str(tmp_path / "out"), "--format", "bundle", "--half"]) == 2
    assert "--format bundle --half" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
