"""A folder of overlapping masks for each case, as TotalSegmentator has them, becomes one of regions."""

import nibabel
import numpy as np
import pytest

from inflate3d.datasets import read_dataset
from inflate3d.datasets.masks import overlay_masks
from inflate3d.datasets.propose import propose
from inflate3d.errors import ConfigError, DataError
from inflate3d.io import read_labels

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, AFFINE).to_filename(path)
    return path


def masks_of(case):
    """A liver, and a vessel that is partly in it; some lesion is in both, in the second case alone."""
    masks = {name: np.zeros((12, 10, 6), np.uint8) for name in ("liver", "lesion", "vessel")}
    masks["liver"][2:8], masks["vessel"][6:10, 4:6] = 1, 1
    if case == "s1":
        masks["lesion"][7, 5, 3] = 255
    return masks


@pytest.fixture
def folder(tmp_path):
    for case in ("s0", "s1"):
        save(tmp_path / case / "ct.nii.gz", np.random.default_rng(0).integers(-1000, 500, (12, 10, 6), np.int16))
        for name, mask in masks_of(case).items():
            save(tmp_path / case / "segmentations" / f"{name}.nii.gz", mask)
    return tmp_path


def test_overlapping_masks_become_regions_of_label_maps(folder):
    proposal = propose(folder, overlaps="regions")
    assert proposal.label_files == {0: 2, 1: 2, 2: 2, 3: 2, 4: 1}
    proposal.write()
    dataset = read_dataset(folder)
    assert dataset.classes == {
        0: "background",
        1: "liver",
        2: "vessel",
        3: "liver + vessel",
        4: "lesion + liver + vessel",
    }
    assert dataset.targets == {"lesion": (4,), "liver": (1, 3, 4), "vessel": (2, 3, 4)}
    for case in dataset.cases:
        assert case.label is not None
        labels = read_labels(case.label).array[0]
        for name, held in dataset.targets.items():
            assert np.array_equal(np.isin(labels, held), masks_of(case.id)[name] > 0)


def test_by_default_the_smaller_class_is_kept(folder):
    proposal = propose(folder)
    assert proposal.regions == {} and "--overlaps regions" in proposal.overlap_note()


def test_masks_that_do_not_overlap_are_classes(folder):
    for case in ("s0", "s1"):
        save(folder / case / "segmentations" / "vessel.nii.gz", np.zeros((12, 10, 6), np.uint8))
        save(folder / case / "segmentations" / "lesion.nii.gz", np.zeros((12, 10, 6), np.uint8))
    proposal = propose(folder, overlaps="regions")
    proposal.write()
    assert read_dataset(folder).regions is None
    assert read_dataset(folder).classes == {0: "background", 1: "liver"}


def test_label_maps_have_no_overlaps_to_keep(write_toys, tmp_path):
    (write_toys(tmp_path / "toys", 1).root / "dataset.json").unlink()
    with pytest.raises(ConfigError, match="mask per class") as caught:
        propose(tmp_path / "toys", overlaps="regions")
    assert caught.value.got == "label maps"


def test_too_many_combinations(folder):
    random = np.random.default_rng(0)
    for number in range(9):
        mask = random.integers(0, 2, (12, 10, 6), np.uint8)
        for case in ("s0", "s1"):
            save(folder / case / "segmentations" / f"organ{number}.nii.gz", mask)
    with pytest.raises(DataError, match="too many combinations") as caught:
        propose(folder, overlaps="regions")
    assert "organ" in str(caught.value.got)
    assert not (folder / "dataset.yaml").exists()


def test_combinations_are_those_of_the_voxels(tmp_path):
    random = np.random.default_rng(1)
    masks = {name: random.integers(0, 2, (5, 6, 7), np.uint8) for name in "abc"}
    files = {name: save(tmp_path / f"{name}.nii", mask) for name, mask in masks.items()}
    labels, numbers = overlay_masks(files, case="case")
    assert len(numbers) == 8
    for names, number in numbers.items():
        expected = np.all([(masks[name] > 0) == (name in names) for name in "abc"], axis=0)
        assert np.array_equal(labels.array[0] == number, expected)
