"""How far label maps can be trusted, from the command line to the summary beside them."""

# pyright: reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import json
import shutil

import pytest

from inflate3d.cli import main
from inflate3d.datasets.case import Case
from inflate3d.evaluation.calibration import MEAN, Calibration, CalibrationPairs
from inflate3d.inference.batch import predict_files
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume, write_volume
from inflate3d.preparation.typical import TypicalScans


@pytest.fixture
def scans(phantoms, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, case in zip("ab", phantoms.cases, strict=False):
        shutil.copy(case.scan, folder / f"{name}.nii.gz")
    return folder


def printed(capsys, *words):
    assert main(["predict", *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_each_scan_has_its_number(tiny_run, scans, tmp_path, capsys):
    document = json.loads(printed(capsys, tiny_run.root, scans, tmp_path / "out", "--confidence", "--json"))
    predictor = Predictor.load(tiny_run.root)
    for scan in document["scans"]:
        expected = predictor.predict(read_volume(scans / f"{scan['case']}.nii.gz"), confidence=True)
        assert scan["confidence"] == expected.confidence.to_dict()
        assert scan["confidence"]["kind"] == "soft dice"
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert [scan["confidence"] for scan in summary["scans"]] == [scan["confidence"] for scan in document["scans"]]


@pytest.mark.slow
def test_table_has_the_least_first_and_other_networks_agree(tiny_run, scans, tmp_path, capsys):
    words = (tiny_run.root, scans, tmp_path / "out", "--ensemble", tiny_run.root, "--confidence")
    shown = printed(capsys, *words)
    assert "Confidence, lowest first" in shown
    assert "mean pairwise Dice of the networks' label maps" in shown
    plain = printed(capsys, tiny_run.root, scans, tmp_path / "plain")
    assert "Confidence" not in plain
    for name in ("a.nii.gz", "b.nii.gz"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert "confidence" not in (tmp_path / "plain/summary.json").read_text(encoding="utf-8")


def test_a_calibrated_model_says_which_dice_to_expect(random_model, phantoms, tmp_path):
    pairs = CalibrationPairs(confidence=(0.5,) * 10, dice=(0.3,) * 9 + (0.2,), group=tuple(range(10)))
    known = Calibration(classes={MEAN: pairs})  # all confidences alike: the mean, and the lowest of ten
    predictor = Predictor(random_model, device="cpu")
    (result,) = predict_files(predictor, [phantoms.cases[0]], tmp_path / "a", confidence=True, calibration=known)
    assert result.expected[MEAN] == pytest.approx((0.29, 0.2))
    assert result.to_dict()["expected_dice"] == {"level": 0.9, MEAN: {"value": 0.29, "low": 0.2}}


def test_a_scan_that_is_unlike_the_training_cases_is_named(random_model, phantoms, phantom_store, tmp_path):
    typical = TypicalScans.of(phantom_store.fingerprint.cases, ("CT",))
    predictor = Predictor(random_model, device="cpu")
    before = random_model.plan
    random_model.plan = before.model_copy(update={"typical": typical})
    try:
        case = phantoms.cases[0]
        scan = read_volume(case.scan)
        write_volume(tmp_path / "strange.nii.gz", scan.with_array(scan.array + 3000))
        cases = [case, Case("strange", (tmp_path / "strange.nii.gz",), None)]
        usual, strange = predict_files(predictor, cases, tmp_path / "out")
    finally:
        random_model.plan = before
    assert usual.warnings == ()
    assert [warning.case for warning in strange.warnings] == ["strange"]
    assert "black level" in str(strange.warnings[0].got)
