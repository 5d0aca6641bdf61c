import pickle
from pathlib import Path

import pytest

from inflate3d.errors import ConfigError, DataError, DatasetProblems, Inflate3dError, ModelError, OutputError


def test_message_is_told_part_by_part_and_without_the_parts_that_are_unknown():
    error = DataError(
        "the scan is upside down", expected="RAS", got=None, hint="turn it", case="c1", file=Path("a/b.nii")
    )
    assert str(error) == (
        f"the scan is upside down\n  case:     c1\n  file:     {Path('a/b.nii')}\n  expected: RAS\n  hint:   turn it"
    )


def test_parts_are_plain_strings():
    error = ConfigError("wrong size", expected=(1, 2), got=3)
    assert error.to_dict() == {"what": "wrong size", "expected": "(1, 2)", "got": "3"}


@pytest.mark.parametrize("kind", [Inflate3dError, ConfigError, DataError, ModelError, OutputError])
def test_every_kind_crosses_process_borders_whole(kind):
    error = kind("what", expected=1, got=[2], hint="mend", case="c", file="f")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert copy.to_dict() == error.to_dict()


def test_problems_keep_every_error_across_process_borders():
    problems = DatasetProblems([DataError("first", case="a"), OutputError("second", got=2)])
    copy = pickle.loads(pickle.dumps(problems))
    assert [type(problem) for problem in copy.problems] == [DataError, OutputError]
    assert [problem.to_dict() for problem in copy.problems] == [
        {"what": "first", "case": "a"},
        {"what": "second", "got": "2"},
    ]


def test_problems_are_told_one_below_the_other():
    problems = DatasetProblems([DataError("first", case="a"), DataError("second")])
    assert str(problems) == "2 problem(s) in the dataset\n- first\n  case:     a\n- second"


def test_problems_of_one_kind_are_told_together():
    alike = [DataError("damaged", case=f"c{number}", hint="fetch it again") for number in range(500)]
    text = str(DatasetProblems([alike[0], DataError("odd"), *alike[1:]]))
    assert text.count("fetch it again") == 3
    assert text.splitlines()[0] == "501 problem(s) in the dataset"
    assert text.splitlines()[-2:] == [
        "- damaged: 497 more (c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, ...); --json tells all",
        "- odd",
    ]
    assert len(DatasetProblems(alike).to_dict()["problems"]) == 500


def test_files_that_were_made_all_the_same_are_kept():
    problems = DatasetProblems([DataError("damaged")], what="1 of 2 scans failed", written=[Path("a.nii")])
    copy = pickle.loads(pickle.dumps(problems.about(case="c", file="f")))
    assert (copy.what, copy.to_dict()["written"], copy.problems[0].case) == ("1 of 2 scans failed", ["a.nii"], "c")
    assert "written" not in DatasetProblems([DataError("damaged")]).to_dict()
