"""What a file claims is held against what it holds before memory or time is spent on it."""

import gzip
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from typing import Any

import blosc2
import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inflate3d import documents
from inflate3d.errors import ConfigError, DataError, ModelError
from inflate3d.io import damage, read_grid, read_volume, write_volume
from inflate3d.io.dicom import file
from inflate3d.io.dicom.file import read_elements
from inflate3d.models.weight_files import read_tensors
from inflate3d.preparation.arrays import StoredSlices, write_slices
from inflate3d.settings import read_json, read_yaml
from inflate3d.volume import Volume

MILLION = 10**6
BOUND = 80 << 20
"""Bytes: 64 MiB of what may stand before or behind voxels, and some for the libraries."""


@pytest.fixture
def bounded():
    """Fails where Python's and numpy's memory passes the bound."""
    tracemalloc.start()
    yield
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < BOUND


def small_nifti():
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    return image.to_bytes()


CLAIMS = {
    "scan.nrrd": f"NRRD0004\ntype: int16\ndimension: 3\nsizes: {MILLION} {MILLION} 2\nencoding: raw\n\n",
    "text.nrrd": f"NRRD0004\ntype: int16\ndimension: 3\nsizes: {MILLION} {MILLION} 2\nencoding: ascii\n\n1 2 3",
    "scan.mha": f"NDims = 3\nDimSize = {MILLION} {MILLION} 2\nElementType = MET_SHORT\nElementDataFile = LOCAL\n",
    "text.mha": f"NDims = 3\nBinaryData = False\nDimSize = {MILLION} {MILLION} 2\nElementType = MET_SHORT\n"
    "ElementDataFile = LOCAL\n1 2 3",
    "spread.mhd": f"NDims = 3\nDimSize = {MILLION} {MILLION} 1\nElementType = MET_SHORT\n"
    "ElementDataFile = LIST\na.raw\n",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_header_of_a_million_times_a_million_voxels(tmp_path, bounded, name):
    (tmp_path / "a.raw").write_bytes(bytes(8))
    (tmp_path / name).write_text(CLAIMS[name])
    with pytest.raises(DataError, match="can't be read"):
        read_volume(tmp_path / name)


def test_nifti_of_a_million_times_a_million_voxels(tmp_path, bounded):
    header = nibabel.Nifti2Header()
    header.set_data_shape((MILLION, MILLION, 2))
    header["vox_offset"] = 544
    (tmp_path / "scan.nii").write_bytes(header.binaryblock + bytes(8))
    with pytest.raises(DataError, match="can't be read"):
        read_volume(tmp_path / "scan.nii")


def test_small_file_that_unpacks_to_more_behind_its_voxels(tmp_path, bounded):
    packed = zlib.compressobj(1, zlib.DEFLATED, 31)
    with (tmp_path / "scan.nii.gz").open("wb") as file:
        file.write(packed.compress(small_nifti()))
        for _ in range(160):
            file.write(packed.compress(bytes(1 << 20)))
        file.write(packed.flush())
    with pytest.raises(DataError, match="can't be read") as caught:
        read_volume(tmp_path / "scan.nii.gz")
    assert caught.value.expected == "an end behind the voxels"


@pytest.mark.parametrize("offset", [2.0**31, -8.0, float("nan")])
def test_voxels_that_begin_far_behind(tmp_path, bounded, offset):
    content = bytearray(small_nifti())
    content[108:112] = struct.pack("<f", offset)
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match="can't be read"):
        read_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("free", [239, 240])
def test_scan_larger_than_the_free_memory(tmp_path, monkeypatch, free):
    (tmp_path / "scan.nii").write_bytes(small_nifti())
    monkeypatch.setattr(damage, "free_memory", lambda: free)  # the scan has 120 bytes of voxels
    if free == 240:
        assert read_grid(tmp_path / "scan.nii").shape == (3, 4, 5)
        return
    for read in (read_volume, read_grid):
        with pytest.raises(DataError) as caught:
            read(tmp_path / "scan.nii")
        assert str(caught.value.got) == "239"


LIMITED = """
import resource, sys
import numpy, SimpleITK
from inflate3d.errors import DataError
from inflate3d.io import read_volume
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for path in sys.argv[1:]:
    assert read_volume("small" + path[path.index("."):]).shape == (3, 4, 5)
    for more in (8, 24, 40):  # MiB; the scan has 32
        resource.setrlimit(resource.RLIMIT_AS, (taken + (more << 20), resource.RLIM_INFINITY))
        try:
            read_volume(path)
        except DataError as error:
            print(path, more, "damaged" if "damaged" in (error.hint or "") else "refused")
        else:
            print(path, more, "read")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't limit address space")
def test_sound_scans_are_not_called_damaged_where_memory_is_limited(tmp_path):
    names = [f"scan{suffix}" for suffix in (".nii", ".nii.gz", ".nrrd", ".mha")]
    for name in names:
        write_volume(tmp_path / name, Volume(np.zeros((1, 256, 256, 256), np.int16), np.eye(4)))
        write_volume(tmp_path / f"small{name[4:]}", Volume(np.zeros((1, 3, 4, 5), np.int16), np.eye(4)))
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = [line.split() for line in ended.stdout.splitlines()]
    assert len(found) == 12 and {ending for _, more, ending in found if more == "8"} == {"refused"}
    assert "damaged" not in {ending for *_, ending in found}


LAUGHS = "l0: &l0 [ha, ha]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a [*a]",
        "[" * 50_000,
        "a: !!python/object/apply:os.system ['false']",
        "a: !!timestamp x",
        "9" * 5000,
    ],
)
def test_hostile_yaml(tmp_path, bounded, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not YAML"):
        read_yaml(tmp_path / "x.yaml")


def test_yaml_that_is_too_long_is_not_parsed(tmp_path):
    (tmp_path / "x.yaml").write_text("a" * (documents.LARGEST_YAML + 1))
    with pytest.raises(ConfigError, match="can't be read"):
        read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_hostile_json(tmp_path, bounded, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match="not JSON"):
        read_json(tmp_path / "x.json")


def test_dicom_elements_that_look_like_padding(tmp_path):
    """Looked through to its end at each of them, it would take minutes."""
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM" + bytes(8 * 5_000) + b"\1" * 8)
    with pytest.raises(ValueError, match="are left"):
        read_elements(tmp_path / "x.dcm")


def test_device_and_pipe_are_no_documents(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zeros.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "zeros.json"):
        with pytest.raises(ConfigError, match="can't be read"):
            read_json(tmp_path / name)
    for name in ("pipe.pth", "pipe.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ModelError, match="unreadable"):
            read_tensors(tmp_path / name)


def test_long_header_of_safetensors(tmp_path, bounded):
    (tmp_path / "w.safetensors").write_bytes((99_000_000).to_bytes(8, "little") + b"{" * 1000)
    with pytest.raises(ModelError):
        read_tensors(tmp_path / "w.safetensors")


def test_torch_archive_that_unpacks_to_more(tmp_path, bounded):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(32 << 20))
    with pytest.raises(ModelError) as caught:
        read_tensors(tmp_path / "w.pth")
    assert "compressed" in str(caught.value.got)


def test_tensor_that_repeats_one_number_a_billion_times(tmp_path, bounded):
    torch.save({"w": torch.zeros(1).expand(1000, MILLION)}, tmp_path / "w.pth")
    with pytest.raises(ModelError):
        read_tensors(tmp_path / "w.pth")


def test_tensor_that_claims_more_than_its_record(tmp_path):
    """torch itself would read what lies behind the record in memory."""
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(300)}, stream)
    with zipfile.ZipFile(io.BytesIO(stream.getvalue())) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for name in members:
        if name.endswith("data.pkl"):
            members[name] = members[name].replace(struct.pack("<H", 300), struct.pack("<H", 60_000))
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError):
        read_tensors(tmp_path / "w.pth")


def test_tied_weights_are_read(tmp_path):
    tied = torch.arange(6.0)
    torch.save({"a": tied, "b": tied.view(2, 3)}, tmp_path / "w.pth")
    save_file({"a": tied}, tmp_path / "w.safetensors")
    assert read_tensors(tmp_path / "w.pth")["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_tensors(tmp_path / "w.safetensors")["a"].tolist() == tied.tolist()


def dicom_element(tag, kind, length, value=b""):
    long = kind in (b"OB", b"SQ", b"UN")
    return (
        struct.pack("<HH", *tag) + kind + (struct.pack("<HI", 0, length) if long else struct.pack("<H", length)) + value
    )


EXPLICIT = dicom_element((2, 0x10), b"UI", 20, b"1.2.840.10008.1.2.1\0")
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("elements", "got"),
    [
        (dicom_element((8, 8), b"LO", 4, b"CT"), r"\(0008,0008\) of 4 bytes, but only 2 are left"),
        (
            dicom_element((8, 0x1140), b"SQ", 0xFFFFFFFF) + ITEM + dicom_element((8, 8), b"UN", 9_000_000),
            "9000000 bytes",
        ),
        (dicom_element((8, 8), b"LO", 0) * 20, "too many elements"),
        (dicom_element((8, 8), b"LO", 0) + dicom_element((8, 9), b"ZZ", 0), "of the type"),
    ],
)
def test_dicom_elements_that_claim_too_much(tmp_path, monkeypatch, elements, got):
    monkeypatch.setattr(file, "_MOST_READS", 30)
    (tmp_path / "x.dcm").write_bytes(bytes(128) + b"DICM" + EXPLICIT + elements)
    with pytest.raises(ValueError, match=got):
        read_elements(tmp_path / "x.dcm")


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("sizes: 2 2 2", "twice"),
        ("kinds: " + "domain " * 200, "a header line"),
        ("\n".join(f"field{number}: {'x' * 780}" for number in range(1500)), None),
        ("data file: s%d.raw 0 99999999 1", None),
        ("data file: s%099999999d.raw 0 1 1", None),
    ],
)
def test_text_header_that_is_too_long(tmp_path, bounded, line, got):
    header = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n{line}\n\n"
    (tmp_path / "scan.nhdr").write_bytes(header.encode() + bytes(8))
    with pytest.raises(DataError, match=r"can't be read|is missing") as error:
        read_volume(tmp_path / "scan.nhdr")
    assert got is None or got in str(error.value.got)


def test_blosc2_file_that_claims_more_than_its_chunks(tmp_path):
    write_slices(tmp_path / "a.b2nd", np.ones((5, 4, 3), np.uint8), "label")
    content = (tmp_path / "a.b2nd").read_bytes()
    claim = content.replace(b"\xd3" + struct.pack(">q", 3), b"\xd3" + struct.pack(">q", 1 << 47), 1)
    assert claim != content
    (tmp_path / "b.b2nd").write_bytes(claim)
    assert StoredSlices(tmp_path / "a.b2nd").read(0, 4).shape == (5, 4, 3)
    with pytest.raises(RuntimeError, match="its chunks hold"):
        StoredSlices(tmp_path / "b.b2nd")


def test_blosc2_file_that_is_a_recipe_for_an_array(tmp_path):
    operand: Any = blosc2.ones((4, 3, 2), urlpath=str(tmp_path / "a.b2nd"), mode="w")
    (operand + 1).save(urlpath=str(tmp_path / "recipe.b2nd"))
    StoredSlices(tmp_path / "a.b2nd")
    with pytest.raises(RuntimeError, match="b2o"):
        StoredSlices(tmp_path / "recipe.b2nd")
