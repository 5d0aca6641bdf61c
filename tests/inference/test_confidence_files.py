"""How far label maps can be trusted, from the command line to the summary beside them."""

# pyright: reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import json
import shutil

import pytest

from inflate3d.cli import main
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume


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


def test_each_scan_has_its_number(tiny_run, scans, tmp_path, capsys):
    document = json.loads(printed(capsys, tiny_run.root, scans, tmp_path / "out", "--confidence", "--json"))
    predictor = Predictor.load(tiny_run.root)
    for scan in document["scans"]:
        expected = predictor.predict(read_volume(scans / f"{scan['case']}.nii.gz"), confidence=True)
        assert scan["confidence"] == expected.confidence.to_dict()
        assert scan["confidence"]["kind"] == "soft dice"
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert [scan["confidence"] for scan in summary["scans"]] == [scan["confidence"] for scan in document["scans"]]


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
