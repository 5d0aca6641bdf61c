"""`inflate3d next`: which scans are left, in which order, and what is refused."""

import json
import math
import shutil

import pytest

from inflate3d.annotation.candidates import find_candidates, measure_confidence, read_confidence
from inflate3d.cli import main
from inflate3d.datasets.case import Case
from inflate3d.errors import DataError
from inflate3d.inference.predictor import Predictor


@pytest.fixture(scope="module")
def scans(phantoms, tmp_path_factory):
    """Two new scans, one that is labeled in the dataset, and a damaged one."""
    folder = tmp_path_factory.mktemp("scans")
    for number, name in enumerate(("new-a", "new-b", phantoms.cases[2].id)):
        shutil.copy(phantoms.cases[number].scan, folder / f"{name}.nii.gz")
    (folder / "torn.nii.gz").write_bytes(b"\x1f\x8b not a scan")
    return folder


def shown(capsys, *words):
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_labeled_scans_are_left_out_by_name_and_by_file(phantoms, tmp_path):
    scans = [Case("other", phantoms.cases[0].images, None), Case(phantoms.cases[1].id, (tmp_path / "x.nii",), None)]
    left = [Case("new", (tmp_path / "new.nii.gz",), None)]
    cases = find_candidates(phantoms, [*scans, *left], {"new": {"vessel": 0.5}})
    assert [case.name for case in cases if not case.labeled] == ["new"]
    assert sum(case.labeled for case in cases) == len(phantoms.cases)
    assert cases[-1].confidence == {"vessel": 0.5}


@pytest.mark.slow
def test_a_run_predicts_what_has_no_label_and_goes_on_after_a_damaged_scan(tiny_run, scans, capsys):
    code, said = shown(capsys, "next", tiny_run.root, "--scans", scans, "--strategy", "uncertainty")
    assert code == 0
    assert said["labeled"] == 5
    assert [case["case"] for case in said["order"]][2:] == ["torn"]
    assert {case["case"] for case in said["order"]} == {"new-a", "new-b", "torn"}
    assert [warning["case"] for warning in said["warnings"]] == ["torn"]


@pytest.mark.slow
def test_confidence_is_that_of_predict_and_is_read_from_its_summary(tiny_run, scans, tmp_path, capsys):
    assert main(["predict", str(tiny_run.root), str(scans), str(tmp_path), "--confidence", "--device", "cpu"]) == 2
    written = read_confidence(tmp_path)
    case = Case("new-a", (scans / "new-a.nii.gz",), None)
    measured, problems = measure_confidence(Predictor.load(tiny_run.root, device="cpu"), [case])
    assert not problems
    assert written["new-a"] == pytest.approx(measured["new-a"], abs=1e-6, nan_ok=True)
    capsys.readouterr()
    code, said = shown(capsys, "next", tiny_run.root, "--scans", scans, "--predictions", tmp_path)
    assert code == 0
    assert {case["case"]: case["classes"] is None for case in said["order"]} == {
        "new-a": False,
        "new-b": False,
        "torn": True,
    }


def test_a_dataset_alone_gives_a_random_order(phantoms, scans, capsys):
    orders = [shown(capsys, "next", phantoms.root, "--scans", scans, "--seed", seed)[1]["order"] for seed in range(8)]
    assert {tuple(sorted(case["case"] for case in order)) for order in orders} == {("new-a", "new-b", "torn")}
    assert len({tuple(case["case"] for case in order) for order in orders}) > 1


def test_what_can_not_be_done_is_refused(phantoms, scans, tmp_path, capsys):
    for words in (
        ("next", phantoms.root, "--scans", scans, "--strategy", "uncertainty"),
        ("next", phantoms.root, "--scans", scans, "--strategy", "best"),
        ("next", phantoms.root),
        ("next", phantoms.root, "--scans", scans, "--dataset", phantoms.root),
    ):
        code, said = shown(capsys, *words)
        assert code == 2, words
        assert "error" in said


@pytest.mark.parametrize("text", ["not JSON", "{}", '{"scans": [{"case": "a"}]}', '{"scans": [3]}'])
def test_a_damaged_summary_is_refused(tmp_path, text):
    with pytest.raises(DataError):
        read_confidence(tmp_path)
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(DataError):
        read_confidence(tmp_path)


def test_null_in_a_summary_is_a_class_that_is_not_predicted(tmp_path):
    entry = {"case": "a", "confidence": {"kind": "soft dice", "value": 0.5, "classes": {"liver": 0.5, "tumor": None}}}
    (tmp_path / "summary.json").write_text(json.dumps({"scans": [entry]}))
    found = read_confidence(tmp_path)["a"]
    assert found["liver"] == 0.5
    assert math.isnan(found["tumor"])
