import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from inflate3d.datasets import Split, read_dataset
from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import ConfigError, DataError, Inflate3dError
from inflate3d.orientation import Orientation
from inflate3d.preparation.fingerprint import Fingerprint, measure_case
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.planning import make_plan
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store, write_case, write_index
from inflate3d.preparation.training_defaults import Memory
from inflate3d.volume import Volume

PIR = np.array([[0, 0, 1.0, 0], [-1.5, 0, 0, 0], [0, -4.0, 0, 0], [0, 0, 0, 1]])
"""Voxel axes to the back (1.5 mm), down (4 mm), to the right (1 mm)."""
CLASSES = {0: "background", 3: "liver", 9: "tumor"}
TOYS = {0: "background", 2: "liver", 5: "tumor"}


def make_case(seed=0, shape=(6, 4, 5), dtype=np.int16, modalities=1):
    random = np.random.default_rng(seed)
    scan = random.integers(-1000, 1000, (modalities, *shape)).astype(dtype)
    labels = np.array([0, 3, 9], np.uint8)[random.integers(0, 3, (1, *shape))]
    return Volume(scan, PIR), Volume(labels, PIR)


@pytest.fixture
def dataset(tmp_path):
    return Dataset("Toy", tmp_path / "data", ("CT",), CLASSES, ())


def write_store(folder, dataset, cases, options=PlanOptions()) -> Plan:  # noqa: B008 - frozen
    measured = [measure_case(name, scan, labels.array[0]) for name, (scan, labels) in cases.items()]
    fingerprint = Fingerprint(cases=tuple(measured))
    plan = make_plan(dataset, fingerprint, Memory(2**34, "the test's memory"), options)
    stored = [
        write_case(folder, Case(name, (), None, group=f"patient {name}"), scan, labels, plan)
        for name, (scan, labels) in cases.items()
    ]
    write_index(folder, dataset, options, stored, plan, fingerprint)
    return plan


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("modalities", [1, 2])
def test_round_trip_is_exact_to_the_bit(tmp_path, dtype, modalities):
    dataset = Dataset("Toy", tmp_path, ("MRI",) * modalities, CLASSES, ())
    scan, labels = make_case(dtype=dtype, modalities=modalities)
    plan = write_store(tmp_path / "store", dataset, {"a": (scan, labels)})
    store = Store(tmp_path / "store")
    case = store.cases["a"]

    assert plan.depth_axis == "axial"
    assert (case.shape, case.spacing) == ((4, 5, 6), (4.0, 1.0, 1.5))
    orientation = Orientation.of(PIR, "axial")
    image = store.image_slices("a", [0, 1, 2, 3])
    assert image.dtype == dtype
    assert np.array_equal(image, orientation.apply(scan.array))
    numbered = np.stack([store.label_slice("a", index) for index in range(4)])
    assert np.array_equal(orientation.undo(plan.label_values[numbered]), labels.array[0])


def test_slices_may_stand_twice(tmp_path, dataset):
    scan, labels = make_case()
    write_store(tmp_path, dataset, {"a": (scan, labels)})
    oriented = Orientation.of(PIR, "axial").apply(scan.array)
    assert np.array_equal(Store(tmp_path).image_slices("a", [0, 0, 0, 1, 2]), oriented[:, [0, 0, 0, 1, 2]])
    assert np.array_equal(Store(tmp_path).image_slices("a", [2, 3, 3]), oriented[:, [2, 3, 3]])


def test_each_volume_is_kept_once_and_nothing_else(tmp_path, dataset):
    write_store(tmp_path, dataset, {"a": make_case(0), "b": make_case(1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.image.b2nd",
        "a.label.b2nd",
        "b.image.b2nd",
        "b.label.b2nd",
        "fingerprint.json",
        "plan.json",
        "store.json",
    ]


def test_index_knows_which_slices_hold_a_class(tmp_path, dataset):
    scan, labels = make_case()
    array = np.zeros_like(labels.array)
    array[0, 2, 1, 3] = 9  # second slice from the top of four, which is the third from below
    write_store(tmp_path, dataset, {"a": (scan, Volume(array, PIR))})
    assert Store(tmp_path).cases["a"].slices == {2: (2,)}


def test_groups_and_splits_are_kept(tmp_path):
    own = (Split(("a",), ("b",), source="own"),)
    dataset = Dataset("Toy", tmp_path / "data", ("CT",), CLASSES, (), splits={"own": own})
    write_store(tmp_path, dataset, {"a": make_case(0), "b": make_case(1)})
    store = Store(tmp_path)
    assert store.groups == {"a": "patient a", "b": "patient b"}
    assert store.splits == {"own": own}


def test_ignored_voxels_are_no_class(tmp_path):
    dataset = Dataset("Toy", tmp_path / "data", ("CT",), {0: "background", 3: "liver"}, (), ignore=9)
    plan = write_store(tmp_path, dataset, {"a": make_case()})
    store = Store(tmp_path)
    assert plan.ignore == 9
    assert set(store.cases["a"].slices) == {1}
    values = np.unique(np.stack([store.label_slice("a", index) for index in range(4)]))
    assert values.tolist() == [0, 1, 255]


def test_store_crosses_process_borders_without_its_open_files(tmp_path, dataset):
    write_store(tmp_path, dataset, {"a": make_case()})
    store = Store(tmp_path)
    expected = store.image_slices("a", [1])
    assert np.array_equal(pickle.loads(pickle.dumps(store)).image_slices("a", [1]), expected)


def test_there_is_no_store(tmp_path):
    with pytest.raises(DataError, match="prepared dataset not found") as caught:
        Store(tmp_path)
    assert caught.value.hint == "run `inflate3d prepare` first"


def test_store_of_another_version(tmp_path, dataset):
    write_store(tmp_path, dataset, {"a": make_case()})
    index = tmp_path / "store.json"
    index.write_text(json.dumps({**json.loads(index.read_text(encoding="utf-8")), "version": 99}))
    with pytest.raises(DataError, match="another version") as caught:
        Store(tmp_path)
    assert caught.value.got == 99


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}'])
def test_damaged_index(tmp_path, text):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(Inflate3dError) as caught:
        Store(tmp_path)
    assert caught.value.file == str(tmp_path / "store.json")


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_case_file_that_is_gone_or_cut_short(tmp_path, dataset, damage):
    write_store(tmp_path, dataset, {"a": make_case()})
    path = tmp_path / "a.image.b2nd"
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot read prepared case") as caught:
        Store(tmp_path).image_slices("a", [0])
    assert (caught.value.case, caught.value.file) == ("a", str(path))


def test_store_of_other_data_is_refused(dataset, phantoms, phantom_store):
    phantom_store.check_source(phantoms, PlanOptions())
    with pytest.raises(DataError, match="another dataset"):
        phantom_store.check_source(dataset, PlanOptions())


def test_store_of_a_folder_that_was_moved_is_taken_if_its_files_are_the_same(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(toys, tmp_path / "store", workers=1)
    shutil.copytree(toys.root, tmp_path / "copy")  # with the same times
    with pytest.raises(DataError, match="another dataset"):  # both are there: which one is meant?
        store.check_source(read_dataset(tmp_path / "copy"), PlanOptions())
    shutil.rmtree(toys.root)
    moved = read_dataset(tmp_path / "copy")
    store.check_source(moved, PlanOptions())
    moved.cases[1].scan.write_bytes(moved.cases[0].scan.read_bytes())
    with pytest.raises(DataError, match="files have changed"):
        store.check_source(moved, PlanOptions())


def test_store_of_files_that_have_changed_is_refused(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(toys, tmp_path / "store", workers=1)
    store.check_source(toys, PlanOptions())
    toys.cases[1].scan.write_bytes(toys.cases[0].scan.read_bytes())
    with pytest.raises(DataError, match="files have changed") as caught:
        store.check_source(toys, PlanOptions())
    assert "toy1.nii.gz" in str(caught.value.got)


def test_store_with_other_choices_is_refused(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    chosen = PlanOptions(clip=(0.0, 9.0))
    store = prepare(toys, tmp_path / "store", options=chosen, workers=1)
    store.check_source(toys, chosen)
    store.check_source(toys, PlanOptions())  # no wish
    with pytest.raises(ConfigError, match="prepared with other options") as caught:
        store.check_source(toys, PlanOptions(clip=(0.0, 8.0)))
    assert (caught.value.expected, caught.value.got) == ("--clip 0 8", "--clip 0 9")


def test_part_of_the_choices_is_choice_enough(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(toys, tmp_path / "store", options=PlanOptions(clip=(-175.0, 250.0), flips=False), workers=1)
    store.check_source(toys, PlanOptions(clip=(-175.0, 250.0)))
    with pytest.raises(ConfigError, match="prepared with other options") as caught:
        store.check_source(toys, PlanOptions(clip=(-175.0, 250.0), flips=True, depth_axis="axial"))
    assert caught.value.expected == "--depth-axis axial, --flips True"
    assert caught.value.got == "no --depth-axis, --flips False"


@pytest.mark.parametrize(
    ("edit", "before", "now"),
    [
        ({"modalities": ("MRI",)}, "modalities ['CT']", "modalities ['MRI']"),
        ({"classes": {**TOYS, 5: "cyst"}}, f"classes {TOYS}", f"classes { ({**TOYS, 5: 'cyst'}) }"),
        ({"classes": {0: "background", 2: "liver"}, "merged": {5: 2}}, "merge {}", "merge {5: 2}"),
        ({"ignore": 9}, "ignore None", "ignore 9"),
    ],
)
def test_store_of_another_description_is_refused(tmp_path, write_toys, edit, before, now):
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(toys, tmp_path / "store", workers=1)
    with pytest.raises(DataError, match="description has changed") as caught:
        store.check_source(replace(toys, **edit), PlanOptions())
    assert before in str(caught.value.expected)
    assert now in str(caught.value.got)
    assert caught.value.hint is not None and "prepare` again" in caught.value.hint


def test_chosen_classes_are_no_change_of_the_description(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(toys, tmp_path / "store", options=PlanOptions(classes=("liver",)), workers=1)
    store.check_source(toys, PlanOptions())
    with pytest.raises(DataError, match="description has changed") as caught:
        store.check_source(replace(toys, classes={**TOYS, 2: "Leber"}), PlanOptions())
    assert caught.value.got == "liver"


def test_splits_and_groups_are_taken_as_the_dataset_has_them_now(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(toys, tmp_path / "store", workers=1)
    written = (store.folder / "store.json").stat().st_mtime_ns
    store.take_splits(toys)
    assert (store.folder / "store.json").stat().st_mtime_ns == written

    own = {"own": (Split(("toy1",), ("toy0",)),)}
    edited = replace(toys, splits=own, cases=tuple(replace(case, group="p7") for case in toys.cases))
    store.check_source(edited, PlanOptions())
    store.take_splits(edited)
    for now in (store, Store(store.folder)):
        assert now.splits == own
        assert now.groups == {"toy0": "p7", "toy1": "p7"}
    assert Store(store.folder).image_slices("toy0", [0]).shape == (1, 1, 20, 24)


def test_stride_is_no_matter_of_the_store(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    store = prepare(toys, tmp_path / "store", workers=1)
    store.check_source(toys, PlanOptions(stride=2))
    with pytest.raises(ConfigError, match="prepared with other options") as caught:
        store.check_source(toys, PlanOptions(stride=2, clip=(0.0, 8.0)))
    assert caught.value.expected == "--clip 0 8"
