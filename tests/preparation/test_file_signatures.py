import os
from pathlib import Path

import pytest

from inflate3d.datasets.case import Case
from inflate3d.preparation.file_signatures import FileSignature, changed_files, sign_case


def write(path, content=b"voxels"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))
    return path


def touch(path):
    os.utime(path, ns=(0, 1_700_000_000_000_000_001))


def test_size_and_time_of_every_path(tmp_path):
    case = Case("c", (write(tmp_path / "a.nii", b"12345"), None), write(tmp_path / "deep" / "l.nii.gz", b"123"))
    assert sign_case(case, tmp_path) == (
        FileSignature(file="a.nii", size=5, modified=1_700_000_000_000_000_000),
        FileSignature(file="deep/l.nii.gz", size=3, modified=1_700_000_000_000_000_000),
    )


def test_file_outside_the_dataset_keeps_its_whole_path(tmp_path):
    scan = write(tmp_path / "elsewhere" / "a.nii")
    (stamp,) = sign_case(Case("c", (scan,), None), tmp_path / "data")
    assert stamp.file == scan.as_posix()


def test_folder_may_be_named_relatively_or_absolutely(tmp_path, monkeypatch):
    scan = write(tmp_path / "data" / "a.nii")
    monkeypatch.chdir(tmp_path)
    named = [
        sign_case(Case("c", (path,), None), root)
        for path in (scan, Path("data/a.nii"))
        for root in (Path("data"), tmp_path / "data")
    ]
    assert named[0][0].file == "a.nii"
    assert named.count(named[0]) == 4


@pytest.mark.parametrize(
    ("named", "other"),
    [
        ("scan.hdr", "scan.img"),
        ("scan.img", "scan.hdr"),
        ("scan.hdr.gz", "scan.img.gz"),
        ("scan.img.gz", "scan.hdr.gz"),
        ("SCAN.HDR", "SCAN.IMG"),
        ("scan.mhd", "scan.raw"),
        ("scan.mhd", "scan.zraw"),
        ("scan.nhdr", "scan.raw.gz"),
        ("series/1.dcm", "series/2.dcm"),
        ("series", "series/IM0"),
        ("series/1.2.840.1", "series/IM0"),
    ],
)
def test_every_file_of_a_scan_counts(tmp_path, named, other):
    part = write(tmp_path / other)
    if named not in ("series", "series/1.2.840.1"):
        write(tmp_path / named)
    case = Case("c", (tmp_path / named,), None)
    before = sign_case(case, tmp_path)
    assert before[0].size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert changed_files(before, sign_case(case, tmp_path), tmp_path) == []
    touch(part)
    assert changed_files(before, sign_case(case, tmp_path), tmp_path) == [tmp_path / named]


def test_files_that_changed_came_or_went(tmp_path):
    kept, rewritten, resized, removed = (write(tmp_path / f"{name}.nii") for name in "abcd")
    before = sign_case(Case("c", (kept, rewritten, resized, removed), None), tmp_path)
    touch(rewritten)
    write(resized, b"more voxels")
    removed.unlink()
    added = write(tmp_path / "e.nii")
    now = sign_case(Case("c", (kept, rewritten, resized, removed), added), tmp_path)
    assert changed_files(before, now, tmp_path) == [rewritten, resized, removed, added]
    assert changed_files(before, now[:3], tmp_path) == [rewritten, resized, removed]


def test_sum_of_many_times_is_an_integer_to_any_reader_of_json(tmp_path):
    for number in range(8):
        write(tmp_path / "series" / f"{number}.dcm")
    (stamp,) = sign_case(Case("c", (tmp_path / "series",), None), tmp_path)
    assert 0 <= stamp.modified < 2**63
    assert FileSignature.model_validate_json(stamp.model_dump_json()) == stamp
