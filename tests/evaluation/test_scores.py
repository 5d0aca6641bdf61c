import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inflate3d.errors import ConfigError, DataError
from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.groups import spacing_group
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.tables import Table, show

NAN = math.nan
LIVER = ("background", "liver")


@pytest.fixture
def scores():
    return Scores(
        cases=("a", "b", "c"),
        classes=("liver", "tumor", "cyst"),
        measured={
            "dice": np.array([[0.9, NAN, NAN], [0.8, 0.0, NAN], [0.1, 0.5, NAN]]),
            "hd95": np.array([[1.0, NAN, NAN], [2.0, 50.0, NAN], [6.0, 10.0, NAN]]),
            "nsd": np.array([[1.0, NAN, NAN], [0.8, 0.0, NAN], [0.3, 0.6, NAN]]),
        },
        micro_dice=np.array([0.85, 0.3, NAN]),
        tolerance=1.5,
        seconds=np.array([1.5, NAN, 2.5]),
        groups={"site": ("Ulm", "Bern", "Ulm")},
    )


def of_dice(*values):
    names = tuple(f"case{number}" for number in range(len(values)))
    return Scores(names, ("liver",), {"dice": np.array(values, dtype=np.float64)[:, None]})


# --- figures ----------------------------------------------------------------------------------------------


def test_means_leave_out_what_is_not_defined(scores):
    assert scores.class_means()[:2] == pytest.approx([0.6, 0.25])
    assert scores.class_medians()[:2] == pytest.approx([0.8, 0.25])
    assert scores.case_means() == pytest.approx([0.9, 0.4, 0.3])
    assert math.isnan(scores.class_means()[2])
    assert scores.mean() == pytest.approx((0.6 + 0.25) / 2)
    assert scores.median() == pytest.approx((0.8 + 0.25) / 2)
    assert scores.micro_mean() == pytest.approx((0.85 + 0.3) / 2)
    assert scores.class_means("hd95")[:2] == pytest.approx([3, 30])
    assert scores.mean("hd95") == pytest.approx(16.5)
    assert scores.mean("nsd") == pytest.approx((0.7 + 0.3) / 2)
    assert math.isnan(scores.mean("assd"))  # was not taken


def test_summaries_say_what_the_scores_do(scores):
    for measure in scores.measures:
        summary = scores.summaries[measure]
        assert [each.value for each in summary.means] == pytest.approx(scores.class_means(measure), nan_ok=True)
        assert summary.medians == pytest.approx(scores.class_medians(measure), nan_ok=True)
        assert (summary.mean.value, summary.median) == pytest.approx((scores.mean(measure), scores.median(measure)))
    assert scores.summaries["dice"].cases == (3, 2, 0)


def test_groups(scores):
    parts = scores.in_groups("site")
    assert {site: part.cases for site, part in parts.items()} == {"Bern": ("b",), "Ulm": ("a", "c")}
    assert parts["Ulm"].class_means()[:2] == [0.5, 0.5]
    assert parts["Ulm"].mean("hd95") == pytest.approx((3.5 + 10) / 2)
    assert parts["Bern"].seconds.tolist() == pytest.approx([NAN], nan_ok=True)
    assert math.isnan(parts["Ulm"].micro_mean())


def test_cases_of_a_patient_are_drawn_together(scores):
    assert scores.patients == ("a", "b", "c")  # a site is not a patient
    known = replace(scores, groups={"site": scores.groups["site"], "group": ("p", "unknown", "p")})
    assert known.patients == ("group p", "case b", "group p")
    twice = of_dice(*[0.5, 0.6, 0.7, 0.8, 0.9] * 2)
    patients = replace(twice, groups={"patient": tuple(map(str, [*range(5)] * 2))})
    widths = [each.summaries["dice"].mean.high - each.summaries["dice"].mean.low for each in (twice, patients)]
    assert widths[1] > 1.3 * widths[0]


# --- the object -------------------------------------------------------------------------------------------


def test_equality_hash_and_repr(scores):
    same = replace(scores, measured={name: values.copy() for name, values in scores.measured.items()})
    assert scores == same and hash(scores) == hash(same) and len({scores, same}) == 1
    same.dice[0, 0] = 0.91
    assert scores != same
    assert scores != replace(scores, groups={}) and scores != "scores"
    assert repr(scores) == "Scores(3 cases, 3 classes, mean Dice 0.4250)"


# --- files ------------------------------------------------------------------------------------------------


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_long_table_holds_everything(scores, tmp_path):
    scores.write(tmp_path)
    rows = rows_of(tmp_path / "scores.csv")
    assert rows[0] == ["case", "class", "measure", "value"]
    assert rows[1:5] == [
        ["a", "liver", "dice", "0.900000"],
        ["a", "liver", "hd95", "1.000000"],
        ["a", "liver", "nsd", "1.000000"],
        ["a", "tumor", "dice", "n/a"],
    ]
    assert ["a", "", "prediction_seconds", "1.500000"] in rows
    assert ["", "liver", "micro_dice", "0.850000"] in rows
    assert len(rows) == 1 + 3 * 3 * 3 + 3 + 3
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert len(document["scores"]) == len(rows) - 1
    assert document["scores"][3] == {"case": "a", "class": "tumor", "measure": "dice", "value": None}


def test_tables_of_means(scores, tmp_path):
    scores.write(tmp_path)
    summary = rows_of(tmp_path / "summary.csv")
    assert summary[0] == ["measure", "class", "cases", "mean", "mean_low", "mean_high", "median"]
    assert summary[1] == ["dice", "liver", "3", "0.6000", "n/a", "n/a", "0.8000"]
    assert summary[4][:4] == ["dice", "mean of classes", "", "0.4250"]
    groups = rows_of(tmp_path / "groups.csv")
    assert groups[:2] == [
        ["groups", "group", "cases", "measure", "class", "mean"],
        ["site", "Bern", "1", "dice", "liver", "0.8000"],
    ]
    assert ["site", "Ulm", "2", "hd95", "mean of classes", "6.7500"] in groups


def test_json_defines_each_measure(scores):
    document = scores.to_dict()
    assert "own grid" in document["definitions"]["dice"]
    assert "model's grid" in document["definitions"]["micro_dice"]
    assert document["definitions"]["hd95"].startswith("mm, the larger of the two directed 95th percentiles")
    assert document["nsd_tolerance_mm"] == 1.5
    assert document["groups"] == {"site": {"a": "Ulm", "b": "Bern", "c": "Ulm"}}
    assert document["mean_dice"] == pytest.approx(0.425)
    assert document["summary"][0] | {"mean": 0.6} == {
        **{"measure": "dice", "class": "liver", "cases": 3, "mean": 0.6},
        **{"mean_low": None, "mean_high": None, "median": 0.8},
    }


def test_scores_come_back_from_their_folder(scores, tmp_path):
    known = replace(scores, measured={**scores.measured, "confidence": np.array([[0.8, NAN, NAN]] * 3)})
    for each in (scores, known, replace(scores, micro_dice=None, seconds=None, tolerance=None, groups={})):
        each.write(tmp_path)
        assert Scores.read(tmp_path) == each


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"scores": 3}', '{"scores": [{"measure": "dice"}]}'])
def test_damaged_file(text, tmp_path):
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Scores.read(tmp_path)
    assert caught.value.file == str(tmp_path / "scores.json")


def test_a_case_without_a_class_is_damage(scores, tmp_path):
    scores.write(tmp_path)
    document = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    del document["scores"][4]
    (tmp_path / "scores.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError):
        Scores.read(tmp_path)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1"])
def test_texts_are_not_formulas_and_numbers_stay_numbers(text):
    table = Table(("case", "value"), [(text, -0.5)])
    (_, row) = csv.reader(io.StringIO(table.to_csv(), newline=""))
    assert row == [f"'{text}", "-0.5000"]
    assert table.to_records() == [{"case": text, "value": -0.5}]


def test_what_is_not_defined_is_shown_so():
    assert [show(value) for value in (0.0, 0.12345, NAN)] == ["0.0000", "0.1235", "n/a"]


# --- gathering --------------------------------------------------------------------------------------------


def test_micro_averages_weigh_cases_by_size_and_the_mean_over_cases_does_not():
    accumulator = ScoreAccumulator(LIVER)
    large, small = np.ones((2, 10, 10), np.int64), np.array([0, 0, 0, 1]).reshape(1, 2, 2)
    for name, prediction, label in (("large", large, large), ("small", np.zeros_like(small), small)):
        accumulator.add(name, prediction, label, (1.0, 1.0, 1.0))
        accumulator.add_micro(torch.from_numpy(prediction), torch.from_numpy(label))
    scores = accumulator.scores()
    assert scores.cases == accumulator.cases == ("large", "small")
    assert scores.dice.tolist() == [[1.0], [0.0]]
    assert scores.mean() == 0.5
    assert scores.micro_mean() == pytest.approx(2 * 200 / (200 + 201))


def test_surfaces_are_measured_in_millimeters():
    accumulator = ScoreAccumulator(LIVER, tolerance=2.5)
    label = torch.zeros(9, 9, 9, dtype=torch.long)
    label[4, 2:6, 2:6] = 1
    accumulator.add("a", label.roll(1, 0), label, (2.0, 1.0, 1.0), seconds=1.5)
    scores = accumulator.scores()
    assert scores.seconds is not None
    assert {name: values.item() for name, values in scores.measured.items()} == pytest.approx(
        {
            "dice": 0.0,
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
    accumulator, voxel = ScoreAccumulator(LIVER), np.ones((1, 1, 1), np.uint8)
    for case, site in (("a", "Ulm"), ("b", None)):
        accumulator.add(case, voxel, voxel, (1.0, 1.0, 1.0), groups={"site": site, "scanner": None})
    assert accumulator.scores().groups == {"spacing": ("up to 1 mm",) * 2, "site": ("Ulm", "unknown")}


@pytest.mark.parametrize(
    ("spacing", "group"),
    [
        ((1.0, 0.7, 0.7), "up to 1 mm"),
        ((0.7, 0.7, 1.0000001), "up to 1 mm"),
        ((1.01, 1.0, 1.0), "1 to 2 mm"),
        ((0.5, 5.0, 0.5), "3 to 5 mm"),
        ((8.0, 1.5, 1.5), "over 5 mm"),
    ],
)
def test_groups_of_spacings(spacing, group):
    assert spacing_group(spacing) == group


@pytest.mark.parametrize("wrong", [-1.0, math.inf, math.nan])
def test_tolerance_is_checked(wrong):
    with pytest.raises(ConfigError):
        ScoreAccumulator(LIVER, tolerance=wrong)


# --- confidence -------------------------------------------------------------------------------------------


def test_confidence_stands_beside_the_scores(scores):
    confidence = np.array([[0.8, NAN, NAN], [0.7, 0.3, 0.2], [NAN, NAN, NAN]])
    known = replace(scores, measured={**scores.measured, "confidence": confidence})
    assert known.case_confidence() == pytest.approx([0.8, 0.4, NAN], nan_ok=True)
    assert known.confidence_ranking is None  # of so few cases
    assert known.measures == scores.measures
    assert ("b", "tumor", "confidence", 0.3) in known.table().rows
    (bern,) = known.in_groups("site")["Bern"].case_confidence()
    assert bern == pytest.approx(0.4)


def test_confidence_ranks_cases_by_dice():
    scores = of_dice(*np.linspace(0.2, 0.9, 12))
    known = replace(scores, measured={**scores.measured, "confidence": scores.dice**2})
    assert known.confidence_ranking is not None
    assert known.confidence_ranking.value == pytest.approx(1)
    assert known.to_dict()["confidence_ranking"]["low"] == pytest.approx(1)
    assert scores.confidence_ranking is None and scores.to_dict()["confidence_ranking"] is None


def test_cases_whose_confidence_is_unknown():
    voxel = np.ones((1, 1, 1), np.uint8)
    for confidence in ([None, None], [None, [0.5]]):
        accumulator = ScoreAccumulator(LIVER)
        for case, each in zip("ab", confidence, strict=True):
            accumulator.add(case, voxel, voxel, (1.0, 1.0, 1.0), confidence=each)
        found = accumulator.scores()
        assert (found.confidence is None) == (confidence[1] is None)
        assert found.case_confidence() == pytest.approx([NAN, NAN if confidence[1] is None else 0.5], nan_ok=True)
