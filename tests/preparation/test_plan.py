from pathlib import Path

import numpy as np
import pytest

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.classes import IGNORED
from inflate3d.errors import ConfigError, DataError
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint
from inflate3d.preparation.plan import Normalization, Plan

CT = Normalization(kind="clip", low=-50, high=150)


def plan_of(classes=None, **what):
    values = {
        "dataset": "Toy",
        "modalities": ("CT",),
        "classes": classes or {0: "background", 1: "liver"},
        "merged": {},
        "depth_axis": "axial",
        "image_size": (64, 64),
        "normalization": (CT,),
        "flips": (True, True, True),
        "reasons": {"stride": "because"},
    }
    return Plan(**(values | what))


def fingerprint(slices, spacing=5.0):
    case = CaseFingerprint(
        case="c1",
        shape=(200, 180, slices),
        spacing=(1.0, 1.0, spacing),
        orientation="RAS",
        whole=(),
        foreground=None,
        class_voxels={},
    )
    return Fingerprint(cases=(case,))


def test_one_range_for_all_cases_or_each_cases_own():
    assert CT.value_range(np.array([5.0, 7.0])) == (-50, 150)
    assert Normalization(kind="case").value_range(np.arange(1001)) == (5, 995)
    assert Normalization(kind="case").value_range(np.full(9, 3)) == (3, 4)


@pytest.mark.parametrize("rule", [CT, Normalization(kind="case")])
def test_missing_modality_stays_zero(rule):
    assert rule.value_range(np.zeros(9)) == (0, 1)


def test_classes_are_numbered_by_ascending_value():
    plan = plan_of({0: "background", 2: "liver", 7: "tumor"})
    assert plan.class_names == ("background", "liver", "tumor")
    assert plan.label_values.tolist() == [0, 2, 7]


def test_label_values_become_class_numbers_and_return():
    plan = plan_of({0: "background", 3: "liver", 90: "tumor", 700: "vessel"}, merged={4: 3, 5: 0}, ignore=255)
    numbers = plan.number_classes(np.array([[0, 3, 4], [5, 90, 255], [700, 700, 0]], np.uint16))
    assert numbers.tolist() == [[0, 1, 1], [0, 2, IGNORED], [3, 3, 0]]
    assert numbers.dtype == np.uint8
    assert plan.label_values[numbers[2]].tolist() == [700, 700, 0]


def test_what_counts_as_ignored_is_ignored():
    plan = plan_of({0: "background", 3: "liver"}, merged={4: 9}, ignore=9)
    assert plan.number_classes(np.array([0, 3, 4, 9])).tolist() == [0, 1, IGNORED, IGNORED]


@pytest.mark.parametrize("value", [1, 4, 999])
def test_value_that_the_plan_does_not_know(value):
    with pytest.raises(DataError, match="unknown label values") as caught:
        plan_of({0: "background", 3: "liver"}, merged={5: 3}).number_classes(np.array([[0, 3], [value, 5]]))
    assert caught.value.got == str(value)


def test_dataset_with_the_classes_of_the_plan():
    described = Dataset("Toy", Path("toy"), ("CT",), {0: "background", 1: "a", 2: "b", 3: "c"}, ())
    chosen = plan_of({0: "background", 1: "a"}, merged={2: 1}, ignore=3).apply_to(described)
    assert chosen.label_values == {0, 1, 2, 3}
    assert (chosen.classes, chosen.merged, chosen.ignore) == ({0: "background", 1: "a"}, {2: 1}, 3)


def test_slices_are_counted_as_the_plan_resamples_them():
    assert plan_of().slice_count(40, 5.0) == 40
    assert plan_of(slice_spacing=2.5).slice_count(40, 5.0) == 80
    assert plan_of(slice_spacing=7.0).slice_count(40, 5.0) == 29
    assert plan_of(slice_spacing=900.0).slice_count(40, 5.0) == 1


def test_plan_comes_back_from_its_file(tmp_path):
    plan = plan_of({0: "background", 10: "milz", 9: "größe"}, merged={11: 10}, ignore=255)
    plan.write(tmp_path / "plan.json")
    read = Plan.read(tmp_path / "plan.json")
    assert read == plan
    assert list(read.classes) == list(plan.classes)


@pytest.mark.parametrize("text", [None, "{", '{"version": 99}', "[]"])
def test_file_that_is_no_plan(tmp_path, text):
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Plan.read(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    ("plan", "slices", "needed"),
    [(plan_of(), 4, 5), (plan_of(stride=2), 8, 9), (plan_of(slice_spacing=10.0), 8, 5)],
)
def test_window_must_not_be_deeper_than_a_scan(plan, slices, needed):
    plan.check_depth(fingerprint(slices + 2), 5)
    with pytest.raises(DataError) as caught:
        plan.check_depth(fingerprint(slices), 5)
    assert caught.value.to_dict() == {
        "what": "scan has fewer slices than the window",
        "case": "c1",
        "expected": f"at least {needed} slices along the axial direction",
        "got": "4 slices" if slices == 4 or plan.slice_spacing else "8 slices",
        "hint": "train with a smaller --depth, or leave the case out",
    }
