"""DICOM SEG and RTSTRUCT: what is written is read back by highdicom, dcmqi and dciodvfy, or by plain geometry."""

import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from scipy.spatial.transform import Rotation

from inflate3d.errors import DataError
from inflate3d.inference.prediction import Prediction
from inflate3d.io import read_labels, read_volume, write_labels, write_volume
from inflate3d.io.dicom.contours import fill_contours, trace_contours
from inflate3d.io.segments import SegmentCode, Segments, known_code
from inflate3d.volume import Volume

TURNED = Rotation.from_euler("xyz", [20, -30, 130], degrees=True).as_matrix()
SERIES = {
    "axial": {},
    "coronal": {"directions": ((1, 0, 0), (0, 0, -1))},
    "sagittal": {"directions": ((0, 1, 0), (0, 0, -1))},
    "flipped": {"directions": ((-1, 0, 0), (0, -1, 0))},
    "oblique": {"directions": (tuple(TURNED[:, 0]), tuple(TURNED[:, 1]))},
    "tilted": {"step": (0, 1.2, 4)},
}
NAMES = {0: "background", 2: "liver", 5: "liver tumor", 9: "Right_Kidney", 11: "thing"}
SEGMENTS = Segments(NAMES, {"thing": SegmentCode(type="99LAB X1 A thing")}, "Toys")


def noise(slices=6, rows=10, columns=12):
    return np.random.default_rng(0).integers(0, 1000, (slices, rows, columns)).astype(np.int16)


def some_labels(shape):
    """Noise, and a ring around a ring; the first and the last but one slice are empty."""
    labels = np.random.default_rng(1).choice([0, 0, 0, 2, 5, 9], size=shape).astype(np.uint8)
    labels[2:10, 1:9, 2] = 2
    labels[3:9, 2:8, 2] = 0
    labels[4:8, 3:7, 2] = 2
    labels[5:7, 4:6, 2] = 5
    labels[:, :, [0, -2]] = 0
    return labels


@pytest.fixture(params=list(SERIES))
def series(request, tmp_path, write_series):
    write_series(tmp_path / "series", noise(), tags={"0020|0052": "1.2.99"}, **SERIES[request.param])
    return tmp_path / "series"


def numbered(labels):
    """By the numbers that a BINARY object gives the segments."""
    return np.select([labels == 2, labels == 5, labels == 9], [1, 2, 3], 0)


# --- SEG -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".seg.dcm", ".labelmap.dcm"])
def test_segmentation_is_read_back_by_us_and_by_others(series, tmp_path, suffix):
    scan, path = read_volume(series), tmp_path / f"labels{suffix}"
    labels = some_labels(scan.shape)
    write_labels(path, labels, like=series, segments=SEGMENTS)
    expected = labels if "labelmap" in suffix else numbered(labels)
    assert np.array_equal(read_labels(path, on=scan.grid).array[0], expected)
    structures = {"liver": 2, "liver tumor": 5, "right kidney": 9, "thing": 11}
    named = read_labels(path, on=scan.grid, structures=structures)
    assert np.array_equal(named.array[0], labels)
    assert np.array_equal(named.affine, scan.affine)
    # highdicom, by the images that frames refer to
    images = [pydicom.dcmread(file) for file in series.iterdir()]
    images.sort(key=lambda image: np.linalg.solve(scan.affine[:3, :3], position_of(image) - scan.affine[:3, 3])[2])
    segmentation = highdicom.seg.segread(path)
    frames = segmentation.get_pixels_by_source_instance(
        [image.SOPInstanceUID for image in images], combine_segments=True, ignore_spatial_locations=False,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    assert np.array_equal(frames.transpose(2, 1, 0), expected)
    if series_is_box(scan):  # dcmqi has no sheared grids
        assert np.array_equal(read_by_dcmqi(path, tmp_path / "dcmqi").match_geometry(scan).array[0], expected)


def series_is_box(scan):
    return abs(abs(np.linalg.det(scan.affine[:3, :3] / scan.spacing)) - 1) < 1e-5


def position_of(image):
    return np.array(image.ImagePositionPatient, float) * (-1, -1, 1)


def read_by_dcmqi(path, folder):
    folder.mkdir()
    program = Path(sys.executable).with_name("segimage2itkimage")
    command = [program, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "--mergeSegments"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (file,) = folder.glob("*.nrrd")
    return read_volume(file)


def check_by_dciodvfy(path):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian's package dicom3tools)")
    shown = subprocess.run([program, path], capture_output=True, text=True, timeout=60, check=False)
    lines = (shown.stdout + shown.stderr).splitlines()
    assert not [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])  # the released dciodvfy doesn't know LABELMAP
def test_objects_follow_the_standard(tmp_path, write_series, modality, suffix):
    write_series(tmp_path / "series", noise(), modality=modality)
    write_labels(tmp_path / f"x{suffix}", some_labels((12, 10, 6)), like=tmp_path / "series", segments=SEGMENTS)
    check_by_dciodvfy(tmp_path / f"x{suffix}")


def test_what_a_segmentation_says(tmp_path, write_series):
    write_series(tmp_path / "series", noise(), tags={"0020|0052": "1.2.99"})
    labels = some_labels((12, 10, 6))
    labels[labels == 9] = 0
    write_labels(tmp_path / "seg.dcm", labels, like=tmp_path / "series", segments=SEGMENTS)
    image = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (image.SegmentationType, image.PatientID, image.StudyInstanceUID) == ("BINARY", "patient 7", "1.2.3")
    assert image.FrameOfReferenceUID == "1.2.99"
    assert image.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"
    assert len(image.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6
    assert image.SeriesInstanceUID != "1.2.3.4"
    assert image.NumberOfFrames == sum(labels[:, :, index].any() and value in labels[:, :, index]
                                       for index in range(6) for value in (2, 5))  # fmt: skip
    found = [
        (
            item.SegmentLabel,
            item.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning,
            item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning,
        )
        for item in image.SegmentSequence
    ]
    assert found == [
        ("liver", "Anatomical Structure", "Liver"),
        ("liver tumor", "Morphologically Abnormal Structure", "Neoplasm"),
        ("Right_Kidney", "Anatomical Structure", "Kidney"),
        ("thing", "Anatomical Structure", "A thing"),
    ]
    kidney = image.SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0]
    assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
    assert {item.SegmentAlgorithmName for item in image.SegmentSequence} == {"inflate3d Toys"}
    assert len({tuple(item.RecommendedDisplayCIELabValue) for item in image.SegmentSequence}) == 4


def test_series_number_is_named_where_there_is_one(tmp_path, write_series):
    for tags, expected in (({}, "Segmentation"), ({"0020|0011": "4"}, "Segmentation of series 4")):
        write_series(tmp_path / expected, np.zeros((3, 4, 5), np.int16), tags=tags)
        write_labels(tmp_path / "seg.dcm", np.ones((5, 4, 3), np.uint8), like=tmp_path / expected)
        assert pydicom.dcmread(tmp_path / "seg.dcm").SeriesDescription == expected


def test_names_have_codes():
    assert known_code("oesophagus") == known_code("Esophagus")
    assert Segments().code_of("LEFT-adrenal gland").modifier == "SCT 7771000 Left"
    assert Segments().code_of("aorta").type == "SCT 15825003 Aorta"
    assert known_code("dragon") is None
    assert Segments().code_of("dragon").type == "SCT 85756007 Tissue"
    with pytest.raises(ValueError, match="is not a code"):
        SegmentCode(type="Liver")


@pytest.mark.parametrize(("suffix", "stored"), [(".seg.dcm", 1), (".labelmap.dcm", 3)])
def test_values_that_become_other_numbers_are_said(tmp_path, write_series, caplog, suffix, stored):
    write_series(tmp_path / "series", np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    labels = np.zeros((5, 4, 3), np.uint8)
    labels[1, 2, 1] = 3
    path = tmp_path / f"labels{suffix}"
    write_labels(path, labels, like=tmp_path / "series")
    assert np.unique(read_labels(path, on=read_volume(tmp_path / "series").grid).array).tolist() == [0, stored]
    assert ("label values 3 become the segments 1 to 1" in caplog.text) == (stored != 3)


@pytest.mark.parametrize("suffix", [".seg.dcm", ".labelmap.dcm", ".rtstruct.dcm"])
def test_nothing_but_background(tmp_path, write_series, suffix):
    write_series(tmp_path / "series", noise())
    scan, path = read_volume(tmp_path / "series"), tmp_path / f"x{suffix}"
    write_labels(path, np.zeros(scan.shape, np.uint8), like=tmp_path / "series", segments=SEGMENTS)
    structures = None if "rtstruct" in suffix else {"liver": 2}
    assert not read_labels(path, on=scan.grid, structures=structures).array.any()
    assert path.stat().st_size < 20_000


def test_without_a_grid_the_frames_make_their_own(tmp_path, write_series):
    write_series(tmp_path / "series", noise())
    scan = read_volume(tmp_path / "series")
    labels = some_labels(scan.shape)
    write_labels(tmp_path / "x.seg.dcm", labels, like=tmp_path / "series", segments=SEGMENTS)
    read = read_labels(tmp_path / "x.seg.dcm")
    assert read.shape == (12, 10, 5)  # from the second slice to the last
    assert np.array_equal(read.match_geometry(scan).array[0], numbered(labels))


def test_segmentation_that_another_program_wrote_along_other_axes(tmp_path, write_series):
    write_series(tmp_path / "series", noise(), directions=((0, -1, 0), (1, 0, 0)))
    write_series(tmp_path / "turned", noise(6, 12, 10)[::-1], directions=((1, 0, 0), (0, 1, 0)))
    one, other = read_volume(tmp_path / "series"), read_volume(tmp_path / "turned")
    labels = some_labels(other.shape)
    write_labels(tmp_path / "x.labelmap.dcm", labels, like=tmp_path / "turned", segments=SEGMENTS)
    target = Volume(labels[np.newaxis], other.affine).reorient("SPL")
    read = read_labels(tmp_path / "x.labelmap.dcm", on=target.grid)
    assert np.array_equal(read.array, target.array)
    with pytest.raises(DataError, match="does not lie on the voxels"):
        read_labels(tmp_path / "x.labelmap.dcm", on=one.grid, case="c1")


@pytest.fixture
def frames(tmp_path, write_series):
    """A multi-frame object with the frames in reverse."""
    images = [pydicom.dcmread(file) for file in write_series(tmp_path / "classic", noise(), modality="CT")]
    for image in images:
        image.FrameOfReferenceUID, image.PatientName = "1.2.99", ""
        image.ContentDate, image.ContentTime, image.AcquisitionNumber = "20200101", "101010", "1"
    (tmp_path / "frames").mkdir()
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(images[::-1], "1.2.9", 2, "1.2.9.1", 1)
    enhanced.save_as(tmp_path / "frames" / "a")
    return tmp_path / "frames"


def test_series_with_frames(frames, tmp_path):
    scan = read_volume(frames)
    labels = some_labels(scan.shape)
    own = pydicom.dcmread(frames / "a").PerFrameFunctionalGroupsSequence
    places = [groups.PlanePositionSequence[0].ImagePositionPatient for groups in own]
    for suffix in (".seg.dcm", ".rtstruct.dcm"):
        write_labels(tmp_path / f"x{suffix}", labels, like=frames, segments=SEGMENTS)
        structures = {"liver": 2, "liver tumor": 5, "right kidney": 9}
        read = read_labels(tmp_path / f"x{suffix}", on=scan.grid, structures=structures)
        assert np.array_equal(read.array[0], labels)
    for groups in pydicom.dcmread(tmp_path / "x.seg.dcm").PerFrameFunctionalGroupsSequence:
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == "1.2.9.1"
        assert places[reference.ReferencedFrameNumber - 1] == groups.PlanePositionSequence[0].ImagePositionPatient


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_objects_of_frames_follow_the_standard(frames, tmp_path, suffix):
    write_labels(tmp_path / f"x{suffix}", some_labels((12, 10, 6)), like=frames, segments=SEGMENTS)
    check_by_dciodvfy(tmp_path / f"x{suffix}")


def test_prediction_is_saved_as_dicom(tmp_path, write_series):
    write_series(tmp_path / "series", noise())
    scan = read_volume(tmp_path / "series")
    prediction = Prediction(some_labels(scan.shape), scan.affine, segments=SEGMENTS)
    assert prediction.save(tmp_path / "seg.dcm", like=tmp_path / "series").stat().st_size > 1000
    assert np.array_equal(read_labels(tmp_path / "seg.dcm", on=scan.grid).array[0], numbered(prediction.labels))
    with pytest.raises(DataError, match="need the DICOM series"):
        prediction.save(tmp_path / "other.dcm")
    assert prediction.save(tmp_path / "x.nii.gz").exists()


def test_what_is_no_series_gets_no_dicom_labels(tmp_path):
    write_volume(tmp_path / "scan.nii.gz", Volume(noise()[np.newaxis], np.eye(4)))
    for suffix in (".seg.dcm", ".rtstruct.dcm"):
        with pytest.raises(DataError, match="need the DICOM series") as caught:
            write_labels(tmp_path / f"x{suffix}", noise() > 500, like=tmp_path / "scan.nii.gz")
        assert caught.value.file == str(tmp_path / "scan.nii.gz")
    assert [file.name for file in tmp_path.iterdir()] == ["scan.nii.gz"]


# --- structures by name ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_structures_are_found_by_name(tmp_path, write_series, suffix):
    write_series(tmp_path / "series", noise())
    scan, path = read_volume(tmp_path / "series"), tmp_path / f"x{suffix}"
    labels = some_labels(scan.shape)
    write_labels(path, labels, like=tmp_path / "series", segments=SEGMENTS)
    read = read_labels(path, on=scan.grid, structures={"liver tumor": 300, "right kidney": 4})
    assert np.array_equal(read.array[0], np.select([labels == 5, labels == 9], [300, 4], 0))
    assert "liver" in read.notes[0]
    with pytest.raises(DataError, match="none of the structures") as caught:
        read_labels(path, on=scan.grid, structures={"spleen": 1}, case="c1")
    assert (caught.value.case, caught.value.file) == ("c1", str(path))


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_overlap_is_named(tmp_path, write_series, suffix):
    write_series(tmp_path / "series", noise())
    scan, path = read_volume(tmp_path / "series"), tmp_path / f"x{suffix}"
    labels = np.zeros(scan.shape, np.uint8)
    labels[2:6, 2:6, 2] = 2
    write_labels(path, labels, like=tmp_path / "series", segments=Segments({2: "Liver", 5: "GTV Mass"}))
    image = pydicom.dcmread(path)
    if "seg" in suffix:
        image.SegmentSequence[1].SegmentLabel = "GTV Mass"
        for groups in [*image.PerFrameFunctionalGroupsSequence]:
            copy = deepcopy(groups)
            copy.SegmentIdentificationSequence = [pydicom.Dataset()]
            copy.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2
            image.PerFrameFunctionalGroupsSequence.append(copy)
        image.NumberOfFrames = 2
        image.PixelData = np.packbits(np.tile((labels[:, :, 2].T > 0).ravel(), 2), bitorder="little").tobytes()
    else:
        image.ROIContourSequence[1].ContourSequence = image.ROIContourSequence[0].ContourSequence
    image.save_as(path)
    with pytest.raises(DataError, match="structures overlap") as caught:
        read_labels(path, on=scan.grid)
    assert "Liver and GTV Mass share 16 voxels" in str(caught.value.got)
    assert read_labels(path, on=scan.grid, structures={"gtv mass": 1}).array.sum() == 16


# --- RTSTRUCT --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_structures_rasterize_to_the_labels(series, tmp_path):
    scan, path = read_volume(series), tmp_path / "labels.rtstruct.dcm"
    labels = some_labels(scan.shape)
    write_labels(path, labels, like=series, segments=SEGMENTS)
    read = read_labels(path, on=scan.grid, structures={"liver": 2, "liver tumor": 5, "right kidney": 9})
    assert np.array_equal(read.array[0], labels)
    structures = pydicom.dcmread(path)
    assert [item.ROIName for item in structures.StructureSetROISequence] == list(NAMES.values())[1:]
    assert structures.FrameOfReferenceUID == "1.2.99"
    for value, roi in zip((2, 5, 9), structures.ROIContourSequence, strict=False):
        assert np.array_equal(by_matplotlib(roi, scan), labels == value)
        for contour in roi.ContourSequence:  # it refers to the image that it lies on
            uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            (image,) = [image for file in series.iterdir() if (image := pydicom.dcmread(file)).SOPInstanceUID == uid]
            row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
            normal = np.cross(row, column)
            offset = np.array(contour.ContourData).reshape(-1, 3) - np.array(image.ImagePositionPatient)
            assert np.abs(offset @ normal).max() < 1e-3


def by_matplotlib(roi, scan):
    """The mask of a structure: for each of its polygons, the pixel centers inside change sides."""
    mask, inverse = np.zeros(scan.shape, bool), np.linalg.inv(scan.affine)
    centers = np.stack(np.meshgrid(*map(np.arange, scan.shape[:2]), indexing="ij"), -1).reshape(-1, 2)
    for contour in roi.ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3) * (-1, -1, 1) @ inverse[:3, :3].T + inverse[:3, 3]
        mask[:, :, round(points[0, 2])] ^= Polygon(points[:, :2]).contains_points(centers).reshape(scan.shape[:2])
    return mask


@pytest.mark.slow
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=200, deadline=None)
def test_contours_of_a_mask_fill_to_the_mask(mask):
    assert np.array_equal(fill_contours(trace_contours(mask), mask.shape), mask)


def test_a_circle_has_the_pixels_whose_centers_it_encloses():
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circles = [radius * np.stack([np.cos(angles), np.sin(angles)], 1) + 20.3 for radius in (15, 7)]
    distance = np.hypot(*(np.indices((40, 41)) - 20.3))
    assert np.array_equal(fill_contours(circles, (40, 41)), (distance < 15) & (distance > 7))


def test_contours_beyond_the_picture_are_cut():
    square = np.array([[-5, -5], [-5, 3], [3, 3], [3, -5]]) + 0.5
    assert fill_contours([square], (6, 7))[:4, :4].all()
    assert fill_contours([square], (6, 7)).sum() == 16


@pytest.mark.slow
def test_contours_off_the_slices_are_named(tmp_path, write_series):
    write_series(tmp_path / "series", noise())
    scan, path = read_volume(tmp_path / "series"), tmp_path / "x.rtstruct.dcm"
    write_labels(path, some_labels(scan.shape), like=tmp_path / "series", segments=SEGMENTS)
    structures = pydicom.dcmread(path)
    contour = structures.ROIContourSequence[1].ContourSequence[0]
    points = np.array(contour.ContourData).reshape(-1, 3)
    points[:, 2] += 1
    contour.ContourData = points.ravel().tolist()
    structures.save_as(path)
    with pytest.raises(DataError, match="does not lie on a slice") as caught:
        read_labels(path, on=scan.grid, case="c1")
    assert "liver tumor" in str(caught.value.got)
    assert "0.4 slice steps" in str(caught.value.got)
    with pytest.raises(DataError, match="contours but no voxels"):
        read_labels(path)


def test_contours_beyond_a_part_of_the_series_are_named_by_its_nearest_slice(tmp_path, write_series):
    write_series(tmp_path / "series", noise())
    scan, path = read_volume(tmp_path / "series"), tmp_path / "x.rtstruct.dcm"
    labels = np.zeros(scan.shape, np.uint8)
    labels[2:5, 2:5, -1] = 1
    write_labels(path, labels, like=tmp_path / "series", segments=SEGMENTS)
    part = scan[:, :, :, : scan.shape[2] - 3]
    with pytest.raises(DataError) as caught:
        read_labels(path, on=part.grid)
    assert f"3 slice steps away from slice {part.shape[2]}" in str(caught.value.got)


def test_points_are_passed_over_with_a_note(tmp_path, write_series):
    write_series(tmp_path / "series", noise())
    scan, path = read_volume(tmp_path / "series"), tmp_path / "x.rtstruct.dcm"
    labels = some_labels(scan.shape)
    write_labels(path, labels, like=tmp_path / "series", segments=SEGMENTS)
    structures = pydicom.dcmread(path)
    for contour in structures.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "POINT"
    structures.save_as(path)
    read = read_labels(path, on=scan.grid, structures={"liver": 2, "liver tumor": 5, "right kidney": 9})
    assert np.array_equal(read.array[0], np.where(labels == 2, 0, labels))
    assert read.notes == ("contours that enclose nothing are skipped: liver",)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95, -1])
@pytest.mark.parametrize("suffix", [".seg.dcm", ".labelmap.dcm", ".rtstruct.dcm"])
def test_damaged_objects_are_refused(tmp_path, write_series, suffix, keep):
    write_series(tmp_path / "series", noise())
    scan, path = read_volume(tmp_path / "series"), tmp_path / f"x{suffix}"
    write_labels(path, some_labels(scan.shape), like=tmp_path / "series", segments=SEGMENTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep > 0 else keep])
    with pytest.raises(DataError) as caught:
        read_labels(path, on=scan.grid, case="c1")
    assert caught.value.file == str(path)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 5, 7), (18, 42, 43)])
def test_frames_of_bits_need_not_begin_with_a_byte(tmp_path, write_series, shape):
    write_series(tmp_path / "mr", np.zeros(shape, np.int16))
    labels = np.random.default_rng(0).integers(0, 3, shape[::-1]).astype(np.uint8)
    write_labels(tmp_path / "seg.dcm", labels, like=tmp_path / "mr")
    assert np.array_equal(read_labels(tmp_path / "seg.dcm").array[0], labels)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_regions_are_structures_that_overlap(tmp_path, write_series, suffix):
    write_series(tmp_path / "series", noise(), tags={"0020|0052": "1.2.99"})
    scan, path = read_volume(tmp_path / "series"), tmp_path / f"labels{suffix}"
    labels, regions = some_labels(scan.shape), {"liver": (2, 5), "liver tumor": (5,), "both": (2, 5, 9)}
    segments = Segments(NAMES, dataset="Toys", regions=regions)
    write_labels(path, labels, like=tmp_path / "series", segments=segments)
    for name, held in regions.items():
        alone = read_labels(path, on=scan.grid, structures={name: 1})
        assert np.array_equal(alone.array[0], np.isin(labels, held))
    assert np.array_equal(read_labels(path, on=scan.grid, structures=regions).array[0], labels)
    with pytest.raises(DataError, match="overlap"):
        read_labels(path, on=scan.grid, structures={"liver": 1, "liver tumor": 2})
    with pytest.raises(DataError, match="LABELMAP"):
        write_labels(tmp_path / "labels.labelmap.dcm", labels, like=tmp_path / "series", segments=segments)


def test_overlaps_of_regions_that_no_value_stands_for_are_named(tmp_path, write_series):
    """Vessels run through the liver, where the dataset has a value for both, or none."""
    write_series(tmp_path / "series", noise(), tags={"0020|0052": "1.2.99"})
    scan, path = read_volume(tmp_path / "series"), tmp_path / "labels.dcm"
    labels = some_labels(scan.shape)
    written = {"liver": (2, 5), "vessel": (5, 9)}
    write_labels(path, labels, like=tmp_path / "series", segments=Segments(NAMES, regions=written))
    known = {"liver": (1, 3), "vessel": (2, 3)}
    read = read_labels(path, on=scan.grid, structures=known).array[0]
    for name, held in known.items():
        assert np.array_equal(np.isin(read, held), np.isin(labels, written[name]))
    with pytest.raises(DataError, match="no label value represents") as caught:
        read_labels(path, on=scan.grid, structures={"liver": (1, 4), "vessel": (2, 5)})
    assert str(caught.value.got) == f"liver + vessel in {np.count_nonzero(labels == 5)} voxels"


@pytest.mark.parametrize("known", [{"liver": (2, 5), "tumor": (5,)}, {"liver": (2, 5), "healthy liver": 2, "tumor": 5}])
def test_exclusive_segments_of_a_dataset_with_regions(tmp_path, write_series, known):
    """Another program may give classes that exclude each other: a tumor is then in the liver by its value."""
    write_series(tmp_path / "series", noise(), tags={"0020|0052": "1.2.99"})
    scan, path = read_volume(tmp_path / "series"), tmp_path / "labels.dcm"
    labels = np.where(some_labels(scan.shape) == 5, 5, 0).astype(np.uint8)
    write_labels(path, labels, like=tmp_path / "series", segments=Segments({5: "tumor"}))
    assert np.array_equal(read_labels(path, on=scan.grid, structures=known).array[0], labels)
