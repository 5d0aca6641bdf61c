"""Which label maps are implausible: areas by hand, planted mistakes, and the command with its files."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import ndimage

from inflate3d.annotation.disagreement import Disagreement, compare_disagreements, measure_disagreement
from inflate3d.annotation.suspects import find_suspects
from inflate3d.cli import main
from inflate3d.config import RunConfig
from inflate3d.datasets import Split, read_dataset
from inflate3d.datasets.classes import IGNORED
from inflate3d.errors import DataError
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_images, write_labels
from inflate3d.models.checkpoint import write_model_folder
from inflate3d.run_folder import RunFolder


def test_areas_by_hand():
    label = np.array([[[1, 1, 0, 2]], [[0, 0, 0, IGNORED]]])
    prediction = np.array([[[1, 0, 1, 1]], [[2, 0, 0, 1]]])
    entropy = np.array([[[90, 25, 50, 0]], [[100, 0, 0, 0]]], np.uint8)
    found = measure_disagreement(label, prediction, entropy, 3, pixel_area=2.0)
    assert found.labeled.tolist() == [[4, 0], [2, 0]]
    assert found.predicted.tolist() == [[6, 0], [0, 2]]  # the ignored voxel counts for nothing
    assert found.matched.tolist() == [[2, 0], [0, 0]]
    assert found.surplus.tolist() == [[1.5, 0], [2, 0]]
    assert found.missing.tolist() == [[3, 0], [0, 0]]
    assert found.dice == pytest.approx([2 * 2 / 10, 0])


def balls(random):
    """A label map of two classes, and a prediction that differs along its outline, where it is uncertain."""
    grid = np.indices((14, 20, 20)) - np.array([7, 10, 10])[:, None, None, None] - random.normal(0, 0.5, (3, 1, 1, 1))
    distance = np.sqrt((grid**2).sum(0))
    label = np.where(distance < 6, np.where(grid[1] < 0, 1, 2), 0)
    prediction = np.where(distance < 6 + random.normal(0, 0.3), np.where(grid[1] < random.normal(0, 0.3), 1, 2), 0)
    near = np.minimum(np.abs(distance - 6), np.where(distance < 6, np.abs(grid[1]), 9))
    return label, prediction, np.clip(95 - 60 * near, 0, 100).astype(np.uint8)


MISTAKES = {
    "shifted": lambda label: np.roll(label, 3, axis=2),
    "swapped": lambda label: np.array([0, 2, 1])[label],
    "slice missing": lambda label: np.where(np.arange(14)[:, None, None] == 7, 0, label),
    "class missing": lambda label: np.where(label == 2, 0, label),
    "dilated": lambda label: ndimage.grey_dilation(label, size=(3, 3, 3)),
}


def test_planted_mistakes_rank_first_and_their_place_is_found():
    random = np.random.default_rng(0)
    cases = []
    for number in range(30):
        label, prediction, entropy = balls(random)
        if number < len(MISTAKES):
            label = list(MISTAKES.values())[number](label)
        cases.append(measure_disagreement(label, prediction, entropy, 3, 1.0))
    unusual = compare_disagreements(cases)
    ranked = sorted(range(30), key=lambda number: -unusual[number].worst.score)
    assert set(ranked[: len(MISTAKES)]) == set(range(len(MISTAKES)))
    assert unusual[2].worst[1:] in [("slice", 0, 7), ("slice", 1, 7)]
    assert unusual[3].worst.number == 1
    assert unusual[4].size.max() > 3
    assert np.median([each.worst.score for each in unusual]) < 2


def test_a_speck_of_an_absent_class_is_no_flaw_and_a_class_that_nobody_has_is_undefined():
    def case(labeled, predicted, missing):
        areas = [np.array([[value, 0.0], [0.0, 0.0]]) for value in (labeled, predicted, 0.9 * labeled, missing, 0.0)]
        return Disagreement(*areas)

    cases = [*(case(100.0, 100.0, 10.0 + number) for number in range(9)), case(0.0, 1.0, 1.0)]
    unusual = compare_disagreements(cases)
    assert all(math.isnan(each.overlap[1]) for each in unusual)
    assert unusual[-1].overlap[0] < 2


@pytest.fixture
def run(write_toys, random_model, tmp_path, monkeypatch):
    """A run whose labels are the network's own predictions, but for the fourth case, of which a class is erased."""
    monkeypatch.setattr("inflate3d.preparation.verify._label_problems", lambda *_: [])  # the toys' classes are others
    dataset, predictor = write_toys(tmp_path / "data"), Predictor(random_model, device="cpu")
    for number, case in enumerate(dataset.cases):
        labels = predictor.predict(read_images(case.images)).labels
        if number == 3:
            values, counts = np.unique(labels[labels > 0], return_counts=True)
            labels[labels == values[counts.argmax()]] = 0
        write_labels(case.label, labels, like=case.scan)
    folder = RunFolder(tmp_path / "run")
    RunConfig(dataset=dataset.root, store=tmp_path).write(folder.config)
    random_model.plan.write(folder.plan)
    Split((), tuple(case.id for case in dataset.cases)).write(folder.split)
    write_model_folder(folder.model, random_model.architecture, random_model.plan, random_model.state_dict())
    return folder


@pytest.mark.slow
def test_the_command_finds_the_label_of_which_a_class_is_erased(run, capsys):
    assert main(["suspects", str(run.root), "--device", "cpu", "--count", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["suspects"][0]["case"] == "toy3"
    assert "may be missing" in said["suspects"][0]["finding"]
    with (run.root / "suspects/suspects.csv").open(newline="", encoding="utf-8") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [row["case"] for row in said["suspects"]]
    page = (run.root / "suspects/suspects.html").read_text(encoding="utf-8")
    assert all(f"toy{number}" in page for number in range(5))
    assert len(list((run.root / "suspects").glob("toy3-slice-*-errors.png"))) == 4


def test_too_few_cases_are_refused(run):
    Split((), ("toy0", "toy1")).write(run.split)
    with pytest.raises(DataError):
        find_suspects(run, read_dataset(RunConfig.read(run.config).dataset))
