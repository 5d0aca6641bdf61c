import pytest
import torch
from torch.nn import functional as F

from inflate3d.windows.resample import identity_matrices, normalise, resample_labels, resample_windows


@pytest.fixture
def windows():
    return torch.rand(3, 2, 5, 12, 17, generator=torch.Generator().manual_seed(0))


def shifted(columns):
    """Takes what lies so many slice widths to the right."""
    matrices = identity_matrices(1).clone()
    matrices[:, 0, 2] = 2 * columns
    return matrices


def test_normalise_maps_each_modalitys_range_to_0_and_1_and_clips():
    windows = torch.tensor([-200.0, -100, 0, 100, 200]).reshape(1, 1, 5, 1, 1).repeat(1, 2, 1, 1, 1)
    ranges = torch.tensor([[[-100.0, 100.0], [0.0, 400.0]]])
    assert normalise(windows, ranges)[0, :, :, 0, 0].tolist() == [[0, 0, 0.5, 1, 1], [0, 0, 0, 0.25, 0.5]]


def test_same_size_is_the_same_image(windows):
    same = resample_windows(windows, identity_matrices(3), (12, 17))
    assert torch.allclose(same, windows, atol=1e-5)


def test_same_size_is_the_same_label_map():
    labels = torch.randint(0, 9, (3, 12, 17), generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample_labels(labels, identity_matrices(3), (12, 17)), labels)


def test_resizing_is_that_of_torch_inside_the_slice(windows):
    small = resample_windows(windows, identity_matrices(3), (6, 17))
    expected = F.interpolate(windows.flatten(1, 2), (6, 17), mode="bilinear", align_corners=False)
    assert torch.allclose(small.flatten(1, 2), expected, atol=1e-5)


def test_all_slices_have_the_geometry_of_their_window():
    slice_ = torch.rand(2, 1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    matrices = torch.tensor([[[0.9, -0.3, 0.1], [0.3, 0.9, 0.0]], [[-1.2, 0.0, 0.0], [0.1, 0.8, 0.2]]])
    moved = resample_windows(slice_.expand(-1, 3, 5, -1, -1), matrices, (8, 10))
    assert torch.equal(moved, moved[:, :1, :1].expand_as(moved))
    assert torch.equal(moved[1, 0, 0], resample_windows(slice_[1:], matrices[1:], (8, 10))[0, 0, 0])


def test_shift_by_whole_pixels_and_nothing_beyond_the_slice():
    slice_ = torch.arange(1.0, 5.0).reshape(1, 1, 1, 1, 4)
    moved = resample_windows(slice_, shifted(0.25), (1, 4))
    assert moved.flatten().tolist() == pytest.approx([2, 3, 4, 0], abs=1e-5)
    labels = resample_labels(torch.tensor([[[1, 2, 3, 4]]]), shifted(-0.5), (1, 4))
    assert labels.flatten().tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("size", [(12, 17), (20, 20), (7, 31)])
def test_padding_changes_nothing(windows, size):
    matrices = torch.tensor([[1.1, 0.2, 0.1], [-0.2, 0.9, -0.1]]).expand(3, 2, 3)
    labels = torch.randint(0, 4, (3, 12, 17), generator=torch.Generator().manual_seed(0))
    extents = torch.tensor([[12.0, 17.0]]).expand(3, 2)
    alone = resample_windows(windows, matrices, size)
    padded = resample_windows(F.pad(windows, (0, 9, 0, 4)), matrices, size, extents)
    assert torch.allclose(padded, alone, atol=1e-4)
    alone = resample_labels(labels, matrices, size)
    padded = resample_labels(F.pad(labels, (0, 9, 0, 4)), matrices, size, extents)
    assert (padded != alone).float().mean() < 0.005  # pixels that lie right between two


def test_class_numbers_beyond_a_byte_survive():
    labels = torch.tensor([[[0, 255], [256, 1000]]])
    assert torch.equal(resample_labels(labels, identity_matrices(1), (2, 2)), labels)
