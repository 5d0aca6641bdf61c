"""NRRD and MetaImage: headers of all sorts, written by hand or by SimpleITK alone."""

import re
import resource
import subprocess
import sys
import zlib

import numpy as np
import pytest
import SimpleITK

from inflate3d import atomic
from inflate3d.errors import DataError, OutputError
from inflate3d.io import read_labels, read_volume, write_labels, write_volume
from inflate3d.volume import Volume

VALUES = np.arange(60, dtype="<i2").reshape(3, 4, 5, order="F")  # the first axis runs fastest in these files
TURNED = "(0.9,-0.1,-0.1) (0.1,0.95,-0.1) (0.3,0.2,3)"


def nrrd(path, data=None, **fields):
    """Writes a NRRD by hand; fields with underscores for spaces, ``None`` leaves one out."""
    given = {"type": "short", "dimension": 3, "sizes": "3 4 5", "encoding": "raw", "endian": "little"} | fields
    lines = [f"{name.replace('_', ' ')}: {text}" for name, text in given.items() if text is not None]
    content = VALUES.tobytes("F") if data is None else data
    path.write_bytes("\n".join(["NRRD0004", "# a comment", *lines, "", ""]).encode() + content)
    return path


def meta(path, data=None, **fields):
    """Writes a MetaImage by hand."""
    given = {"ObjectType": "Image", "NDims": 3, "DimSize": "3 4 5", "ElementType": "MET_SHORT"} | fields
    given.setdefault("ElementDataFile", "LOCAL")
    lines = [f"{name} = {text}" for name, text in given.items() if text is not None]
    path.write_bytes("\n".join([*lines, ""]).encode() + (VALUES.tobytes("F") if data is None else data))
    return path


def refused(path, match):
    with pytest.raises(DataError, match=match) as caught:
        read_volume(path, case="c7")
    assert caught.value.case == "c7"
    return caught.value


# --- geometry --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_space_of_a_nrrd_is_brought_to_ras_without_a_change_of_digits(tmp_path, space, signs):
    path = nrrd(tmp_path / "scan.nrrd", space=space, space_directions=TURNED, space_origin="(1.1,-2.2,3.3)")
    volume = read_volume(path)
    axes = np.array([[0.9, 0.1, 0.3], [-0.1, 0.95, 0.2], [-0.1, -0.1, 3]])
    assert np.array_equal(volume.affine[:3, :3], axes * np.array(signs)[:, None])
    assert np.array_equal(volume.affine[:3, 3], np.array([1.1, -2.2, 3.3]) * signs)
    assert np.array_equal(volume.array[0], VALUES)
    assert volume.array.dtype == np.int16
    assert volume.notes == ()


def test_geometry_is_that_of_simpleitk(tmp_path):
    image = SimpleITK.GetImageFromArray(VALUES.T)
    image.SetSpacing([0.5, 0.75, 3.1])
    image.SetOrigin([-3.3, 4.4, 5.5])
    image.SetDirection([0, 0, -1, 1, 0, 0, 0, -1, 0])
    for name in ("scan.nrrd", "scan.mha"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        volume = read_volume(tmp_path / name)
        for index in ((0, 0, 0), (2, 3, 4), (1, 0, 3)):
            world = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
            assert (volume.affine @ [*index, 1])[:3] == pytest.approx(world, abs=1e-12)
            assert volume.array[(0, *index)] == image[index]


def test_header_without_directions_is_noted(tmp_path):
    bare = read_volume(nrrd(tmp_path / "scan.nrrd", spacings="1 2 3"))
    assert np.array_equal(bare.affine, np.diag([-1, -2, 3, 1]))
    assert "no space directions" in bare.notes[0]
    nameless = read_volume(
        nrrd(tmp_path / "space.nrrd", space="scanner-xyz", space_directions=TURNED, space_origin="(0,0,0)")
    )
    assert "which way its space runs" in nameless.notes[0]
    assert "no TransformMatrix" in read_volume(meta(tmp_path / "scan.mha")).notes[0]


def test_flat_geometry_is_refused(tmp_path):
    refused(
        nrrd(tmp_path / "flat.nrrd", space="LPS", space_directions="(1,0,0) (0,1,0) (1,1,0)", space_origin="(0,0,0)"),
        "can't be (inverted|read)",
    )
    refused(meta(tmp_path / "flat.mha", TransformMatrix="1 0 0 0 1 0 1 1 0"), "can't be (inverted|read)")
    refused(meta(tmp_path / "zero.mha", ElementSpacing="1 0 2"), "can't be (inverted|read)")


# --- modalities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 3])
def test_list_axis_of_a_nrrd_is_the_modality(tmp_path, place):
    both = np.stack([VALUES, VALUES + 100], axis=place)
    kinds = ["domain"] * 3
    kinds.insert(place, "list")
    directions = TURNED.split()
    directions.insert(place, "none")
    path = nrrd(
        tmp_path / "scan.nrrd",
        both.tobytes("F"),
        dimension=4,
        sizes=" ".join(map(str, both.shape)),
        kinds=" ".join(kinds),
        space="LPS",
        space_directions=" ".join(directions),
        space_origin="(0,0,0)",
    )
    volume = read_volume(path)
    assert np.array_equal(volume.array, np.stack([VALUES, VALUES + 100]))
    assert np.array_equal(volume.affine[:3, 2], [-0.3, -0.2, 3])


def test_fourth_axis_is_the_modality(tmp_path):
    both = np.stack([VALUES, VALUES + 100], axis=3)
    for path in (
        nrrd(tmp_path / "scan.nrrd", both.tobytes("F"), dimension=4, sizes="3 4 5 2"),
        meta(tmp_path / "scan.mha", both.tobytes("F"), NDims=4, DimSize="3 4 5 2"),
    ):
        assert np.array_equal(read_volume(path).array, np.stack([VALUES, VALUES + 100]))


@pytest.mark.parametrize("kind", ["RGB-color", "complex", "3D-symmetric-matrix"])
def test_kinds_that_are_no_modalities(tmp_path, kind):
    count = {"RGB-color": 3, "complex": 2, "3D-symmetric-matrix": 6}[kind]
    data = bytes(60 * count)
    fields = {"dimension": 4, "sizes": f"{count} 3 4 5", "kinds": f"{kind} domain domain domain"}
    refused(nrrd(tmp_path / "scan.nrrd", data, type="uchar", **fields), "not single real numbers|can't be read")


def test_other_numbers_of_axes(tmp_path):
    refused(nrrd(tmp_path / "scan.nrrd", dimension=2, sizes="12 5"), "not a volume")
    refused(meta(tmp_path / "scan.mha", NDims=2, DimSize="12 5"), "not a volume")


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32"])
@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha"])
def test_types_are_kept(tmp_path, kind, name):
    values = (VALUES * (-1 if kind.startswith("i") else 1)).astype(kind)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ascontiguousarray(values.T)), str(tmp_path / name))
    volume = read_volume(tmp_path / name)
    assert volume.array.dtype == np.dtype(kind)
    assert np.array_equal(volume.array[0], values)


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha"])
@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("keep", [0, 3, 100, 0.3, 0.6, 0.95, -12])
def test_file_cut_short_anywhere(tmp_path, capfd, name, is_compressed, keep):
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20), dtype=np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise), str(tmp_path / name), useCompression=is_compressed)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    refused(tmp_path / name, "the file can't be read")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha"])
def test_one_damaged_byte_in_a_compressed_file(tmp_path, capfd, name):
    noise = np.random.default_rng(0).integers(0, 1000, (20, 20, 20), dtype=np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise), str(tmp_path / name), useCompression=True)
    content = bytearray((tmp_path / name).read_bytes())
    for place in range(len(content) // 2, len(content) - 8, len(content) // 20):
        damaged = content.copy()
        damaged[place] ^= 0x10
        (tmp_path / name).write_bytes(damaged)
        refused(tmp_path / name, "the file can't be read")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("header", "data"), [("scan.nhdr", "scan.raw.gz"), ("scan.mhd", "scan.zraw")])
def test_detached_data_file_that_is_missing_or_cut(tmp_path, capfd, header, data):
    write_volume(tmp_path / header, Volume(VALUES[None], np.eye(4)))
    content = (tmp_path / data).read_bytes()
    (tmp_path / data).write_bytes(content[:-20])
    refused(tmp_path / header, "the file can't be read")
    (tmp_path / data).unlink()
    error = refused(tmp_path / header, "the file with the voxels is missing")
    assert error.file == str(tmp_path / data)
    assert error.expected == f"{data}, which the header of {header} names"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compressed", [False, True])
def test_header_that_claims_more_than_its_file_takes_no_memory(tmp_path, compressed):
    huge = "2000 2000 2000"
    paths = [
        nrrd(tmp_path / "scan.nrrd", sizes=huge, encoding="gzip" if compressed else "raw"),
        meta(tmp_path / "scan.mha", DimSize=huge, CompressedData=str(compressed)),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in paths:
        assert refused(path, "the file can't be read").expected == "16000000000 bytes of voxels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000  # kilobytes


@pytest.mark.parametrize("sizes", ["3 4 0", "3 4 -5", "3 4 x", ""])
def test_impossible_sizes(tmp_path, capfd, sizes):
    refused(nrrd(tmp_path / "scan.nrrd", sizes=sizes), "the file can't be read")
    refused(meta(tmp_path / "scan.mha", DimSize=sizes), "the file can't be read")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.nhdr", "scan.mha", "scan.mhd"])
@pytest.mark.parametrize("content", [b"", b"no image", b"\0" * 4000, b"NRRD0004\n", b"NDims = 3\n"])
def test_file_that_is_neither(tmp_path, capfd, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "the file can't be read")
    assert capfd.readouterr() == ("", "")


def test_missing_file_and_folder_in_its_place(tmp_path):
    refused(tmp_path / "none.mha", "the file is missing")
    (tmp_path / "folder.nrrd").mkdir()
    refused(tmp_path / "folder.nrrd", "the file can't be read")


def test_text_encodings_are_read(tmp_path):
    text = " ".join(map(str, VALUES.ravel("F"))).encode() + b"\n"
    assert np.array_equal(read_volume(nrrd(tmp_path / "scan.nrrd", text, encoding="ascii")).array[0], VALUES)
    assert np.array_equal(read_volume(meta(tmp_path / "scan.mha", text, BinaryData="False")).array[0], VALUES)


def test_compressed_stream_that_is_too_short_for_its_header(tmp_path, capfd):
    packed = zlib.compress(VALUES.tobytes("F")[:-2])
    error = refused(
        meta(tmp_path / "scan.mha", packed, CompressedData="True", CompressedDataSize=len(packed)), "can't be read"
    )
    assert (error.expected, error.got) == ("120 bytes of voxels", "118 bytes unpacked")
    assert capfd.readouterr() == ("", "")


def test_warnings_stay_off_the_terminal(tmp_path):
    path = meta(tmp_path / "scan.mha", TransformMatrix="1 0 0 0 1 0 0 0.2 1", ElementSpacing="1 -1 2")
    code = f"from inflate3d.io import read_volume; read_volume({str(path)!r})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == ("", "")


# --- writing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.nhdr"])
def test_labels_like_a_nrrd_keep_every_digit_of_its_geometry(tmp_path, name):
    scan = nrrd(tmp_path / "scan.nrrd", space="RAS", space_directions=TURNED, space_origin="(1.1,-2.2,3.3)")
    labels = VALUES.astype(np.uint8) % 3
    write_labels(tmp_path / name, labels, scan)
    assert np.array_equal(read_labels(tmp_path / name).array[0], labels)
    assert np.array_equal(read_volume(tmp_path / name).affine, read_volume(scan).affine)


@pytest.mark.parametrize("name", ["labels.mha", "labels.mhd"])
def test_labels_like_a_metaimage_have_its_geometry_lines(tmp_path, name):
    image = SimpleITK.GetImageFromArray(VALUES.T)
    image.SetSpacing([0.5, 0.1 + 0.2, 3.1])
    image.SetOrigin([-3.3, 4.4, 5.5])
    image.SetDirection([0.6, 0.8, 0, -0.8, 0.6, 0, 0, 0, 1])
    SimpleITK.WriteImage(image, str(tmp_path / "scan.mha"))
    write_labels(tmp_path / name, VALUES.astype(np.uint8) % 3, tmp_path / "scan.mha")
    for field in (b"TransformMatrix", b"Offset", b"ElementSpacing"):
        first, second = (
            re.findall(field + b" = [^\n]*", (tmp_path / file).read_bytes()) for file in ("scan.mha", name)
        )
        assert first == second != []


def test_labels_of_a_scan_with_several_modalities_are_a_volume(tmp_path):
    write_volume(tmp_path / "scan.nrrd", Volume(np.stack([VALUES, VALUES]), np.eye(4)))
    write_labels(tmp_path / "labels.mha", VALUES, tmp_path / "scan.nrrd")
    assert SimpleITK.ReadImage(str(tmp_path / "labels.mha")).GetSize() == (3, 4, 5)


def test_labels_that_do_not_fit(tmp_path):
    scan = nrrd(tmp_path / "scan.nrrd")
    with pytest.raises(DataError):
        write_labels(tmp_path / "labels.nrrd", VALUES[:2], scan)
    with pytest.raises(DataError):
        write_labels(tmp_path / "labels.nrrd", VALUES - 1, scan)
    assert [file.name for file in tmp_path.iterdir()] == ["scan.nrrd"]


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.mha", "labels.nhdr", "labels.mhd"])
def test_full_disk_leaves_nothing(tmp_path, monkeypatch, name):
    def fill(image, path, **options):
        raise RuntimeError("ITK ERROR: couldn't write")

    monkeypatch.setattr(SimpleITK, "WriteImage", fill)
    with pytest.raises(OutputError, match="can't be written"):
        write_volume(tmp_path / "out" / name, Volume(VALUES[None], np.eye(4)))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha", "scan.mhd", "scan.nii.gz"])
def test_two_that_write_one_file_leave_each_others_in_peace(tmp_path, monkeypatch, name):
    """The second comes when the first has written all, and it is not yet in its place."""
    first, second = (Volume(np.full((1, 4, 5, 6), value, np.uint8), np.eye(4)) for value in (1, 2))
    flush, calls = atomic._flush, []

    def write_too(path):
        flush(path)
        calls.append(path)
        if len(calls) == 1:
            write_volume(tmp_path / name, second)

    monkeypatch.setattr(atomic, "_flush", write_too)
    write_volume(tmp_path / name, first)
    assert read_volume(tmp_path / name).array.max() in (1, 2)
    assert not [path for path in tmp_path.iterdir() if path.stem != "scan" and path.name != name]
