import pytest

from inflate3d.datasets.pairing import pair_files
from inflate3d.errors import DataError

ARRANGEMENTS = {  # files, what they are paired to
    "two folders": (
        ["images/a.nii.gz", "images/b.nii.gz", "masks/a.nii.gz", "masks/b.nii.gz"],
        {"a": ["images/a.nii.gz", "masks/a.nii.gz"], "b": ["images/b.nii.gz", "masks/b.nii.gz"]},
    ),
    "Decathlon": (
        ["imagesTr/s_1.nii.gz", "imagesTr/s_2.nii.gz", "labelsTr/s_1.nii.gz", "labelsTr/s_2.nii.gz"],
        {"s_1": ["imagesTr/s_1.nii.gz", "labelsTr/s_1.nii.gz"], "s_2": ["imagesTr/s_2.nii.gz", "labelsTr/s_2.nii.gz"]},
    ),
    "BCV": (
        ["Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz"],
        {"img0001": ["Training/img/img0001.nii.gz", "Training/label/label0001.nii.gz"]},
    ),
    "LiTS": (
        ["volume-0.nii", "volume-1.nii", "segmentation-1.nii", "segmentation-0.nii"],
        {"volume-0": ["volume-0.nii", "segmentation-0.nii"], "volume-1": ["volume-1.nii", "segmentation-1.nii"]},
    ),
    "one folder": (
        ["A.NRRD", "A_Seg.nrrd", "b.mha", "b-label.mha", "c_img.nii", "c_gt.nii"],
        {"A": ["A.NRRD", "A_Seg.nrrd"], "b": ["b.mha", "b-label.mha"], "c": ["c_img.nii", "c_gt.nii"]},
    ),
    "a folder for each case": (
        ["P1/image.mha", "P1/mask.mha", "P2/image.mha", "P2/mask.mha"],
        {"P1": ["P1/image.mha", "P1/mask.mha"], "P2": ["P2/image.mha", "P2/mask.mha"]},
    ),
    "other names in a folder for each case": (
        ["P1/ax_123.nii", "P1/P1_seg.nii", "P2/ax_124.nii", "P2/P2_seg.nii"],
        {"ax_123": ["P1/ax_123.nii", "P1/P1_seg.nii"], "ax_124": ["P2/ax_124.nii", "P2/P2_seg.nii"]},
    ),
    "a folder for each case, files named by modality": (
        ["x/ct.nii", "x/mask.nii", "y/ct.nii", "y/mask.nii"],
        {"x": ["x/ct.nii", "x/mask.nii"], "y": ["y/ct.nii", "y/mask.nii"]},
    ),
    "a single case": (["ct.nii", "seg.nii"], {"case": ["ct.nii", "seg.nii"]}),
    "nnU-Net": (
        ["imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz", "labelsTr/c.nii.gz"],
        {"c": ["imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz", "labelsTr/c.nii.gz"]},
    ),
    "BraTS": (
        [f"{case}/{case}_{name}.nii.gz" for case in ("B1", "B2") for name in ("flair", "seg", "t1", "t1ce", "t2")],
        {
            case: [f"{case}/{case}_{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair", "seg")]
            for case in ("B1", "B2")
        },
    ),
    "a folder for each modality": (
        ["CT/a.nii", "CT/b.nii", "PET/a.nii", "labels/a.nii", "labels/b.nii"],
        {"a": ["CT/a.nii", "PET/a.nii", "labels/a.nii"], "b": ["CT/b.nii", None, "labels/b.nii"]},
    ),
    "time points that look like modalities": (
        ["p_t1.nii", "p_t2.nii", "p_t1_seg.nii", "p_t2_seg.nii"],
        {"p_t1": ["p_t1.nii", "p_t1_seg.nii"], "p_t2": ["p_t2.nii", "p_t2_seg.nii"]},
    ),
    "BIDS": (
        [
            *(f"sub-{n}/anat/sub-{n}_{name}.nii.gz" for n in (1, 2) for name in ("T1w", "FLAIR")),
            "derivatives/lesions/sub-1/anat/sub-1_space-orig_desc-lesion_mask.nii.gz",
            "derivatives/lesions/sub-2/anat/sub-2_dseg.nii.gz",
        ],
        {
            f"sub-{n}": [f"sub-{n}/anat/sub-{n}_{name}.nii.gz" for name in ("T1w", "FLAIR")]
            + [f"derivatives/lesions/sub-{n}/anat/sub-{n}_{label}.nii.gz"]
            for n, label in ((1, "space-orig_desc-lesion_mask"), (2, "dseg"))
        },
    ),
    "BIDS with sessions": (
        ["sub-1/ses-a/anat/sub-1_ses-a_T2w.nii", "derivatives/sub-1/ses-a/anat/sub-1_ses-a_T2w_seg.nii"],
        {
            "sub-1_ses-a": [
                "sub-1/ses-a/anat/sub-1_ses-a_T2w.nii",
                "derivatives/sub-1/ses-a/anat/sub-1_ses-a_T2w_seg.nii",
            ]
        },
    ),
    "masks called msk": (["img/a.nii", "msk/a.nii"], {"a": ["img/a.nii", "msk/a.nii"]}),
    "headers of pairs and hidden files": (
        ["images/a.hdr", "images/a.img", "images/._a.nii", ".old/a.nii", "labels/a.nii", "labels/notes.txt"],
        {"a": ["images/a.hdr", "labels/a.nii"]},
    ),
    "years are no channels": (
        ["images/c_2019.nii", "labels/c_2019.nii", "images/c_0001.nii", "labels/c_0001.nii"],
        {"c_0001": ["images/c_0001.nii", "labels/c_0001.nii"], "c_2019": ["images/c_2019.nii", "labels/c_2019.nii"]},
    ),
    "words of labels in a folder's name that all share": (
        ["Seg-Challenge/a/flair.nii", "Seg-Challenge/a/seg.nii"],
        {"a": ["Seg-Challenge/a/flair.nii", "Seg-Challenge/a/seg.nii"]},
    ),
}


def lay_out(folder, files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_arrangements(tmp_path, arrangement):
    files, expected = ARRANGEMENTS[arrangement]
    lay_out(tmp_path, files)
    pairing = pair_files(tmp_path)
    assert {row.case: [*row.images, row.label] for row in pairing.rows} == expected
    assert [row.case for row in pairing.rows] == sorted(expected)
    assert pairing.unpaired == ()


def test_channels_are_named_in_the_order_of_the_columns(tmp_path):
    lay_out(tmp_path, [f"a/{name}.nii" for name in ("seg", "t2", "flair", "t1ce", "t1")])
    assert pair_files(tmp_path).channels == ("T1w", "T1Gd", "T2w", "FLAIR")


def test_files_that_are_left_over(tmp_path):
    files = ["images/a.nii", "images/b.nii", "images/b.mha", "images/c.nii", "images/d.nii"]
    files += ["labels/a.nii", "labels/b.nii", "labels/d.nii", "labels/d_2/seg.nii", "labels/d_mask.nii", "labels/e.nii"]
    lay_out(tmp_path, files)
    pairing = pair_files(tmp_path)
    assert [row.case for row in pairing.rows] == ["a"]
    assert pairing.unpaired == (
        ("images/b.mha", "several matching images"),
        ("images/b.nii", "several matching images"),
        ("images/c.nii", "no matching label map"),
        ("images/d.nii", "several matching label maps"),
        ("labels/b.nii", "several matching images"),
        ("labels/d.nii", "several matching label maps"),
        ("labels/d_2/seg.nii", "no matching image"),
        ("labels/d_mask.nii", "several matching label maps"),
        ("labels/e.nii", "no matching image"),
    )


def test_split_and_patients_from_names(tmp_path):
    lay_out(
        tmp_path,
        [
            f"{part}/{kind}/patient{number}_frame0{frame}.nii"
            for part, number in (("train", 1), ("val", 2), ("test", 3))
            for kind in ("images", "labels")
            for frame in (1, 2)
        ],
    )
    assert [(row.case, row.part, row.group) for row in pair_files(tmp_path).rows] == [
        (f"patient{number}_frame0{frame}", part, f"patient{number}")
        for number, part in ((1, "train"), (2, "validation"), (3, "test"))
        for frame in (1, 2)
    ]


def test_split_without_validation_is_not_taken_over(tmp_path):
    lay_out(tmp_path, [f"{part}/{kind}/a.nii" for part in ("train", "test") for kind in ("images", "labels")])
    assert [(row.case, row.part) for row in pair_files(tmp_path).rows] == [("test_a", None), ("train_a", None)]


def test_links_to_folders_are_followed_once(tmp_path):
    lay_out(tmp_path, ["disk/a.nii", "here/labels/a.nii"])
    (tmp_path / "here/images").symlink_to(tmp_path / "disk")
    (tmp_path / "here/labels/circle").symlink_to(tmp_path / "here")
    (row,) = pair_files(tmp_path / "here").rows
    assert (row.images, row.label) == (("images/a.nii",), "labels/a.nii")


def test_no_scans(tmp_path):
    lay_out(tmp_path, ["readme.txt"])
    with pytest.raises(DataError, match="no scan files in the folder"):
        pair_files(tmp_path)


def test_nothing_that_could_be_paired(tmp_path):
    lay_out(tmp_path, ["scans/a.nii", "scans/b.nii", "truths/x.nii", "gt/y.nii"])
    with pytest.raises(DataError, match="no image matches") as caught:
        pair_files(tmp_path)
    assert "3 images and 1 label maps" in str(caught.value.got)
    assert "cases.csv" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["s1/ct.nii.gz", "s2/ct.nii.gz"], "{case}/segmentations/{name}.nii.gz"),
        (["s1/image.nii", "s2/image.nii"], "{case}/{name}_mask.nii"),
        (["s1.nii", "s2.nii"], "{case}_{name}_seg.nii"),
        (["images/s1.nii", "images/s2.nii"], "masks/{name}/{case}.nii"),
    ],
)
def test_a_mask_for_each_class(tmp_path, images, masks):
    names = {"adrenal_gland_left", "adrenal_gland_right", "liver"}
    expected = {
        case: {name.replace("_", " "): masks.format(case=case, name=name) for name in names} for case in ("s1", "s2")
    }
    lay_out(tmp_path, [*images, *(file for files in expected.values() for file in files.values())])
    pairing = pair_files(tmp_path)
    assert pairing.masks == expected
    assert [(row.case, row.images, row.label) for row in pairing.rows] == [
        (case, (image,), f"combined_labels/{case}.nii.gz") for case, image in zip(("s1", "s2"), images, strict=True)
    ]
    assert pairing.unpaired == ()


def test_a_label_map_of_another_case_is_no_mask(tmp_path):
    lay_out(tmp_path, ["p1.nii", "p1_2_seg.nii", "p1_3_seg.nii", "p2.nii", "p2_seg.nii"])
    pairing = pair_files(tmp_path)
    assert [row.case for row in pairing.rows] == ["p2"]
    assert not pairing.masks
