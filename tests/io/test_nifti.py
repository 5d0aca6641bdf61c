import gzip
import math
import struct
import subprocess
import sys
import tracemalloc
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.fileholders import FileHolder
from nibabel.nifti1 import Nifti1Extension

from inflate3d.errors import DataError, OutputError
from inflate3d.io import check_same_grid, read_grid, read_images, read_labels, read_volume, write_labels, write_volume
from inflate3d.volume import Volume

OBLIQUE = np.array([[0.9, 0.1, 0.3, -20], [-0.1, 0.95, 0.2, 5], [-0.1, -0.1, 3, 7], [0, 0, 0, 1.0]])


def save(path, array, affine=OBLIQUE, *, kind=nibabel.Nifti1Image, slope=None, dtype=None):
    """Writes an image without this package's help."""
    image = kind(array, affine, dtype=dtype or array.dtype)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    image.to_filename(path)
    return path


def load(path) -> Any:
    """Reads an image without this package's help."""
    return nibabel.load(path)


def counting(*shape, dtype="int16"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


# --- reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_values_and_affine_are_the_files(tmp_path, name, kind):
    array = counting(3, 4, 5)
    volume = read_volume(save(tmp_path / name, array, kind=kind))
    assert np.array_equal(volume.array, array[np.newaxis])
    assert volume.affine.dtype == np.float64
    assert volume.affine == pytest.approx(OBLIQUE, rel=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", ">i4", "<u4", "<i8"])
def test_unscaled_integers_keep_their_type_in_the_machines_byte_order(tmp_path, dtype):
    array = counting(3, 4, 5)
    header = nibabel.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    nibabel.Nifti1Image(array.astype(dtype), OBLIQUE, header).to_filename(tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(volume.array[0], array)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_floats_become_float32(tmp_path, dtype):
    volume = read_volume(save(tmp_path / "scan.nii.gz", counting(3, 4, 5).astype(dtype) / 8))
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[0], counting(3, 4, 5) / 8)


def test_scaled_integers_become_float32(tmp_path):
    stored = counting(3, 4, 5)
    save(tmp_path / "scan.nii", stored)
    with (tmp_path / "scan.nii").open("r+b") as file:
        file.seek(112)  # scl_slope, scl_inter
        file.write(struct.pack("<ff", 0.5, -1024))
    volume = read_volume(tmp_path / "scan.nii")
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[0], stored * 0.5 - 1024)


def with_slope(path, slope, intercept, dtype):
    save(path, counting(3, 4, 5, dtype=dtype))
    with path.open("r+b") as file:
        file.seek(112)
        file.write(struct.pack("<ff", slope, intercept))
    return path


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize(
    ("slope", "intercept", "got"),
    [
        (math.inf, 0, "slope inf, intercept 0"),
        (-math.inf, 0, "slope -inf, intercept 0"),
        (2, math.inf, "slope 2, intercept inf"),
        (1, math.nan, "slope 1, intercept nan"),
    ],
)
def test_values_with_an_infinite_slope_are_unknown(tmp_path, dtype, slope, intercept, got):
    path = with_slope(tmp_path / "scan.nii", slope, intercept, dtype)
    for read in (read_volume, read_grid, read_labels):
        with pytest.raises(DataError, match="values are unknown") as caught:
            read(path)
        assert (caught.value.got, caught.value.file) == (got, str(path))


@pytest.mark.parametrize(("slope", "intercept"), [(0, 0), (0, 7), (math.nan, math.nan), (math.nan, 5)])
def test_slope_of_zero_or_nan_means_none(tmp_path, slope, intercept):
    """By the standard, and as nibabel writes it."""
    volume = read_volume(with_slope(tmp_path / "scan.nii", slope, intercept, "int16"))
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array[0], counting(3, 4, 5))


def test_last_axis_of_four_is_the_modality(tmp_path):
    array = counting(3, 4, 5, 2)
    volume = read_volume(save(tmp_path / "scan.nii.gz", array))
    assert volume.array.shape == (2, 3, 4, 5)
    assert np.array_equal(volume.array[1], array[..., 1])


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ((3, 4, 5, 1), (1, 3, 4, 5)),
        ((3, 4, 5, 1, 1), (1, 3, 4, 5)),
        ((3, 4, 1), (1, 3, 4, 1)),
        ((3, 4, 1, 2), (2, 3, 4, 1)),
        ((3, 4, 5, 1, 2), (2, 3, 4, 5)),  # a vector image, by the standard
    ],
)
def test_only_the_axes_behind_the_third_are_dropped(tmp_path, stored, read):
    assert read_volume(save(tmp_path / "scan.nii", counting(*stored))).array.shape == read


def refused(path, match, read=read_volume):
    with pytest.raises(DataError, match=match) as caught:
        read(path, case="c7")
    assert caught.value.case == "c7"
    assert caught.value.file == str(path)
    return caught.value


def test_missing_file(tmp_path):
    refused(tmp_path / "none.nii.gz", "the file is missing")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("keep", [0, 3, 100, 0.3, 0.6, 0.95, -12])
def test_file_cut_short_anywhere(tmp_path, name, keep):
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20), dtype=np.int16)
    content = save(tmp_path / name, noise).read_bytes()
    cut = int(keep * len(content)) if isinstance(keep, float) else keep
    (tmp_path / name).write_bytes(content[:cut])
    refused(tmp_path / name, "the file can't be read")


def test_one_damaged_byte_in_a_compressed_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20), dtype=np.int16)
    content = bytearray(save(tmp_path / "whole.nii.gz", noise).read_bytes())
    for place in range(len(content) // 2, len(content) - 4, len(content) // 40):
        damaged = content.copy()
        damaged[place] ^= 0x10
        (tmp_path / "scan.nii.gz").write_bytes(damaged)
        refused(tmp_path / "scan.nii.gz", "the file can't be read")


@pytest.mark.parametrize(
    "content", [b"no image", b"\0" * 4000, gzip.compress(b"\0" * 4000, mtime=0), b"\x1f\x8b" + b"x" * 99]
)
def test_file_that_is_no_nifti(tmp_path, content):
    (tmp_path / "scan.nii.gz").write_bytes(content)
    refused(tmp_path / "scan.nii.gz", "the file can't be read")


def test_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "scan.nii.gz").mkdir()
    refused(tmp_path / "scan.nii.gz", "not a regular file")


def test_unknown_suffix_names_the_known_ones(tmp_path):
    error = refused(tmp_path / "scan.png", "format is not known")
    assert str(error.expected).startswith("a name that ends in .nii.gz, ")


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5, 6)])
def test_image_with_other_axes_than_a_volumes(tmp_path, shape):
    refused(save(tmp_path / "scan.nii", counting(*shape)), "not a volume")


def test_image_without_voxels(tmp_path):
    save(tmp_path / "scan.nii", counting(3, 4, 5))
    with (tmp_path / "scan.nii").open("r+b") as file:
        file.seek(42)  # dim[1]
        file.write(struct.pack("<h", 0))
    refused(tmp_path / "scan.nii", "no voxels")


@pytest.mark.parametrize(
    "dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])], ids=["complex", "color"]
)
def test_voxels_that_are_no_single_numbers(tmp_path, dtype):
    refused(save(tmp_path / "scan.nii", np.zeros((3, 4, 5), dtype)), "not single real numbers")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path, wrong):
    array = counting(3, 4, 5, dtype="float32")
    array[1, 2, 3] = array[0, 0, 0] = wrong
    error = refused(save(tmp_path / "scan.nii.gz", array), "NaN or infinite")
    assert error.got == "2 of 60 voxels are not"


def test_double_that_no_float32_holds(tmp_path):
    refused(save(tmp_path / "scan.nii.gz", np.full((3, 4, 5), 1e300)), "NaN or infinite")


def test_affine_that_cannot_be_inverted(tmp_path):
    flat = OBLIQUE.copy()
    flat[:, 2] = flat[:, 0] + flat[:, 1]
    image = nibabel.Nifti1Image(counting(3, 4, 5), None)
    image.header.set_sform(flat, code=1)
    image.to_filename(tmp_path / "scan.nii")
    refused(tmp_path / "scan.nii", "can't be inverted")


# --- geometry --------------------------------------------------------------------------------------------


def with_forms(path, *, sform=None, qform=None, shape=(3, 4, 5)):
    image = nibabel.Nifti1Image(counting(*shape), None)
    image.header.set_zooms((1, 2, 3))
    if qform is not None:
        image.header.set_qform(qform, code=1)
    if sform is not None:
        image.header.set_sform(sform, code=2)
    image.to_filename(path)
    return path


def test_sform_is_used_where_qform_disagrees_and_a_note_says_so(tmp_path):
    moved = np.diag([1.0, 2, 3, 1])
    moved[:3, 3] = (3, 0, 4)
    volume = read_volume(with_forms(tmp_path / "scan.nii", sform=moved, qform=np.diag([1.0, 2, 3, 1])))
    assert np.array_equal(volume.affine, moved)
    assert volume.notes == ("the header's sform and qform disagree by up to 5 mm, and sform is used",)


def test_voxel_sizes_that_differ_from_the_sforms_are_noted(tmp_path):
    path = with_forms(tmp_path / "scan.nii", sform=np.diag([1.0, 2, 3, 1]))
    assert read_volume(path).notes == ()
    content = bytearray(path.read_bytes())
    struct.pack_into("<3f", content, 80, 1, 2, 4)  # pixdim
    path.write_bytes(content)
    volume = read_volume(path)
    assert volume.spacing == (1, 2, 3)
    assert volume.notes == ("the header's voxel sizes are 1 × 2 × 4 mm, its sform's 1 × 2 × 3 mm, and sform is used",)


def in_units(path, unit, affine):
    image = nibabel.Nifti1Image(counting(3, 4, 5), affine)
    image.header.set_qform(affine, code=1)
    image.header.set_xyzt_units(unit)
    image.to_filename(path)
    return path


@pytest.mark.parametrize(("unit", "millimeters"), [("micron", 0.001), ("meter", 1000), ("mm", 1), ("unknown", 1)])
def test_unit_of_length_is_read(tmp_path, unit, millimeters):
    affine = np.diag([2.0, -3, 4, 1])
    affine[:3, 3] = (5, -6, 7)
    scan = in_units(tmp_path / "scan.nii", unit, affine)
    volume = read_volume(scan)
    assert volume.spacing == pytest.approx((2 * millimeters, 3 * millimeters, 4 * millimeters))
    assert volume.affine[:3, 3] == pytest.approx(np.multiply(millimeters, (5, -6, 7)))
    assert volume.affine[3].tolist() == [0, 0, 0, 1]
    names = {"micron": "micrometers", "meter": "meters"}
    notes = [f"the header measures in {names[unit]}; its voxels are taken to be "] if unit in names else []
    assert [note.rpartition("be ")[0] + "be " for note in volume.notes] == notes
    write_labels(tmp_path / "labels.nii", counting(3, 4, 5), scan)
    assert load(tmp_path / "labels.nii").header["xyzt_units"] == load(scan).header["xyzt_units"]
    check_same_grid(read_labels(tmp_path / "labels.nii"), volume)
    write_volume(tmp_path / "again.nii", volume)
    assert read_volume(tmp_path / "again.nii").affine == pytest.approx(volume.affine)


def test_disagreement_of_the_forms_is_told_in_millimeters(tmp_path):
    image = nibabel.Nifti1Image(counting(3, 4, 5), np.diag([1000.0, 1000, 1000, 1]))
    moved = np.diag([1000.0, 1000, 1000, 1])
    moved[0, 3] = 5000
    image.header.set_qform(moved, code=1)
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "scan.nii")
    assert "disagree by up to 5 mm" in read_volume(tmp_path / "scan.nii").notes[0]


@pytest.mark.parametrize("forms", [("sform",), ("qform",), ("sform", "qform")])
def test_affines_that_agree_need_no_note(tmp_path, forms):
    affine = np.diag([-1.0, 2, 3, 1])
    volume = read_volume(with_forms(tmp_path / "scan.nii", **dict.fromkeys(forms, affine)))
    assert volume.affine == pytest.approx(affine)
    assert volume.notes == ()


def test_header_without_a_position_is_noted(tmp_path):
    volume = read_volume(with_forms(tmp_path / "scan.nii"))
    assert volume.spacing == (1, 2, 3)
    assert "guessed from the voxel sizes" in volume.notes[0]


def test_qform_that_is_no_rotation_is_noted(tmp_path):
    path = with_forms(tmp_path / "scan.nii", sform=np.eye(4), qform=np.eye(4))
    with path.open("r+b") as file:
        file.seek(256)  # quatern_b, quatern_c
        file.write(struct.pack("<ff", 0.9, 0.9))
    volume = read_volume(path)
    assert np.array_equal(volume.affine, np.eye(4))
    assert "not a rotation" in volume.notes[0]


@pytest.mark.parametrize(("size", "read"), [(-2, 2), (0, 1)])
def test_voxel_sizes_that_no_voxel_has_are_noted(tmp_path, size, read):
    path = with_forms(tmp_path / "scan.nii", qform=np.diag([1.0, 2, 3, 1]))
    with path.open("r+b") as file:
        file.seek(84)  # pixdim[2]
        file.write(struct.pack("<f", size))
    volume = read_volume(path)
    assert volume.spacing == (1, read, 3)
    assert volume.notes == (f"the header's voxel sizes are 1, {size}, 3, read as 1, {read}, 3 mm",)
    code = f"from inflate3d.io import read_volume; read_volume({str(path)!r})"  # pytest would catch its logging
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == ("", "")


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_quaternions_of_either_hand(tmp_path, flips):
    affine = np.diag([*np.multiply(flips, (1.0, 2, 3)), 1])
    assert read_volume(with_forms(tmp_path / "scan.nii", qform=affine)).affine == pytest.approx(affine, abs=1e-6)


def test_sheared_affine_is_kept(tmp_path):
    sheared = np.array([[1, 0, 0, 0], [0, 1, -1, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]])
    assert np.array_equal(read_volume(with_forms(tmp_path / "scan.nii", sform=sheared)).affine, sheared)


# --- pairs of header and image ---------------------------------------------------------------------------

PAIRS = [("scan.hdr", "scan.img"), ("scan.hdr.gz", "scan.img.gz"), ("SCAN.HDR", "SCAN.IMG")]


@pytest.mark.parametrize("names", PAIRS)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
def test_either_half_names_the_pair(tmp_path, names, kind):
    array = counting(3, 4, 5)
    halves = (tmp_path / names[0], tmp_path / names[1])
    kind(array, OBLIQUE).to_file_map(
        {"header": FileHolder(str(halves[0])), "image": FileHolder(str(halves[1]))},
    )
    for half in halves:
        volume = read_volume(half)
        assert np.array_equal(volume.array[0], array)
        assert volume.affine == pytest.approx(OBLIQUE, rel=1e-6)


@pytest.mark.parametrize("names", PAIRS)
@pytest.mark.parametrize("gone", [0, 1])
def test_missing_half_is_named(tmp_path, names, gone):
    halves = {half: FileHolder(str(tmp_path / name)) for half, name in zip(("header", "image"), names, strict=True)}
    nibabel.Nifti1Pair(counting(3, 4, 5), np.eye(4)).to_file_map(halves)
    (tmp_path / names[gone]).unlink()
    with pytest.raises(DataError, match="other half of a header and image pair") as caught:
        read_volume(tmp_path / names[1 - gone])
    assert caught.value.file == str(tmp_path / names[gone])


def test_analyze_pair_is_refused(tmp_path):
    nibabel.AnalyzeImage(counting(3, 4, 5), np.eye(4)).to_filename(tmp_path / "scan.hdr")
    error = refused(tmp_path / "scan.img", "doesn't distinguish left from right")
    assert "Analyze 7.5" in error.what


def test_header_that_is_none(tmp_path):
    (tmp_path / "scan.hdr").write_bytes(b"ENVI\nsamples = 3\n" * 40)
    (tmp_path / "scan.img").write_bytes(bytes(100))
    refused(tmp_path / "scan.hdr", "the file can't be read")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("scan.nii", nibabel.Nifti1Image), ("scan.nii.gz", nibabel.Nifti1Image), ("scan.hdr", nibabel.Nifti1Pair)],
)
def test_header_that_claims_more_than_its_file_takes_no_memory(tmp_path, name, kind):
    kind(counting(3, 4, 5).astype(np.uint8), np.eye(4)).to_filename(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    content = bytearray(gzip.decompress(content) if name.endswith("gz") else content)
    content[42:48] = struct.pack("<hhh", 2000, 2000, 2000)  # 8 GB
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    tracemalloc.start()
    error = refused(tmp_path / name, "the file can't be read")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert error.expected == "8000000000 bytes of voxels"


# --- several files, labels -------------------------------------------------------------------------------


def test_files_are_stacked_in_their_order(tmp_path):
    paths = [save(tmp_path / f"{n}.nii", np.full((3, 4, 5), n, np.int16)) for n in (2, 1)]
    volume = read_images(paths)
    assert volume.array.shape == (2, 3, 4, 5)
    assert volume.array[:, 0, 0, 0].tolist() == [2, 1]


def test_files_of_a_case_that_differ_in_shape_or_place(tmp_path):
    first = save(tmp_path / "1.nii", counting(3, 4, 5))
    shorter = save(tmp_path / "2.nii", counting(3, 4, 4))
    moved = OBLIQUE.copy()
    moved[0, 3] += 0.5
    aside = save(tmp_path / "3.nii", counting(3, 4, 5), moved)
    with pytest.raises(DataError, match="differ in shape") as caught:
        read_images([first, shorter], case="c7")
    assert (caught.value.expected, caught.value.got) == ((3, 4, 5), (3, 4, 4))
    with pytest.raises(DataError, match=r"up to 0\.5 mm away") as caught:
        read_images([first, aside], case="c7")
    assert caught.value.file == str(aside)


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIL"])
def test_modalities_along_other_axes_are_turned_onto_the_first(tmp_path, codes):
    first = read_volume(save(tmp_path / "1.nii", counting(3, 4, 5)))
    write_volume(tmp_path / "2.nii", first.reorient(codes))
    both = read_images([tmp_path / "1.nii", None, tmp_path / "2.nii"])
    assert np.array_equal(both.array[[0, 2]], np.concatenate([first.array, first.array]))
    assert not both.array[1].any()
    assert np.array_equal(both.affine, first.affine)
    (note,) = both.notes
    assert note.startswith(f"2.nii: its voxels are the scan's, but are stored along the axes {codes} in place of ")


@pytest.mark.parametrize(("turn", "same"), [(1e-6, True), (1e-4, True), (1e-3, False)])
def test_grids_are_compared_where_they_lie_furthest_apart(turn, same):
    array = np.zeros((1, 101, 11, 2), np.uint8)
    turned = np.eye(4)
    turned[1, 0] = turn  # 100 voxels away, a thousandth is a tenth of a voxel
    reference, volume = Volume(array, np.eye(4)), Volume(array, turned)
    if same:
        check_same_grid(volume, reference)
    else:
        with pytest.raises(DataError, match=r"up to 0\.1 mm away"):
            check_same_grid(volume, reference)


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_labels_are_the_smallest_unsigned_integers(tmp_path, stored):
    array = counting(3, 4, 5) % 3
    labels = read_labels(save(tmp_path / "labels.nii.gz", array.astype(stored)))
    assert labels.array.dtype == np.uint8
    assert np.array_equal(labels.array[0], array)


def test_labels_above_255(tmp_path):
    labels = read_labels(save(tmp_path / "labels.nii.gz", counting(10, 10, 3)))
    assert labels.array.dtype == np.uint16
    assert labels.array.max() == 299


def test_labels_that_are_not_whole_are_named(tmp_path):
    array = np.zeros((3, 4, 5), np.float32)
    array[0, 0] = [0.25, 0.25, 1, 1.5, 2]
    error = refused(save(tmp_path / "labels.nii", array), "not class numbers", read_labels)
    assert error.got == "0.25, 1.5, in 3 voxels"


def test_labels_that_32_bits_do_not_hold(tmp_path):
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 1, 1] = 1e20
    error = refused(save(tmp_path / "labels.nii", array), "not class numbers", read_labels)
    assert error.got == "1e+20, in 1 voxels"


def test_labels_below_zero(tmp_path):
    array = np.zeros((3, 4, 5), np.int16)
    array[1, 1, 1] = -1
    error = refused(save(tmp_path / "labels.nii", array), "not class numbers", read_labels)
    assert error.got == "-1, in 1 voxels"


def test_labels_with_channels(tmp_path):
    refused(save(tmp_path / "labels.nii", counting(3, 4, 5, 2)), "one value per voxel", read_labels)


# --- writing ---------------------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path):
    """A scan whose header has everything set: two unlike affines, scaling, units, intent, an extension."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti1Image(counting(4, 5, 6), None, header)
    image.header.set_sform(OBLIQUE, code=2)
    image.header.set_qform(np.diag([-1.1, 1.2, 3.3, 1]) @ np.eye(4), code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2, 5)
    image.header.set_intent("z score")
    image.header["cal_max"] = 400
    image.header["descrip"] = b"somebody"
    image.header.extensions.append(Nifti1Extension("comment", b"name of a patient"))
    image.to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


GEOMETRY = [
    *("dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
]


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.nii"])
def test_written_labels_lie_where_the_scan_does_to_the_bit(tmp_path, scan, name):
    labels = counting(4, 5, 6) % 7
    write_labels(tmp_path / "out" / name, labels, scan)
    written, source = load(tmp_path / "out" / name), load(scan)
    assert np.array_equal(np.asarray(written.dataobj), labels)
    for field in GEOMETRY:
        assert written.header[field].tobytes() == source.header[field].tobytes(), field
    assert written.get_data_dtype() == np.uint8
    assert (written.dataobj.slope, written.dataobj.inter) == (1, 0)
    assert written.header.get_intent()[0] == "label"
    assert written.header["descrip"].item() == b"inflate3d"
    assert written.header["cal_max"] == 0
    assert list(written.header.extensions) == []
    for file in (tmp_path / "out").iterdir():
        assert b"patient" not in (gzip.decompress if name.endswith("gz") else bytes)(file.read_bytes())


def test_written_labels_read_back(tmp_path, scan):
    labels = counting(4, 5, 6)
    labels[0, 0, 0] = 300
    write_labels(tmp_path / "labels.nii.gz", labels, scan)
    read = read_labels(tmp_path / "labels.nii.gz")
    assert read.array.dtype == np.uint16
    assert np.array_equal(read.array[0], labels)
    check_same_grid(read, read_volume(scan))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_labels_of_a_scan_with_several_modalities_are_a_volume(tmp_path, kind):
    scan = save(tmp_path / "scan.nii.gz", counting(3, 4, 5, 2), kind=kind)
    write_labels(tmp_path / "labels.nii.gz", counting(3, 4, 5), scan)
    written = load(tmp_path / "labels.nii.gz")
    assert type(written) is kind
    assert written.shape == (3, 4, 5)
    assert written.header["srow_x"].tobytes() == load(scan).header["srow_x"].tobytes()


def test_labels_of_a_pair_are_a_single_file(tmp_path):
    image = nibabel.Nifti1Pair(counting(3, 4, 5), None)
    image.header.set_sform(OBLIQUE, code=3)
    image.header.set_qform(np.diag([1.0, 2, 3, 1]), code=1)
    image.to_filename(tmp_path / "scan.hdr")
    write_labels(tmp_path / "labels.nii", counting(3, 4, 5), tmp_path / "scan.img")
    written = load(tmp_path / "labels.nii")
    assert np.array_equal(np.asarray(written.dataobj), counting(3, 4, 5))
    for field in GEOMETRY:
        assert written.header[field].tobytes() == load(tmp_path / "scan.hdr").header[field].tobytes(), field


def test_equal_labels_give_equal_bytes(tmp_path, scan):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, counting(4, 5, 6), scan)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_view_in_any_memory_order_is_written_as_it_looks(tmp_path, scan):
    labels = counting(6, 5, 4)[::-1].transpose(2, 1, 0)
    write_labels(tmp_path / "labels.nii.gz", labels, scan)
    assert np.array_equal(np.asarray(load(tmp_path / "labels.nii.gz").dataobj), labels)


def test_labels_on_another_grid_are_refused(tmp_path, scan):
    with pytest.raises(DataError):
        write_labels(tmp_path / "labels.nii.gz", counting(4, 5, 5), scan)
    assert not (tmp_path / "labels.nii.gz").exists()


def test_negative_labels_are_refused(tmp_path, scan):
    with pytest.raises(DataError):
        write_labels(tmp_path / "labels.nii.gz", counting(4, 5, 6) - 1, scan)


def test_full_disk_leaves_nothing(tmp_path, scan, monkeypatch):
    def fill(image, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel.Nifti1Image, "to_filename", fill)
    with pytest.raises(OutputError, match="free some space"):
        write_labels(tmp_path / "out" / "labels.nii.gz", counting(4, 5, 6), scan)
    assert list((tmp_path / "out").iterdir()) == []
