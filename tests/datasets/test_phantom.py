from typing import Any

import nibabel
import nibabel.affines
import numpy as np
import pytest
from scipy import ndimage, stats

from inflate3d.datasets import read_dataset
from inflate3d.datasets.phantom import CLASSES, Modality, make_phantom, write_phantoms
from inflate3d.errors import ConfigError
from inflate3d.orientation import Orientation

VESSEL, LESION = 3, 4
MODALITIES: tuple[Modality, ...] = ("CT", "MRI")


def components_of(mask) -> tuple[np.ndarray, int]:
    """Numbers the parts of a mask that touch, by corners too."""
    parts: Any = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return parts


def in_frame(index, modality: Modality = "CT", seed=0):
    """Scan and labels of a phantom as ``(D, H, W)``."""
    scan, labels = make_phantom(seed, index, modality)
    orientation = Orientation.of(labels.affine, "axial")
    return orientation.apply(scan.array[0]), orientation.apply(labels.array[0]), min(labels.spacing)


def sections(value, index, modality):
    """Each disc of a class in a slice: area, brightness, contrast, way from the middle; and its neighbors.

    The neighbors are the five slices round it: whether a vessel or a lesion is seen there in its place.
    """
    scan, labels, pixel = in_frame(index, modality)
    for z in range(3, len(labels) - 3):
        found, count = components_of(labels[z] == value)
        for number in range(1, count + 1):
            disc = found == number
            middle = np.argwhere(disc).mean(0) / disc.shape - 0.5
            looks = disc.sum() * pixel**2, scan[z][disc].mean(), scan[z][disc].std(), np.hypot(*middle)
            yield looks, (labels[z - 2 : z + 3] >= VESSEL)[:, disc].mean(1) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", pytest.param("MRI", marks=pytest.mark.long)])
def test_only_neighboring_slices_distinguish_a_lesion_from_a_vessel(modality):
    vessels, lesions = (
        list(zip(*[section for index in range(24) for section in sections(value, index, modality)], strict=True))
        for value in (VESSEL, LESION)
    )
    assert len(vessels[0]) > 500
    assert len(lesions[0]) > 500
    for of_vessels, of_lesions in zip(zip(*vessels[0], strict=True), zip(*lesions[0], strict=True), strict=True):
        test: Any = stats.ks_2samp(of_vessels, of_lesions)
        assert test.statistic < 0.15
    assert np.all(vessels[1])
    seen = np.sum(lesions[1], axis=1)
    assert seen.min() == 2
    assert seen.max() == 3


@pytest.mark.parametrize("index", range(6))
def test_case_has_every_class_in_the_numbers_that_are_promised(index):
    scan, labels, _ = in_frame(index)
    assert np.unique(labels).tolist() == list(CLASSES)
    assert np.allclose(labels.shape, (28, 96, 96), rtol=0.11)
    _, vessels = components_of(labels == VESSEL)
    _, lesions = components_of(labels == LESION)
    assert vessels in (2, 3)
    assert lesions in range(9, 13)
    assert not (labels[:3] == LESION).any()
    assert not (labels[-3:] == LESION).any()
    means = [scan[labels == value].mean() for value in range(1, 4)]
    assert means[0] > means[1] + 20  # organ, gland
    assert means[2] > means[0] + 60  # vessel


def test_cases_are_stored_in_many_orientations_and_tilts():
    affines = [make_phantom(0, index)[0].affine for index in range(6)]
    codes = ["".join(nibabel.aff2axcodes(affine)) for affine in affines]
    assert codes == ["RAS", "LPS", "LAS", "PIR", "LSA", "RAS"]
    tilted = [
        not np.isclose(np.abs(affine[:3, :3]).max(0), np.linalg.norm(affine[:3, :3], axis=0)).all()
        for affine in affines
    ]
    assert tilted == [False] * 5 + [True]


@pytest.mark.parametrize("index", range(6))
def test_organ_lies_to_the_right_of_the_gland_in_space_however_it_is_stored(index):
    _, labels = make_phantom(0, index)
    right, left = (
        nibabel.affines.apply_affine(labels.affine, np.argwhere(labels.array[0] == value)).mean(0) for value in (1, 2)
    )
    assert right[0] > left[0] + 10


def test_slices_are_thick():
    for index in range(6):
        scan, _ = make_phantom(0, index)
        fine, also_fine, thick = sorted(scan.spacing)
        assert fine == pytest.approx(also_fine)
        assert 0.9 < fine < 1.1
        assert 2.6 < thick < 3.4


@pytest.mark.slow
def test_scale_of_mri_differs_and_that_of_ct_does_not():
    levels = {
        modality: [np.median(scan[labels > 0]) for scan, labels, _ in (in_frame(i, modality) for i in range(6))]
        for modality in MODALITIES
    }
    assert max(levels["MRI"]) > 2 * min(levels["MRI"])
    assert max(levels["CT"]) - min(levels["CT"]) < 30
    assert min(in_frame(0, "MRI")[0].flat) >= 0


def test_written_dataset_is_read_back_and_depends_on_the_seed_alone(tmp_path):
    few = write_phantoms(tmp_path / "few", 2, seed=3)
    write_phantoms(tmp_path / "more", 3, seed=3)
    assert read_dataset(tmp_path / "few") == few
    assert [case.id for case in few.cases] == ["phantom_000", "phantom_001"]
    assert few.modalities == ("CT",)
    for part in ("imagesTr", "labelsTr"):
        names = sorted(path.name for path in (tmp_path / "few" / part).iterdir())
        assert names == ["phantom_000.nii.gz", "phantom_001.nii.gz"]
        for name in names:
            few_bytes, more_bytes = ((tmp_path / folder / part / name).read_bytes() for folder in ("few", "more"))
            assert few_bytes == more_bytes
    scan: Any = nibabel.load(few.cases[1].scan)
    made, labels = make_phantom(3, 1)
    assert scan.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(scan.dataobj), made.array[0])
    assert scan.affine == pytest.approx(made.affine, rel=1e-6)
    assert labels.array.dtype == np.uint8
    assert not np.array_equal(made.array.ravel()[:1000], make_phantom(4, 1)[0].array.ravel()[:1000])


def test_no_case_is_no_dataset(tmp_path):
    with pytest.raises(ConfigError):
        write_phantoms(tmp_path, 0)
