import unicodedata
from pathlib import Path

import pytest

from inflate3d.datasets.file_names import (
    ScanFile,
    case_ids,
    find_label_maps,
    key_of,
    named_channels,
    numbered_channels,
    patients,
    words_of,
)


def named(name):
    path = Path(name)
    return ScanFile(path, path.parts)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("imagesTr", ["images", "tr"]),
        ("labelsTs", ["labels", "ts"]),
        ("img0001", ["img", "0001"]),
        ("volume-12", ["volume", "12"]),
        ("BraTS-GLI-00001-000_t1n", ["brats", "gli", "00001", "000", "t1n"]),
        ("Grüße_01.x", ["grüße", "01", "x"]),
        ("maskulin", ["maskulin"]),
        (unicodedata.normalize("NFD", "Müller_01"), ["müller", "01"]),  # as macOS writes names
    ],
)
def test_words(part, words):
    assert words_of(part) == words


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/liver_01", "labelsTr/liver_01"),
        ("img/img0001", "label/label0001"),
        ("volume-0", "segmentation-0"),
        ("P1/image", "P1/mask"),
        ("a/case_01", "a/case_01_seg"),
        ("a/case_01", "a/CASE_01-GT"),
        ("scans/x y", "Ground_Truth/x y_labels"),
        ("images/P1", "masks/P1/P1"),
    ],
)
def test_image_and_label_map_share_a_key(image, label):
    assert not named(image).is_label
    assert named(label).is_label
    assert key_of(named(image)) == key_of(named(label))


def test_channels():
    assert numbered_channels(named("imagesTr/c_0001_0003")) == (
        ScanFile(Path("imagesTr/c_0001_0003"), ("imagesTr", "c_0001")),
        "0003",
    )
    assert numbered_channels(named("labelsTr/c_0001"))[1] == ""
    assert numbered_channels(named("imagesTr/c_2019"))[1] == ""
    plain, channel = named_channels(named("c1/c1-t1ce-crop"))
    assert (plain.parts, channel) == (("c1", "c1-crop"), "T1Gd")
    assert named_channels(named("c1/c1_CT_seg")) == (ScanFile(Path("c1/c1_CT_seg"), ("c1", "c1_seg")), "")
    assert named_channels(named("CT/c1"))[1] == "CT"


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (["images/a", "images/b"], ["a", "b"]),
        (["P1/image", "P2/image"], ["P1", "P2"]),
        (
            ["P1/visit1/ct_scan", "P1/visit2/ct_scan", "P2/visit1/ct_scan"],
            ["P1_visit1_ct", "visit2_ct", "P2_visit1_ct"],
        ),
        (["train/images/001", "test/images/001", "test/images/002"], ["train_001", "test_001", "002"]),
        (["imagesTr/001", "imagesTs/001"], ["imagesTr_001", "imagesTs_001"]),
        (["a/.x..y", "a/x:z"], ["x_y", "x_z"]),
        (["img0001", "a_img"], ["img0001", "a"]),
    ],
)
def test_ids(files, ids):
    assert case_ids([named(file) for file in files]) == ids


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["patient001_frame01", "patient001_frame12", "patient002_frame01"], ["patient001"] * 2 + ["patient002"]),
        (["P1_ses-1", "P1_ses-2", "P2_ses-1"], ["P1", "P1", "P2"]),
        (["B-00001-000", "B-00001-001", "B-00002-000"], ["B-00001", "B-00001", "B-00002"]),
        (["p_t1", "p_t2"], None),  # one patient alone makes no split
        (["p1_t1", "p2_t1"], None),  # every case is another's
        (["patient001_frame01", "patient001_frame12", "other"], None),
        (["site001_001", "site001_002", "site002_001"], None),  # as long a number as the patient's: could be either
        (["hippocampus_001", "hippocampus_002"], None),
    ],
)
def test_patients(ids, expected):
    assert patients(ids) == expected


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["c1.nii.gz", "c1_seg.nii.gz", "c2_mask.nii.gz"], ["c1_seg.nii.gz"]),
        (["images/c1.nii", "images/c2.nii", "labels/c1.nii"], ["labels/c1.nii"]),
        (["c1_0000.nii.gz", "c1.nii.gz", "c2.nii.gz"], ["c1.nii.gz"]),
        (["imagesTr/c1_0000.nii", "imagesTr/c1_0001.nii", "labelsTr/c1.nii"], ["labelsTr/c1.nii"]),
        (["p1/p1_t1.nii", "p1/p1_flair.nii", "p1/p1_seg.nii"], ["p1/p1_seg.nii"]),
        (["p1/ct", "p1/msk.nii.gz"], ["p1/msk.nii.gz"]),
        (["masked_a.nii", "seg/b.nii", "ct_mask_phase.nii"], []),
    ],
)
def test_label_maps_are_distinguished_from_scans(files, labels):
    found = find_label_maps([Path("data", file) for file in files], Path("data"))
    assert found == {Path("data", file) for file in labels}
