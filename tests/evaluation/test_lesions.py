"""Detection of connected components, by hand."""

import numpy as np
import pytest

from inflate3d.evaluation.lesions import lesion_f1


def mask(*voxels):
    values = np.zeros((1, 1, 20), dtype=bool)
    values[0, 0, list(voxels)] = True
    return values


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        (mask(1, 2, 3), mask(1, 2, 3), 1),
        (mask(3), mask(1, 2, 3), 1),  # any voxel will do
        (mask(5), mask(1, 2, 3), 0),  # one missed, one made up
        (mask(1), mask(1, 5, 9), 2 / (2 + 2)),  # two missed
        (mask(1, 5, 9, 12), mask(1), 2 / (2 + 3)),  # three made up
        (mask(1, 2, 3, 4, 5), mask(1, 5), 1),  # one component over two lesions finds both
        (mask(1, 5), mask(1, 2, 3, 4, 5), 1),  # two parts of one lesion: neither is made up
        (mask(1, 7), mask(1, 5), 2 / (2 + 1 + 1)),
    ],
)
def test_found_missed_and_made_up(prediction, label, expected):
    assert lesion_f1(prediction, label) == pytest.approx(expected)


def test_voxels_that_share_a_corner_are_of_one_lesion():
    label = np.zeros((3, 3, 3), dtype=bool)
    label[0, 0, 0] = label[1, 1, 1] = label[2, 2, 2] = True
    prediction = np.zeros_like(label)
    prediction[2, 2, 2] = True
    assert lesion_f1(prediction, label) == 1
