import csv
import json
import math

import numpy as np
import pytest
import torch

from inflate3d.evaluation.keeper import ScoreKeeper
from inflate3d.evaluation.scores import Scores, show

NAN = math.nan


@pytest.fixture
def scores():
    return Scores(
        cases=("a", "b", "c"),
        classes=("liver", "tumour", "cyst"),
        native_dice=np.array([[0.9, NAN, NAN], [0.8, 0.0, NAN], [0.1, 0.5, NAN]]),
        pooled_dice=np.array([0.85, 0.3, NAN]),
    )


def test_summary_leaves_out_what_is_not_defined(scores):
    assert scores.class_means()[:2] == pytest.approx([0.6, 0.25])
    assert scores.class_medians()[:2] == pytest.approx([0.8, 0.25])
    assert scores.case_means() == pytest.approx([0.9, 0.4, 0.3])
    assert math.isnan(scores.class_means()[2])
    assert scores.mean() == pytest.approx((0.6 + 0.25) / 2)
    assert scores.median() == pytest.approx((0.8 + 0.25) / 2)
    assert scores.pooled_mean() == pytest.approx((0.85 + 0.3) / 2)


def test_table(scores, tmp_path):
    scores.write(tmp_path)
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["case", "liver", "tumour", "cyst", "mean"],
            ["a", "0.9000", "n/a", "n/a", "0.9000"],
            ["b", "0.8000", "0.0000", "n/a", "0.4000"],
            ["c", "0.1000", "0.5000", "n/a", "0.3000"],
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


def test_scores_come_back_from_their_folder(scores, tmp_path):
    scores.write(tmp_path)
    read = Scores.read(tmp_path)
    assert (read.cases, read.classes) == (scores.cases, scores.classes)
    assert np.array_equal(read.native_dice, scores.native_dice, equal_nan=True)
    assert np.array_equal(read.pooled_dice, scores.pooled_dice, equal_nan=True)


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


def test_what_is_not_defined_is_shown_so():
    assert [show(value) for value in (0.0, 0.12345, NAN)] == ["0.0000", "0.1235", "n/a"]
