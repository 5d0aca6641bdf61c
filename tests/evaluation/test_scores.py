import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inflate3d.errors import ConfigError, DataError
from inflate3d.evaluation.keeper import ScoreKeeper
from inflate3d.evaluation.measures import Tolerances
from inflate3d.evaluation.scores import Scores, show

NAN = math.nan


@pytest.fixture
def scores():
    return Scores(
        cases=("a", "b", "c"),
        classes=("liver", "tumor", "cyst"),
        native_dice=np.array([[0.9, NAN, NAN], [0.8, 0.0, NAN], [0.1, 0.5, NAN]]),
        pooled_dice=np.array([0.85, 0.3, NAN]),
        measured={
            "hd95": np.array([[1.0, NAN, NAN], [2.0, 50.0, NAN], [6.0, 10.0, NAN]]),
            "nsd": np.array([[1.0, NAN, NAN], [0.8, 0.0, NAN], [0.3, 0.6, NAN]]),
        },
        tolerances=np.array([1.5, 1.5, 3.0]),
        seconds=np.array([1.5, NAN, 2.5]),
        groups={"site": ("Ulm", "Bern", "Ulm")},
    )


def test_summary_leaves_out_what_is_not_defined(scores):
    assert scores.class_means()[:2] == pytest.approx([0.6, 0.25])
    assert scores.class_medians()[:2] == pytest.approx([0.8, 0.25])
    assert scores.case_means() == pytest.approx([0.9, 0.4, 0.3])
    assert math.isnan(scores.class_means()[2])
    assert scores.mean() == pytest.approx((0.6 + 0.25) / 2)
    assert scores.median() == pytest.approx((0.8 + 0.25) / 2)
    assert scores.pooled_mean() == pytest.approx((0.85 + 0.3) / 2)
    assert scores.class_means("hd95")[:2] == pytest.approx([3, 30])
    assert scores.mean("hd95") == pytest.approx(16.5)
    assert scores.mean("nsd") == pytest.approx((0.7 + 0.3) / 2)
    assert math.isnan(scores.mean("assd"))  # was not taken


def test_summaries_say_what_the_scores_do(scores):
    for measure in scores.measures:
        summary = scores.summaries[measure]
        assert [each.value for each in summary.means] == pytest.approx(scores.class_means(measure), nan_ok=True)
        assert [each.value for each in summary.medians] == pytest.approx(scores.class_medians(measure), nan_ok=True)
        assert (summary.mean.value, summary.median.value) == pytest.approx(
            (scores.mean(measure), scores.median(measure))
        )
        assert summary.mean.low <= summary.mean.value <= summary.mean.high
    assert scores.summaries["dice"].cases == (3, 2, 0)


def test_groups(scores):
    parts = scores.in_groups("site")
    assert {site: part.cases for site, part in parts.items()} == {"Bern": ("b",), "Ulm": ("a", "c")}
    assert parts["Ulm"].class_means()[:2] == [0.5, 0.5]
    assert parts["Ulm"].mean("hd95") == pytest.approx((3.5 + 10) / 2)
    assert parts["Bern"].seconds.tolist() == pytest.approx([NAN], nan_ok=True)
    assert math.isnan(parts["Ulm"].pooled_mean())


def test_table(scores, tmp_path):
    scores.write(tmp_path)

    def rows(name):
        with (tmp_path / name).open(newline="") as file:
            return list(csv.reader(file))

    assert rows("scores.csv")[:3] == [
        ["case", "site", "class", "dice", "hd95", "nsd"],
        ["a", "Ulm", "liver", "0.9000", "1.0000", "1.0000"],
        ["a", "Ulm", "tumor", "n/a", "n/a", "n/a"],
    ]
    assert len(rows("scores.csv")) == 1 + 3 * 3
    summary = rows("summary.csv")
    assert summary[0] == ["measure", "class", "cases", "mean", "mean_low", "mean_high", *summary[0][6:]]
    assert summary[1][:6] == ["dice", "liver", "3", "0.6000", "0.1000", "0.9000"]  # 1 of 27 draws takes one case alone
    assert summary[4][:4] == ["dice", "mean of classes", "", "0.4250"]
    assert rows("groups.csv")[:3] == [
        ["groups", "group", "cases", "class", "dice", "hd95", "nsd"],
        ["site", "Bern", "1", "liver", "0.8000", "2.0000", "0.8000"],
        ["site", "Bern", "1", "tumor", "0.0000", "50.0000", "0.0000"],
    ]


def test_json_names_each_score_for_what_it_is(scores, tmp_path):
    scores.write(tmp_path)
    values = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert "own grid" in values["native_dice"]["definition"]
    assert "model's grid" in values["pooled_dice"]["definition"]
    assert values["native_dice"]["cases"]["a"] == {"liver": 0.9, "tumor": None, "cyst": None}
    assert values["native_dice"]["class_medians"]["liver"] == 0.8
    assert values["native_dice"]["mean"] == pytest.approx(0.425)
    assert values["pooled_dice"]["classes"] == {"liver": 0.85, "tumor": 0.3, "cyst": None}
    assert values["hd95"]["definition"].startswith("mm, the larger of the two directed 95th percentiles")
    assert values["hd95"]["cases"]["b"] == {"liver": 2.0, "tumor": 50.0, "cyst": None}
    assert values["nsd"]["tolerances_mm"] == {"liver": 1.5, "tumor": 1.5, "cyst": 3.0}
    assert values["hd95"]["class_medians"] == {"liver": 2.0, "tumor": 30.0, "cyst": None}
    assert values["hd95"]["class_mean_intervals"]["liver"] == [1.0, 6.0]
    assert values["hd95"]["class_mean_intervals"]["cyst"] is None
    assert values["groups"]["site"]["Ulm"]["dice"]["class_means"]["liver"] == 0.5
    assert values["case_groups"] == {"site": {"a": "Ulm", "b": "Bern", "c": "Ulm"}}
    assert values["prediction_seconds"] == {"a": 1.5, "b": None, "c": 2.5}


def test_scores_come_back_from_their_folder(scores, tmp_path):
    scores.write(tmp_path)
    read = Scores.read(tmp_path)
    assert (read.cases, read.classes) == (scores.cases, scores.classes)
    assert np.array_equal(read.native_dice, scores.native_dice, equal_nan=True)
    assert np.array_equal(read.pooled_dice, scores.pooled_dice, equal_nan=True)
    assert read.measures == ["dice", "hd95", "nsd"]
    for name in read.measured:
        assert np.array_equal(read.measured[name], scores.measured[name], equal_nan=True)
    assert read.tolerances is not None and read.tolerances.tolist() == [1.5, 1.5, 3.0]
    assert read.groups == scores.groups
    assert read.seconds is not None and np.array_equal(read.seconds, scores.seconds, equal_nan=True)


def test_files_of_earlier_versions_have_dice_alone(scores, tmp_path):
    replace(scores, measured={}, tolerances=None, seconds=None).write(tmp_path)
    file = tmp_path / "scores.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({name: values[name] for name in ("native_dice", "pooled_dice")}), encoding="utf-8")
    read = Scores.read(tmp_path)
    assert (read.measured, read.tolerances, read.groups) == ({}, None, {})
    assert read.seconds is not None
    assert np.isnan(read.seconds).all()
    assert np.array_equal(read.native_dice, scores.native_dice, equal_nan=True)


def test_files_of_version_0_1_have_one_tolerance(scores, tmp_path):
    scores.write(tmp_path)
    file = tmp_path / "scores.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    del values["classes"], values["nsd"]["tolerances_mm"]
    values["nsd"]["tolerance_mm"] = 2.0
    file.write_text(json.dumps(values), encoding="utf-8")
    assert Scores.read(tmp_path).tolerance == 2.0


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


def test_surfaces_are_measured_in_millimeters():
    keeper = ScoreKeeper(("background", "liver"), tolerance=2.5)
    label = torch.zeros(9, 9, 9, dtype=torch.long)
    label[4, 2:6, 2:6] = 1
    keeper.add_native("a", label.roll(1, 0), label)
    keeper.add_surfaces("a", label.roll(1, 0), label, (2.0, 1.0, 1.0))
    keeper.add_seconds("a", 1.0)
    keeper.add_seconds("a", 0.5)
    scores = keeper.scores()
    assert scores.seconds is not None
    assert {name: values.item() for name, values in scores.measured.items()} == pytest.approx(
        {
            "iou": 0.0,
            "precision": 0.0,
            "recall": 0.0,
            "volume_difference_ml": 0.0,
            "volume_difference_percent": 0.0,
            "hd95": 2.0,
            "hd95_pooled": 2.0,
            "hd100": 2.0,
            "assd": 2.0,
            "nsd": 1.0,
            "lesion_f1": 0.0,
        }
    )
    assert (scores.tolerance, scores.seconds.tolist()) == (2.5, [1.5])
    assert scores.groups == {"spacing": ("1 to 2 mm",)}


def test_cases_without_a_group_are_in_the_unknown_one():
    keeper = ScoreKeeper(("background", "liver"))
    for case, site in (("a", "Ulm"), ("b", None)):
        keeper.add_native(case, torch.tensor([1]), torch.tensor([1]))
        keeper.add_group(case, "site", site)
        keeper.add_group(case, "scanner", None)
    assert keeper.scores().groups == {"site": ("Ulm", "unknown")}


def test_tolerances_by_class():
    names = ("background", "liver", "tumor")
    assert ScoreKeeper(names, tolerance=Tolerances(3.0, {"tumor": 1.0})).tolerances.tolist() == [3.0, 1.0]
    assert ScoreKeeper(names, tolerance=3.0).tolerances.tolist() == [3.0, 3.0]
    with pytest.raises(ConfigError, match="class that there is not"):
        ScoreKeeper(names, tolerance=Tolerances(classes={"spleen": 1.0}))
    with pytest.raises(ConfigError, match="can't be used"):
        ScoreKeeper(names, tolerance=-1.0)


def test_what_is_not_defined_is_shown_so():
    assert [show(value) for value in (0.0, 0.12345, NAN)] == ["0.0000", "0.1235", "n/a"]


def test_confidence_is_kept_beside_the_scores(scores, tmp_path):
    known = replace(scores, confidence=np.array([[0.8, NAN, NAN], [0.7, 0.3, 0.2], [NAN, NAN, NAN]]))
    assert known.case_confidence() == pytest.approx([0.8, 0.4, NAN], nan_ok=True)
    assert known.confidence_ranking is None  # of so few cases
    known.write(tmp_path)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["confidence"] for row in rows[:4]] == ["0.8000", "n/a", "n/a", "0.7000"]
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["confidence"]
    assert document["cases"]["b"] == {"liver": 0.7, "tumor": 0.3, "cyst": 0.2}
    assert document["means"]["c"] is None
    assert document["rank_correlation_with_dice"] is None
    again = Scores.read(tmp_path)
    assert again.confidence is not None
    np.testing.assert_array_equal(again.confidence, known.confidence)
    (bern,) = known.in_groups("site")["Bern"].case_confidence()
    assert bern == pytest.approx(0.4)


def test_confidence_ranks_cases_by_dice():
    dice = np.linspace(0.2, 0.9, 12)[:, None]
    names = tuple(f"case{number}" for number in range(12))
    scores = Scores(names, ("liver",), dice, np.array([NAN]), confidence=dice**2)
    assert scores.confidence_ranking is not None
    assert scores.confidence_ranking.value == pytest.approx(1)
    assert scores.to_dict()["confidence"]["rank_correlation_with_dice"]["interval"] == pytest.approx([1, 1])
    assert replace(scores, confidence=None).confidence_ranking is None
    assert "confidence" not in replace(scores, confidence=None).to_dict()


def test_cases_whose_confidence_nobody_told(tmp_path):
    keeper = ScoreKeeper(("background", "liver"))
    for case in "ab":
        keeper.add_native(case, torch.ones(2, 2, dtype=torch.long), torch.ones(2, 2, dtype=torch.long))
    assert keeper.scores().confidence is None
    keeper.add_confidence("b", [0.5])
    assert keeper.scores().case_confidence() == pytest.approx([NAN, 0.5], nan_ok=True)
