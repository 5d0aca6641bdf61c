from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from inflate3d.config import TrainingDefaults
from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import ConfigError
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint, Intensities
from inflate3d.preparation.plan import Normalization
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.planning import make_plan, plan_warnings
from inflate3d.preparation.training_defaults import Memory, available_memory

LIVER = {0: "background", 1: "liver"}
GIB = 2**30


def dataset(modalities=("CT",), classes=LIVER):
    return Dataset("Toy", Path("toy"), modalities, dict(classes), ())


def case(name="c1", shape=(200, 180, 40), spacing=(1.0, 1.0, 5.0), foreground=(0.0, 100.0), modalities=1, slices=None):
    low, high = foreground
    tissue = Intensities(
        mean=50,
        deviation=10,
        percentile_00_5=low,
        percentile_05_0=low,
        percentile_50_0=50,
        percentile_95_0=high,
        percentile_99_5=high,
    )
    return CaseFingerprint(
        case=name,
        shape=shape,
        spacing=spacing,
        orientation="RAS",
        whole=(tissue,) * modalities,
        foreground=(tissue,) * modalities,
        class_voxels={0: 9, 1: 1},
        class_slices=slices or {1: (20, 20, 20)},
    )


def fingerprint(**what):
    return Fingerprint(cases=(case(**what),))


def plan_of(described=None, measured=None, *, gib=100, **options):
    memory = Memory(gib * GIB, "the test's memory")
    return make_plan(described or dataset(), measured or fingerprint(), memory, PlanOptions(**options))


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
    plan = plan_of(measured=fingerprint(spacing=spacing))
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
    plan = plan_of(measured=fingerprint(shape=shape))
    assert plan.image_size == (side, side)
    stretched = "" if shape[0] == shape[1] else ", and is stretched to a square"
    assert plan.reasons["image_size"] == (
        f"{side}×{side}: the median slice has {shape[0]}×{shape[1]} pixels{stretched}"
    )


def test_image_size_is_in_the_plane_of_the_slices():
    assert plan_of(measured=fingerprint(shape=(160, 300, 128), spacing=(1.0, 4.0, 1.0))).image_size == (160, 160)


CT_NAMES = ["CT", "ct", "CT venous", "CT-venous", "CT_portal", "CTA", "NCCT", "CECT", "cbct", "low-dose CT"]


@pytest.mark.parametrize("name", [*CT_NAMES, "Computed Tomography", "computed_tomography (portal)"])
def test_ct_is_clipped_alike_in_all_cases(name):
    (rule,) = plan_of(dataset((name,)), fingerprint(foreground=(0.0, 100.0))).normalization
    assert rule == Normalization(kind="clip", low=0, high=100)


@pytest.mark.parametrize("scale", [1.0, 1 / 4095, 1e-6])
def test_range_of_a_scaled_ct_is_that_of_its_tissue(scale):
    low, high = 1000 * scale, 1100 * scale
    (rule,) = plan_of(measured=fingerprint(foreground=(low, high))).normalization
    assert (rule.low, rule.high) == pytest.approx((low, high), abs=2 * scale)


def test_tissue_of_one_value_has_a_range():
    (rule,) = plan_of(measured=fingerprint(foreground=(3071.0, 3071.0))).normalization
    assert rule == Normalization(kind="clip", low=3070, high=3072)


@pytest.mark.parametrize("limits", [{}, {"low": 1.0}, {"low": 1.0, "high": 1.0}, {"low": 2.0, "high": 1.0}])
def test_range_without_a_width_is_none(limits):
    with pytest.raises(ValidationError, match="clip needs a low"):
        Normalization(kind="clip", **limits)


@pytest.mark.parametrize("name", ["MRI", "T1w", "FLAIR", "PET", "OCT", "PET/CT", "SPECT_CT", "CT1", "contrast"])
def test_mr_goes_by_each_case(name):
    (rule,) = plan_of(dataset((name,)), fingerprint()).normalization
    assert rule.kind == "case"


def test_each_modality_by_itself():
    plan = plan_of(dataset(("CT", "PET")), fingerprint(modalities=2))
    assert [rule.kind for rule in plan.normalization] == ["clip", "case"]
    assert plan.reasons["normalization"] == (
        "CT in Hounsfield units: 0 to 100, the 0.5th to 99.5th percentile of labeled voxels; "
        "PET has units of its own: each case by its 0.5th to 99.5th percentile"
    )


@pytest.mark.parametrize(
    ("spacing", "flips"),
    [
        ((1.0, 1.0, 5.0), (True, True, False)),  # columns run to the front
        ((1.0, 5.0, 1.0), (False, True, True)),
        ((5.0, 1.0, 1.0), (True, False, True)),
    ],
)
def test_mirrors_are_chosen_in_the_frame_of_the_slices(spacing, flips):
    classes = {0: "background", 1: "Anterior", 2: "Posterior"}
    plan = plan_of(dataset(classes=classes), fingerprint(spacing=spacing))
    assert plan.flips == flips
    assert "a class name says anterior and posterior" in plan.reasons["flips"]


def test_user_knows_better():
    wishes = {"depth_axis": "coronal", "planned_size": (96, 64), "clip": (-10.0, 20.0), "flips": False, "stride": 2}
    plan = plan_of(**wishes)
    assert (plan.depth_axis, plan.image_size, plan.flips) == ("coronal", (96, 64), (False,) * 3)
    assert plan.normalization == (Normalization(kind="clip", low=-10, high=20),)
    shown = ("depth_axis", "image_size", "normalization", "flips", "stride")
    assert all(plan.reasons[choice].endswith("as requested") for choice in shown)


def test_every_choice_has_its_reason():
    choices = {"depth_axis", "spacing", "image_size", "stride", "normalization", "flips"}
    assert set(plan_of().reasons) == choices | set(TrainingDefaults.model_fields) - {"accumulate"}


def test_scans_keep_their_own_slices_and_fill_the_image():
    plan = plan_of()
    assert (plan.slice_spacing, plan.pixel_spacing, plan.stride) == (None, None, 1)


def test_median_spacing_in_the_order_of_the_frame():
    cases = tuple(case(f"c{n}", (100, 40, 120), (0.5 * n, 4.0, 0.7)) for n in (1, 2, 4))
    plan = plan_of(measured=Fingerprint(cases=cases), spacing="median")
    assert plan.depth_axis == "coronal"
    assert (plan.slice_spacing, plan.pixel_spacing) == (4.0, (1.0, 0.7))
    assert plan.reasons["spacing"].startswith("4 × 1 × 0.7 mm (slices, rows, columns)")


@pytest.mark.parametrize(("pixel", "side", "why"), [(1.0, 224, "holds the largest"), (0.25, 512, "scaled down")])
def test_image_holds_the_largest_slice_at_the_wanted_spacing(pixel, side, why):
    cases = (case("small", (100, 100, 40)), case("large", (110, 200, 40), (1.0, 1.1, 5.0)))
    plan = plan_of(measured=Fingerprint(cases=cases), spacing=(5.0, pixel, pixel))
    assert plan.image_size == (side, side)
    assert why in plan.reasons["image_size"]


@pytest.mark.parametrize(
    ("gib", "size", "batch", "accumulate"),
    [(72, 512, 16, 1), (22, 512, 8, 2), (12, 512, 4, 4), (3, 512, 2, 8), (12, 224, 16, 1), (1, 512, 2, 8)],
)
def test_batch_fits_the_memory_and_a_step_has_sixteen_windows(gib, size, batch, accumulate):
    plan = plan_of(gib=gib, planned_size=(size, size))
    assert (plan.defaults.batch_size, plan.defaults.accumulate) == (batch, accumulate)
    assert f"{batch} windows: {gib} GiB of the test's memory" in plan.reasons["batch_size"]


def test_memory_that_the_system_does_not_report(monkeypatch):
    monkeypatch.setattr("inflate3d.preparation.training_defaults.total_memory", lambda: None)
    monkeypatch.setattr("inflate3d.preparation.training_defaults._may_have_gpu", lambda: False)
    assert available_memory() == Memory(8 * GIB, "memory, assumed since the system does not report it")


def test_memory_of_this_machine():
    memory = available_memory()
    assert 2**28 < memory.usable < 2**46


@pytest.mark.parametrize(
    ("slices", "stride", "depth"), [(40, 1, 5), (5, 1, 5), (4, 1, 3), (2, 1, 1), (8, 2, 3), (9, 2, 5)]
)
def test_window_is_no_deeper_than_the_thinnest_scan(slices, stride, depth):
    cases = (case("thick"), case("thin", (200, 180, slices)))
    assert plan_of(measured=Fingerprint(cases=cases), stride=stride).defaults.depth == depth


def test_rare_class_is_drawn_more_often():
    classes = {0: "background", 1: "liver", 2: "duct"}
    common = plan_of(dataset(classes=classes), fingerprint(slices={1: (9, 9, 30), 2: (9, 9, 10)}))
    rare = plan_of(dataset(classes=classes), fingerprint(slices={1: (9, 9, 30), 2: (90, 90, 1)}))
    assert (common.defaults.foreground_fraction, rare.defaults.foreground_fraction) == (0.5, 0.67)
    assert "the rarest, duct, is in 2% of the slices" in rare.reasons["foreground_fraction"]


def test_depth_has_its_reason():
    thin = Fingerprint(cases=(case("thin", (200, 180, 4)),))
    assert plan_of().reasons["depth"] == "5 slices, as in the paper"
    assert plan_of(measured=thin).reasons["depth"] == "3 slices: the thinnest scan has 4"
    assert plan_of(measured=thin, spacing=(5.5, 1.0, 1.0)).reasons["depth"] == (
        "3 slices: the thinnest scan, resampled to 5.5 mm, has 4"
    )


@pytest.mark.parametrize(("apart", "depth"), [(3.0, 5), (5.0, 5), (6.0, 1), (10.0, 1)])
def test_thick_slices_are_seen_one_by_one(apart, depth):
    plan = plan_of(measured=fingerprint(spacing=(1.5, 1.5, apart)))
    assert plan.defaults.depth == depth
    assert ("mm apart" in plan.reasons["depth"]) == (depth == 1)


def test_resampling_that_leaves_few_slices_is_odd():
    measured = Fingerprint(cases=(case("thick"), case("thin", (200, 180, 12))))
    (warning,) = plan_warnings(plan_of(measured=measured, spacing=(30.0, 1.0, 1.0)), measured)
    assert (warning.what, warning.case) == ("few slices after resampling", "thin")
    assert warning.expected == "at least 5 slices, for a window of 5"
    assert warning.got == "2: 12 slices of 5 mm, resampled to 30 mm"
    assert warning.hint == "use a smaller first length of --spacing; the plan proposes --depth 1"


@pytest.mark.parametrize("options", [{}, {"spacing": (5.0, 1.0, 1.0)}, {"spacing": "median"}])
def test_thin_scans_alone_are_nothing_odd(options):
    measured = Fingerprint(cases=(case("thin", (200, 180, 3)),))
    assert plan_warnings(plan_of(measured=measured, **options), measured) == []


@pytest.mark.parametrize(
    ("stride", "reason"),
    [
        (None, "neighboring slices, which did best in the paper's ablation"),
        (1, "neighboring slices, as requested"),
        (2, "every second slice, as requested"),
        (3, "every 3rd slice, as requested"),
        (12, "every 12th slice, as requested"),
        (21, "every 21st slice, as requested"),
    ],
)
def test_stride_has_its_reason(stride, reason):
    assert plan_of(stride=stride).reasons["stride"] == reason


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        (1, "1000: 10 passes over 40 slices would be about 25, the least is 1000"),
        (40, "1000: 10 passes over 1600 slices"),
        (100, "2500: 10 passes over 4000 slices"),
        (4_000, "25000: 10 passes over 160000 slices would be about 100000, the most is 25000"),
    ],
)
def test_steps_have_their_reason(cases, reason):
    measured = Fingerprint(cases=tuple(case(f"c{n}") for n in range(cases)))
    assert plan_of(measured=measured).reasons["steps"] == reason


@pytest.mark.parametrize(("cases", "steps"), [(5, 1_000), (100, 2_500), (4_000, 25_000)])
def test_steps_are_ten_passes_over_the_slices_within_bounds(cases, steps):
    measured = Fingerprint(cases=tuple(case(f"c{n}") for n in range(cases)))
    assert plan_of(measured=measured).defaults.steps == steps


def test_resampled_slices_count():
    measured = Fingerprint(cases=tuple(case(f"c{n}") for n in range(100)))
    plan = plan_of(measured=measured, spacing=(2.5, 1.0, 1.0))
    assert plan.defaults.steps == 5_000


def test_chosen_classes_missing_modalities_and_ignored_voxels_stand_in_the_plan():
    options = PlanOptions(
        classes=("liver", "vessels"), merge=("vessels=2+3",), ignore="255", allow_missing_modality=True
    )
    classes = {0: "background", 1: "liver", 2: "artery", 3: "vein", 4: "spleen"}
    lacking = Case("a", (Path("a_t1.nii"), None), Path("a.nii"))
    described = options.choose_classes(replace(dataset(("T1", "T2"), classes), cases=(lacking,)))
    plan = make_plan(described, fingerprint(modalities=2), Memory(GIB, "the test's"), options)
    assert plan.classes == {0: "background", 1: "liver", 2: "vessels"}
    assert (plan.merged, plan.ignore, plan.allow_missing_modality) == ({3: 2, 4: 0}, 255, True)
    assert plan.reasons["allow_missing_modality"] == "zeros replace the missing modalities of 1 cases"


def test_too_many_classes():
    with pytest.raises(ConfigError, match="too many classes"):
        plan_of(dataset(classes=dict(enumerate(map(str, range(256))))))
