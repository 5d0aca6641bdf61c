import pytest
import torch

from inflate3d.windows.windows import cut_windows, window_slices


@pytest.mark.parametrize(
    ("center", "depth", "length", "slices"),
    [
        (3, 5, 9, [1, 2, 3, 4, 5]),
        (0, 5, 9, [0, 0, 0, 1, 2]),
        (1, 5, 9, [0, 0, 1, 2, 3]),
        (8, 5, 9, [6, 7, 8, 8, 8]),
        (4, 1, 9, [4]),
        (1, 7, 3, [0, 0, 0, 1, 2, 2, 2]),
    ],
)
def test_end_slices_are_repeated(center, depth, length, slices):
    assert window_slices(center, depth, length) == slices


def test_stride_leaves_slices_out_between_those_of_a_window():
    assert window_slices(4, 3, 9, stride=2) == [2, 4, 6]
    assert window_slices(1, 5, 9, stride=3) == [0, 0, 1, 4, 7]
    assert window_slices(4, 1, 9, stride=3) == [4]


@pytest.mark.parametrize("depth", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows_cut_from_a_volume_are_those_read_from_the_store(depth, stride):
    volume = torch.arange(2 * 6 * 2 * 3).reshape(2, 6, 2, 3)
    windows = cut_windows(volume, torch.arange(6), depth, stride)
    assert windows.shape == (6, 2, depth, 2, 3)
    for center in range(6):
        assert torch.equal(windows[center], volume[:, window_slices(center, depth, 6, stride)])
        assert torch.equal(windows[center, :, depth // 2], volume[:, center])
