"""Overlapping regions through the commands: prepared as their label maps are, trained, evaluated, predicted."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import yaml

from inflate3d.cli import main
from inflate3d.comparison.program import run_program
from inflate3d.comparison.runs import plan_runs
from inflate3d.config import RunConfig
from inflate3d.datasets import read_dataset
from inflate3d.datasets.writing import write_dataset
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores
from inflate3d.io import read_labels
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.prepare import prepare
from inflate3d.run_folder import RunFolder

REGIONS = {"organ": [2, 5], "tumor": [5]}
SHORT = ["--steps", "2", "--validation-cases", "1", "--validate-every", "2", "--accelerator", "cpu", "--workers", "0"]
NETWORKS = {
    "inflated": ["--encoder", "resnet10t", "--weights", "none", "--image-size", "32", "32", "--batch-size", "2"],
    "dynunet": ["--network", "dynunet", "--patch-size", "4", "16", "16", "--network-width", "2"],
}


@pytest.fixture(scope="module")
def exclusive(write_toys, tmp_path_factory):
    """Livers with a tumor inside, as classes."""
    toys = write_toys(tmp_path_factory.mktemp("toys"))
    return write_dataset(toys, tmp_path_factory.mktemp("exclusive"), "folder").dataset


@pytest.fixture(scope="module")
def nested(exclusive, tmp_path_factory):
    """The same label maps, as regions."""
    folder = tmp_path_factory.mktemp("nested")
    dataset = write_dataset(exclusive, folder, "folder").dataset
    listing = yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8"))
    (folder / "dataset.yaml").write_text(yaml.safe_dump({**listing, "regions": REGIONS, "regions_class_order": [2, 5]}))
    return read_dataset(dataset.root)


@pytest.fixture(scope="module")
def stores(exclusive, nested, tmp_path_factory):
    return [prepare(each, tmp_path_factory.mktemp("store"), workers=1) for each in (exclusive, nested)]


def test_stores_of_regions_and_of_classes_are_alike(stores):
    classes, regions = stores
    for name in classes.cases:
        assert np.array_equal(classes.labels(name), regions.labels(name))
        assert classes.cases[name] == regions.cases[name]
    assert set(classes.plan.differing(regions.plan)) == {"regions", "structures"}  # the regions by their names
    assert regions.plan.class_names == ("background", "organ", "tumor")
    assert (classes.plan.outputs, regions.plan.outputs) == (3, 2)


def test_a_store_of_classes_is_not_one_of_regions(stores, exclusive, nested):
    same_files = dataclasses.replace(exclusive, regions=nested.regions)
    with pytest.raises(DataError, match="description has changed"):
        stores[0].check_source(same_files, PlanOptions())


def test_verify_counts_regions(nested, capsys):
    assert main(["verify", str(nested.root), "--json"]) == 0
    organ, tumor = json.loads(capsys.readouterr().out)["fingerprint"]["regions"]
    assert (organ["name"], organ["values"], organ["cases"]) == ("organ", [2, 5], 5)
    assert organ["voxels"] > tumor["voxels"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_trained_evaluated_and_predicted_by_the_commands(network, nested, stores, tmp_path, capsys):
    run, store = tmp_path / "run", str(stores[1].folder)
    assert main(["train", str(nested.root), "--store", store, "--run", str(run), *NETWORKS[network], *SHORT]) == 0
    assert (run / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].endswith("dice/organ,dice/tumor")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--choose-postprocessing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["organ", "tumor"]
    scores = Scores.read(RunFolder(run).evaluation)
    case = next(case for case in nested.cases if case.id == scores.cases[0])
    ours, truth = read_labels(RunFolder(run).prediction(case.id)).array, read_labels(case.label).array
    for number, held in enumerate(REGIONS.values()):
        first, second = np.isin(ours, held), np.isin(truth, held)
        expected = 2 * (first & second).sum() / (first.sum() + second.sum())
        np.testing.assert_allclose(scores.dice[0, number], expected)
    assert "organ" in (run / "model" / "README.md").read_text(encoding="utf-8")
    words = ["predict", str(run), str(case.scan), str(tmp_path / "out"), "--confidence", "--masks", "--json"]
    assert main([*words, "--no-postprocessing"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["scans"]
    assert set(result["confidence"]["classes"]) == {"organ", "tumor"}
    labels = read_labels(tmp_path / "out" / case.scan.name).array
    assert np.array_equal(labels, ours)
    for name, held in REGIONS.items():
        file = tmp_path / "out" / "masks" / case.id / f"{name}.nii.gz"
        assert np.array_equal(read_labels(file).array, np.isin(labels, held))
        assert str(file) in result["masks"]


@pytest.mark.slow
def test_another_program_of_a_comparison_is_scored_by_regions(nested, stores, tiny_training, tmp_path):
    """What it predicts are the labels, by the values that it was given."""
    program = f"""
import json, pathlib, sys
import nibabel

data, out = map(pathlib.Path, sys.argv[1:])
assert json.loads((data / "dataset.json").read_bytes())["labels"] == {{"background": 0, "organ": [1, 2], "tumor": [2]}}
for scan in (data / "imagesTs").iterdir():
    name = scan.name.replace("_0000", "")
    image = nibabel.load(pathlib.Path({str(nested.root / "labels")!r}) / name)
    values = image.get_fdata()
    labels = (values == 2).astype("uint8") + 2 * (values == 5).astype("uint8")
    nibabel.Nifti1Image(labels, image.affine).to_filename(out / name)
"""
    config = RunConfig(dataset=nested.root, store=stores[1].folder, training=tiny_training)
    command = (sys.executable, "-c", program, "{data}", "{out}")
    (run,) = plan_runs({"it": config}, (7,), (2,), tmp_path, (90.0,), {"it": command})
    scores = run_program(run, stores[1], threads=1)
    assert scores.classes == ("organ", "tumor")
    assert scores.mean() == 1
