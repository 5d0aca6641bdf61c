"""Each case is read once, and stored as if the whole plan had been known then."""

import dataclasses

import nibabel
import numpy as np
import pytest

from inflate3d.io import read_labels, read_volume
from inflate3d.preparation import prepare as preparation
from inflate3d.preparation.examine import examine
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.planning import make_plan
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import write_case
from inflate3d.preparation.training_defaults import available_memory

AFFINES = (
    np.diag([1.0, 1.0, 3.0, 1.0]),
    np.array([[0, 0, -2.5, 9], [0.9, 0, 0, 9], [0, 1.1, 0, 9], [0, 0, 0, 1]]),  # slices from right to left
    np.diag([-1.0, -1.0, 2.0, 1.0]),
    np.array([[0, 1.2, 0.1, 0], [-1.0, 0, 0, 0], [0, 0.1, 2.7, 0], [0, 0, 0, 1]]),  # oblique
    np.diag([0.7, 0.7, 0.7, 1.0]),
)
"""Of the toys, one each: four lie in another frame than most, or at another spacing."""


@pytest.fixture
def turned(tmp_path, write_toys):
    """Toys in different orientations, some of them floats, one of them with labels that nobody looked at."""
    toys = write_toys(tmp_path / "data")
    for number, (case, affine) in enumerate(zip(toys.cases, AFFINES, strict=True)):
        scan, labels = (read_volume(path).array[0].copy() for path in (case.scan, case.label))
        if number % 2:
            scan = (scan * np.float32(0.37)).astype(np.float32)
        if number == 2:
            labels[0, 0] = 9
        for path, array in ((case.scan, scan), (case.label, labels)):
            nibabel.Nifti1Image(array, affine).to_filename(path)
    return dataclasses.replace(toys, modalities=("MRI",), ignore=9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        PlanOptions(),
        PlanOptions(depth_axis="sagittal"),
        PlanOptions(depth_axis="coronal", clip=(0.0, 50.0)),
        PlanOptions(spacing="median"),
        PlanOptions(spacing=(1.9, 1.0, 1.0), depth_axis="axial"),
        PlanOptions(classes=("tumor",)),
        PlanOptions(merge=("both=2+5",)),
    ],
    ids=lambda options: options.as_flags(options.model_dump(exclude_defaults=True)) or "no option",
)
def test_prepare_stores_each_case_by_the_plan_of_all(tmp_path, turned, options, monkeypatch):
    read, real = [], preparation.read_case
    monkeypatch.setattr(
        preparation, "read_case", lambda dataset, case, **how: read.append(case.id) or real(dataset, case, **how)
    )
    warned = []
    store = prepare(turned, tmp_path / "store", options=options, workers=1, warn=warned.append)
    assert read == [case.id for case in turned.cases]

    dataset = options.choose_classes(turned)
    examined = examine(dataset, workers=1)
    plan = make_plan(dataset, examined.fingerprint, available_memory(), options)
    assert (store.plan, store.fingerprint) == (plan, examined.fingerprint)
    assert [str(warning) for warning in warned][: len(examined.warnings)] == [str(each) for each in examined.warnings]
    for case in turned.cases:
        plain = write_case(tmp_path / "plain", case, read_volume(case.scan), read_labels(case.label), plan)
        ranges = to_model_space(read_volume(case.scan), plan).value_ranges(plan.normalization)
        assert store.cases[case.id] == plain.model_copy(update={"ranges": ranges})
        for kind in ("image", "label"):
            name = f"{case.id}.{kind}.b2nd"
            assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
