"""What every format that can be written keeps to, and how scans and label maps are named."""

import itertools
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inflate3d.errors import ConfigError, DataError, OutputError
from inflate3d.io import (
    SUFFIXES,
    WRITABLE_SUFFIXES,
    check_same_grid,
    label_name,
    read_images,
    read_labels,
    read_volume,
    scan_files,
    stem_of,
    write_labels,
    write_volume,
)
from inflate3d.volume import Volume

SINGLE_PRECISION = (".nii", ".nii.gz")
TURN = Rotation.from_euler("xyz", [25, -40, 100], degrees=True).as_matrix()


def affine_of(axes, origin=(-20.5, 31.25, 7.1)):
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = origin
    return affine


GRIDS = {
    "RAS": affine_of(np.diag([1.0, 1, 1])),
    "LPS": affine_of(np.diag([-0.7, -0.7, 5])),
    "sagittal": affine_of(np.array([[0, 0, 1.2], [-0.5, 0, 0], [0, -0.9, 0]])),
    "left-handed": affine_of(np.diag([-1.0, 1.5, 2])),
    "oblique": affine_of(TURN * [0.8, 0.9, 4.5]),
}


def values(channels=1, dtype="int16"):
    return (np.arange(channels * 60) % 120).reshape(channels, 3, 4, 5).astype(dtype)


# --- every format ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_written_volume_reads_back(tmp_path, suffix, channels, grid):
    write_volume(tmp_path / f"scan{suffix}", Volume(values(channels), grid))
    volume = read_volume(tmp_path / f"scan{suffix}")
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, values(channels))
    precision = 1e-6 if suffix in SINGLE_PRECISION else 1e-15
    assert volume.affine == pytest.approx(grid, rel=precision, abs=precision)
    assert volume.notes == ()


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        *((kind, kind) for kind in ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")),
        ("float32", "float32"),
        *((kind, "float32") for kind in ("float16", "float64", ">f4")),
        ("bool", "uint8"),
        (">i2", "int16"),
    ],
)
def test_types_of_voxels(tmp_path, suffix, dtype, stored):
    write_volume(tmp_path / f"scan{suffix}", Volume(values(dtype=dtype), np.eye(4)))
    volume = read_volume(tmp_path / f"scan{suffix}")
    assert volume.array.dtype == np.dtype(stored)
    assert np.array_equal(volume.array, values(dtype=dtype))


@pytest.mark.parametrize("scan", WRITABLE_SUFFIXES)
@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_label_maps_of_any_format_for_scans_of_any(tmp_path, scan, suffix):
    write_volume(tmp_path / f"scan{scan}", Volume(values(2), GRIDS["oblique"]))
    labels = values()[0] % 4
    write_labels(tmp_path / "out" / f"labels{suffix}", labels, tmp_path / f"scan{scan}")
    read = read_labels(tmp_path / "out" / f"labels{suffix}")
    assert np.array_equal(read.array[0], labels)
    assert read.array.dtype == np.uint8
    check_same_grid(read, read_volume(tmp_path / f"scan{scan}"))


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_equal_volumes_give_equal_bytes_and_no_other_files(tmp_path, suffix):
    for folder in ("a", "b"):
        write_volume(tmp_path / folder / f"scan.v2{suffix}", Volume(values(), GRIDS["oblique"]))
    first, second = (sorted((tmp_path / folder).iterdir()) for folder in "ab")
    assert [file.name for file in first] == [file.name for file in second]
    assert len(first) == (1 if suffix in (".nii", ".nii.gz", ".nrrd", ".mha") else 2)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_names_in_capitals(tmp_path, suffix):
    path = tmp_path / f"SCAN{suffix.upper()}"
    write_volume(path, Volume(values(), GRIDS["LPS"]))
    assert path in tmp_path.iterdir()
    assert np.array_equal(read_volume(path).array, values())


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_views_in_any_memory_order_are_written_as_they_look(tmp_path, suffix):
    view = values(3)[::-1, ::-1].transpose(0, 3, 1, 2)
    write_volume(tmp_path / f"scan{suffix}", Volume(view, np.eye(4)))
    assert np.array_equal(read_volume(tmp_path / f"scan{suffix}").array, view)


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_folder_that_is_a_file(tmp_path, suffix):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_volume(tmp_path / "file" / f"scan{suffix}", Volume(values(), np.eye(4)))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_sheared_grids_need_nifti(tmp_path, suffix):
    sheared = affine_of([[1, 0, 0], [0, 1, -1], [0, 0, 4]])
    with pytest.raises(DataError, match="sheared") as caught:
        write_volume(tmp_path / f"scan{suffix}", Volume(values(), sheared))
    assert caught.value.hint == "write it as .nii.gz"
    assert list(tmp_path.iterdir()) == []
    write_volume(tmp_path / "scan.nii.gz", Volume(values(), sheared))
    read = read_volume(tmp_path / "scan.nii.gz")
    assert read.affine == pytest.approx(sheared, rel=1e-6)
    assert read.spacing == pytest.approx(Volume(values(), sheared).spacing)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_formats_agree_on_where_voxels_lie(tmp_path, grid):
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        write_volume(tmp_path / f"scan{suffix}", Volume(values(), grid))
    nifti: Any = nibabel.load(tmp_path / "scan.nii.gz")
    assert nifti.header["sform_code"] == nifti.header["qform_code"] == 1
    assert nifti.header.get_xyzt_units()[0] == "mm"
    for name, index in itertools.product(("scan.nrrd", "scan.mha", "scan.nii.gz"), ((0, 0, 0), (2, 1, 4))):
        image = SimpleITK.ReadImage(str(tmp_path / name))
        world = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        assert world == pytest.approx((grid @ [*index, 1])[:3], abs=1e-5)
        assert image[index] == values()[(0, *index)]


# --- any grid --------------------------------------------------------------------------------------------

AXIS_ORDERS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@st.composite
def affines(draw):
    """All 48 orders of the axes, straight or oblique, of any spacing and place."""
    assert len(AXIS_ORDERS) == 48
    axes = draw(st.sampled_from(AXIS_ORDERS))
    angles = draw(st.one_of(st.just((0, 0, 0)), st.tuples(*[st.floats(-180, 180)] * 3)))
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return affine_of(Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes * spacing, origin)


def labels_like(affine, suffix, folder):
    """Writes a scan and a label map like it; the label map and both affines as they are read again."""
    write_volume(folder / f"scan{suffix}", Volume(values(), affine))
    labels = np.random.default_rng(0).integers(0, 5, (3, 4, 5))
    write_labels(folder / f"labels{suffix}", labels, folder / f"scan{suffix}")
    read = read_labels(folder / f"labels{suffix}")
    assert np.array_equal(read.array[0], labels)
    return read.affine, read_volume(folder / f"scan{suffix}").affine


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
@given(affine=affines())
@settings(max_examples=60)
def test_label_maps_lie_exactly_where_their_scans_do(suffix, tmp_path_factory, affine):
    written, scan = labels_like(affine, suffix, tmp_path_factory.mktemp("any"))
    assert np.array_equal(written, scan)
    assert scan == pytest.approx(affine, rel=1e-5, abs=1e-4 if suffix == ".nii" else 1e-12)


@given(affine=affines())
@settings(max_examples=60)
def test_a_nrrd_keeps_an_affine_to_the_bit(tmp_path_factory, affine):
    path = tmp_path_factory.mktemp("any") / "scan.nrrd"
    write_volume(path, Volume(values(), affine))
    assert np.array_equal(read_volume(path).affine, affine)


# --- missing modalities, notes ---------------------------------------------------------------------------


def test_missing_modality_is_a_channel_of_zeros(tmp_path):
    write_volume(tmp_path / "t1.nrrd", Volume(values(), GRIDS["oblique"]))
    write_volume(tmp_path / "t2.nii", Volume(values() + 1, GRIDS["oblique"]))
    volume = read_images([None, tmp_path / "t1.nrrd", None, tmp_path / "t2.nii"])
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, np.concatenate([0 * values(), values(), 0 * values(), values() + 1]))
    assert np.array_equal(volume.affine, GRIDS["oblique"])


@pytest.mark.parametrize(
    ("kinds", "joined"),
    [
        ((np.int16, np.uint8), np.int16),
        ((np.int32, np.float32), np.float32),
        ((np.uint16, np.int16), np.int32),
    ],
)
def test_modalities_of_several_types_are_of_one_that_holds_them(tmp_path, kinds, joined):
    for name, kind in zip("ab", kinds, strict=True):
        write_volume(tmp_path / f"{name}.nii", Volume(np.full((1, 3, 4, 5), 7, kind), np.eye(4)))
    volume = read_images([tmp_path / "a.nii", None, tmp_path / "b.nii"])
    assert volume.array.dtype == joined
    assert volume.array[:, 0, 0, 0].tolist() == [7, 0, 7]


def test_scan_without_any_modality():
    with pytest.raises(DataError, match="the scan has no files") as caught:
        read_images([None, None], case="c7")
    assert caught.value.case == "c7"


def test_notes_of_several_files_say_which(tmp_path):
    nibabel.Nifti1Image(values()[0], None).to_filename(tmp_path / "t2.nii")
    write_volume(tmp_path / "t1.nii", Volume(values(), read_volume(tmp_path / "t2.nii").affine))
    (note,) = read_images([tmp_path / "t1.nii", tmp_path / "t2.nii"]).notes
    assert note.startswith("t2.nii: the header sets neither sform nor qform")


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem", "labels"),
    [
        ("case.nii.gz", "case", "case.nii.gz"),
        ("case.nii", "case", "case.nii"),
        ("CASE.NII.GZ", "CASE", "CASE.NII.GZ"),
        ("a.b_0000.nrrd", "a.b_0000", "a.b_0000.nrrd"),
        ("case.img", "case", "case.nii.gz"),
        ("case.hdr.gz", "case", "case.nii.gz"),
        ("case.mhd", "case", "case.mhd"),
        ("IM0001.dcm", "IM0001", "IM0001.nii.gz"),
        ("series 4", "series 4", "series 4.nii.gz"),
        ("1.2.840.1", "1.2.840.1", "1.2.840.1.nii.gz"),
    ],
)
def test_names(name, stem, labels):
    for path in (name, Path("some") / name, PurePosixPath("./imagesTr") / name):
        assert stem_of(path) == stem
        assert label_name(path) == labels
        assert label_name(path, ".mha") == f"{stem}.mha"


def test_label_maps_in_no_known_format(tmp_path):
    with pytest.raises(ConfigError, match="can't be written"):
        label_name("scan.nii.gz", ".dcm")
    with pytest.raises(ConfigError, match="can't be written"):
        label_name("scan.nii.gz", ".hdr")
    with pytest.raises(DataError, match="can't be written"):
        write_volume(tmp_path / "scan.png", Volume(values(), np.eye(4)))
    with pytest.raises(DataError, match="can't be written"):
        write_volume(tmp_path / "scan.img", Volume(values(), np.eye(4)))
    with pytest.raises(DataError, match="can't be written"):
        write_volume(tmp_path / "folder", Volume(values(), np.eye(4)))


def test_longer_suffixes_come_first():
    for index, suffix in enumerate(SUFFIXES):
        assert not any(suffix.endswith(earlier) for earlier in SUFFIXES[:index])


def test_scan_files_of_a_folder(tmp_path):
    for name in ("b.nii.gz", "A.NRRD", "pair.hdr", "pair.img", "lone.img.gz", "x.mhd", "x.zraw", "._b.nii.gz", "n.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.nii").mkdir()
    assert [file.name for file in scan_files(tmp_path)] == ["A.NRRD", "b.nii.gz", "lone.img.gz", "pair.hdr", "x.mhd"]


def test_path_that_names_nothing(tmp_path):
    with pytest.raises(DataError, match="the file is missing"):
        read_volume(tmp_path / "nothing")
    (tmp_path / "plain").write_text("no scan")
    with pytest.raises(DataError, match="format is not known"):
        read_volume(tmp_path / "plain")
