"""What is held out stays held out, and patients stay together."""

from pathlib import Path

import pytest

from inflate3d.datasets.case import Case
from inflate3d.datasets.splits import Split
from inflate3d.errors import DataError
from inflate3d.server.holding_out import extend_split, usable


def cases(*names, groups=None):
    return [Case(name, (Path(name),), Path(name), (groups or {}).get(name)) for name in names]


def numbered(count):
    return cases(*(f"case{number:03d}" for number in range(count)))


def test_a_fifth_is_held_out_and_stays_held_out():
    split = Split((), ())
    for count in (2, 3, 5, 10, 40):
        before, split = split, extend_split(split, numbered(count))
        assert set(before.train) <= set(split.train) and set(before.validation) <= set(split.validation)
        assert len(split.train) + len(split.validation) == count
        assert len(split.validation) == max(1, round(count / 5))


def test_cases_of_a_patient_stay_together():
    groups = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c"}
    split = extend_split(Split(("a1",), ("b1",)), cases(*groups, groups=groups))
    assert "a2" in split.train and "b2" in split.validation


def test_withdrawn_labels_are_left_out_but_keep_their_side():
    split = extend_split(Split(("a", "b"), ("c",)), cases("a", "c", "d", "e"))
    assert split.validation == ("c",) and usable(split, cases("a", "c")).train == ("a",)
    assert "b" in split.train


@pytest.mark.parametrize("labeled", [[], ["a"]])
def test_one_case_can_not_be_trained_on_and_held_out(labeled):
    with pytest.raises(DataError):
        usable(extend_split(Split((), ()), cases(*labeled)), cases(*labeled))
