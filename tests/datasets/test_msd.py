import dataclasses
import json
import random

import nibabel
import numpy as np
import pytest

from inflate3d.datasets import Case, Dataset, read_dataset
from inflate3d.datasets.msd import paper_split, read_msd, write_msd_listing
from inflate3d.datasets.writing import write_dataset
from inflate3d.errors import ConfigError, DataError, DatasetProblems
from inflate3d.io import read_images, read_labels, write_volume
from inflate3d.volume import Volume


def listing(*entries, **changes):
    return {
        "name": "Prostate",
        "modality": {"1": "ADC", "0": "T2"},
        "labels": {"2": "TZ", "0": "background", "1": "PZ"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in entries],
    } | changes


@pytest.fixture
def folder(tmp_path):
    """Two cases, listed against the alphabet; the files' contents are never looked at here."""
    names = ["prostate_10.nii.gz", "prostate_02.nii.gz"]
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / name).write_bytes(b"")
    describe(tmp_path, listing(*names))
    return tmp_path


def describe(folder, content):
    (folder / "dataset.json").write_text(json.dumps(content))


def test_listing_is_read_in_order(folder):
    dataset = read_dataset(folder)
    assert dataset.name == "Prostate"
    assert dataset.root == folder
    assert dataset.modalities == ("T2", "ADC")
    assert list(dataset.classes.items()) == [(0, "background"), (1, "PZ"), (2, "TZ")]
    assert [case.id for case in dataset.cases] == ["prostate_02", "prostate_10"]
    assert dataset.cases[0].images == (folder / "imagesTr" / "prostate_02.nii.gz",)
    assert dataset.cases[0].label == folder / "labelsTr" / "prostate_02.nii.gz"


@pytest.mark.parametrize(("claimed", "announced"), [(2, None), (3, 3), ("3", 3), ("many", None), (True, None)])
def test_another_number_of_cases_that_the_listing_claims(folder, claimed, announced):
    describe(folder, {**json.loads((folder / "dataset.json").read_text(encoding="utf-8")), "numTraining": claimed})
    assert read_msd(folder).announced == announced


def test_written_listing_reads_back(folder):
    dataset = read_msd(folder)
    (folder / "dataset.json").unlink()
    write_msd_listing(dataset)
    assert read_msd(folder) == dataset


def test_folder_names_a_dataset_without_a_name(folder):
    content = listing("prostate_02.nii.gz")
    del content["name"]
    describe(folder, content)
    assert read_msd(folder).name == folder.name


def test_byte_order_mark_and_macos_files_are_passed_over(folder):
    content = json.dumps(listing("._prostate_02.nii.gz", "prostate_02.nii.gz"))
    (folder / "dataset.json").write_text(content, encoding="utf-8-sig")
    assert [case.id for case in read_msd(folder).cases] == ["prostate_02"]


@pytest.mark.parametrize("path", ["../prostate_02.nii.gz", "./imagesTr/../../x.nii.gz", "/etc/passwd"])
def test_paths_out_of_the_folder_are_refused(folder, path):
    describe(folder, listing(training=[{"image": path, "label": "./labelsTr/prostate_02.nii.gz"}]))
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    assert [(problem.what, problem.got) for problem in caught.value.problems] == [
        ("path outside the dataset", str(folder / path))
    ]


def test_two_entries_of_one_name(folder):
    describe(folder, listing("prostate_02.nii.gz", "prostate_02.nii.gz"))
    with pytest.raises(DatasetProblems, match="duplicate case name"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1 column 2"),
        ("[]", "the file"),
        ('{"modality": {"0": "CT"}, "modality": {"0": "MR"}}', "duplicate key"),
        ('{"a": ' * 100_000, "recursion"),
        (json.dumps(listing(labels={"0": "background", "1": "PZ", "01": "TZ"})), "'01': 'TZ'"),
        ('{"modality": {"0": "CT"}}', "labels: Field required; training: Field required"),
        (json.dumps(listing(labels={"background": 0, "PZ": [1, 2]})), "PZ [1, 2]"),
        (json.dumps(listing(labels={"background": 0, "PZ": "one"})), "'one'"),
        (json.dumps(listing(labels={"background": 0, "PZ": True})), "labels.PZ: true is not a whole number"),
        (json.dumps(listing(labels={"background": 0, "PZ": [True]})), "labels.PZ: true is not a whole number"),
        (json.dumps(listing(labels={"background": False, "PZ": 1})), "labels.background: false is not a whole number"),
        (json.dumps(listing(labels={"background": 0, "PZ": 1.5})), "labels.PZ: 1.5 is not a whole number"),
        (json.dumps(listing(labels={"background": 0, "PZ": None})), "labels.PZ: null is not a whole number"),
        (json.dumps(listing(modality={"0": "ADC", "0.0": "T2"})), "modality: the key '0.0' is not a whole number"),
        (json.dumps(listing(labels={"0": "background", "9" * 5000: "PZ"})), "background"),
        (json.dumps(listing(training=["imagesTr/a.nii.gz"])), "training.0"),
        (json.dumps(listing(training=[{"image": "imagesTr/a.nii.gz"}])), "training.0.label: Field required"),
        (json.dumps(listing(labels={"1": "PZ"})), "{1: 'PZ'}"),
        (json.dumps(listing(labels={"0": "background"})), "{0: 'background'}"),
    ],
)
def test_listing_that_says_too_little(folder, content, message):
    (folder / "dataset.json").write_text(content)
    with pytest.raises(DataError) as caught:
        read_msd(folder)
    assert message in str(caught.value.got)
    assert caught.value.file == str(folder / "dataset.json")


def test_label_values_that_a_program_wrote_as_floats(folder):
    describe(folder, listing("prostate_02.nii.gz", labels={"background": 0.0, "PZ": 1.0, "TZ": [2.0]}))
    assert read_dataset(folder).classes == {0: "background", 1: "PZ", 2: "TZ"}


@pytest.mark.parametrize("channels", ["modality", "channel_names"])
def test_classes_and_modalities_in_the_form_of_nnunet(folder, channels):
    content = listing("prostate_02.nii.gz", labels={"background": 0, "TZ": "2", "PZ": [1], "ignore": 9})
    content[channels] = content.pop("modality")
    describe(folder, content)
    dataset = read_dataset(folder)
    assert list(dataset.classes.items()) == [(0, "background"), (1, "PZ"), (2, "TZ")]
    assert (dataset.ignore, dataset.modalities, len(dataset.cases)) == (9, ("T2", "ADC"), 1)


@pytest.mark.parametrize(
    ("changes", "message"), [({"training": []}, "no labeled case"), ({"modality": {}}, "no modality")]
)
def test_listing_without_cases_or_modalities(folder, changes, message):
    describe(folder, listing(**changes))
    with pytest.raises(DataError, match=message):
        read_dataset(folder)


TASKS = {  # the published tasks, with the lengths of their lists
    "Task01_BrainTumor": 484,
    "Task02_Heart": 20,
    "Task03_Liver": 131,
    "Task04_Hippocampus": 260,
    "Task05_Prostate": 32,
    "Task06_Lung": 63,
    "Task07_Pancreas": 281,
    "Task08_HepaticVessel": 303,
    "Task09_Spleen": 41,
    "Task10_Colon": 126,
}


def ids_of(task):
    """Ids of a task in an order that is not that of their names, as in the published lists."""
    return [f"{task[7:].lower()}_{number:03d}" for number in random.Random(task).sample(range(600), TASKS[task])]


@pytest.fixture(scope="module")
def shuffled_by_the_paper():
    """What the paper's preparation does: one seed, ten tasks, lists that are shuffled in place."""
    state = random.getstate()
    random.seed(1234)
    parts = {}
    for task in sorted(TASKS):
        ids = ids_of(task)
        random.shuffle(ids)
        cuts = int(len(ids) * 0.8), int(len(ids) * 0.95)
        parts[task] = [set(ids[: cuts[0]]), set(ids[cuts[0] : cuts[1]]), set(ids[cuts[1] :])]
    random.setstate(state)
    return parts


@pytest.mark.parametrize("task", TASKS)
def test_paper_split_of_a_task_alone_is_that_of_all_ten_in_turn(tmp_path, task, shuffled_by_the_paper):
    (tmp_path / task).mkdir()
    describe(tmp_path / task, listing(*(f"{name}.nii.gz" for name in ids_of(task))))
    (split,) = read_msd(tmp_path / task).splits["paper"]
    assert [set(split.train), set(split.validation), set(split.test)] == shuffled_by_the_paper[task]
    assert "not the paper's" not in split.source


def test_paper_split_of_a_listing_by_name_says_that_it_may_be_another():
    split = paper_split("Task09_Spleen", sorted(ids_of("Task09_Spleen")))
    assert split is not None
    assert "not the paper's cases" in split.source


@pytest.mark.parametrize(
    ("folder", "cases"), [("Spleen", 41), ("Task09_Spleen", 40), ("Task00_Spleen", 41), ("Task11_Spleen", 41)]
)
def test_no_paper_split_of_other_data(folder, cases):
    assert paper_split(folder, [f"spleen_{number}" for number in range(cases)]) is None


@pytest.mark.real
def test_hippocampus(shared):
    dataset = read_dataset(shared / "data" / "Task04_Hippocampus")
    assert len(dataset.cases) == 260
    assert dataset.classes == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert dataset.modalities == ("MRI",)


AFFINE = np.array([[0, -1.5, 0, 20.0], [0.8, 0, 0, -30.0], [0, 0, 3, 7.5], [0, 0, 0, 1]])


@pytest.fixture
def prostates(tmp_path):
    """Two cases of two modalities, a file each, one of them missing; labels with gaps, one of them merged."""
    random = np.random.default_rng(1)
    cases = []
    for name in ("a", "b"):
        images = (tmp_path / "in" / f"{name}_t2.nii", tmp_path / "in" / f"{name}_adc.nii" if name == "a" else None)
        for image in filter(None, images):
            write_volume(image, Volume(random.integers(-500, 1500, (1, 5, 6, 4), np.int16), AFFINE))
        label = tmp_path / "in" / f"{name}_seg.nii.gz"
        write_volume(label, Volume(random.choice([0, 2, 5, 9], (1, 5, 6, 4)).astype(np.uint8), AFFINE))
        cases.append(Case(name, images, label))
    classes = {0: "background", 2: "PZ", 5: "TZ"}
    return Dataset("Prostate", tmp_path / "in", ("T2", "ADC"), classes, tuple(cases), merged={9: 5})


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_written_dataset_has_the_same_voxels_places_and_classes(prostates, tmp_path, suffix):
    written = write_dataset(prostates, tmp_path / "out", "msd", suffix=suffix).dataset
    assert written == read_dataset(tmp_path / "out")
    assert (written.name, written.modalities, written.classes) == ("Prostate", ("T2", "ADC"), prostates.classes)
    assert not written.merged
    for before, after in zip(prostates.cases, written.cases, strict=True):
        assert after.id == before.id
        assert after.images == (tmp_path / "out" / "imagesTr" / f"{before.id}{suffix}",)
        assert before.label and after.label
        scan, copy = read_images(before.images), read_images(after.images)
        labels, renumbered = read_labels(before.label).array, read_labels(after.label)
        assert np.array_equal(copy.array, scan.array)
        assert copy.array.dtype == np.int16
        assert np.array_equal(renumbered.array, np.where(labels == 9, 5, labels))
        for affine in (copy.affine, renumbered.affine):
            assert affine == pytest.approx(AFFINE, rel=1e-6)


def test_one_modality_is_written_as_3d(phantoms, tmp_path):
    written = write_dataset(phantoms, tmp_path, "msd", suffix=".nii.gz").dataset
    assert json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))["tensorImageSize"] == "3D"
    stored, original = (nibabel.Nifti1Image.from_filename(data.cases[0].scan) for data in (written, phantoms))
    assert stored.shape == original.shape


def test_progress(prostates, tmp_path):
    message = []

    def progress(items, total, description):
        message.append((total, description))
        return iter(items)

    write_dataset(prostates, tmp_path / "out", "msd", progress=progress)
    assert message == [(2, "writing")]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ignore": 255}, "no value for voxels to ignore"),
        ({"merged": {}}, "unknown label values"),
        ({"modalities": ("T2",)}, "number of modalities differs"),
    ],
)
def test_dataset_that_can_not_be_written(prostates, tmp_path, changes, what):
    with pytest.raises(DataError, match=what):
        write_dataset(dataclasses.replace(prostates, **changes), tmp_path / "out", "msd")


def test_labels_that_lie_elsewhere_are_not_moved(prostates, tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] += 2
    write_volume(prostates.cases[0].label, Volume(np.zeros((1, 5, 6, 4), np.uint8), moved))
    with pytest.raises(DataError, match="differ in position"):
        write_dataset(prostates, tmp_path / "out", "msd")


def test_format_that_can_not_be_written(prostates, tmp_path):
    with pytest.raises(ConfigError, match="invalid file format"):
        write_dataset(prostates, tmp_path / "out", "msd", suffix=".png")
    assert not (tmp_path / "out").exists()


def test_first_layout_of_nnunet(tmp_path):
    """The listing names files without the ``_0000`` that the files have."""
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    for file in ("imagesTr/c_0_0000.nii.gz", "imagesTr/c_0_0001.nii.gz", "imagesTr/c_1_0001.nii.gz"):
        (tmp_path / file).touch()
    for case in (0, 1):
        (tmp_path / f"labelsTr/c_{case}.nii.gz").touch()
    pairs = [{"image": f".\\imagesTr\\c_{case}.nii.gz", "label": f"./labelsTr/c_{case}.nii.gz"} for case in (0, 1)]
    (tmp_path / "dataset.json").write_text(json.dumps(listing(training=pairs)))
    first, second = read_dataset(tmp_path).cases
    assert (first.id, second.id) == ("c_0", "c_1")
    assert first.images == tuple(tmp_path / f"imagesTr/c_0_000{channel}.nii.gz" for channel in (0, 1))
    assert second.images == (None, tmp_path / "imagesTr/c_1_0001.nii.gz")
