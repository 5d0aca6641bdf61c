import math

import numpy as np
import pytest
import torch
from nibabel import nifti1
from torch.nn import functional as F

from inflate3d.datasets.classes import IGNORED
from inflate3d.windows.resample import (
    field_matrices,
    field_sides,
    follow,
    normalize,
    normalize_and_resample,
    own_pixels,
    resample_labels,
    resample_windows,
    sample_logits,
)


@pytest.fixture
def windows():
    return torch.rand(3, 2, 5, 12, 17, generator=torch.Generator().manual_seed(0))


def shifted(columns):
    """Takes what lies so many slice widths to the right."""
    matrices = torch.eye(2, 3).expand(1, 2, 3).clone()
    matrices[:, 0, 2] = 2 * columns
    return matrices


def test_normalize_maps_each_modalitys_range_to_0_and_1_and_clips():
    windows = torch.tensor([-200.0, -100, 0, 100, 200]).reshape(1, 1, 5, 1, 1).repeat(1, 2, 1, 1, 1)
    ranges = torch.tensor([[[-100.0, 100.0], [0.0, 400.0]]])
    assert normalize(windows, ranges)[0, :, :, 0, 0].tolist() == [[0, 0, 0.5, 1, 1], [0, 0, 0, 0.25, 0.5]]


@pytest.mark.parametrize("extents", [None, torch.tensor([[12.0, 17.0], [8.0, 17.0], [12.0, 5.0]])])
def test_windows_one_at_a_time_are_those_of_all_at_once(windows, extents):
    voxels = (1000 * windows - 300).to(torch.int16)
    before = voxels.clone()
    ranges = torch.tensor([[[-100.0, 500.0], [0.0, 400.0]]]) * torch.tensor([1.0, 1.5, 2.0])[:, None, None]
    matrices = torch.eye(2, 3) + torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(0)) / 4
    expected = resample_windows(normalize(voxels, ranges), matrices, (15, 20), extents)
    assert torch.equal(normalize_and_resample(voxels, ranges, matrices, (15, 20), extents), expected)
    assert torch.equal(voxels, before)


def test_same_size_is_the_same_image(windows):
    same = resample_windows(windows, torch.eye(2, 3).expand(3, 2, 3), (12, 17))
    assert torch.allclose(same, windows, atol=1e-5)


def test_same_size_is_the_same_label_map():
    labels = torch.randint(0, 9, (3, 12, 17), generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample_labels(labels, torch.eye(2, 3).expand(3, 2, 3), (12, 17)), labels[:, None])


def test_resizing_is_that_of_torch_inside_the_slice(windows):
    small = resample_windows(windows, torch.eye(2, 3).expand(3, 2, 3), (10, 17))
    expected = F.interpolate(windows.flatten(1, 2), (10, 17), mode="bilinear", align_corners=False)
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
    assert torch.equal(resample_labels(labels, torch.eye(2, 3).expand(1, 2, 3), (2, 2)), labels[:, None])


def fractions_of(votes, classes):
    return F.one_hot(votes.long(), classes).float().mean(1).movedim(-1, 1)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3), (3, 2), (1, 2)])
def test_shrinking_by_whole_numbers_takes_the_mean_of_the_pixels(rows, columns):
    generator = torch.Generator().manual_seed(0)
    windows, labels = torch.rand(2, 1, 3, 36, 24, generator=generator), torch.randint(0, 4, (2, 36, 24))
    whole, size = torch.eye(2, 3).expand(2, 2, 3), (36 // rows, 24 // columns)
    small = resample_windows(windows, whole, size)
    torch.testing.assert_close(small[:, 0], F.avg_pool2d(windows[:, 0], (rows, columns)))
    fractions = fractions_of(resample_labels(labels, whole, size), 4)
    expected = F.avg_pool2d(F.one_hot(labels, 4).movedim(-1, 1).float(), (rows, columns))
    torch.testing.assert_close(fractions, expected)


@pytest.mark.parametrize("side", [24, 31, 36, 40, 48])
def test_labels_lie_where_their_image_lies(side):
    """Not half a pixel of the slice beside it, as single samples do where two of its pixels make one."""
    image = disc(72, 72, 1.0, radius=20.0, center=(4.3, -5.6))
    whole = torch.eye(2, 3)[None]
    small = resample_windows(image[None, None, None], whole, (side, side))[0, 0, 0]
    labeled = fractions_of(resample_labels(image.long()[None], whole, (side, side)), 2)[0, 1]
    places = (torch.arange(side) + 0.5) * 72 / side
    for shown in (small, labeled):
        middle = [(shown.sum(axis) @ places) / shown.sum() - 36 for axis in (1, 0)]
        assert middle == pytest.approx([4.3, -5.6], abs=0.2)


def test_shrinking_a_turned_window_does_not_alias():
    """Stripes that are too fine for the output become gray; single samples would show coarser stripes."""
    stripes = (torch.arange(128) % 2).float().expand(1, 1, 1, 128, 128)
    cosine, sine = math.cos(0.5) / 1.5, math.sin(0.5) / 1.5
    turned = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]])
    gray = resample_windows(stripes, turned, (32, 32))
    assert (gray - 0.5).abs().max() < 0.3
    assert gray.std() < 0.1
    assert stripes.std() == pytest.approx(0.5, abs=0.01)


def test_votes_of_a_quarter_turn_are_the_turned_votes():
    labels = torch.randint(0, 4, (1, 30, 30), generator=torch.Generator().manual_seed(0))
    turned = resample_labels(labels, torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]]), (15, 15))
    expected = resample_labels(torch.rot90(labels, 1, (1, 2)), torch.eye(2, 3)[None], (15, 15))
    torch.testing.assert_close(fractions_of(turned, 4), fractions_of(expected, 4))


def test_what_is_ignored_stays_ignored_in_its_votes():
    labels = torch.tensor([[[IGNORED, IGNORED, 1, 1], [IGNORED, 2, 1, 1]]])
    votes = resample_labels(labels, torch.eye(2, 3)[None], (1, 2))
    assert sorted(votes[0, :, 0, 0].tolist()) == [2, IGNORED, IGNORED, IGNORED]
    assert votes[0, :, 0, 1].tolist() == [1, 1, 1, 1]


def best_dice(label, side):
    """What a network reaches that has learned its training targets to perfection, brought back to the slices."""
    slices, (rows, columns) = len(label), label.shape[1:]
    whole = torch.eye(2, 3).expand(slices, 2, 3)
    targets = fractions_of(resample_labels(label, whole, (side, side)), int(label.max()) + 1)
    sides = torch.ones(slices, 2)
    back = sample_logits(targets.clamp(min=1e-3).log(), own_pixels((rows, columns), sides, sides)).argmax(1)
    found = [(back == number, label == number) for number in range(1, int(label.max()) + 1)]
    return float(np.mean([2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in found]))


@pytest.mark.parametrize(("side", "dice"), [(168, 0.995), (112, 0.98), (84, 0.98)])
def test_shrunk_labels_cost_little_dice(side, dice):
    discs = torch.stack([disc(216, 216, 1.0, radius, (3.3, -2.7)) for radius in (8.0, 12.0, 20.0)])
    assert best_dice(discs.long(), side) >= dice


@pytest.mark.slow
@pytest.mark.real
def test_shrunk_labels_cost_little_dice_on_the_heart(shared):
    """Of ACDC's slices, most of them shrunk to about a half; of single samples this was 0.964."""
    files = sorted((shared / "data" / "acdc_cine" / "labels").iterdir())[::17]
    labels = [torch.from_numpy(np.asarray(nifti1.load(file).dataobj).astype(np.int64)).movedim(-1, 0) for file in files]
    assert np.mean([best_dice(label, 112) for label in labels]) >= 0.99


def disc(rows, columns, pixel, radius=20.0, center=(6.0, -9.0)):
    """A disc on a grid of square pixels, center and radius in millimeters from the middle of the slice."""
    y = (torch.arange(rows) - (rows - 1) / 2) * pixel - center[0]
    x = (torch.arange(columns) - (columns - 1) / 2) * pixel - center[1]
    return ((y[:, None] ** 2 + x**2) < radius**2).float()


def sides_of(image, pixel):
    return torch.tensor([[image.shape[0] * pixel, image.shape[1] * pixel]])


def test_without_a_pixel_spacing_every_slice_fills_the_input():
    sides = torch.tensor([[100.0, 80.0], [300.0, 40.0]])
    fields = field_sides(sides, (64, 64), None)
    assert torch.equal(fields, sides)
    assert torch.equal(field_matrices(sides, fields), torch.eye(2, 3).expand(2, 2, 3))


def test_with_a_pixel_spacing_things_of_one_size_stay_of_one_size():
    areas = []
    for rows, columns, pixel in ((60, 60, 1.0), (50, 110, 1.25), (120, 90, 0.7)):
        image = disc(rows, columns, pixel)
        sides = sides_of(image, pixel)
        fields = field_sides(sides, (96, 128), (1.5, 1.5))
        assert fields.tolist() == [[144.0, 192.0]]
        shown = resample_windows(image[None, None, None], field_matrices(sides, fields), (96, 128))[0, 0, 0]
        areas.append(float(shown.sum()) * 1.5**2)
        middle = (shown.sum(1) @ (torch.arange(96) - 47.5)) / shown.sum() * 1.5
        assert middle == pytest.approx(6.0, abs=0.2)
    assert areas == pytest.approx([math.pi * 20**2] * 3, rel=0.02)


def test_a_slice_larger_than_the_field_is_scaled_down_whole():
    sides = torch.tensor([[100.0, 400.0]])
    fields = field_sides(sides, (100, 100), (2.0, 2.0))
    assert fields.tolist() == [[400.0, 400.0]]
    everything = torch.ones(1, 1, 1, 50, 200)
    shown = resample_windows(everything, field_matrices(sides, fields), (100, 100))[0, 0, 0]
    assert float(shown.mean()) == pytest.approx(0.25, abs=0.01)
    assert (shown[40:60] > 0.99).float().mean() > 0.9


@pytest.mark.parametrize("pixel_spacing", [None, (1.0, 1.0), (1.5, 2.0)])
def test_logits_come_back_to_where_their_slice_was(pixel_spacing):
    image = disc(70, 90, 1.2)
    sides = sides_of(image, 1.2)
    fields = field_sides(sides, (128, 128), pixel_spacing)
    there = resample_windows(image[None, None, None], field_matrices(sides, fields), (128, 128))[:, 0]
    back = sample_logits(there, own_pixels((70, 90), sides, fields))[0, 0]
    assert ((back > 0.5) != (image > 0.5)).float().mean() < 0.01


def test_logits_are_brought_back_as_torch_interpolates_where_slices_fill_the_input():
    logits = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    sides = torch.tensor([[30.0, 20.0], [31.0, 27.0]])
    expected = torch.nn.functional.interpolate(logits, size=(31, 17), mode="bilinear", align_corners=False)
    torch.testing.assert_close(sample_logits(logits, own_pixels((31, 17), sides, sides)), expected, atol=1e-4, rtol=0)


def test_two_geometries_in_one_matrix():
    generator = torch.Generator().manual_seed(0)
    first, then = torch.randn(2, 4, 2, 3, generator=generator)
    point = torch.randn(2, generator=generator)

    def moved(matrix, at):
        return matrix[:, :, :2] @ at[..., None] + matrix[:, :, 2:]

    expected = moved(then, moved(first, point)[..., 0])
    torch.testing.assert_close(moved(follow(first, then), point), expected)
