import nibabel
import numpy as np
import pytest
import SimpleITK
import yaml

from inflate3d.datasets import read_dataset
from inflate3d.datasets.modality_guess import looks_like_ct
from inflate3d.datasets.propose import propose
from inflate3d.errors import ConfigError, DataError, DatasetProblems, OutputError
from inflate3d.io import read_images, read_labels

SHAPE = (6, 5, 4)


def save(folder, name, array):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, np.diag([1.0, 1, 3, 1])).to_filename(folder / name)


def labels_of(*values):
    return np.resize(np.array(values, np.uint8), SHAPE)


def ct():
    return np.linspace(-1000, 400, 120).reshape(SHAPE).astype(np.int16)


def mr(*channels):
    return np.random.default_rng(0).integers(0, 900, (*SHAPE, *channels)).astype(np.int16)


@pytest.fixture
def livers(tmp_path):
    """Three CT scans, two of them with label maps."""
    folder = tmp_path / "Livers"
    for name, values in {"a": (0, 1), "b": (0, 1, 7), "c": None}.items():
        save(folder, f"images/{name}.nii.gz", ct())
        if values:
            save(folder, f"labels/{name}.nii.gz", labels_of(*values))
    return folder


def test_proposal_can_be_read_as_it_stands(livers):
    proposal = propose(livers)
    assert proposal.write() == [livers / "cases.csv", livers / "dataset.yaml"]
    dataset = read_dataset(livers)
    assert (dataset.name, dataset.modalities) == ("Livers", ("CT",))
    assert dataset.classes == proposal.classes == {0: "background", 1: "class 1", 7: "class 7"}
    assert [(case.id, case.images, case.label) for case in dataset.cases] == [
        (name, (livers / f"images/{name}.nii.gz",), livers / f"labels/{name}.nii.gz") for name in "ab"
    ]
    assert proposal.label_files == {0: 2, 1: 2, 7: 1}


def test_comments_say_what_was_guessed_and_left_out(livers):
    text = propose(livers).listing()
    assert "# Guess: images/a.nii.gz has values from -1000 to 400, with the air of CT at about -1000.\n" in text
    assert "  7: class 7  # in 1 of 2 label maps\n" in text
    assert "# merge: {7: 1}" in text
    assert "# ignore: 7" in text
    assert text.endswith("# Not used:\n# - images/c.nii.gz: no matching label map\n")


def test_guesses_of_patients_and_split_are_stated(tmp_path):
    for part, patient in (("train", 1), ("val", 2)):
        for visit in (1, 2):
            save(tmp_path, f"{part}/P{patient}_visit{visit}.nii", mr())
            save(tmp_path, f"{part}/P{patient}_visit{visit}_seg.nii", labels_of(0, 1))
    proposal = propose(tmp_path)
    assert "# Guess: the column group names the patient, such as P1 of the cases P1...\n" in proposal.listing()
    assert "# Guess: the column split, from the names of the folders.\n" in proposal.listing()
    proposal.write()
    dataset = read_dataset(tmp_path)
    assert [case.group for case in dataset.cases] == ["P1", "P1", "P2", "P2"]
    assert dataset.splits["own"][0].validation == ("P2_visit1", "P2_visit2")


@pytest.mark.parametrize("name", ["007", "no", "a: b", "Zoë's #1", "- x", "1e3", "~"])
def test_any_folder_name_is_kept(livers, name):
    folder = livers.rename(livers.parent / name)
    assert yaml.safe_load(propose(folder).listing())["name"] == name


def test_file_names_do_not_break_out_of_comments(livers):
    (livers / "images/x\nclasses: [0, 9].nii").touch()
    listing = yaml.safe_load(propose(livers).listing())
    assert listing["classes"] == {0: "background", 1: "class 1", 7: "class 7"}


def test_masks_of_0_and_255(livers):
    for name in "ab":
        save(livers, f"labels/{name}.nii.gz", labels_of(0, 255))
    proposal = propose(livers)
    assert proposal.classes == {0: "background", 255: "class 255"}
    assert "ignore" not in proposal.listing()


def test_named_modalities_one_missing(tmp_path):
    for case, names in {"B1": ("flair", "t1", "seg"), "B2": ("t1", "seg")}.items():
        for name in names:
            save(tmp_path, f"{case}/{case}_{name}.nii.gz", labels_of(0, 4) if name == "seg" else mr())
    propose(tmp_path).write()
    dataset = read_dataset(tmp_path)
    assert dataset.modalities == ("T1w", "FLAIR")
    assert dataset.cases[1].images == (tmp_path / "B2/B2_t1.nii.gz", None)


def test_numbered_channels_and_channels_of_one_file(tmp_path):
    for channel in (0, 1):
        save(tmp_path / "nnunet", f"imagesTr/a_000{channel}.nii.gz", ct() if channel else mr())
    save(tmp_path / "nnunet", "labelsTr/a.nii.gz", labels_of(0, 1))
    assert propose(tmp_path / "nnunet").modalities == ("MRI", "CT")
    save(tmp_path / "msd", "imagesTr/a.nii.gz", mr(2))
    save(tmp_path / "msd", "labelsTr/a.nii.gz", labels_of(0, 1))
    proposal = propose(tmp_path / "msd")
    assert proposal.modalities == ("MRI 0", "MRI 1")
    proposal.write()
    (case,) = read_dataset(tmp_path / "msd").cases
    assert len(read_images(case.images).array) == 2


def write_series(folder, values, modality="CT", series="1.2.3", study="1.2"):
    """A DICOM series of axial slices, 3 mm apart."""
    folder.mkdir(parents=True)
    for index, plane in enumerate(values):
        image = SimpleITK.GetImageFromArray(plane[np.newaxis])
        image.SetOrigin([0.0, 0.0, 3.0 * index])
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0060": modality,
            "0020|000d": study,
            "0020|000e": series,
        }
        tags |= {"0020|0032": f"0\\0\\{3 * index}", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(index)}
        for tag, text in tags.items():
            image.SetMetaData(tag, text)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"IM{index}"))
        writer.SetImageIO("GDCMImageIO")
        writer.Execute(image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("series", "label"), [("P{}/dicom", "P{}/mask.nii.gz"), ("P{}", "P{}/mask.nii.gz"), ("ct/P{}", "gt/P{}.nii.gz")]
)
def test_dicom_series(tmp_path, series, label):
    for patient in (1, 2):
        write_series(tmp_path / series.format(patient), ct().T)
        affine = np.diag([-1.0, -1, 3, 1])  # LPS+ to RAS+
        path = tmp_path / label.format(patient)
        path.parent.mkdir(exist_ok=True)
        nibabel.Nifti1Image(labels_of(0, patient), affine).to_filename(path)
    propose(tmp_path).write()
    dataset = read_dataset(tmp_path)
    assert dataset.modalities == ("CT",)
    assert [case.id for case in dataset.cases] == ["P1", "P2"]
    for case in dataset.cases:
        assert case.label is not None
        assert read_images(case.images).shape == read_labels(case.label).shape


@pytest.mark.slow
@pytest.mark.parametrize(("tag", "name"), [("MR", "MRI"), ("PT", "PET"), ("CT", "CT"), ("NM", "NM")])
def test_dicom_header_gives_the_modality(tmp_path, tag, name):
    for patient in (1, 2):
        write_series(tmp_path / f"P{patient}/dicom", ct().T, modality=tag)  # whose values are a CT's
        nibabel.Nifti1Image(labels_of(0, 1), np.diag([-1.0, -1, 3, 1])).to_filename(tmp_path / f"P{patient}/mask.nii")
    proposal = propose(tmp_path)
    assert proposal.modalities == (name,)
    assert proposal.modality_reason == f"the DICOM header of P1/dicom says {tag}"


def test_several_series_of_a_study_are_modalities_of_one_scan(tmp_path):
    for patient in (1, 2):
        for number, text in enumerate(("AX FLAIR", "SAG T1 POST", "T2 TSE")):
            folder = tmp_path / f"P{patient}/{number}-{text}"
            write_series(folder, mr().T, modality="MR", series=f"1.2.{patient}.{number}", study=f"1.9.{patient}")
        nibabel.Nifti1Image(labels_of(0, 1), np.diag([-1.0, -1, 3, 1])).to_filename(tmp_path / f"P{patient}/seg.nii")
    propose(tmp_path).write()
    dataset = read_dataset(tmp_path)
    assert dataset.modalities == ("T1Gd", "T2w", "FLAIR")
    assert [case.id for case in dataset.cases] == ["P1", "P2"]
    assert read_images(dataset.cases[1].images).array.shape == (3, *SHAPE)


def test_a_mask_for_each_class_becomes_one_label_map(tmp_path):
    liver, tumor = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    liver[1:4], tumor[2:3, 1:3] = 1, 255
    for case in ("s1", "s2"):
        save(tmp_path, f"{case}/ct.nii.gz", ct())
        save(tmp_path, f"{case}/segmentations/liver.nii.gz", liver)
        save(tmp_path, f"{case}/segmentations/tumor.nii.gz", tumor)
    proposal = propose(tmp_path)
    assert not (tmp_path / "combined_labels").exists()
    assert proposal.overlaps == {"s1": 8, "s2": 8}
    proposal.write()
    dataset = read_dataset(tmp_path)
    assert dataset.classes == {0: "background", 1: "liver", 2: "tumor"}
    for case in dataset.cases:
        assert case.label and case.label == tmp_path / f"combined_labels/{case.id}.nii.gz"
        labels = read_labels(case.label)
        assert np.array_equal(labels.array[0], np.where(tumor, 2, liver))
        assert np.array_equal(labels.affine, read_images(case.images).affine)
    (tmp_path / "dataset.yaml").unlink()
    (tmp_path / "cases.csv").unlink()
    with pytest.raises(OutputError):
        propose(tmp_path)
    assert propose(tmp_path, replace=True).rows == proposal.rows


def test_masks_that_do_not_fit_leave_their_case_out(tmp_path):
    for case in ("s1", "s2", "s3"):
        save(tmp_path, f"{case}/ct.nii.gz", ct())
        for name in ("liver", "tumor"):
            save(tmp_path, f"{case}/masks/{name}.nii.gz", labels_of(0, 1, 2) if case == "s2" else labels_of(0, 1))
    nibabel.Nifti1Image(labels_of(0, 1), np.eye(4)).to_filename(tmp_path / "s3/masks/tumor.nii.gz")
    proposal = propose(tmp_path)
    assert [row.case for row in proposal.rows] == ["s1"]
    assert [file for file, _ in proposal.left_out] == ["s2/masks/liver.nii.gz", "s3/masks/tumor.nii.gz"]


def test_table_that_is_there_is_used(livers):
    (livers / "cases.csv").write_text("case;image;label;group\nmine;images/c.nii.gz;labels/b.nii.gz;p\n")
    before = (livers / "cases.csv").read_bytes()
    proposal = propose(livers)
    assert proposal.write() == [livers / "dataset.yaml"]
    assert (livers / "cases.csv").read_bytes() == before
    assert [case.id for case in read_dataset(livers).cases] == ["mine"]
    assert proposal.classes == {0: "background", 1: "class 1", 7: "class 7"}


def test_modalities_of_a_table_that_is_there(livers):
    save(livers, "images/a_flair.nii.gz", mr())
    (livers / "cases.csv").write_text(
        "case,image,image2,label\nb,,images/c.nii.gz,labels/b.nii.gz\n"
        "a,images/a_flair.nii.gz,images/a.nii.gz,labels/a.nii.gz\n"
    )
    assert propose(livers).modalities == ("MRI", "CT")
    save(livers, "images/a_t1.nii.gz", mr())
    (livers / "cases.csv").write_text(
        "case,image,image2,label\na,images/a_flair.nii.gz,images/a_t1.nii.gz,labels/a.nii.gz\n"
    )
    assert propose(livers).modalities == ("FLAIR", "T1w")


def test_nothing_is_overwritten_unless_wanted(livers):
    (livers / "dataset.yaml").write_text("mine")
    (livers / "cases.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"dataset.yaml already exists"):
        propose(livers)
    propose(livers, replace=True).write()
    assert len(read_dataset(livers).cases) == 2


def test_a_damaged_label_map_outside_the_folder_is_reported(livers, tmp_path):
    table = tmp_path / "table"
    table.mkdir()
    rows = [f"{name},{livers / f'images/{name}.nii.gz'},{livers / f'labels/{name}.nii.gz'}" for name in "ab"]
    (table / "cases.csv").write_text("\n".join(["case,image,label", *rows]))
    (livers / "labels/a.nii.gz").write_bytes(b"damaged")
    assert (str(livers / "labels/a.nii.gz"), "the file can't be read") in propose(table).left_out


def test_known_layouts_need_no_proposal(write_toys, tmp_path):
    toys = write_toys(tmp_path / "toys", cases=2)
    with pytest.raises(OutputError, match="needs no description") as caught:
        propose(toys.root)
    assert caught.value.got == "the layout of Medical Segmentation Decathlon"
    propose(toys.root, replace=True).write()
    assert read_dataset(toys.root).classes[5] == "class 5"


def test_a_damaged_label_map_is_reported_and_the_others_used(livers):
    (livers / "labels/a.nii.gz").write_bytes(b"damaged")
    proposal = propose(livers)
    assert ("labels/a.nii.gz", "the file can't be read") in proposal.left_out
    assert proposal.label_files == {0: 1, 1: 1, 7: 1}
    (livers / "labels/b.nii.gz").write_bytes(b"damaged")
    with pytest.raises(DatasetProblems) as caught:
        propose(livers)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (labels_of(0), "only background"),
        (np.arange(300 * 4, dtype=np.int16).reshape(30, 10, 4) // 4, "too many values"),
    ],
)
def test_label_maps_without_classes(livers, labels, message):
    for name in "ab":
        save(livers, f"labels/{name}.nii.gz", labels)
    with pytest.raises(DataError, match=message):
        propose(livers)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="folder not found"):
        propose(tmp_path / "nowhere")


def test_hounsfield_units_are_recognized_by_air():
    assert looks_like_ct(ct())
    assert looks_like_ct(ct().astype(np.float32))
    assert not looks_like_ct(mr())
    assert not looks_like_ct(ct() + np.float32(0.5))
    assert not looks_like_ct(ct() // 2)


@pytest.mark.real
def test_abdomen(shared, tmp_path):
    (tmp_path / "abdomen").symlink_to(shared / "data" / "abdomen_ct")
    proposal = propose(tmp_path / "abdomen")
    assert [row.case for row in proposal.rows] == ["example_ct_sm"]
    assert proposal.modalities == ("CT",)
    assert len(proposal.classes) == 42
    assert list(proposal.classes) != list(range(42))


@pytest.mark.slow
@pytest.mark.real
def test_sarcomas(shared):
    proposal = propose(shared / "data" / "sarcoma_mr", replace=True)
    assert len(proposal.rows) == 51
    assert proposal.modalities == ("MRI",)
    assert proposal.classes == {0: "background", 1: "class 1"}
    assert proposal.left_out == ()


@pytest.fixture
def sarcomas(tmp_path):
    """Two patients with CT, MR and PET, each on a grid of its own with a mask of its own."""
    folder = tmp_path / "Sarcomas"
    for patient in ("STS_001", "STS_002"):
        for number, kind in enumerate(("CT", "MR", "PET")):
            shape = (4 + number, 5, 4)
            save(folder, f"{patient}/{kind}_image.nii.gz", np.resize(ct(), shape) if kind == "CT" else mr()[:4])
            values = labels_of(0, 1)
            save(folder, f"{patient}/{kind}_mask.nii.gz", np.resize(values, shape) if kind == "CT" else values[:4])
    return folder


def test_patients_with_a_scan_of_each_modality_are_grouped(sarcomas):
    proposal = propose(sarcomas)
    assert [(row.case, row.group) for row in proposal.rows] == [
        (f"{patient}_{kind}", patient) for patient in ("STS_001", "STS_002") for kind in ("CT", "MR", "PET")
    ]
    assert proposal.modalities == ("mixed",)
    assert "2 of CT, 2 of MRI, 2 of PET" in proposal.listing()


@pytest.mark.parametrize("labels", ["*/PET_mask*", None])
def test_files_chosen_by_pattern(sarcomas, labels):
    proposal = propose(sarcomas, images="*/PET_image*", labels=labels)
    assert [(row.images, row.label) for row in proposal.rows] == [
        ((f"STS_00{number}/PET_image.nii.gz",), f"STS_00{number}/PET_mask.nii.gz") for number in (1, 2)
    ]
    assert proposal.modalities == ("PET",)
    assert all(str(row.images[0]) not in dict(proposal.left_out) for row in proposal.rows)
    proposal.write()
    assert len(read_dataset(sarcomas).cases) == 2


def test_pattern_makes_a_label_map_of_a_file_with_any_name(tmp_path):
    for case in ("a", "b"):
        save(tmp_path, f"{case}/scan.nii.gz", mr())
        save(tmp_path, f"{case}/tumor.nii.gz", labels_of(0, 1))
    proposal = propose(tmp_path, labels="*/tumor.*")
    assert [row.label for row in proposal.rows] == ["a/tumor.nii.gz", "b/tumor.nii.gz"]
    assert [row.case for row in proposal.rows] == ["a", "b"]


@pytest.mark.parametrize(
    ("patterns", "error"),
    [({"images": "*/SPECT*"}, DataError), ({"images": "*PET*", "labels": "*mask*"}, ConfigError)],
)
def test_pattern_without_a_file_or_for_two_roles_is_refused(sarcomas, patterns, error):
    with pytest.raises(error):
        propose(sarcomas, **patterns)
