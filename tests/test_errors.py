import pickle
from pathlib import Path

import pytest

from inflate3d.atomic import atomic_path
from inflate3d.errors import (
    ConfigError,
    DataError,
    DatasetProblems,
    Inflate3dError,
    ModelError,
    OutputError,
    truncate,
)


def test_message_lists_the_known_parts():
    error = DataError(
        "the scan is upside down", expected="RAS", got=None, hint="turn it", case="c1", file=Path("a/b.nii")
    )
    assert str(error) == (
        f"the scan is upside down\n  case:     c1\n  file:     {Path('a/b.nii')}\n  expected: RAS\n  hint:     turn it"
    )


def test_parts_are_plain_strings():
    error = ConfigError("wrong size", expected=(1, 2), got=3)
    assert error.to_dict() == {"what": "wrong size", "expected": "(1, 2)", "got": "3"}


@pytest.mark.parametrize("kind", [Inflate3dError, ConfigError, DataError, ModelError, OutputError])
def test_every_kind_crosses_process_borders_whole(kind):
    error = kind("what", expected=1, got=[2], hint="fix it", case="c", file="f")
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


def test_problems_are_listed_one_below_the_other():
    problems = DatasetProblems([DataError("first", case="a"), DataError("second")])
    assert str(problems) == "2 problem(s) in the dataset\n- first\n  case:     a\n- second"


def test_problems_of_one_kind_are_grouped():
    alike = [DataError("damaged", case=f"c{number}", hint="fetch it again") for number in range(500)]
    text = str(DatasetProblems([alike[0], DataError("odd"), *alike[1:]]))
    assert text.count("fetch it again") == 3
    assert text.splitlines()[0] == "501 problem(s) in the dataset"
    assert text.splitlines()[-2:] == [
        "- damaged: 497 more (c3, c4, c5, c6, c7, c8, c9, c10, c11, c12 and 487 more); --json shows all",
        "- odd",
    ]
    assert len(DatasetProblems(alike).to_dict()["problems"]) == 500


def test_files_that_were_written_all_the_same_are_kept():
    problems = DatasetProblems([DataError("damaged")], what="1 of 2 scans failed", written=[Path("a.nii")])
    copy = pickle.loads(pickle.dumps(problems.with_context(case="c", file="f")))
    assert (copy.what, copy.to_dict()["written"], copy.problems[0].case) == ("1 of 2 scans failed", ["a.nii"], "c")
    assert "written" not in DatasetProblems([DataError("damaged")]).to_dict()


@pytest.mark.parametrize(
    ("kind", "base"),
    [(ConfigError, ValueError), (DataError, ValueError), (ModelError, ValueError), (OutputError, OSError)],
)
def test_generic_handlers_catch_our_errors(kind, base):
    with pytest.raises(base) as caught:
        raise kind("what", file="f")
    assert str(caught.value) == "what\n  file:     f"


def test_with_context_adds_case_and_file_where_they_are_unknown():
    error = DataError("what", file="own").with_context(case="c", file="other")
    assert (type(error), error.case, error.file) == (DataError, "c", "own")
    assert OutputError("what").with_context(case="c").file is None


def test_truncate_lists_the_first_names():
    assert [truncate(["a", "b", "c"], most) for most in (2, 3)] == ["a, b and 1 more", "a, b, c"]


def test_atomic_path_keeps_our_error_of_another_file(tmp_path):
    with pytest.raises(OutputError) as caught, atomic_path(tmp_path / "a"):
        raise OutputError("disk is full", file="b")
    assert caught.value.file == "b"
