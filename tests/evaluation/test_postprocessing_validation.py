"""Label maps in files, some with islands: what is chosen from them, its honest score, and what is written."""

import csv
import json

import numpy as np
import pytest
import torch

from inflate3d.datasets.case import Dataset
from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.evaluation.postprocessing.validation import choose_postprocessing, random_parts
from inflate3d.evaluation.scores import Scores
from inflate3d.io import read_labels, write_labels
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import FoldsFolder

CASES = 12


@pytest.fixture(scope="module")
def toys(tmp_path_factory, write_toys) -> Dataset:
    return write_toys(tmp_path_factory.mktemp("toys"), CASES)


@pytest.fixture
def plan(toys) -> Plan:
    return Plan(
        dataset="Toys",
        modalities=("CT",),
        classes=toys.classes,
        merged={},
        depth_axis="axial",
        image_size=(32, 32),
        normalization=(),
        flips=(False, False, False),
        reasons={},
    )


def predict(toys: Dataset, plan: Plan, folder: FoldsFolder, spoilt: int) -> Scores:
    """Predictions that are right but for an island of liver in the first cases; six make a fold."""
    accumulator = ScoreAccumulator(plan.class_names)
    for number, case in enumerate(toys.cases):
        assert case.label is not None
        label = read_labels(case.label)
        predicted = label.array[0].copy()
        if number < spoilt:
            predicted[15:17, 18:20, 2:4] = 2
        write_labels(folder.prediction(case.id), predicted, like=case.scan)
        ours, truth = (torch.from_numpy(plan.number_classes(each)) for each in (predicted, label.array[0]))
        accumulator.add(case.id, ours, truth, label.spacing, groups={"fold": f"fold-{number // 6}"})
    return accumulator.scores()


def choose(toys, plan, folder, scores):
    labels = {case.id: case.label for case in toys.cases}

    def read(case, depth_filter):
        assert not depth_filter
        label = read_labels(labels[case])
        return read_labels(folder.prediction(case)).array[0], label.array[0], label.spacing

    return choose_postprocessing(read, plan, scores, dict(zip(scores.cases, scores.groups["fold"], strict=True)))


def test_islands_in_all_cases_are_removed_from_each_by_what_the_others_say(toys, plan, tmp_path):
    folder = FoldsFolder(tmp_path)
    scores = predict(toys, plan, folder, CASES)
    chosen = choose(toys, plan, folder, scores)
    assert chosen.choice.postprocessing.in_words() == "liver: largest component"
    assert list(chosen.by_part.values()) == [chosen.choice.postprocessing] * 2
    assert chosen.scores.mean() == 1.0 > scores.mean()
    assert chosen.scores.mean("nsd") == 1.0
    assert chosen.scores.groups == scores.groups
    gain = chosen.gains["liver"]
    assert gain.value == pytest.approx(1.0 - scores.class_means()[0])
    assert gain.low == pytest.approx(gain.value)  # it is the same in every case
    assert chosen.gains["tumor"].value == 0.0


def test_what_is_chosen_on_a_fold_s_own_cases_alone_gains_it_nothing(toys, plan, tmp_path):
    folder = FoldsFolder(tmp_path)
    scores = predict(toys, plan, folder, 6)
    chosen = choose(toys, plan, folder, scores)
    assert chosen.choice.postprocessing.in_words() == "liver: largest component"
    assert chosen.by_part["fold-0"] == Postprocessing()  # the others have no islands
    np.testing.assert_array_equal(chosen.scores.dice, scores.dice)
    assert chosen.gains["liver"].value == 0.0


def test_what_is_written(toys, plan, tmp_path):
    folder, file = FoldsFolder(tmp_path), tmp_path / "postprocessing.json"
    chosen = choose(toys, plan, folder, predict(toys, plan, folder, CASES))
    chosen.write(folder, file)
    assert Postprocessing.read(file) == chosen.choice.postprocessing
    assert Scores.read(folder.evaluation / "postprocessed").mean() == 1.0
    with (folder.evaluation / "postprocessing.csv").open(newline="", encoding="utf-8") as lines:
        (row, *_) = csv.DictReader(lines)
    assert (row["class"], row["step"], row["cases_changed"], row["kept"]) == ("liver", "largest component", "12", "yes")
    assert (row["after"], float(row["gain"])) == ("1.0000", pytest.approx(chosen.gains["liver"].value, abs=1e-4))
    document = json.loads(json.dumps(chosen.to_dict(), allow_nan=False))
    assert document["chosen"]["classes"][0]["largest_component"]
    assert document["dice"] == 1.0
    assert document["gains"]["liver"]["interval"][0] > 0


def test_nothing_to_gain_leaves_the_scores_and_says_so_in_the_file(toys, plan, tmp_path):
    folder, file = FoldsFolder(tmp_path), tmp_path / "postprocessing.json"
    scores = predict(toys, plan, folder, 0)
    Postprocessing.model_validate({"classes": [{"value": 2, "name": "liver", "fill_holes": True}]}).write(file)
    chosen = choose(toys, plan, folder, scores)
    chosen.write(folder, file)
    assert Postprocessing.read(file) == Postprocessing()  # what was chosen before is gone
    np.testing.assert_array_equal(chosen.scores.dice, scores.dice)


def test_parts_of_one_runs_cases_keep_groups_together():
    cases = {f"{name}{number}": name for name in "abcdefg" for number in range(2)}
    parts = random_parts(cases)
    assert sorted(parts) == sorted(cases)
    assert len(set(parts.values())) == 5
    assert all(parts[f"{name}0"] == parts[f"{name}1"] for name in "abcdefg")
    assert random_parts({"a": None}) == {"a": "all"}
    assert random_parts({"a": "x", "b": "x"}) == {"a": "all", "b": "all"}
    assert set(random_parts({"a": None, "b": None}).values()) == {"part-0", "part-1"}
