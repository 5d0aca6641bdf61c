"""Scans that somebody removes or cuts short between the look at their headers and the reading of their voxels."""

import os

import nibabel
import numpy as np
import pytest

from inflate3d.errors import DataError
from inflate3d.io import itk, nifti, read_volume, write_volume
from inflate3d.io.dicom import reading
from inflate3d.volume import Volume

BEFORE_VOXELS = {
    "scan.nii": (nifti, "_voxels"),
    "scan.nii.gz": (nifti, "_voxels"),
    "scan.hdr": (nifti, "_voxels"),
    "scan.nrrd": (itk, "check_affine"),
    "scan.mha": (itk, "check_affine"),
    "series": (reading, "_voxels"),
}
"""What each reader calls when it knows the header."""


@pytest.fixture(params=BEFORE_VOXELS)
def scan(request, tmp_path, write_series):
    """A scan, and the largest of its files."""
    path = tmp_path / request.param
    voxels = np.random.default_rng(0).integers(0, 1000, (96, 96, 40)).astype(np.int16)
    if path.name == "series":
        write_series(path, voxels.transpose(2, 1, 0)[:3])
    elif path.suffix == ".hdr":
        nibabel.Nifti1Pair(voxels, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)
    else:
        write_volume(path, Volume(voxels[np.newaxis], np.diag([1.0, 1.0, 2.0, 1.0])))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    return path, max(files, key=lambda file: (file.stat().st_size, file.name))


@pytest.fixture
def before_voxels(monkeypatch, scan):
    """Lets something happen to the file while it is read."""

    def do(what):
        module, name = BEFORE_VOXELS[scan[0].name]
        real, done = getattr(module, name), []

        def changed(*arguments, **named):
            if not done:
                done.append(what(scan[1]))
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, changed)
        return done

    return do


def test_scan_that_is_cut_short_while_it_is_read(scan, before_voxels):
    """An array in a file that is mapped into memory would end the process."""
    done = before_voxels(lambda file: os.truncate(file, file.stat().st_size // 2))
    with pytest.raises(DataError, match="can't be read") as caught:
        read_volume(scan[0])
    assert len(done) == 1
    assert caught.value.file is not None


def test_scan_that_vanishes_while_it_is_read(scan, before_voxels):
    """What is open by then is read to its end."""
    whole = read_volume(scan[0]).array
    done = before_voxels(os.remove)
    try:
        assert np.array_equal(read_volume(scan[0]).array, whole)
    except DataError as error:
        assert "can't be read" in error.what or "is missing" in error.what
    assert len(done) == 1
