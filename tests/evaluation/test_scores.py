import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inflate3d.errors import DataError
from inflate3d.evaluation.keeper import ScoreKeeper
from inflate3d.evaluation.scores import Scores, SurfaceScores, show

NAN = math.nan


@pytest.fixture
def scores():
    return Scores(
        cases=("a", "b", "c"),
        classes=("liver", "tumour", "cyst"),
        native_dice=np.array([[0.9, NAN, NAN], [0.8, 0.0, NAN], [0.1, 0.5, NAN]]),
        pooled_dice=np.array([0.85, 0.3, NAN]),
        surfaces=SurfaceScores(
            hd95=np.array([[1.0, NAN, NAN], [2.0, 50.0, NAN], [6.0, 10.0, NAN]]),
            nsd=np.array([[1.0, NAN, NAN], [0.8, 0.0, NAN], [0.3, 0.6, NAN]]),
            tolerance=1.5,
        ),
        seconds=np.array([1.5, NAN, 2.5]),
    )


def test_summary_leaves_out_what_is_not_defined(scores):
    assert scores.class_means()[:2] == pytest.approx([0.6, 0.25])
    assert scores.class_medians()[:2] == pytest.approx([0.8, 0.25])
    assert scores.case_means() == pytest.approx([0.9, 0.4, 0.3])
    assert math.isnan(scores.class_means()[2])
    assert scores.mean() == pytest.approx((0.6 + 0.25) / 2)
    assert scores.median() == pytest.approx((0.8 + 0.25) / 2)
    assert scores.pooled_mean() == pytest.approx((0.85 + 0.3) / 2)
    assert scores.surfaces.class_means("hd95")[:2] == pytest.approx([3, 30])
    assert scores.surfaces.mean("hd95") == pytest.approx(16.5)
    assert scores.surfaces.mean("nsd") == pytest.approx((0.7 + 0.3) / 2)


def test_table(scores, tmp_path):
    scores.write(tmp_path)
    head = ["case", "liver", "tumour", "cyst", "mean"]
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            [*head, *(f"{name} {measure}" for measure in ("hd95", "nsd") for name in head[1:4])],
            ["a", "0.9000", "n/a", "n/a", "0.9000", "1.0000", "n/a", "n/a", "1.0000", "n/a", "n/a"],
            ["b", "0.8000", "0.0000", "n/a", "0.4000", "2.0000", "50.0000", "n/a", "0.8000", "0.0000", "n/a"],
            ["c", "0.1000", "0.5000", "n/a", "0.3000", "6.0000", "10.0000", "n/a", "0.3000", "0.6000", "n/a"],
        ]


def test_json_names_each_score_for_what_it_is(scores, tmp_path):
    scores.write(tmp_path)
    values = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert "own grid" in values["native_dice"]["definition"]
    assert "model's grid" in values["pooled_dice"]["definition"]
    assert values["native_dice"]["cases"]["a"] == {"liver": 0.9, "tumour": None, "cyst": None}
    assert values["native_dice"]["class_medians"]["liver"] == 0.8
    assert values["native_dice"]["mean"] == pytest.approx(0.425)
    assert values["pooled_dice"]["classes"] == {"liver": 0.85, "tumour": 0.3, "cyst": None}
    assert values["hd95"]["definition"].startswith("mm, the larger of the two directed 95th percentiles")
    assert values["hd95"]["cases"]["b"] == {"liver": 2.0, "tumour": 50.0, "cyst": None}
    assert values["nsd"]["tolerance_mm"] == 1.5
    assert values["prediction_seconds"] == {"a": 1.5, "b": None, "c": 2.5}


def test_scores_come_back_from_their_folder(scores, tmp_path):
    scores.write(tmp_path)
    read = Scores.read(tmp_path)
    assert (read.cases, read.classes) == (scores.cases, scores.classes)
    assert np.array_equal(read.native_dice, scores.native_dice, equal_nan=True)
    assert np.array_equal(read.pooled_dice, scores.pooled_dice, equal_nan=True)
    assert read.surfaces is not None and read.seconds is not None
    assert np.array_equal(read.surfaces.hd95, scores.surfaces.hd95, equal_nan=True)
    assert np.array_equal(read.surfaces.nsd, scores.surfaces.nsd, equal_nan=True)
    assert read.surfaces.tolerance == 1.5
    assert np.array_equal(read.seconds, scores.seconds, equal_nan=True)


def test_files_of_earlier_versions_have_dice_alone(scores, tmp_path):
    replace(scores, surfaces=None, seconds=None).write(tmp_path)
    file = tmp_path / "scores.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    del values["prediction_seconds"]
    assert set(values) == {"native_dice", "pooled_dice"}
    file.write_text(json.dumps(values), encoding="utf-8")
    read = Scores.read(tmp_path)
    assert read.surfaces is None
    assert read.seconds is not None
    assert np.isnan(read.seconds).all()
    assert np.array_equal(read.native_dice, scores.native_dice, equal_nan=True)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"native_dice": 3, "pooled_dice": {}}'])
def test_damaged_file(text, tmp_path):
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="scores can't be read") as caught:
        Scores.read(tmp_path)
    assert caught.value.file == str(tmp_path / "scores.json")


def test_pooled_dice_weighs_cases_by_size_and_the_mean_over_cases_does_not():
    keeper = ScoreKeeper(("background", "liver"))
    large_right, large = torch.ones(2, 10, 10, dtype=torch.long), torch.ones(2, 10, 10, dtype=torch.long)
    small_missed, small = torch.zeros(4, dtype=torch.long), torch.tensor([0, 0, 0, 1])
    for name, prediction, label in (("large", large_right, large), ("small", small_missed, small)):
        keeper.add_native(name, prediction, label)
        keeper.add_pooled(prediction, label)
    scores = keeper.scores()
    assert scores.cases == ("large", "small")
    assert scores.native_dice.tolist() == [[1.0], [0.0]]
    assert scores.mean() == 0.5
    assert scores.pooled_mean() == pytest.approx(2 * 200 / (200 + 201))


def test_parts_of_a_case_add_up():
    prediction, label = torch.tensor([[1, 1], [0, 1]]), torch.tensor([[1, 0], [1, 1]])
    whole, parts = ScoreKeeper(("background", "liver")), ScoreKeeper(("background", "liver"))
    whole.add_native("a", prediction, label)
    for index in range(2):
        parts.add_native("a", prediction[index], label[index])
    assert parts.scores().native_dice == whole.scores().native_dice == [[2 / 3]]


def test_surfaces_are_measured_in_millimetres():
    keeper = ScoreKeeper(("background", "liver"), tolerance=2.5)
    label = torch.zeros(9, 9, 9, dtype=torch.long)
    label[4, 2:6, 2:6] = 1
    keeper.add_native("a", label.roll(1, 0), label)
    keeper.add_surfaces("a", label.roll(1, 0), label, (2.0, 1.0, 1.0))
    keeper.add_seconds("a", 1.0)
    keeper.add_seconds("a", 0.5)
    scores = keeper.scores()
    assert scores.surfaces is not None and scores.seconds is not None
    assert (scores.surfaces.hd95.tolist(), scores.surfaces.nsd.tolist()) == ([[2.0]], [[1.0]])
    assert (scores.surfaces.tolerance, scores.seconds.tolist()) == (2.5, [1.5])


def test_what_is_not_defined_is_shown_so():
    assert [show(value) for value in (0.0, 0.12345, NAN)] == ["0.0000", "0.1235", "n/a"]
