from pathlib import Path

import numpy as np
import pytest

from inflate3d.datasets.case import Dataset
from inflate3d.errors import ConfigError, DataError
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint, Intensities
from inflate3d.preparation.plan import Normalisation, Plan, check_depth, make_plan

LIVER = {0: "background", 1: "liver"}


def dataset(modalities=("CT",), classes=LIVER):
    return Dataset("Toy", Path("toy"), modalities, dict(classes), ())


def fingerprint(shape=(200, 180, 40), spacing=(1.0, 1.0, 5.0), foreground=(0.0, 100.0), modalities=1):
    tissue = Intensities(mean=50, deviation=10, percentile_00_5=foreground[0], percentile_99_5=foreground[1])
    case = CaseFingerprint(
        case="c1",
        shape=shape,
        spacing=spacing,
        orientation="RAS",
        whole=(tissue,) * modalities,
        foreground=(tissue,) * modalities,
        class_voxels={0: 9, 1: 1},
    )
    return Fingerprint(cases=(case,))


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((1.0, 1.0, 5.0), "axial"),
        ((1.0, 5.0, 1.0), "coronal"),
        ((5.0, 1.0, 1.0), "sagittal"),
        ((1.0, 1.0, 1.0), "axial"),
        ((5.0, 5.0, 1.0), "coronal"),
        ((1.0, 1.0, 0.995), "axial"),  # scanners round
        ((1.0, 1.0, 0.9), "coronal"),
    ],
)
def test_depth_axis_is_that_of_largest_spacing_and_ties_go_to_the_last(spacing, axis):
    plan = make_plan(dataset(), fingerprint(spacing=spacing))
    assert plan.depth_axis == axis
    assert plan.reasons["depth_axis"].startswith(f"{axis}: median spacing is ")


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((200, 180, 40), 224),
        ((192, 180, 40), 192),
        ((512, 512, 40), 512),
        ((800, 700, 40), 512),
        ((35, 51, 40), 128),  # slices this small are enlarged twice
        ((20, 20, 40), 96),
    ],
)
def test_image_size_is_that_of_the_median_slice(shape, side):
    plan = make_plan(dataset(), fingerprint(shape=shape))
    assert plan.image_size == (side, side)
    assert plan.reasons["image_size"] == f"{side}×{side}: the median slice has {shape[0]}×{shape[1]} pixels"


def test_image_size_is_in_the_plane_of_the_slices():
    assert make_plan(dataset(), fingerprint(shape=(160, 300, 128), spacing=(1.0, 4.0, 1.0))).image_size == (160, 160)


@pytest.mark.parametrize("name", ["CT", "ct", "CT venous", "Computed Tomography"])
def test_ct_is_clipped_alike_in_all_cases(name):
    (rule,) = make_plan(dataset((name,)), fingerprint(foreground=(0.0, 100.0))).normalisation
    assert rule == Normalisation(kind="clip", low=-50, high=150)
    assert rule.value_range(np.array([5.0, 7.0])) == (-50, 150)


@pytest.mark.parametrize("name", ["MRI", "T1w", "FLAIR", "PET", "OCT"])
def test_mr_goes_by_each_case(name):
    (rule,) = make_plan(dataset((name,)), fingerprint()).normalisation
    assert rule.kind == "case"
    assert rule.value_range(np.arange(1001)) == (5, 995)


def test_flat_scan_has_a_range_too():
    assert Normalisation(kind="case").value_range(np.full(9, 3)) == (3, 4)


def test_each_modality_by_itself():
    plan = make_plan(dataset(("CT", "PET")), fingerprint(modalities=2))
    assert [rule.kind for rule in plan.normalisation] == ["clip", "case"]
    assert "CT is CT" in plan.reasons["normalisation"]
    assert "PET is not CT" in plan.reasons["normalisation"]


@pytest.mark.parametrize(
    ("names", "spacing", "flips"),
    [
        (["liver", "tumour"], (1.0, 1.0, 5.0), (True, True, True)),
        (["left kidney", "right kidney"], (1.0, 1.0, 5.0), (False, False, False)),
        (["Kidney_L"], (1.0, 1.0, 5.0), (False, False, False)),
        (["leftover", "brightness"], (1.0, 1.0, 5.0), (True, True, True)),  # whole words count
        (["Anterior", "Posterior"], (1.0, 1.0, 5.0), (True, True, False)),  # columns run to the front
        (["Anterior", "Posterior"], (1.0, 5.0, 1.0), (False, True, True)),
        (["Anterior", "Posterior"], (5.0, 1.0, 1.0), (True, False, True)),
        (["upper lobe"], (1.0, 1.0, 5.0), (False, True, True)),
    ],
)
def test_mirrors_that_would_make_a_class_name_wrong_are_forbidden(names, spacing, flips):
    classes = {0: "background", **dict(enumerate(names, start=1))}
    plan = make_plan(dataset(classes=classes), fingerprint(spacing=spacing))
    assert plan.flips == flips
    assert plan.reasons["flips"]


def test_reason_names_the_words():
    classes = {0: "background", 1: "right lung", 2: "left lung"}
    assert make_plan(dataset(classes=classes), fingerprint()).reasons["flips"] == (
        "none: a class name says left and right"
    )


def test_user_knows_better():
    plan = make_plan(
        dataset(), fingerprint(), depth_axis="coronal", image_size=(96, 64), clip=(-10.0, 20.0), flips=False
    )
    assert (plan.depth_axis, plan.image_size, plan.flips) == ("coronal", (96, 64), (False,) * 3)
    assert plan.normalisation == (Normalisation(kind="clip", low=-10, high=20),)
    assert all(reason.endswith("as asked for") for reason in plan.reasons.values())


def test_every_choice_has_its_reason():
    plan = make_plan(dataset(), fingerprint())
    assert set(plan.reasons) == {"depth_axis", "image_size", "normalisation", "flips"}


def test_clip_has_to_be_a_range():
    with pytest.raises(ConfigError, match="clip is not a range"):
        make_plan(dataset(), fingerprint(), clip=(5.0, 5.0))


def test_classes_are_numbered_by_ascending_value():
    plan = make_plan(dataset(classes={0: "background", 2: "liver", 7: "tumour"}), fingerprint())
    assert plan.class_names == ("background", "liver", "tumour")
    assert plan.label_values.tolist() == [0, 2, 7]


def test_plan_comes_back_from_its_file(tmp_path):
    plan = make_plan(dataset(classes={0: "background", 10: "milz", 9: "größe"}), fingerprint())
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


def test_window_must_not_be_deeper_than_a_scan():
    check_depth(fingerprint(shape=(200, 180, 5)), "axial", 5)
    with pytest.raises(DataError) as caught:
        check_depth(fingerprint(shape=(200, 180, 4)), "axial", 5)
    assert caught.value.to_dict() == {
        "what": "scan is thinner than the window",
        "case": "c1",
        "expected": "at least 5 slices along the axial direction",
        "got": "4 slices",
        "remedy": "train with a smaller --depth, or leave the case out",
    }
