"""Real scans from one format to the other and back."""

import numpy as np
import pytest

from inflate3d.io import check_same_grid, read_labels, read_volume, write_labels, write_volume
from inflate3d.volume import Volume

SCANS = {"CT": "abdomen_ct", "MR": "sarcoma_mr", "hippocampus": "Task04_Hippocampus"}


@pytest.fixture(params=SCANS.values(), ids=list(SCANS))
def case(request, shared):
    """A scan's file and its label map's."""
    folder = shared / "data" / request.param
    label = min((folder / "labelsTr").glob("[!.]*.nii.gz"))
    scan = next(
        file
        for file in sorted((folder / "imagesTr").glob("[!.]*.nii.gz"))
        if file.name.startswith(label.name.removesuffix(".nii.gz"))
    )
    return scan, label


@pytest.mark.real
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_scan_and_labels_are_the_same_in_every_format(case, tmp_path, suffix):
    scan, labels = read_volume(case[0]), read_labels(case[1])
    scan = Volume(scan.array[..., :6], scan.affine)
    write_volume(tmp_path / f"scan{suffix}", scan)
    read = read_volume(tmp_path / f"scan{suffix}")
    assert np.array_equal(read.array, scan.array)
    assert read.array.dtype == scan.array.dtype
    check_same_grid(read, scan)
    write_labels(tmp_path / f"labels{suffix}", labels.array[0, ..., :6], tmp_path / f"scan{suffix}")
    assert np.array_equal(read_labels(tmp_path / f"labels{suffix}").array, labels.array[..., :6])


@pytest.mark.real
def test_scan_as_a_dicom_series_is_the_same(case, tmp_path, write_series):
    scan = read_volume(case[0])
    whole = np.rint(scan.array[0, :, :, :8]).astype(np.int16)
    axes = scan.affine[:3, :3] * np.array([[-1], [-1], [1]])
    unit = axes / np.linalg.norm(axes, axis=0)
    write_series(
        tmp_path,
        whole.transpose(2, 1, 0),
        directions=(unit[:, 0], unit[:, 1]),
        spacing=scan.spacing[:2],
        step=axes[:, 2],
        origin=scan.affine[:3, 3] * (-1, -1, 1),
    )
    read = read_volume(tmp_path)
    runs_up = np.linalg.det(axes) > 0  # slices are sorted along the normal
    assert np.array_equal(read.array[0], whole if runs_up else whole[:, :, ::-1])
    center = scan.affine @ [3, 4, 2 if runs_up else 5, 1]
    assert (read.affine @ [3, 4, 2, 1]) == pytest.approx(center, abs=1e-3)
