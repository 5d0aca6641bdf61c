import dataclasses
import json

import numpy as np
import pytest

from inflate3d.datasets import Case, Dataset, Split, kfold_split, read_dataset
from inflate3d.datasets.nnunet import read_nnunet
from inflate3d.datasets.writing import write_dataset
from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io import read_images, read_labels, read_volume, write_volume
from inflate3d.volume import Volume


def listing(**changes):
    return {
        "channel_names": {"1": "ADC", "0": "T2"},
        "labels": {"TZ": 2, "background": 0, "PZ": 1},
        "numTraining": 2,
        "file_ending": ".nrrd",
    } | changes


@pytest.fixture
def folder(tmp_path):
    """Two cases of two modalities; the files' contents are never looked at here."""
    folder = tmp_path / "nnUNet_raw" / "Dataset005_Prostate"
    for name in ("p_10", "p_02"):
        put(folder, f"imagesTr/{name}_0000.nrrd", f"imagesTr/{name}_0001.nrrd", f"labelsTr/{name}.nrrd")
    describe(folder)
    return folder


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def describe(folder, **changes):
    (folder / "dataset.json").write_text(json.dumps(listing(**changes)))


def test_listing_and_files(folder):
    dataset = read_dataset(folder)
    assert dataset.name == "Dataset005_Prostate"
    assert dataset.modalities == ("T2", "ADC")
    assert list(dataset.classes.items()) == [(0, "background"), (1, "PZ"), (2, "TZ")]
    assert dataset.ignore is None
    assert dataset.announced == 2
    assert [case.id for case in dataset.cases] == ["p_02", "p_10"]
    images = (folder / "imagesTr" / "p_02_0000.nrrd", folder / "imagesTr" / "p_02_0001.nrrd")
    assert dataset.cases[0].images == images
    assert dataset.cases[0].label == folder / "labelsTr" / "p_02.nrrd"
    assert not dataset.splits


def test_ignore_label_is_no_class(folder):
    describe(folder, labels={"background": 0, "PZ": 1, "ignore": 2})
    dataset = read_dataset(folder)
    assert dataset.classes == {0: "background", 1: "PZ"}
    assert dataset.ignore == 2


def test_missing_modality_is_none(folder):
    for channel in (0, 1):
        (folder / "imagesTr" / f"p_{'02' if channel else '10'}_{channel:04d}.nrrd").unlink()
    first, second = read_dataset(folder).cases
    assert first.images == (folder / "imagesTr" / "p_02_0000.nrrd", None)
    assert second.images == (None, folder / "imagesTr" / "p_10_0001.nrrd")
    assert second.scan.name == "p_10_0001.nrrd"


def test_labels_without_a_scan(folder):
    put(folder, "labelsTr/p_11.nrrd")
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    assert [(problem.case, problem.file) for problem in caught.value.problems] == [
        ("p_11", str(folder / "imagesTr" / "p_11_0000.nrrd"))
    ]


def test_more_images_than_modalities(folder):
    put(folder, "imagesTr/p_02_0002.nrrd")
    with pytest.raises(DataError, match="more images than") as caught:
        read_nnunet(folder)
    assert (caught.value.case, caught.value.got) == ("p_02", "3")


def test_files_of_other_formats_and_names_are_no_cases(folder):
    put(folder, "imagesTr/p_12_0000.nii.gz", "imagesTr/p_13.nrrd", "labelsTr/p_14.nii.gz", "imagesTr/notes.txt")
    assert [case.id for case in read_dataset(folder).cases] == ["p_02", "p_10"]


def test_case_whose_files_all_have_another_ending_is_not_left_out(folder):
    put(folder, "imagesTr/p_12_0000.nii.gz", "imagesTr/p_12_0001.nii.gz", "labelsTr/p_12.nii.gz")
    with pytest.raises(DataError) as caught:
        read_nnunet(folder)
    assert (caught.value.case, caught.value.got) == ("p_12", "1 cases: p_12.nii.gz")


def test_listed_files(folder):
    files = {
        "two": {"images": ["imagesTr/p_02_0000.nrrd", "imagesTr/p_02_0001.nrrd"], "label": "labelsTr/p_02.nrrd"},
        "ten": {"images": ["./imagesTr/p_10_0000.nrrd", "../elsewhere.nrrd"], "label": "labelsTr/p_10.nrrd"},
    }
    describe(folder, dataset=files)
    cases = read_nnunet(folder).cases
    assert [case.id for case in cases] == ["ten", "two"]
    assert cases[1].images == (folder / "imagesTr" / "p_02_0000.nrrd", folder / "imagesTr" / "p_02_0001.nrrd")
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    assert [problem.what for problem in caught.value.problems] == ["path outside the dataset"]


FOLDS = [{"train": ["p_10"], "val": ["p_02"]}, {"train": ["p_02"], "val": ["p_10"]}]


@pytest.mark.parametrize("place", [".", "../../nnUNet_preprocessed/Dataset005_Prostate"])
def test_folds(folder, place):
    put(folder / place, "splits_final.json")
    (folder / place / "splits_final.json").write_text(json.dumps(FOLDS))
    splits = read_dataset(folder).splits["own"]
    assert [(split.train, split.validation) for split in splits] == [(("p_10",), ("p_02",)), (("p_02",), ("p_10",))]
    assert splits[1].source == "fold 1 of 2 in splits_final.json"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1 column 2"),
        ('{"train": []}', "valid list"),
        ('[{"train": [], "train": [], "val": []}]', "duplicate key"),
        ("[" * 100_000, "recursion"),
        ('[{"train": ["p_02"]}]', "0.val: Field required"),
        ('[{"train": ["p_02"], "val": ["p_99"]}]', "unknown cases: p_99"),
    ],
)
def test_file_that_holds_no_folds_of_these_cases(folder, content, message):
    (folder / "splits_final.json").write_text(content)
    with pytest.raises(DataError) as caught:
        read_nnunet(folder)
    assert message in str(caught.value.got)
    assert caught.value.file == str(folder / "splits_final.json")


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": [2]}}, "no regions_class_order"),
        ({"labels": {"background": 0, "PZ": 1, "TZ": 1}}, "'TZ': 1"),
        ({"labels": {"background": 0, "PZ": 1, "TZ": [1]}}, "'TZ': 1"),
        ({"labels": {"PZ": 1}}, "{1: 'PZ'}"),
        ({"labels": {"background": 0, "PZ": True}}, "labels.PZ: true is not a whole number"),
        ({"labels": {"background": 0, "whole": [2, True], "core": [2]}}, "labels.whole: true is not a whole number"),
        ({"labels": {"background": 0, "PZ": 1, "ignore": 2.5}}, "labels.ignore: 2.5 is not a whole number"),
        ({"regions_class_order": [True, 2]}, "regions_class_order: true is not a whole number"),
        ({"channel_names": {"0": "T2", "+0": "ADC"}}, "the key '+0' is not a whole number"),
        ({"labels": {"background": 0, "PZ": 1 << 63}}, "PZ"),
        ({"labels": {"background": 0, "ignore": 1}}, "{0: 'background'}"),
        ({"file_ending": ".png"}, ".png"),
        ({"file_ending": "nii.gz"}, "nii.gz"),
        ({"channel_names": {}}, "{}"),
        ({"channel_names": {"1": "T2"}}, "{1: 'T2'}"),
        ({"channel_names": {"0": "T2", "00": "ADC"}}, "duplicate key: 0"),
        ({"channel_names": ["T2"]}, "channel_names"),
        ({"dataset": {"a": {"images": "x"}}}, "dataset.a.images"),
    ],
)
def test_invalid_listing(folder, changes, got):
    describe(folder, **changes)
    with pytest.raises(DataError) as caught:
        read_dataset(folder)
    assert got in str(caught.value.got)
    assert caught.value.file == str(folder / "dataset.json")


def test_folder_without_images(folder):
    for path in (folder / "imagesTr").iterdir():
        path.unlink()
    (folder / "imagesTr").rmdir()
    with pytest.raises(DataError, match="folder not found") as caught:
        read_dataset(folder)
    assert caught.value.file == str(folder / "imagesTr")


def test_no_file_of_the_file_ending(folder):
    describe(folder, file_ending=".nii.gz")
    with pytest.raises(DataError) as caught:
        read_dataset(folder)
    assert "CASE_0000.nii.gz" in str(caught.value.expected)
    assert "p_02_0000.nrrd" in str(caught.value.got) and "labelsTr: p_02.nrrd, p_10.nrrd" in str(caught.value.got)
    assert caught.value.file == str(folder / "dataset.json")


def test_classes_in_the_form_of_the_decathlon(folder):
    describe(folder, labels={"2": "TZ", "0": "background", "1": "PZ"})
    assert list(read_dataset(folder).classes.items()) == [(0, "background"), (1, "PZ"), (2, "TZ")]


def test_label_map_named_as_a_scan(folder):
    label = folder / "labelsTr" / "p_02_0000.nrrd"
    (folder / "labelsTr" / "p_02.nrrd").rename(label)
    with pytest.raises(DataError, match="the label map is named as a scan") as caught:
        read_dataset(folder)
    assert (caught.value.case, caught.value.file) == ("p_02", str(label))
    assert str(caught.value.expected).startswith("p_02.nrrd")


def test_regions_of_one_value_are_classes(folder):
    describe(folder, labels={"background": 0, "PZ": [1], "TZ": [4], "ignore": [7]}, regions_class_order=[1, 4])
    dataset = read_dataset(folder)
    assert (dataset.classes, dataset.ignore) == ({0: "background", 1: "PZ", 4: "TZ"}, 7)


@pytest.mark.parametrize(
    ("copy", "original"),
    [("imagesTr/p_02_0001.nii.gz", "imagesTr/p_02_0001.nrrd"), ("labelsTr/p_02.mha", "labelsTr/p_02.nrrd")],
)
def test_one_file_in_two_formats(folder, copy, original):
    put(folder, copy)
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    (problem,) = caught.value.problems
    assert (problem.case, problem.file) == ("p_02", str(folder / original))
    assert str(folder / copy).rsplit("/", 1)[1] in str(problem.got)


@pytest.mark.parametrize("files", ["nnU-Net", "Decathlon"])
def test_listing_with_the_keys_of_both_layouts_is_read_as_its_files_are(folder, files):
    training = [{"image": f"imagesTr/{name}.nrrd", "label": f"labelsTr/{name}.nrrd"} for name in ("p_02", "p_10")]
    describe(folder, modality={"0": "T2", "1": "ADC"}, training=training)
    if files == "Decathlon":
        for path in (folder / "imagesTr").iterdir():
            path.unlink()
        put(folder, "imagesTr/p_02.nrrd", "imagesTr/p_10.nrrd")
    case = read_dataset(folder).cases[0]
    names = ["p_02.nrrd"] if files == "Decathlon" else ["p_02_0000.nrrd", "p_02_0001.nrrd"]
    assert [path.name for path in case.images if path] == names


AFFINE = np.array([[0, -1.5, 0, 20.0], [0.8, 0, 0, -30.0], [0, 0, 3, 7.5], [0, 0, 0, 1]])


@pytest.fixture
def abdomens(tmp_path):
    """Six cases of three patients: a 4D file of two modalities each; labels with gaps, one merged, one ignored."""
    random = np.random.default_rng(1)
    cases = []
    for number in range(6):
        image, label = tmp_path / "in" / f"c{number}.nii", tmp_path / "in" / f"c{number}_seg.nii.gz"
        write_volume(image, Volume(random.integers(-500, 1500, (2, 5, 6, 4), np.int16), AFFINE))
        write_volume(label, Volume(random.choice([0, 2, 5, 9, 255], (1, 5, 6, 4)).astype(np.uint8), AFFINE))
        cases.append(Case(f"c{number}", (image,), label, group=f"patient{number // 2}"))
    classes = {0: "air", 2: "spleen", 5: "liver"}
    return Dataset("Abdomen", tmp_path / "in", ("CT", "PET"), classes, tuple(cases), merged={9: 2}, ignore=255)


NEW = {0: 0, 2: 1, 5: 2, 9: 1, 255: 3}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_written_dataset_has_the_same_voxels_places_and_classes(abdomens, tmp_path, suffix):
    folder = tmp_path / "nnUNet_raw" / "Dataset123_Abdomen"
    written = write_dataset(abdomens, folder, "nnunet", suffix=suffix).dataset
    assert written == read_dataset(folder)
    assert (written.name, written.modalities, written.ignore) == ("Abdomen", ("CT", "PET"), 3)
    assert written.classes == {0: "background", 1: "spleen", 2: "liver"}
    for before, after in zip(abdomens.cases, written.cases, strict=True):
        assert [image.name for image in after.images if image] == [f"{before.id}_000{i}{suffix}" for i in (0, 1)]
        assert before.label and after.label
        assert np.array_equal(read_images(after.images).array, read_images(before.images).array)
        labels, renumbered = read_labels(before.label).array, read_labels(after.label).array
        assert np.array_equal(renumbered, np.vectorize(NEW.get)(labels))
        for path in (*after.images, after.label):
            assert path is not None
            assert read_volume(path).affine == pytest.approx(AFFINE, rel=1e-6)


def test_listing_is_what_nnunet_demands(abdomens, tmp_path):
    write_dataset(abdomens, tmp_path / "out", "nnunet")
    listing = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))
    assert listing == {
        "name": "Abdomen",
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "spleen": 1, "liver": 2, "ignore": 3},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }


def test_five_folds_are_written_where_the_dataset_has_none(phantoms, tmp_path):
    write_dataset(phantoms, tmp_path, "nnunet", suffix=".nii.gz")
    folds = json.loads((tmp_path / "splits_final.json").read_text(encoding="utf-8"))
    expected = [kfold_split([case.id for case in phantoms.cases], fold) for fold in range(5)]
    assert folds == [{"train": list(fold.train), "val": list(fold.validation)} for fold in expected]


def test_folds_keep_groups_together_and_are_fewer_where_groups_are(abdomens, tmp_path):
    folds = write_dataset(abdomens, tmp_path / "out", "nnunet").dataset.splits["own"]
    assert sorted(fold.validation for fold in folds) == [("c0", "c1"), ("c2", "c3"), ("c4", "c5")]
    alone = dataclasses.replace(abdomens, cases=abdomens.cases[:2])
    assert not write_dataset(alone, tmp_path / "alone", "nnunet").dataset.splits
    assert not (tmp_path / "alone" / "splits_final.json").exists()


def test_own_folds_are_kept(abdomens, tmp_path):
    own = (Split(("c0", "c1", "c2"), ("c3", "c4"), ("c5",)), Split(("c3", "c4", "c5"), ("c0", "c1", "c2")))
    folds = write_dataset(
        dataclasses.replace(abdomens, splits={"own": own}), tmp_path / "out", "nnunet"
    ).dataset.splits["own"]
    assert [(fold.train, fold.validation) for fold in folds] == [(fold.train, fold.validation) for fold in own]


def test_missing_modality_becomes_zeros(tmp_path):
    image, label = tmp_path / "ct.nii", tmp_path / "seg.nii"
    write_volume(image, Volume(np.full((1, 3, 4, 5), 7, np.int16), AFFINE))
    write_volume(label, Volume(np.ones((1, 3, 4, 5), np.uint8), AFFINE))
    case = Case("a", (None, image), label)
    dataset = Dataset("A", tmp_path, ("PET", "CT"), {0: "background", 1: "liver"}, (case,))
    (written,) = write_dataset(dataset, tmp_path / "out", "nnunet").dataset.cases
    assert read_images(written.images).array[:, 0, 0, 0].tolist() == [0, 7]


@pytest.mark.parametrize("names", [("liver", "liver"), ("background", "liver"), ("spleen", "ignore")])
def test_class_names_that_nnunet_would_mistake(abdomens, tmp_path, names):
    classes = {0: "air", 2: names[0], 5: names[1]}
    with pytest.raises(DataError, match="class names that nnU-Net can't distinguish"):
        write_dataset(dataclasses.replace(abdomens, classes=classes), tmp_path / "out", "nnunet")
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_real_labels_with_gaps_between_their_values(shared, tmp_path):
    folder = shared / "data" / "abdomen_ct"
    (scan,), (label,) = ((folder / part).glob("*.nii.gz") for part in ("imagesTr", "labelsTr"))
    labels = read_labels(label).array
    values = np.unique(labels)
    classes = {value: f"organ {value}" for value in values.tolist()}
    dataset = Dataset("Abdomen", folder, ("CT",), classes, (Case("abdomen", (scan,), label),))
    written = write_dataset(dataset, tmp_path / "Dataset900_Abdomen", "nnunet").dataset
    assert list(written.classes) == list(range(len(values)))
    (case,) = written.cases
    assert case.label
    assert np.array_equal(read_images(case.images).array, read_volume(scan).array)
    assert np.array_equal(values[read_labels(case.label).array], labels)
