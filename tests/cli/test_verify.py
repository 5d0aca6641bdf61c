import json

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.cli.terminal import Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.errors import DataError


def save(path, value):
    nibabel.Nifti1Image(np.full((20, 24, 7), value, np.uint8), np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(path)


@pytest.fixture
def toys(tmp_path, write_toys):
    return write_toys(tmp_path / "data")


@pytest.fixture
def verify(toys, capsys):
    """Checks the toys and gives the exit code and what was shown."""

    def run(*words):
        code = main(["verify", str(toys.root), "--jobs", "1", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_cases_are_shown(verify):
    code, out, err = verify()
    assert code == 0
    assert "5 cases of Toys, stored as RAS (5), int16 (5)" in out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert ["voxels left-right", "20", "20", "20"] in rows
    assert ["spacing, mm down-up", "3", "3", "3"] in rows
    assert ["2 liver", "5", "332", "35.0%", "41.7%", "71.4%"] in rows
    assert ["5 tumor", "5", "18", "10.0%", "12.5%", "42.9%"] in rows
    assert "checking cases" in err
    assert out.splitlines()[-1] == "5 cases of Toys: no problems, 1 warning(s)"


def test_warnings_are_told_and_stop_nobody(verify, toys):
    save(toys.cases[1].label, 0)
    save(toys.cases[3].label, 0)
    code, out, _ = verify()
    assert code == 0
    assert "2 warning(s)" not in out  # the labels of the other three toys are equal
    assert "3 warning(s)\n" in out
    assert "- label map contains only background\n    toy1, toy3\n    if the scan does show a class" in out


def test_problems_and_warnings_are_told_at_once(verify, toys):
    toys.cases[0].images[0].write_bytes(b"no scan")
    save(toys.cases[1].label, 3)
    save(toys.cases[2].label, 0)
    code, out, err = verify()
    assert code == 2
    assert "- label map contains only background\n    toy2\n" in out
    assert "error: 2 problem(s) in the dataset" in err
    assert "- the file can't be read\n  case:     toy0" in err
    assert "- unknown label values\n  case:     toy1" in err


def test_json(verify, toys):
    save(toys.cases[1].label, 0)
    code, out, _ = verify("--json")
    document = json.loads(out)
    assert code == 0
    assert list(document) == ["dataset", "cases", "problems", "warnings", "fingerprint"]
    assert (document["dataset"], document["cases"], document["problems"]) == ("Toys", 5, [])
    assert [warning["what"] for warning in document["warnings"]] == [
        "label map contains only background",
        "different scans have the same label map",
    ]
    assert document["warnings"][0]["case"] == "toy1"
    assert document["fingerprint"]["orientations"] == {"RAS": 5}
    assert [found["cases"] for found in document["fingerprint"]["classes"]] == [4, 4]


def test_json_of_a_dataset_that_can_not_be_used(verify, toys):
    toys.cases[0].images[0].write_bytes(b"no scan")
    save(toys.cases[1].label, 0)
    code, out, _ = verify("--json")
    error = json.loads(out)["error"]
    assert code == 2
    assert [(problem["case"], problem["what"]) for problem in error["problems"]] == [("toy0", "the file can't be read")]
    assert error["warnings"][0]["what"] == "label map contains only background"


def test_classes_can_be_chosen(verify, toys):
    for case in toys.cases[:2]:
        save(case.label, 255)
    code, _, err = verify()
    assert code == 2
    assert "255" in err
    code, out, _ = verify("--json", "--ignore", "255", "--merge", "both=liver+tumor")
    assert code == 0
    assert [(found["name"], found["cases"]) for found in json.loads(out)["fingerprint"]["classes"]] == [("both", 3)]


def test_number_of_processes_that_can_not_be(toys, capsys):
    assert main(["verify", str(toys.root), "--jobs", "-1"]) == 2
    assert "invalid number of processes" in capsys.readouterr().err


def test_warnings_of_one_kind_stand_together(capsys):
    tilted = [DataError("a file is odd", got="tilted", hint="look", case=f"c{index}") for index in range(8)]
    far = [DataError("far off", got=f"{index} mm", expected="9 mm", case=f"d{index}") for index in range(7)]
    show_warnings([*tilted[:4], *far, *tilted[4:], DataError("mixed", got="RAS, LPS")], Terminal())
    assert capsys.readouterr().out.splitlines() == [
        "16 warning(s)",
        "- a file is odd",
        "    c0, c1, c2, c3, c4 and 3 more: tilted",
        "    look",
        "- far off",
        *(f"    d{index}: {index} mm (expected 9 mm)" for index in range(5)),
        "    and 2 more",
        "- mixed",
        "    RAS, LPS",
    ]
    show_warnings([], Terminal())
    assert capsys.readouterr().out == ""
