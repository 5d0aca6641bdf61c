import dataclasses
from pathlib import Path

import pytest

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.splits import Split
from inflate3d.preparation.dataset_warnings import case_warnings, class_warnings, is_ct
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint

CLASSES = {0: "background", 1: "liver", 2: "tumor"}


def case_of(name, **what):
    """A case in which nothing is odd."""
    known = {
        "shape": (200, 180, 40),
        "spacing": (1.0, 1.0, 5.0),
        "orientation": "RAS",
        "whole": (),
        "foreground": None,
        "ranges": ((-1024.0, 1500.0),),
        "class_voxels": {0: 9, 1: 1, 2: 1},
        "class_slices": {1: (1, 1, 1), 2: (1, 1, 1)},
        "image_hash": f"image {name}",
        "label_hash": f"labels {name}",
    }
    return CaseFingerprint(case=name, **(known | what))


def dataset_of(*measured, modalities=("CT",), splits=None, groups=None):
    cases = [
        Case(
            case.case,
            tuple(None if index in case.missing else Path(f"{case.case}_{index}") for index in range(len(modalities))),
            Path(f"{case.case}_labels"),
            (groups or {}).get(case.case),
        )
        for case in measured
    ]
    return Dataset("Toy", Path("toy"), modalities, CLASSES, tuple(cases), splits=splits or {})


def warnings(*measured, **what):
    return case_warnings(dataset_of(*measured, **what), Fingerprint(cases=measured))


def found(*measured, **what):
    return [(warning.what, warning.case) for warning in warnings(*measured, **what)]


def three(**what):
    return case_of("a"), case_of("b"), case_of("c", **what)


def test_nothing_is_odd_about_cases_that_differ_as_scans_do():
    cases = three(shape=(512, 512, 90), spacing=(0.7, 0.7, 3.0), ranges=((-3024.0, 3071.0),))
    assert found(*cases) == []
    assert class_warnings(dataset_of(*cases), Fingerprint(cases=cases)) == []


def test_no_case_could_be_used():
    assert found() == []


def test_empty_label_map():
    (warning,) = warnings(*three(class_slices={}, class_voxels={0: 9}))
    assert (warning.what, warning.case, warning.file) == ("label map contains only background", "c", "c_labels")
    assert "if the scan does show a class" in str(warning.hint)


@pytest.mark.parametrize(
    ("modality", "low", "high", "what"),
    [
        ("CT", -1024, 3071, None),
        ("CT", -150, 250, None),  # cropped to soft tissue
        ("CT", 0, 4095, "the modality is CT, but the values are not Hounsfield units"),
        ("ct (portal)", 0, 255, "the modality is CT, but the values are not Hounsfield units"),
        ("CT", -1, 1, "the modality is CT, but the values are not Hounsfield units"),
        ("CT", -3.5, 4.2, "the modality is CT, but the values are not Hounsfield units"),
        ("CT", -1e30, 1e30, "the modality is CT, but the values are not Hounsfield units"),
        ("MRI", 0, 1.7e6, None),
        ("MRI", -3.2, 800.5, None),  # interpolated
        ("MRI", -4096, 4095, None),  # a phase image
        ("MRI", -1000.5, 800, None),
        ("PET", 0, 20, None),
        ("MRI", -1024, 1800, "the values look like CT"),
        ("cone beam", -1000, 3071, "the values look like CT"),
        ("T1", -2048, 3071, "the values look like CT"),
        ("T1", 0, 0, "all voxels have the same value"),
        ("CT", -1024, -1024, "all voxels have the same value"),
    ],
)
def test_values_that_are_not_the_modalitys(modality, low, high, what):
    found = warnings(*three(ranges=((low, high),)), modalities=(modality,))
    assert [warning.what for warning in found if warning.case == "c"] == ([what] if what else [])


def test_values_are_reported_with_the_file_of_the_modality():
    cases = [case_of(name, ranges=((0.0, 9.0), (7.0, 7.0))) for name in "ab"]
    first, _ = warnings(*cases, modalities=("T1", "T2"))
    assert (first.file, first.got) == ("a_1", "T2: 7 everywhere")


def test_missing_modalities_are_reported_together_and_their_zeros_are_not():
    lacking = [case_of(name, ranges=((-1024.0, 9.0), (0.0, 0.0)), missing=(1,)) for name in "abcdefg"]
    (warning,) = warnings(*lacking, modalities=("CT", "PET"))
    assert warning.what == "a modality is missing in some cases"
    assert warning.got == "none in a, b, c, d, e and 2 more"
    assert warning.expected == "PET in each of 7 cases"


@pytest.mark.parametrize(
    ("spacing", "far"),
    [((1.0, 1.0, 15.0), False), ((1.0, 1.0, 15.1), True), ((0.3, 1.0, 5.0), True), ((0.001, 0.001, 0.005), True)],
)
def test_spacing_far_from_the_others(spacing, far):
    shape = tuple(round(length / side) for length, side in zip((200, 180, 200), spacing, strict=True))
    (warning, *more) = warnings(*three(spacing=spacing, shape=shape)) or [None]
    assert not more
    if far:
        assert warning is not None
        assert (warning.what, warning.case) == ("the scan's spacing differs greatly from the other cases'", "c")
        assert "1 × 1 × 5 mm" in str(warning.expected)
    else:
        assert warning is None


def test_length_far_from_the_others():
    (warning,) = warnings(*three(shape=(200, 180, 7)))
    assert (warning.what, warning.got) == (
        "the scan's length differs greatly from the other cases'",
        "200 × 180 × 35 mm",
    )


def test_of_two_cases_none_is_the_odd_one_out():
    assert found(case_of("a"), case_of("b", spacing=(9.0, 9.0, 9.0))) == []


def test_orientations_are_counted():
    (warning,) = warnings(case_of("a"), case_of("b", orientation="LPS"), case_of("c", orientation="LPS"))
    assert warning.what == "cases have different orientations"
    assert warning.got == "LPS in 2, RAS in 1"
    assert str(warning.hint).startswith("no action needed")


def test_copies_in_different_groups_could_be_trained_on_and_held_out():
    (warning,) = warnings(*three(image_hash="image a"))
    assert warning.what == "duplicate scans, which can leak from training to test cases"
    assert warning.got == "same voxels as c; folds can have them on both sides, since their groups differ"


def test_copies_in_one_group_do_not_leak():
    (warning,) = warnings(*three(image_hash="image a"), groups={"a": "p", "b": "q", "c": "p"})
    assert (warning.what, warning.got) == ("duplicate scans", "same voxels as c")


@pytest.mark.parametrize(
    ("split", "leaks"),
    [
        (Split(("a", "c"), ("b",)), False),
        (Split(("a", "b"), ("c",)), True),
        (Split(("b",), ("a",), ("c",)), True),
        (Split(("b",), ("d",), ("a", "c")), False),
    ],
)
def test_copies_on_both_sides_of_a_split(split, leaks):
    groups = {"a": "p", "c": "p"}
    (warning,) = warnings(*three(image_hash="image a"), groups=groups, splits={"own": (Split(("a",), ("b",)), split)})
    assert warning.got == ("same voxels as c; split own has them on both sides" if leaks else "same voxels as c")


def test_one_label_map_for_different_scans():
    (warning,) = warnings(*three(label_hash="labels b"))
    assert (warning.what, warning.case, warning.got) == (
        "different scans have the same label map",
        "b",
        "equal to that of c",
    )


@pytest.mark.parametrize("same", [{"class_slices": {}}, {"image_hash": "image b"}])
def test_empty_label_maps_and_those_of_copies_may_be_equal(same):
    cases = case_of("a"), case_of("b", **same), case_of("c", label_hash="labels b", **same)
    assert "different scans have the same label map" not in {what for what, _ in found(*cases)}


@pytest.mark.parametrize("announced", [None, 2, 3])
def test_number_of_cases_that_the_description_claims(announced):
    cases = case_of("a"), case_of("b")
    dataset = dataclasses.replace(dataset_of(*cases), announced=announced)
    warned = [(each.got, each.expected) for each in case_warnings(dataset, Fingerprint(cases=cases))]
    assert warned == ([(2, "3 (numTraining)")] if announced == 3 else [])


def test_class_in_one_case_only():
    cases = three(class_slices={1: (1, 1, 1)})[1:]
    (warning,) = class_warnings(dataset_of(*cases), Fingerprint(cases=cases))
    assert (warning.what, warning.got, warning.case) == ("a class occurs in only one case", "2 (tumor)", "b")


def test_one_case_is_reported_once_for_all_classes():
    cases = (case_of("a"),)
    (warning,) = class_warnings(dataset_of(*cases), Fingerprint(cases=cases))
    assert (warning.what, warning.case) == ("the dataset has only one case", "a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("CT", True), (" ct ", True), ("CT-portal", True), ("CTA", True), ("CT1", False), ("PET/CT", False)],
)
def test_name_of_ct(name, expected):
    assert is_ct(name) == expected
