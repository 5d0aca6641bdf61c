"""Files as users have them: spread, renamed, scaled, in other units, or no files at all."""

import bz2
import gzip
import io
import lzma
import os
import struct
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from pydicom.config import disable_value_validation
from pydicom.uid import RLELossless

from inflate3d.errors import DataError
from inflate3d.io import find_series, read_grid, read_labels, read_volume, write_labels
from inflate3d.io.dicom.stream import size_of_stream

VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def refused(path):
    with pytest.raises(DataError) as caught:
        read_volume(path, case="c7")
    assert caught.value.case == "c7"
    assert "fetch or export the file again" not in (caught.value.hint or "")
    return caught.value


def nrrd(path, extra="", data=None, encoding="raw"):
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 3 4 5\n"
        "space directions: (0.1,0,0) (0,0.1,0) (0,0,0.3)\nspace origin: (1,2,3)\n"
        f"{extra}endian: little\nencoding: {encoding}\n\n"
    )
    path.write_bytes(header.encode() + (VALUES.tobytes(order="F") if data is None else data))
    return path


def test_a_series_spread_over_folders_is_one_scan(tmp_path, write_series):
    stack = np.random.default_rng(0).integers(0, 900, (8, 6, 7)).astype("int16")
    write_series(tmp_path / "whole", stack)
    for part, folder in enumerate(("DICOM", "DICOM/00000001")):
        (tmp_path / "spread" / folder).mkdir(parents=True)
        for file in sorted((tmp_path / "whole").iterdir())[part::2]:
            (tmp_path / "spread" / folder / file.name).write_bytes(file.read_bytes())
    (found,) = find_series(tmp_path / "spread")
    assert (found.path, found.slices) == (tmp_path / "spread" / "DICOM", 8)
    for path in (found.path, tmp_path / "spread", tmp_path / "spread" / "1.2.3.4"):
        assert read_volume(path) == read_volume(tmp_path / "whole")


@pytest.mark.parametrize("name", ["{}.dcm", "IM_{}", "MR.1.2.{}"])
@pytest.mark.parametrize("content", [b"", b"<html>", bytes(500), b"\x09\x00"])
def test_a_slice_that_is_no_longer_dicom_is_not_lost(tmp_path, write_series, name, content):
    write_series(tmp_path / "whole", VALUES)
    (tmp_path / "case").mkdir()
    for number, file in enumerate(sorted((tmp_path / "whole").iterdir())):
        (tmp_path / "case" / name.format(number)).write_bytes(file.read_bytes())
    (tmp_path / "case" / "notes.txt").write_text("sound")
    (tmp_path / "case" / "IM_0.png").write_bytes(b"\x89PNG")
    assert read_volume(tmp_path / "case") == read_volume(tmp_path / "whole")
    last = tmp_path / "case" / name.format(len(list((tmp_path / "whole").iterdir())) - 1)
    last.write_bytes(content)
    (found,) = find_series(tmp_path)[:1]
    for path in (found.path, last.with_name(name.format(0))):
        with pytest.raises(DataError) as caught:
            read_volume(path)
        assert caught.value.file == str(last)


@pytest.mark.parametrize(
    "changes",
    [
        {"RescaleSlope": "nan"},
        {"RescaleSlope": 0},
        {"RescaleIntercept": "inf"},
        {"BitsAllocated": 1},
        {"BitsStored": 17},
        {"PixelData": bytes(10)},
        {"Modality": "SR"},
    ],
)
def test_a_slice_whose_header_and_pixels_contradict_is_refused(tmp_path, write_series, changes):
    write_series(tmp_path, VALUES)
    last = sorted(tmp_path.iterdir())[-1]
    slice_ = pydicom.dcmread(last)
    for name, value in changes.items():
        with disable_value_validation():
            setattr(slice_, name, value)
    slice_.save_as(last)
    assert refused_file(tmp_path) == str(last)


@pytest.mark.parametrize("more", [0, 1, 7, 8, 24])
def test_more_pixels_than_the_header_says_are_refused(tmp_path, write_series, more):
    write_series(tmp_path, VALUES)
    last = sorted(tmp_path.iterdir())[-1]
    slice_ = pydicom.dcmread(last)
    slice_.PixelData += bytes(more + more % 2)  # a row has 10 bytes
    slice_.save_as(last)
    if more < 9:
        assert np.array_equal(read_volume(tmp_path).array[0], VALUES.transpose(2, 1, 0))
    else:
        assert refused_file(tmp_path) == str(last)
        assert "more pixels" in refused(tmp_path).what


def test_values_that_need_a_table_are_refused(tmp_path, write_series):
    write_series(tmp_path, VALUES)
    last = sorted(tmp_path.iterdir())[-1]
    slice_ = pydicom.dcmread(last)
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [60, 0, 16], "HU", bytes(120)
    slice_.ModalityLUTSequence = [table]
    slice_.save_as(last)
    assert "Modality LUT" in refused(tmp_path).what


@pytest.mark.parametrize("slope", [0.5, 1.0, None])
def test_values_that_are_mapped_without_a_rescale_slope_are_refused(tmp_path, write_series, slope):
    write_series(tmp_path, VALUES)
    for file in tmp_path.iterdir():
        slice_ = pydicom.dcmread(file)
        for name in ("RescaleSlope", "RescaleIntercept"):  # which ITK adds once it has read an image
            slice_.pop(name, None)
        mapping = pydicom.Dataset()
        if slope is None:
            mapping.RealWorldValueLUTData = [0.5 * stored for stored in range(60)]
        else:
            mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0
        slice_.RealWorldValueMappingSequence = [mapping]
        slice_.save_as(file)
    if slope == 1:
        assert np.array_equal(read_volume(tmp_path).array[0], VALUES.transpose(2, 1, 0))
    else:
        assert refused(tmp_path).got == ("slope 0.5, intercept 0" if slope else "a table of values")


@pytest.mark.parametrize(
    ("character_set", "stored"),
    [
        ("ISO_IR 100", "T1 schräg".encode("latin-1")),
        ("ISO_IR 192", "T1 schräg".encode()),
        ("", "T1 schräg".encode("latin-1")),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", b"T1 \x1b$B;3ED\x1b(B"),
    ],
)
def test_descriptions_are_in_the_character_set_of_the_file(tmp_path, write_series, character_set, stored):
    for file in write_series(tmp_path, VALUES):
        slice_ = pydicom.dcmread(file)
        slice_.SeriesDescription = "?" * len(stored)
        if character_set:
            slice_.SpecificCharacterSet = character_set.split("\\")
        slice_.save_as(file)
        file.write_bytes(file.read_bytes().replace(b"?" * len(stored), stored))
    (series,) = find_series(tmp_path)
    assert series.description == ("T1 山田" if b"$B" in stored else "T1 schräg")


@pytest.mark.parametrize("step", [(0, 0, 0), (0, 0, 2.5)], ids=["time points", "places"])
def test_mosaics_are_refused(tmp_path, write_series, step):
    """All slices of a volume as tiles of one image, several of which look like the slices of one."""
    write_series(tmp_path, VALUES, step=step, tags={"0008|0008": "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC"})
    assert "mosaic" in refused(tmp_path).what
    (series,) = find_series(tmp_path)
    assert "mosaics" in series.flaw


@pytest.mark.parametrize(
    ("allocated", "stored", "highest"), [(32, 12, 11), (32, 16, 15), (8, 7, 6), (16, 12, 15), (16, 12, 12)]
)
def test_pixels_in_bits_that_are_read_wrong_are_refused(tmp_path, write_series, allocated, stored, highest):
    write_series(tmp_path, VALUES)
    for file in tmp_path.iterdir():
        slice_ = pydicom.dcmread(file)
        pixels = slice_.pixel_array.astype(f"u{allocated // 8}")
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = allocated, stored, highest
        slice_.PixelRepresentation, slice_.PixelData = 0, pixels.tobytes()
        slice_["PixelData"].VR = "OW"
        slice_.save_as(file)
    assert f"{stored} of {allocated} bits" in str(refused(tmp_path).got)


def test_marks_of_jpeg_2000_in_other_compressed_data_say_nothing(tmp_path, write_series):
    """Voxels of 255, 79, 255, 81 are stored so in run lengths, with any size behind them."""
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 40)).astype("u1")
    values[:, 0, 4:8] = 255, 79, 255, 81
    for file in write_series(tmp_path, values):
        slice_ = pydicom.dcmread(file)
        slice_.compress(RLELossless)
        assert b"\xff\x4f\xff\x51" in slice_.PixelData
        slice_.save_as(file)
    assert np.array_equal(read_volume(tmp_path).array[0], values.transpose(2, 1, 0))


@pytest.mark.parametrize("long", [False, True])
def test_size_of_a_stream_of_jpeg_2000_within_boxes(long):
    stream = b"\xff\x4f\xff\x51" + struct.pack(">2H4I", 0, 0, 70, 50, 10, 20)
    header = struct.pack(">I4s8s", 16, b"ftyp", b"\xff\x4f\xff\x51" * 2)
    box = struct.pack(">I4sQ", 1, b"jp2c", 0) if long else struct.pack(">I4s", 0, b"jp2c")
    assert size_of_stream(b"\0\0\0\x0cjP  \r\n\x87\n" + header + box + stream) == (30, 60)
    assert size_of_stream(stream) == (30, 60)
    assert size_of_stream(b"\0" + stream) is None


def test_bits_above_the_stored_ones_are_left_out(tmp_path, write_series):
    write_series(tmp_path, VALUES)
    for file in tmp_path.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.PixelData = (slice_.pixel_array.astype("u2") | 0xA000).tobytes()
        slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 12, 11, 0
        slice_.save_as(file)
    assert np.array_equal(read_volume(tmp_path).array[0], VALUES.transpose(2, 1, 0))


@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
def test_slices_that_lost_their_scaling_are_refused(tmp_path, write_series, tag):
    write_series(tmp_path, VALUES - 1024, modality="CT", rescale=[(1, -1024)] * 3)
    last = sorted(tmp_path.iterdir())[-1]
    slice_ = pydicom.dcmread(last)
    delattr(slice_, tag)
    slice_.save_as(last)
    assert refused_file(tmp_path) == str(last)
    assert "1 of 3 slices" in str(refused(tmp_path).got)


@pytest.mark.parametrize(("compressor", "mark", "place"), [("JPEG", b"\xff\xc3", 5), ("JPEG2000", b"\xff\x51", 6)])
@pytest.mark.parametrize("side", [16, 33, 60_000])
def test_a_compressed_image_of_another_size_than_its_header_says(tmp_path, write_series, compressor, mark, place, side):
    """Decoding 60,000 x 60,000 pixels, of which the file has a thousand, would take minutes."""
    values = np.random.default_rng(0).integers(0, 9000, (3, 32, 32)).astype("u2")
    write_series(tmp_path, values, compressor=compressor)
    assert np.array_equal(read_volume(tmp_path).array[0], values.transpose(2, 1, 0))
    last = sorted(tmp_path.iterdir())[-1]
    data = bytearray(last.read_bytes())
    at = data.index(mark) + place
    data[at : at + (4 if compressor == "JPEG" else 8)] = struct.pack(
        ">2H" if compressor == "JPEG" else ">2I", side, side
    )
    last.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_volume(tmp_path)
    assert (caught.value.file, str(caught.value.got).split(" in ")[0]) == (str(last), f"{side} x {side}")


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient", "RescaleIntercept"])
@pytest.mark.parametrize("number", ["1e300", "-1e300", "nan"])
def test_numbers_that_no_scanner_writes_are_refused(tmp_path, write_series, tag, number):
    write_series(tmp_path, VALUES, modality="CT", rescale=[(1, 0)] * 3)
    for file in tmp_path.iterdir():
        slice_ = pydicom.dcmread(file)
        with disable_value_validation():
            slice_[tag].value = number if tag == "RescaleIntercept" else [number] * len(slice_[tag].value)
        slice_.save_as(file)
    assert number in str(refused(tmp_path).got)


def test_colors_that_share_bytes_are_named_as_colors(tmp_path, write_series):
    write_series(tmp_path, VALUES)
    for file in tmp_path.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation, slice_.PlanarConfiguration = 3, "YBR_FULL_422", 0
        slice_.BitsAllocated = slice_.BitsStored = 8
        slice_.HighBit = 7
        slice_.save_as(file)
    assert "YBR_FULL_422" in str(refused(tmp_path).got)


def refused_file(path):
    with pytest.raises(DataError) as caught:
        read_volume(path)
    return caught.value.file


def test_a_series_of_which_no_file_can_be_read_is_named(tmp_path, write_series):
    write_series(tmp_path / "a", VALUES)
    (tmp_path / "b").mkdir()
    for number in range(3):
        (tmp_path / "b" / f"{number}.dcm").write_bytes(b"")
    sound, lost = find_series(tmp_path)
    assert (sound.path, sound.flaw, lost.path, lost.slices) == (tmp_path / "a", "", tmp_path / "b", 3)
    assert lost.flaw
    assert read_volume(sound.path).shape[-1] == sound.slices


def test_copies_of_a_series_stay_apart(tmp_path, write_series):
    write_series(tmp_path / "a", VALUES)
    (tmp_path / "b").mkdir()
    for file in (tmp_path / "a").iterdir():
        (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
    assert [series.path for series in find_series(tmp_path)] == [tmp_path / "a", tmp_path / "b"]


def test_a_file_does_not_stand_for_a_part_of_its_series(tmp_path, write_series):
    write_series(tmp_path / "export" / "a", VALUES)
    (tmp_path / "export" / "b").mkdir()
    images = sorted((tmp_path / "export" / "a").iterdir())
    for file in images[len(images) // 2 :]:
        file.rename(tmp_path / "export" / "b" / file.name)
    error = refused(images[0])
    assert str(tmp_path / "export") in str(error.hint)
    assert read_volume(tmp_path / "export").shape[-1] == len(images)


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1), ("cm", 10), ("m", 1000), ("um", 0.001)])
def test_space_units_of_nrrd_are_applied(tmp_path, unit, scale):
    path = nrrd(tmp_path / "scan.nrrd", f'space units: "{unit}" "{unit}" "{unit}"\n')
    volume = read_volume(path)
    assert volume.spacing == pytest.approx((0.1 * scale, 0.1 * scale, 0.3 * scale))
    assert volume.affine[:3, 3] == pytest.approx(np.array([-1, -2, 3]) * scale)
    assert bool(volume.notes) == (unit != "mm")
    for suffix in (".nrrd", ".mha", ".nii.gz"):
        write_labels(tmp_path / f"labels{suffix}", VALUES % 3, like=path)
        assert read_volume(tmp_path / f"labels{suffix}").affine == pytest.approx(volume.affine, rel=1e-6)
    read = {suffix: SimpleITK.ReadImage(str(tmp_path / f"labels{suffix}")) for suffix in (".nrrd", ".mha")}
    assert read[".nrrd"].GetSpacing() == SimpleITK.ReadImage(str(path)).GetSpacing()  # ITK doesn't know units
    assert read[".nrrd"].GetOrigin() == SimpleITK.ReadImage(str(path)).GetOrigin()
    assert read[".mha"].GetSpacing() == pytest.approx(volume.spacing)


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS"])
@pytest.mark.parametrize("units", ['"cm" "cm" "cm"', '"mm" "mm" "cm"', '"inch" "inch" "inch"', '"\\xb5m" "um" "um"'])
def test_label_maps_keep_the_units_of_an_nrrd_header(tmp_path, space, units):
    path = nrrd(tmp_path / "scan.nrrd", f"space units: {units}\n")
    path.write_bytes(path.read_bytes().replace(b"left-posterior-superior", space.encode()))
    for suffix in (".nrrd", ".nhdr"):
        write_labels(tmp_path / f"labels{suffix}", VALUES % 3, like=path)
        labels = read_volume(tmp_path / f"labels{suffix}")
        assert np.array_equal(labels.affine, read_volume(path).affine)
        assert np.array_equal(labels.array[0], VALUES % 3)
        assert labels.notes == read_volume(path).notes


@pytest.mark.parametrize(
    ("directions", "kinds"),
    [
        ("(1,0,0) (0,1,0) (0,0,2) none", "domain domain domain list"),
        ("none (1,0,0) (0,1,0) (0,0,2)", "list domain domain domain"),
        ("(1,0,0) (0,1,0) (0,0,2) (0,0,0)", "domain domain domain list"),
    ],
)
def test_the_missing_kinds_of_four_axes_are_named(tmp_path, directions, kinds):
    path = tmp_path / "scan.nrrd"
    head, tail = "NRRD0004\ntype: short\ndimension: 4\nspace: LPS\n", "encoding: raw\nendian: little\n\n"
    lines = f"sizes: 3 4 5 3\nspace directions: {directions}\n"
    path.write_bytes((head + lines + tail).encode() + np.arange(180, dtype=np.int16).tobytes())
    line = f"kinds: {kinds}"
    assert line in str(refused(path).expected)
    if "(0,0,0)" not in directions:
        path.write_bytes(path.read_bytes().replace(tail.encode(), f"{line}\n{tail}".encode()))
        assert read_volume(path).array.shape[0] == 3


def test_unknown_space_units_are_noted(tmp_path):
    (note,) = read_volume(nrrd(tmp_path / "scan.nrrd", 'space units: "inch" "inch" "inch"\n')).notes
    assert "inch" in note


def test_slope_and_offset_of_metaimage_are_applied(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(tmp_path / "scan.mha"))
    data = (tmp_path / "scan.mha").read_bytes()
    line = b"ElementToIntensityFunctionSlope = 0.5\nElementToIntensityFunctionOffset = -3\nElementType"
    (tmp_path / "scan.mha").write_bytes(data.replace(b"ElementType", line, 1))
    volume = read_volume(tmp_path / "scan.mha")
    assert np.array_equal(volume.array[0], VALUES.transpose(2, 1, 0) * 0.5 - 3)
    assert volume.array.dtype == read_grid(tmp_path / "scan.mha").dtype == np.float32


@pytest.mark.parametrize(("slope", "offset"), [("0", "0"), ("inf", "0"), ("nan", "0"), ("2", "-inf")])
def test_slope_of_metaimage_that_leaves_no_values_is_refused(tmp_path, slope, offset):
    path = tmp_path / "scan.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(path))
    line = f"ElementToIntensityFunctionSlope = {slope}\nElementToIntensityFunctionOffset = {offset}\nElementType"
    path.write_bytes(path.read_bytes().replace(b"ElementType", line.encode(), 1))
    for read in (read_volume, read_grid):
        with pytest.raises(DataError, match="values are unknown") as caught:
            read(path)
        assert caught.value.file == str(path)


def test_labels_with_a_slope_are_rounded_with_a_note(tmp_path):
    path = tmp_path / "labels.nii"
    nibabel.Nifti1Image(((VALUES > 6) * 49).astype(np.int16), np.eye(4)).to_filename(path)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<2f", 0.1428571, 0)
    path.write_bytes(data)
    labels = read_labels(path)
    assert np.array_equal(labels.array[0], (VALUES > 6) * 7)
    assert len(labels.notes) == 1


def test_compression_is_known_by_content(tmp_path):
    nibabel.Nifti1Image(VALUES, np.eye(4)).to_filename(tmp_path / "a.nii")
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    assert read_volume(tmp_path / "b.nii.gz") == read_volume(tmp_path / "c.nii") == read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.hdr", "scan.nrrd", "scan.mha", "scan.dcm", "scan"])
def test_pipes_and_git_lfs_pointers_are_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert refused(tmp_path / name).hint == "run `git lfs pull`"


def test_a_quaternion_that_was_rounded_is_a_rotation(tmp_path):
    path = tmp_path / "scan.nii"
    nibabel.Nifti1Image(VALUES, np.eye(4)).to_filename(path)
    data = bytearray(path.read_bytes())
    data[252:280] = struct.pack("<hh6f", 1, 0, *[np.sqrt((1 + 4e-7) / 3)] * 3, 1, 2, 3)  # half a turn about (1, 1, 1)
    path.write_bytes(data)
    turn = np.full((3, 3), 2 / 3) - np.eye(3)
    for name in ("scan.nii", "labels.nii"):
        assert read_volume(tmp_path / name).affine[:3, :3] == pytest.approx(turn, abs=1e-6)
        write_labels(tmp_path / "labels.nii", VALUES % 2, like=path)


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("scan.nii", content)
    return file.getvalue()


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "scan.nrrd", "scan.mha", "scan.dcm"])
@pytest.mark.parametrize(
    ("pack", "what"),
    [
        (lambda _: b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page, as a failed download leaves"),
        (zipped, "a zip archive"),
        (bz2.compress, "a bzip2 file"),
        (lzma.compress, "an xz file"),
        (lambda _: b"", "an empty file"),
    ],
)
def test_what_a_file_is_instead_of_a_scan_is_said(tmp_path, name, pack, what):
    nibabel.Nifti1Image(VALUES, np.eye(4)).to_filename(tmp_path / "sound.nii")
    (tmp_path / name).write_bytes(pack((tmp_path / "sound.nii").read_bytes()))
    assert refused(tmp_path / name).got == what


def test_voxels_of_a_pair_may_begin_as_another_file_does(tmp_path):
    voxels = np.frombuffer(b"BZh9" + bytes(56), np.int8).reshape(3, 4, 5)
    nibabel.Nifti1Pair(voxels, np.eye(4)).to_filename(tmp_path / "scan.img")
    assert np.array_equal(read_volume(tmp_path / "scan.img").array[0], voxels)


def test_sound_files_that_are_not_supported_are_not_called_damaged(tmp_path):
    refused(nrrd(tmp_path / "bz.nrrd", encoding="bzip2"))
    refused(nrrd(tmp_path / "far.nrrd", "data file: /data/far.raw\n", b""))


@pytest.mark.parametrize("stored", [np.int16, np.uint8])
def test_labels_stored_in_steps_are_rounded_to_their_precision(tmp_path, stored):
    labels = np.random.default_rng(3).integers(0, 14, (6, 5, 4))
    image = nibabel.Nifti1Image(labels.astype(float), np.eye(4))
    image.header.set_data_dtype(stored)  # nibabel chooses a slope
    image.to_filename(tmp_path / "labels.nii.gz")
    read = read_labels(tmp_path / "labels.nii.gz")
    assert (read.array[0] == labels).all()
    assert read.notes


def test_labels_that_are_interpolated_are_refused_in_steps_too(tmp_path):
    image = nibabel.Nifti1Image(np.linspace(0, 13, 120).reshape(6, 5, 4), np.eye(4))
    image.header.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "labels.nii.gz")
    with pytest.raises(DataError):
        read_labels(tmp_path / "labels.nii.gz")


def test_a_tensor_of_labels_is_written(tmp_path):
    nibabel.Nifti1Image(VALUES, np.eye(4)).to_filename(tmp_path / "scan.nii")
    write_labels(tmp_path / "labels.nii", torch.from_numpy(VALUES.astype("uint8")), tmp_path / "scan.nii")
    assert (read_labels(tmp_path / "labels.nii").array[0] == VALUES).all()
