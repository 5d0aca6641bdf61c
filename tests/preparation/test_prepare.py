import dataclasses

import nibabel
import numpy as np
import pytest

from inflate3d.errors import DatasetProblems, OutputError
from inflate3d.io import read_labels, read_volume
from inflate3d.orientation import Orientation
from inflate3d.preparation.examine import examine
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.prepare import prepare


def test_prepared_phantoms_are_the_files_in_the_models_frame(phantoms, phantom_store):
    assert set(phantom_store.cases) == {case.id for case in phantoms.cases}
    for case in phantoms.cases:
        scan, labels = read_volume(case.scan), read_labels(case.label)
        orientation = Orientation.of(scan.affine, phantom_store.plan.depth_axis)
        depth = range(phantom_store.cases[case.id].shape[0])
        assert np.array_equal(phantom_store.image_slices(case.id, list(depth)), orientation.apply(scan.array))
        stored = np.stack([phantom_store.label_slice(case.id, index) for index in depth])
        assert np.array_equal(stored, orientation.apply(labels.array[0]))


def test_plan_and_fingerprint_are_kept(phantoms, phantom_store):
    assert phantom_store.plan.depth_axis == "axial"
    assert phantom_store.plan.normalization[0].kind == "clip"
    assert [case.case for case in phantom_store.fingerprint.cases] == [case.id for case in phantoms.cases]
    assert phantom_store.fingerprint == examine(phantoms, workers=1).fingerprint


@pytest.mark.slow
def test_several_processes_make_the_same_store(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=4)
    one, two = (prepare(toys, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert (one.cases, one.plan, one.fingerprint) == (two.cases, two.plan, two.fingerprint)
    for name in one.cases:
        assert np.array_equal(one.image_slices(name, [0, 3]), two.image_slices(name, [0, 3]))
        assert np.array_equal(one.label_slice(name, 3), two.label_slice(name, 3))


def test_options_go_into_the_plan(tmp_path, write_toys):
    options = PlanOptions(depth_axis="coronal", planned_size=(64, 96), clip=(0.0, 1.0), flips=False)
    plan = prepare(write_toys(tmp_path / "data"), tmp_path / "store", options=options, workers=1).plan
    assert (plan.depth_axis, plan.image_size, plan.flips) == ("coronal", (64, 96), (False,) * 3)
    assert (plan.normalization[0].low, plan.normalization[0].high) == (0, 1)


def test_all_problems_are_reported_at_once_and_nothing_is_written(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data")
    first, second, third, fourth, _ = toys.cases
    nibabel.Nifti1Image(np.full((20, 24, 7), np.nan, np.float32), np.eye(4)).to_filename(first.scan)
    second.scan.write_bytes(second.scan.read_bytes()[:-20])
    nibabel.Nifti1Image(np.full((20, 24, 7), 4, np.uint8), np.diag([1.0, 1, 3, 1])).to_filename(third.label)
    fourth.label.unlink()
    with pytest.raises(DatasetProblems) as caught:
        prepare(toys, tmp_path / "store", workers=1)
    assert {problem.case for problem in caught.value.problems} == {"toy0", "toy1", "toy2", "toy3"}
    assert all(str(case.id) in str(caught.value) for case in (first, second, third, fourth))
    assert not (tmp_path / "store").exists()


def test_class_that_no_case_has(tmp_path, write_toys):
    toys = dataclasses.replace(write_toys(tmp_path / "data", cases=2), classes={0: "a", 2: "b", 5: "c", 6: "d"})
    with pytest.raises(DatasetProblems, match="class not found in any case"):
        prepare(toys, tmp_path / "store", workers=1)


def test_case_files_of_an_older_store_are_removed(tmp_path, write_toys):
    toys, folder = write_toys(tmp_path / "data", cases=3), tmp_path / "store"
    prepare(toys, folder, workers=1)
    (folder / "notes.b2nd").write_text("the user's own")
    prepare(dataclasses.replace(toys, cases=toys.cases[1:]), folder, workers=1)
    assert sorted(path.name for path in folder.glob("*.b2nd")) == [
        "notes.b2nd",
        *(f"toy{index}.{kind}.b2nd" for index in (1, 2) for kind in ("image", "label")),
    ]


def test_resampling_that_leaves_few_slices_gives_a_warning(tmp_path, write_toys):
    warned = []
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(
        toys, tmp_path / "store", options=PlanOptions(spacing=(10.0, 1.0, 1.0)), workers=1, warn=warned.append
    )
    assert store.plan.defaults.depth == 1
    (warning,) = [warning for warning in warned if warning.what == "few slices after resampling"]
    assert warning.got == "2: 7 slices of 3 mm, resampled to 10 mm"


def test_folder_that_can_not_be_made(tmp_path, write_toys):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError) as caught:
        prepare(write_toys(tmp_path / "data", cases=1), tmp_path / "taken" / "store", workers=1)
    assert caught.value.file == str(tmp_path / "taken" / "store")
