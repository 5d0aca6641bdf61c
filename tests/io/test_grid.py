"""Grids from headers alone, and label maps that are written on them."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.arrayproxy import ArrayProxy

from inflate3d.errors import DataError
from inflate3d.grid import Grid
from inflate3d.io import read_grid, read_labels, read_volume, write_labels, write_volume
from inflate3d.volume import Volume

OBLIQUE = np.array([[0.8, -0.3, 0, -20.5], [0.3, 0.8, 0, 31.25], [0, 0, 4.5, 7], [0, 0, 0, 1]])
VALUES = (np.arange(120) % 7).reshape(2, 3, 4, 5)


@pytest.fixture
def no_voxels(monkeypatch):
    """Fails a test that reads voxels."""

    def fail(*_args, **_options):
        raise AssertionError("voxels were read")

    monkeypatch.setattr(ArrayProxy, "__array__", fail)
    monkeypatch.setattr(ArrayProxy, "get_unscaled", fail)
    monkeypatch.setattr(SimpleITK.ImageFileReader, "Execute", fail)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64", "bool"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_grid_is_the_volumes(tmp_path, suffix, channels, dtype):
    path = tmp_path / f"scan{suffix}"
    write_volume(path, Volume(VALUES[:channels].astype(dtype), OBLIQUE))
    grid, volume = read_grid(path), read_volume(path)
    assert grid == volume.grid
    assert (grid.modalities, grid.dtype) == (channels, volume.array.dtype)


def test_grid_of_a_scaled_nifti(tmp_path):
    image = nibabel.Nifti1Image(VALUES[0].astype(np.int16), OBLIQUE)
    image.header.set_slope_inter(0.5, 0)
    image.to_filename(tmp_path / "scan.nii")
    assert read_grid(tmp_path / "scan.nii").dtype == read_volume(tmp_path / "scan.nii").array.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    "rescale",
    [None, [(1, -1024)] * 5, [(0.5, 0)] * 5, [(2, 0), *[(1, 0)] * 4], [(1, 0), (0.25, 1), *[(1, 0)] * 3]],
)
def test_grid_of_a_series(tmp_path, write_series, rescale):
    kind = "float64" if rescale and any(slope % 1 for slope, _ in rescale) else "int16"
    write_series(tmp_path, np.random.default_rng(0).integers(0, 500, (5, 6, 7)).astype(kind), rescale=rescale)
    grid, volume = read_grid(tmp_path), read_volume(tmp_path)
    assert grid == volume.grid
    assert (grid.modalities, grid.dtype) == (1, volume.array.dtype)


def test_grid_of_a_missing_scan_names_the_case(tmp_path):
    with pytest.raises(DataError) as caught:
        read_grid(tmp_path / "scan.nii.gz", case="c7")
    assert (caught.value.case, caught.value.file) == ("c7", str(tmp_path / "scan.nii.gz"))


@pytest.mark.parametrize("scan", ["scan.nii.gz", "scan.nrrd", "series"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_labels_are_written_without_reading_a_voxel(tmp_path, write_series, scan, suffix, request):
    if scan == "series":
        write_series(tmp_path / scan, VALUES[0].astype("int16"))
    else:
        write_volume(tmp_path / scan, Volume(VALUES[:1].astype("int16"), np.diag([1.0, 1, 2, 1])))
    volume = read_volume(tmp_path / scan)
    labels = np.arange(volume.array.size).reshape(volume.shape) % 3
    with pytest.MonkeyPatch.context():
        request.getfixturevalue("no_voxels")
        for number, like in enumerate((tmp_path / scan, volume, volume.grid)):
            write_labels(tmp_path / f"{number}{suffix}", labels, like)


def test_labels_like_a_volume_lie_on_its_grid(tmp_path):
    volume = Volume(VALUES[:1].astype("int16"), np.diag([-1.0, 1, 2, 1]))
    for like in (volume, volume.grid, Grid(volume.shape, volume.affine)):
        write_labels(tmp_path / "labels.nii.gz", VALUES[0] % 2, like)
        read = read_labels(tmp_path / "labels.nii.gz")
        assert read.grid == volume.grid
        assert np.array_equal(read.array[0], VALUES[0] % 2)


@pytest.mark.parametrize(
    ("labels", "stored"),
    [(VALUES[0] > 3, np.uint8), (VALUES[0].astype("float16"), np.uint8), (VALUES[0] + 2049.0, np.uint16)],
)
def test_truth_values_and_whole_floats_are_labels(tmp_path, labels, stored):
    write_labels(tmp_path / "labels.nii.gz", labels, Grid((3, 4, 5), np.eye(4)))
    array = read_labels(tmp_path / "labels.nii.gz").array
    assert array.dtype == stored
    assert np.array_equal(array[0], labels)


@pytest.mark.parametrize(
    "labels",
    [
        *(VALUES[0] + 0.5, VALUES[0] - 1, VALUES[0] + np.nan, VALUES[0] + np.inf, VALUES[0] + 0j),
        *(VALUES, VALUES[0] * 1e10, np.ma.masked_less(VALUES[0], 3), [[1, 2], [3]]),
    ],
)
def test_other_labels_are_refused_and_nothing_is_written(tmp_path, labels):
    with pytest.raises(DataError), np.errstate(invalid="ignore"):
        write_labels(tmp_path / "labels.nii.gz", labels, Grid((3, 4, 5), np.eye(4)))
    assert not list(tmp_path.iterdir())
