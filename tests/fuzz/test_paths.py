"""A file names no other file outside its folder, and no name in it becomes a path outside the output folder."""

import json

import numpy as np
import pytest

from inflate3d.datasets.case import check_id
from inflate3d.datasets.layouts import read_dataset
from inflate3d.errors import DataError, DatasetProblems, Inflate3dError
from inflate3d.io import read_volume

NAMES = [
    "../out",
    "a/../../out",
    "/etc/passwd",
    "a\0b",
    "..",
    "",
    ".hidden",
    "a\\b",
    "CON",
    "nul.nii",
    "x" * 300,
    "a\x1b[2J",
]
PLACES = [
    "../voxels.raw",
    "/voxels.raw",
    "sub/../../voxels.raw",
    "C:\\voxels.raw",
    "..\\voxels.raw",
    "%s%n",
    "a%d%s 1 2 1",
]

NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {}\n\n"
META = "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {}\n"


@pytest.mark.parametrize("name", NAMES)
def test_name_that_can_name_no_file(name):
    with pytest.raises(ValueError):
        check_id(name)


@pytest.mark.parametrize("name", ["patient 7", "case_001", "Fall-7.b", "肝臓", "conrad", "a:b"])
def test_name_that_can(name):
    assert check_id(name) == name


@pytest.mark.parametrize("place", ["../out.nii.gz", "/etc/passwd", "imagesTr/../../out.nii.gz"])
@pytest.mark.parametrize("part", ["image", "label"])
def test_listing_that_leads_out(tmp_path, place, part):
    pair = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"} | {part: place}
    listing = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": [pair]}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    with pytest.raises(DatasetProblems, match="path outside the dataset"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("name", ["../a", "CON"])
def test_listed_case_whose_name_leads_out(tmp_path, name):
    files = {name: {"images": ["a.nii.gz"], "label": "b.nii.gz"}}
    listing = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(listing | {"dataset": files}))
    with pytest.raises(DatasetProblems, match="invalid case name"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("name", "header"), [("scan.nhdr", NRRD), ("scan.mhd", META)])
def test_header_whose_data_file_leads_out(tmp_path, place, name, header):
    (tmp_path / "data").mkdir()
    (tmp_path / "voxels.raw").write_bytes(bytes(8))
    (tmp_path / "data" / name).write_text(header.format(place))
    with pytest.raises(DataError, match=r"outside its folder|is missing|can't be read"):
        read_volume(tmp_path / "data" / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("scan.nhdr", NRRD.format("LIST\na.raw\n../b.raw")),
        ("scan.mhd", META.format("LIST\na.raw\n../b.raw")),
        ("scan.mhd", META.format("../s%d.raw 0 1 1")),
    ],
)
def test_list_that_leads_out(tmp_path, name, text):
    (tmp_path / "data").mkdir()
    for file in ("data/a.raw", "b.raw", "s0.raw", "s1.raw"):
        (tmp_path / file).write_bytes(bytes(4))
    (tmp_path / "data" / name).write_text(text)
    with pytest.raises(DataError, match=r"outside its folder"):
        read_volume(tmp_path / "data" / name)


@pytest.mark.parametrize("place", ["LIST\na.raw\nsub/b.raw", "s%d.raw 0 1 1"])
def test_voxels_spread_over_files_of_the_folder(tmp_path, place):
    (tmp_path / "sub").mkdir()
    for file, values in {"a.raw": 0, "sub/b.raw": 4, "s0.raw": 0, "s1.raw": 4}.items():
        (tmp_path / file).write_bytes(bytes(range(values, values + 4)))
    (tmp_path / "scan.mhd").write_text(META.format(place))
    volume = read_volume(tmp_path / "scan.mhd")
    assert np.array_equal(volume.array[0].ravel(order="F"), np.arange(8))


def test_what_a_message_quotes_does_not_steer_a_terminal():
    error = Inflate3dError("x\x1b[2J", got="\x1b[2J\x07 \udcff", case="a\x9b")
    assert str(error).replace("\n", "").isprintable()
    assert json.dumps(error.to_dict(), ensure_ascii=False).encode()
    assert str(DatasetProblems([error] * 5)).replace("\n", "").isprintable()
    assert len(str(Inflate3dError("x" * 100_000))) < 11_000
