"""Datasets of DICOM series labeled by SEG and RTSTRUCT: found by `init`, prepared like any other."""

import numpy as np
import pydicom
import pytest
import yaml

from inflate3d.datasets import read_dataset
from inflate3d.datasets.propose import propose
from inflate3d.datasets.writing import write_dataset
from inflate3d.errors import ConfigError, DataError, DatasetProblems
from inflate3d.io import read_labels, read_volume, write_labels
from inflate3d.io.segments import Segments
from inflate3d.preparation.prepare import prepare

SHAPE = (7, 20, 24)


def labels_of(number):
    labels = np.zeros(SHAPE[::-1], np.uint8)
    labels[4 + number : 14, 6:15, 2:6] = 1
    labels[6:9, 8 + number : 12, 3:5] = 2
    return labels


@pytest.fixture
def studies(tmp_path, write_series):
    """Three patients; structures are spelled in three ways, and lie where clinics put them."""
    names = {0: ("Liver", "GTV Mass"), 1: ("liver", "gtv_mass"), 2: ("LIVER", "GTVp")}
    for number, spelled in names.items():
        folder = tmp_path / "studies" / f"p{number}"
        values = np.random.default_rng(number).integers(0, 300, SHAPE).astype(np.int16)
        tags = {"0010|0020": f"secret {number}", "0020|000d": f"1.2.{number}"}
        write_series(folder / "ct", values, uid=f"1.2.{number}.1", modality="CT", tags=tags)
        write_series(folder / "scout", values[:1], uid=f"1.2.{number}.2", modality="CT", tags=tags)
        name = "objects/rs.rtstruct.dcm" if number else "seg.dcm"
        write_labels(
            folder / name, labels_of(number), like=folder / "ct", segments=Segments(dict(enumerate(spelled, 1)))
        )
    return tmp_path / "studies"


def test_init_pairs_objects_with_their_series(studies):
    proposal = propose(studies)
    assert [(row.case, row.images, row.label) for row in proposal.rows] == [
        ("p0", ("p0/ct",), "p0/seg.dcm"),
        ("p1", ("p1/ct",), "p1/objects/rs.rtstruct.dcm"),
        ("p2", ("p2/ct",), "p2/objects/rs.rtstruct.dcm"),
    ]
    assert proposal.classes == {0: "background", 1: "GTV Mass", 2: "GTVp", 3: "Liver"}
    assert proposal.label_files == {1: 2, 2: 1, 3: 3}
    assert proposal.modalities == ("CT",)
    proposal.write()
    assert "0: background\n" in (studies / "dataset.yaml").read_text(encoding="utf-8")
    assert "secret" not in (studies / "dataset.yaml").read_text(encoding="utf-8") + (studies / "cases.csv").read_text(
        encoding="utf-8"
    )
    assert read_dataset(studies).structures == {"gtv mass": 1, "gtvp": 2, "liver": 3}


def describe(studies, **changes):
    propose(studies).write()
    listing = yaml.safe_load((studies / "dataset.yaml").read_text(encoding="utf-8"))
    listing |= {"classes": {0: "background", 1: "liver", 2: "GTV Mass"}, "synonyms": {"GTVp": "GTV Mass"}, **changes}
    (studies / "dataset.yaml").write_text(yaml.safe_dump(listing))
    return read_dataset(studies)


@pytest.mark.slow
def test_such_a_dataset_is_prepared_like_one_of_label_maps(studies, tmp_path):
    codes = {"liver": "SCT 10200004 Liver", "GTV Mass": {"type": "SCT 4147007 Mass"}}
    dataset = describe(studies, codes=codes)
    store = prepare(dataset, tmp_path / "store", workers=1)
    converted = write_dataset(dataset, tmp_path / "nifti", "folder").dataset
    same = prepare(converted, tmp_path / "other", workers=1)
    for number, case in enumerate(("p0", "p1", "p2")):
        indices = list(range(SHAPE[0]))
        assert np.array_equal(store.label_slices(case, indices), same.label_slices(case, indices))
        assert np.array_equal(store.image_slices(case, indices), same.image_slices(case, indices))
        label = converted.cases[number].label
        assert label is not None
        original = read_labels(label)
        assert np.array_equal(original.array[0], labels_of(number))
    assert store.plan.segments.code_of(store.plan.classes[2]).type == "SCT 4147007 Mass"
    assert store.plan.structures["gtvp"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".seg.dcm", ".labelmap.dcm", ".rtstruct.dcm"])
def test_label_maps_are_converted_to_dicom(studies, tmp_path, suffix):
    dataset = describe(studies)
    written = write_dataset(dataset, tmp_path / "dicom", "folder", suffix=suffix).dataset
    for number, case in enumerate(written.cases):
        scan = read_volume(case.scan)
        assert scan == read_volume(dataset.cases[number].scan)
        assert case.label is not None
        labels = read_labels(case.label, on=scan.grid, structures=written.structures)
        assert np.array_equal(labels.array[0], labels_of(number))
        said = pydicom.dcmread(case.label)
        made = [item.get("SegmentAlgorithmType") for item in said.get("SegmentSequence", [])]
        made += [item.ROIGenerationAlgorithm for item in said.get("StructureSetROISequence", [])]
        assert set(made) == {"MANUAL"}
    with pytest.raises(ConfigError, match="invalid file format"):
        write_dataset(dataset, tmp_path / "msd", "msd", suffix=suffix)


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_regions_are_converted_to_structures_that_overlap(studies, tmp_path, suffix):
    regions = {"organ": [1, 3], "tumor": [1]}
    dataset = describe(studies, classes={0: "background", 1: "GTV Mass", 3: "liver"}, regions=regions,
                       synonyms={"GTVp": "GTV Mass", "mass": "tumor"})  # fmt: skip
    assert dataset.structures["mass"] == (1,)
    written = write_dataset(dataset, tmp_path / "dicom", "folder", suffix=suffix).dataset
    assert (written.regions, written.structures) == (dataset.regions, dataset.structures)
    for number, case in enumerate(written.cases):
        assert case.label is not None
        said = pydicom.dcmread(case.label)
        names = [item.SegmentLabel for item in said.get("SegmentSequence", [])]
        names += [item.ROIName for item in said.get("StructureSetROISequence", [])]
        assert names == ["organ", "tumor"]
        labels = read_labels(case.label, on=read_volume(case.scan).grid, structures=written.structures)
        assert np.array_equal(labels.array[0], np.array([0, 3, 1])[labels_of(number)])
    store = prepare(written, tmp_path / "store", workers=1)
    assert store.plan.targets == {"organ": (1, 3), "tumor": (1,)}
    with pytest.raises(DataError, match="LABELMAP"):
        write_dataset(dataset, tmp_path / "labelmap", "folder", suffix=".labelmap.dcm")


def test_what_a_dataset_says_wrong(studies):
    with pytest.raises(DataError, match="invalid classes") as caught:
        describe(studies, synonyms={"GTVp": "tumor"})
    assert "tumor is not a class" in str(caught.value.got)
    (studies / "dataset.yaml").unlink()
    (studies / "cases.csv").unlink()
    with pytest.raises(DataError, match="does not describe a dataset") as caught:
        describe(studies, codes={"liver": "Liver"})
    assert "is not a code" in str(caught.value)


def test_object_of_another_series_is_left_out(studies):
    (studies / "p1" / "ct").rename(studies.parent / "gone")
    proposal = propose(studies)
    assert [row.case for row in proposal.rows] == ["p0", "p2"]
    assert dict(proposal.left_out)["p1/objects/rs.rtstruct.dcm"] == "its series, 1.2.1.1, is not here"


def test_two_objects_of_one_series_are_left_out(studies):
    like = studies / "p0" / "ct"
    write_labels(studies / "p0" / "second.seg.dcm", labels_of(0), like=like, segments=Segments({1: "liver"}))
    proposal = propose(studies)
    assert [row.case for row in proposal.rows] == ["p1", "p2"]
    assert {file for file, _ in proposal.left_out} == {"p0/seg.dcm", "p0/second.seg.dcm"}


@pytest.mark.slow
def test_object_drawn_on_another_grid_is_an_error(studies, tmp_path, write_series):
    dataset = describe(studies)
    write_series(studies / "p1" / "ct", np.zeros(SHAPE, np.int16), uid="1.2.1.1", modality="CT", origin=(0, 0, 1))
    with pytest.raises(DatasetProblems) as caught:
        prepare(dataset, tmp_path / "store", workers=1)
    (problem,) = caught.value.problems
    assert problem.what == "a contour does not lie on a slice of the series"
    assert (problem.case, problem.file) == ("p1", str(studies / "p1/objects/rs.rtstruct.dcm"))
    assert read_volume(studies / "p1" / "ct").shape == SHAPE[::-1]


@pytest.mark.slow
def test_several_objects_of_a_series_become_one_label_map(studies):
    bone = np.zeros(SHAPE[::-1], np.uint8)
    bone[10:18, 10:18, 1:3] = 1  # 4 x 5 x 1 voxels of it are in the liver, too
    for number in (0, 1):
        folder = studies / f"p{number}"
        write_labels(folder / "bone.seg.dcm", bone, like=folder / "ct", segments=Segments({1: "Bone"}))
    again = studies / "p2/again.seg.dcm"
    write_labels(again, labels_of(2), like=studies / "p2/ct", segments=Segments({1: "liver", 2: "other"}))
    proposal = propose(studies)
    assert [(row.case, row.label) for row in proposal.rows] == [
        (case, f"combined_labels/{case}.nii.gz") for case in ("p0", "p1")
    ]
    assert {file for file, reason in proposal.left_out if "liver is in several" in reason} == {
        "p2/again.seg.dcm",
        "p2/objects/rs.rtstruct.dcm",
    }
    proposal.write()
    dataset = read_dataset(studies)
    values = {name: value for value, name in dataset.classes.items()}
    for number, case in enumerate(dataset.cases):
        original = labels_of(number)
        expected = np.where(original == 1, values["Liver"], 0)
        expected[bone == 1] = values["Bone"]  # it has fewer voxels than the liver
        expected[original == 2] = values["GTV Mass"]
        assert case.label is not None
        assert np.array_equal(read_labels(case.label).array[0], expected)
        overlap = np.count_nonzero((bone == 1) & (original > 0))
        assert proposal.overlaps[case.id] == overlap > 0


@pytest.fixture(params=[".seg.dcm", ".rtstruct.dcm"])
def overlapping(tmp_path, write_series, request):
    """Two patients with a vessel partly in the liver; of one, a second object has bone that touches both."""
    shared = np.zeros((2, *SHAPE[::-1]), bool)
    shared[0, 4:14, 6:15, 2:6] = shared[1, 10:18, 10:13, 3:5] = True
    labels = np.where(shared[0] & shared[1], 3, shared[0] + 2 * shared[1]).astype(np.uint8)
    spelled = (("Liver", "Portal Vein"), ("LIVER", "portal_vein"))
    masks = {}
    for number, (liver, vein) in enumerate(spelled):
        folder = tmp_path / "studies" / f"p{number}"
        uid = f"1.2.{number}.1"
        write_series(folder / "ct", np.full(SHAPE, number, np.int16), uid=uid, modality="CT")
        segments = Segments({1: "liver only", 2: "outside", 3: "both"}, regions={liver: (1, 3), vein: (2, 3)})
        write_labels(folder / f"rs{request.param}", labels, like=folder / "ct", segments=segments)
        masks[f"p{number}"] = {"Liver": shared[0], "Portal Vein": shared[1]}
    bone = np.zeros(SHAPE[::-1], np.uint8)
    bone[12:16, 10:18, 1:4] = 1
    second = tmp_path / "studies/p1"
    write_labels(second / f"bone{request.param}", bone, like=second / "ct", segments=Segments({1: "Bone"}))
    masks["p1"]["Bone"] = bone > 0
    return tmp_path / "studies", masks


def test_overlapping_structures_become_regions(overlapping):
    studies, masks = overlapping
    proposal = propose(studies, overlaps="regions")
    assert not (studies / "combined_labels").exists()
    proposal.write()
    dataset = read_dataset(studies)
    assert set(dataset.targets) == {"Bone", "Liver", "Portal Vein"}
    assert "Bone + Liver + Portal Vein" in dataset.classes.values()
    for case in dataset.cases:
        assert case.label is not None and case.label.parent == studies / "combined_labels"
        labels = read_labels(case.label)
        assert np.allclose(labels.affine, read_volume(case.scan).affine)
        for name, held in dataset.targets.items():
            expected = masks[case.id].get(name, np.zeros(SHAPE[::-1], bool))
            assert np.array_equal(np.isin(labels.array[0], held), expected)


def test_objects_without_overlaps_stay_labels(studies):
    expected = propose(studies)
    proposal = propose(studies, overlaps="regions")
    assert proposal.regions == {}
    assert (proposal.rows, proposal.classes) == (expected.rows, expected.classes)


def test_object_that_does_not_fit_is_left_out_of_regions(overlapping, write_series):
    studies, _ = overlapping
    write_series(studies / "p0" / "ct", np.zeros(SHAPE, np.int16), uid="1.2.0.1", modality="CT", origin=(0, 0, 1))
    proposal = propose(studies, overlaps="regions")
    assert [row.case for row in proposal.rows] == ["p1"]
    ((file, reason),) = proposal.left_out
    assert file.startswith("p0/rs.") and "does not lie on" in reason


def test_structures_that_are_the_same_everywhere_are_no_regions(studies):
    for number in range(3):
        folder = studies / f"p{number}"
        for name in ("organ", "body"):
            mask = (labels_of(number) > 0).astype(np.uint8)
            write_labels(folder / f"{name}.seg.dcm", mask, like=folder / "ct", segments=Segments({1: name}))
    with pytest.raises(DataError, match="same voxels") as caught:
        propose(studies, overlaps="regions")
    assert "body and organ" in str(caught.value.got)
    assert not (studies / "dataset.yaml").exists()
