"""DICOM series against values known beforehand, and against SimpleITK's own reader of series."""

import itertools
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from scipy.spatial.transform import Rotation

from inflate3d.errors import DataError
from inflate3d.io import find_series, read_grid, read_labels, read_volume, write_labels

TURNED = Rotation.from_euler("xyz", [20, -30, 130], degrees=True).as_matrix()
ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "feet first, prone": ((-1, 0, 0), (0, -1, 0)),
    "against the columns": ((1, 0, 0), (0, -1, 0)),
    "oblique": (tuple(TURNED[:, 0]), tuple(TURNED[:, 1])),
}


def noise(slices=5, rows=6, columns=7, dtype="int16", seed=0):
    return np.random.default_rng(seed).integers(0, 1000, (slices, rows, columns)).astype(dtype)


def refused(path, match):
    with pytest.raises(DataError, match=match) as caught:
        read_volume(path, case="c7")
    assert caught.value.case == "c7"
    assert caught.value.file is not None
    return caught.value


def read_by_simpleitk(folder):
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(names)
    return reader.Execute()


# --- what is read ----------------------------------------------------------------------------------------


def test_files_beside_a_series_are_named(tmp_path, write_series):
    write_series(tmp_path, noise())
    (tmp_path / "other.nii.gz").write_bytes(b"never read")
    assert read_volume(tmp_path).notes == ("files beside the series are not read: other.nii.gz",)


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_voxels_and_geometry_are_those_of_simpleitks_series_reader(tmp_path, write_series, directions):
    names = ["b", "e", "a", "d", "c"]  # neither the names nor the instance numbers give the order
    write_series(tmp_path, noise(), directions=directions, spacing=(0.7, 1.3), names=names)
    volume, image = read_volume(tmp_path), read_by_simpleitk(tmp_path)
    assert np.array_equal(volume.array[0], SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0))
    assert volume.array.dtype == np.int16
    assert volume.spacing == pytest.approx((0.7, 1.3, 2.5), rel=1e-6)
    for index in itertools.product((0, 6), (0, 5), (0, 4)):
        world = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        assert (volume.affine @ [*index, 1])[:3] == pytest.approx(world, abs=1e-4)
    assert volume.notes == ()


def test_a_point_of_the_patient_lies_where_the_headers_say(tmp_path, write_series):
    write_series(tmp_path, noise(), spacing=(0.5, 2), origin=(10, 20, 30), step=(0, 0, 3))
    # column 3, row 4, slice 2: 3 * 0.5 mm to the left, 4 * 2 mm to the back, 2 * 3 mm up
    assert (read_volume(tmp_path).affine @ [3, 4, 2, 1]).tolist() == [-11.5, -28, 36, 1]


@given(st.permutations(range(4)), st.floats(0.3, 4), st.sampled_from(sorted(ORIENTATIONS)))
@settings(max_examples=15)
def test_slices_are_sorted_by_position_whatever_their_names(write_series, tmp_path_factory, order, spacing, name):
    folder = tmp_path_factory.mktemp("series")
    row, column = np.array(ORIENTATIONS[name], float)
    values = noise(4)
    write_series(
        folder,
        values,
        directions=(row, column),
        step=spacing * np.cross(row, column),
        names=[f"{place}.dcm" for place in order],
    )
    volume = read_volume(folder)
    assert np.array_equal(volume.array[0], values.transpose(2, 1, 0))
    assert volume.spacing[2] == pytest.approx(spacing, rel=1e-5)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_slope_and_intercept_are_each_slices_own(tmp_path, write_series, modality):
    rescale = [(1, 0), (0.5, -3), (2, -1000), (0.25, 1)]
    stored = noise(4)
    values = np.stack([plane * slope + intercept for plane, (slope, intercept) in zip(stored, rescale, strict=True)])
    written = write_series(tmp_path, values, modality=modality, rescale=rescale)
    assert written[1].read_bytes().endswith(stored[1].tobytes())
    volume = read_volume(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[0], values.transpose(2, 1, 0))


def test_hounsfield_units_stay_whole(tmp_path, write_series):
    values = noise().astype(float) - 1024
    write_series(tmp_path, values, modality="CT", rescale=[(1, -1024)] * 5)
    volume = read_volume(tmp_path)
    assert volume.array.dtype.kind == "i"
    assert np.array_equal(volume.array[0], values.transpose(2, 1, 0))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8"])
def test_signed_and_unsigned_values(tmp_path, write_series, dtype):
    values = np.linspace(np.iinfo(dtype).min, np.iinfo(dtype).max, 5 * 6 * 7).reshape(5, 6, 7).astype(dtype)
    write_series(tmp_path, values)
    volume = read_volume(tmp_path)
    assert volume.array.dtype == np.dtype(dtype)
    assert np.array_equal(volume.array[0], values.transpose(2, 1, 0))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8"])
def test_values_that_are_shown_inverted_are_read_as_they_are_stored(tmp_path, write_series, dtype):
    values = (noise() // 5).astype(dtype)
    write_series(tmp_path, values, inverted=True)
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array[0], values.transpose(2, 1, 0))
    assert "MONOCHROME1" in volume.notes[0]


def test_inverted_values_with_slope_and_intercept(tmp_path, write_series):
    values = noise() * 0.5 - 20
    write_series(tmp_path, values, modality="CT", rescale=[(0.5, -20)] * 5, inverted=True)
    assert np.array_equal(read_volume(tmp_path).array[0], values.transpose(2, 1, 0))


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG", "RLE"])
def test_compressed_series(tmp_path, write_series, compressor):
    smooth = np.add.outer(np.arange(3) * 100, np.add.outer(np.arange(64), np.arange(80))).astype(np.uint16)
    plain, packed = (write_series(tmp_path / name, smooth, compressor=name) for name in ("", compressor))
    assert packed[0].stat().st_size < plain[0].stat().st_size / 2
    assert np.array_equal(read_volume(tmp_path / compressor).array[0], smooth.transpose(2, 1, 0))


def without_preamble(path):
    path.write_bytes(path.read_bytes()[132:])


def without_file_meta(path):
    meta = pydicom.dcmread(path).file_meta
    path.write_bytes(path.read_bytes()[132 + 12 + meta.FileMetaInformationGroupLength :])


def deflated(path):
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.save_as(path)


def named_img(path):
    path.rename(path.with_suffix(".img"))


@pytest.mark.parametrize("change", [without_preamble, without_file_meta, deflated, named_img])
def test_unusual_files_are_read(tmp_path, write_series, change):
    values = noise()
    folder = tmp_path / "series"
    for path in write_series(folder, values):
        change(path)
    assert len(find_series(folder)) == 1
    assert np.array_equal(read_volume(folder).array[0], values.transpose(2, 1, 0))
    assert np.array_equal(read_volume(min(folder.iterdir())).array[0], values.transpose(2, 1, 0))


def test_private_value_that_looks_like_a_transfer_syntax(tmp_path, write_series):
    """JPEG 2000's, in the preamble of uncompressed files."""
    values = noise()
    for path in write_series(tmp_path, values):
        lie = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.4.90")
        path.write_bytes(lie.ljust(128, b"\0") + path.read_bytes()[128:])
    assert np.array_equal(read_volume(tmp_path).array[0], values.transpose(2, 1, 0))


def test_tilted_gantry_gives_a_sheared_grid(tmp_path, write_series):
    angle = np.radians(15)
    values = noise()
    write_series(tmp_path, values, step=(0, 5 * np.sin(angle), 5 * np.cos(angle)), origin=(0, 0, 0))
    volume = read_volume(tmp_path)
    assert volume.notes == ("the gantry was tilted by 15.0 degrees, so the grid is sheared",)
    assert volume.affine[:3, 2] == pytest.approx([0, -5 * np.sin(angle), 5 * np.cos(angle)], abs=1e-6)
    assert np.array_equal(volume.array[0], values.transpose(2, 1, 0))


# --- which series ----------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path, write_series):
    """Two series in one folder, one in another, and much that is no series."""
    together, alone = tmp_path / "study" / "mixed", tmp_path / "study" / "patient" / "alone"
    write_series(together, noise(seed=1), uid="1.2.1", names=[f"a{index}" for index in range(5)])
    write_series(together, noise(4, seed=2), uid="1.2.2", names=[f"b{index}" for index in range(4)])
    write_series(alone, noise(3, seed=3), uid="1.2.3", modality="CT")
    (together / "notes.txt").write_text("no DICOM")
    (together / ".hidden").write_bytes(b"\0" * 128 + b"DICM")
    write_listing(alone / "DICOMDIR")
    (alone / "structures").write_bytes(no_image("1.2.840.10008.5.1.4.1.1.481.3"))
    (alone / "report.dcm").write_bytes(no_image("1.2.840.10008.5.1.4.1.1.88.33"))
    (tmp_path / "study" / "empty").mkdir()
    return tmp_path / "study"


def write_listing(path):
    """A DICOMDIR, which states its storage class in the file's meta information only."""
    record = Dataset()
    record.DirectoryRecordType, record.PatientID = "PATIENT", "7"
    listing = Dataset()
    listing.FileSetID, listing.DirectoryRecordSequence = "EXPORT", [record]
    listing.file_meta = FileMetaDataset()
    listing.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.1.3.10")
    listing.file_meta.MediaStorageSOPInstanceUID = UID("1.2.9")
    listing.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    listing.save_as(path, enforce_file_format=True)


def element(group, number, kind, value):
    value += b"\0" * (len(value) % 2)
    tag = group.to_bytes(2, "little") + number.to_bytes(2, "little")
    return tag + kind + len(value).to_bytes(2, "little") + value


def no_image(storage_class):
    meta = element(2, 2, b"UI", storage_class.encode()) + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    length = element(2, 0, b"UL", len(meta).to_bytes(4, "little"))
    body = element(8, 0x16, b"UI", storage_class.encode()) + element(0x20, 0xE, b"UI", b"1.2.77")
    return b"\0" * 128 + b"DICM" + length + meta + body


def test_series_are_found_below_a_folder(study):
    found = find_series(study)
    assert [series.uid for series in found] == ["1.2.1", "1.2.2", "1.2.3"]
    assert [series.path.relative_to(study).as_posix() for series in found] == [
        "mixed/1.2.1",
        "mixed/1.2.2",
        "patient/alone",
    ]
    assert [series.slices for series in found] == [5, 4, 3]
    last = found[-1]
    assert (last.modality, last.description, last.patient, last.study) == ("CT", "series 1.2.3", "patient 7", "1.2.3")
    assert [file.name for file in last.files] == ["IM000.dcm", "IM001.dcm", "IM002.dcm"]
    for series, seed, slices in zip(found, (1, 2, 3), (5, 4, 3), strict=True):
        assert np.array_equal(read_volume(series.path).array[0], noise(slices, seed=seed).transpose(2, 1, 0))


def test_any_file_of_a_series_names_it(study):
    assert np.array_equal(read_volume(study / "mixed" / "b2").array[0], noise(4, seed=2).transpose(2, 1, 0))
    assert read_volume(study / "patient" / "alone" / "IM001.dcm").shape == (7, 6, 3)


def test_folder_of_several_series_lists_them(study):
    error = refused(study / "mixed", "several DICOM series")
    assert error.got == ("1.2.1 (MR, series 1.2.1, 5 slices of 6 × 7); 1.2.2 (MR, series 1.2.2, 4 slices of 6 × 7)")
    assert str(study / "mixed" / "UID") in str(error.hint)


def test_series_that_is_not_in_the_folder(study):
    error = refused(study / "mixed" / "9.9.9", "no such DICOM series")
    assert error.expected == "9.9.9"
    assert "1.2.1 (MR" in str(error.got)


def test_folder_without_images(study):
    refused(study, "several DICOM series")
    refused(study / "empty", "holds no DICOM images")
    refused(study / "patient" / "alone" / "report.dcm", "not a DICOM image of a scan")
    refused(study / "gone" / "1.2.3", "format is not known|file is missing")
    refused(study / "mixed" / "gone.dcm", "file is missing")
    assert find_series(study / "empty") == []
    with pytest.raises(DataError, match="folder not found"):
        find_series(study / "gone")


# --- what is refused -------------------------------------------------------------------------------------


def test_missing_slices_are_named(tmp_path, write_series):
    written = write_series(tmp_path, noise(9), origin=(0, 0, 0))
    written[2].unlink()
    written[5].unlink()
    written[6].unlink()
    error = refused(tmp_path, "slices of the series are missing")
    assert error.got == (
        "missing 1 between 2.5 mm (IM001.dcm) and 7.5 mm (IM003.dcm); "
        "2 between 10 mm (IM004.dcm) and 17.5 mm (IM007.dcm)"
    )
    assert error.expected == "a slice every 2.5 mm along the normal"


def test_copied_slice_is_named(tmp_path, write_series):
    written = write_series(tmp_path, noise(), origin=(0, 0, 0))
    shutil.copy(written[2], tmp_path / "copy")
    error = refused(tmp_path, "several images of the series are at the same position")
    assert error.got == "1 of 5 positions have more: 5 mm (IM002.dcm, copy)"
    assert error.hint == "remove the copies"


@pytest.mark.parametrize(
    ("tag", "name"),
    [("0018|0081", "echo time"), ("0020|0100", "temporal position"), ("0020|0012", "acquisition number")],
)
def test_several_volumes_in_one_series(tmp_path, write_series, tag, name):
    values = [noise(seed=seed) for seed in range(2)]
    for number in ("10", "9"):
        names = [f"{number}-{index}" for index in range(5)]
        write_series(tmp_path, values[number == "9"], names=names, tags={tag: number, "0008|0032": "101010"})
    error = refused(tmp_path, "holds several volumes")
    assert error.got == f"1: {name} 9 (5 slices), 2: {name} 10 (5 slices)"
    assert "#1" in str(error.hint)
    for number, expected in ((1, values[1]), (2, values[0])):  # by number, not as text
        volume = read_volume(f"{tmp_path}#{number}", case="c7")
        assert np.array_equal(volume.array[0], expected.transpose(2, 1, 0))
        assert read_grid(f"{tmp_path}#{number}").shape == volume.shape
    assert "no volume of this number" in str(refused(f"{tmp_path}#3", "no volume").what)


def test_several_volumes_that_two_tags_tell_apart(tmp_path, write_series):
    for echo, time in itertools.product("12", "34"):
        names = [f"{echo}{time}-{index}" for index in range(3)]
        write_series(tmp_path, noise(3), names=names, tags={"0018|0081": echo, "0020|0100": time})
    got = str(refused(tmp_path, "holds several volumes").got)
    assert got.startswith("1: echo time 1, temporal position 3 (3 slices), 2: echo time 1, temporal position 4 (3 sl")


def test_slices_that_differ(tmp_path, write_series):
    write_series(tmp_path, noise(3))
    turned = {"directions": ORIENTATIONS["coronal"], "origin": (0, 0, 90)}
    for name, values, options in (
        ("orientation", noise(1), turned),
        ("rows", noise(1, rows=8), {"origin": (0, 0, 90)}),
        ("pixel spacing", noise(1), {"spacing": (1, 1), "origin": (0, 0, 90)}),
    ):
        odd = write_series(tmp_path, values, names=["odd"], **options)[0]
        assert refused(tmp_path, f"differ in {name}").file == str(odd)


def test_uneven_slices(tmp_path, write_series):
    for index, height in enumerate((0, 2, 4, 6.6, 9)):
        write_series(tmp_path, noise(1), origin=(0, 0, height), names=[f"{index}"])
    error = refused(tmp_path, "unevenly spaced")
    assert error.file == str(tmp_path / "2")


def test_slices_that_wander_sideways(tmp_path, write_series):
    for index, left in enumerate((0, 0, 5, 0, 0)):
        write_series(tmp_path, noise(1), origin=(left, 0, 2 * index), names=[f"{index}"])
    refused(tmp_path, "unevenly spaced")


def test_single_slice(tmp_path, write_series):
    write_series(tmp_path, noise(1))
    refused(tmp_path, "single slice")


def test_slices_all_at_one_place(tmp_path, write_series):
    write_series(tmp_path, noise(3), step=(0, 0, 0))
    refused(tmp_path, "are at the same position")


def test_image_without_a_position(tmp_path, write_series):
    written = write_series(tmp_path, noise(3))
    content = written[1].read_bytes()
    written[1].write_bytes(content.replace(b"\x20\x00\x32\x00", b"\x20\x00\x30\x00"))
    error = refused(tmp_path, "no usable position")
    assert error.file == str(written[1])


def test_listing_names_its_folder(study):
    assert read_volume(study / "patient" / "alone" / "DICOMDIR").shape == (7, 6, 3)


def test_colors(tmp_path):
    for index in range(2):
        picture = SimpleITK.GetImageFromArray(np.zeros((1, 6, 7, 3), np.uint8), isVector=True)
        picture.SetMetaData("0020|000e", "1.2.3")
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(tmp_path / f"{index}.dcm"))
        writer.Execute(picture)
    assert "RGB" in str(refused(tmp_path, "not single real numbers").got)


def test_frames_that_simpleitk_writes(tmp_path):
    image = SimpleITK.GetImageFromArray(noise(7, dtype="uint16"))
    image.SetSpacing([0.7, 0.8, 2.5])
    image.SetOrigin([-30, -20, 12.5])
    SimpleITK.WriteImage(image, str(tmp_path / "frames.dcm"))
    volume = read_volume(tmp_path / "frames.dcm")
    assert np.array_equal(volume.array[0], noise(7).transpose(2, 1, 0))
    assert volume.affine == pytest.approx(
        np.array([[-0.7, 0, 0, 30], [0, -0.8, 0, 20], [0, 0, 2.5, 12.5], [0, 0, 0, 1]])
    )


def test_frames_without_places(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise(7, dtype="uint16")), str(tmp_path / "frames.dcm"))
    image = pydicom.dcmread(tmp_path / "frames.dcm")
    del image.PerFrameFunctionalGroupsSequence
    image.save_as(tmp_path / "frames.dcm")
    assert refused(tmp_path, "several frames").got == "7 frames"


@pytest.mark.parametrize("keep", [140, 400, 0.6, -40, -1])
@pytest.mark.parametrize("which", [0, 2, 4])
def test_damaged_slice_is_named(tmp_path, write_series, keep, which):
    written = write_series(tmp_path, noise())
    content = written[which].read_bytes()
    written[which].write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert refused(tmp_path, "the file can't be read").file == str(written[which])
    assert find_series(tmp_path)[0].slices == 4


def test_header_that_claims_more_than_its_file(tmp_path, write_series):
    written = write_series(tmp_path, noise())
    content = bytearray(written[1].read_bytes())
    for tag in (b"\x28\x00\x10\x00", b"\x28\x00\x11\x00"):  # rows, columns
        place = content.index(tag) + 8
        content[place : place + 2] = b"\xff\xff"
    written[1].write_bytes(content)
    error = refused(tmp_path, "the file can't be read")
    assert error.expected == f"{65535 * 65535 * 2} bytes of voxels"


# --- label maps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.nrrd", "labels.mha"])
def test_label_map_lies_where_the_series_does(tmp_path, write_series, directions, name):
    write_series(tmp_path / "series", noise(), directions=directions)
    labels = (noise().transpose(2, 1, 0) % 4).astype(np.uint8)
    write_labels(tmp_path / name, labels, tmp_path / "series")
    read, scan = read_labels(tmp_path / name), read_volume(tmp_path / "series")
    assert np.array_equal(read.array[0], labels)
    assert read.affine == pytest.approx(scan.affine, rel=1e-6, abs=1e-5)


def test_label_map_of_a_tilted_series(tmp_path, write_series):
    write_series(tmp_path / "series", noise(), step=(0, 1, 4))
    labels = (noise().transpose(2, 1, 0) % 4).astype(np.uint8)
    with pytest.raises(DataError, match="sheared") as caught:
        write_labels(tmp_path / "labels.nrrd", labels, tmp_path / "series")
    assert caught.value.hint == "write it as .nii.gz"
    assert not (tmp_path / "labels.nrrd").exists()
    write_labels(tmp_path / "labels.nii.gz", labels, tmp_path / "series")
    assert read_volume(tmp_path / "labels.nii.gz").affine == pytest.approx(
        read_volume(tmp_path / "series").affine, rel=1e-6, abs=1e-5
    )
