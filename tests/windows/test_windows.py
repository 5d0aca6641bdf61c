import numpy as np
import pytest

from inflate3d.windows.windows import window_indices


@pytest.mark.parametrize(
    ("center", "depth", "stride", "length", "slices"),
    [
        (3, 5, 1, 9, [1, 2, 3, 4, 5]),
        (0, 5, 1, 9, [0, 0, 0, 1, 2]),
        (1, 5, 1, 9, [0, 0, 1, 2, 3]),
        (8, 5, 1, 9, [6, 7, 8, 8, 8]),
        (4, 1, 1, 9, [4]),
        (1, 7, 1, 3, [0, 0, 0, 1, 2, 2, 2]),
        (4, 3, 2, 9, [2, 4, 6]),
        (1, 5, 3, 9, [0, 0, 1, 4, 7]),
        (4, 1, 3, 9, [4]),
    ],
)
def test_window_indices_repeat_the_end_slices(center, depth, stride, length, slices):
    assert window_indices([center], depth, stride, length).tolist() == [slices]


def test_window_indices_of_many_windows():
    indices = window_indices(np.arange(6), 3, 1, 6)
    assert indices.shape == (6, 3)
    assert (indices[:, 1] == np.arange(6)).all()
