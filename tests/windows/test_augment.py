import math

import pytest
import torch

from inflate3d.config import AugmentationConfig
from inflate3d.windows.augment import augment_batch, change_intensities, mirror_depth, random_matrices
from inflate3d.windows.datamodule import WindowBatch
from inflate3d.windows.resample import resample_labels, resample_windows

NOTHING = AugmentationConfig(
    augment_probability=0, flip_probability=0, intensity_probability=0, max_zoom=1, max_rotation=0, max_shift=0
)
MUCH = AugmentationConfig(augment_probability=1, flip_probability=0.5, intensity_probability=1)
ALL, NONE = (True, True, True), (False, False, False)


def only(**changes):
    return NOTHING.model_copy(update={"augment_probability": 1.0, **changes})


def matrices_of(config, flips=ALL, count=64, side=(100.0, 100.0), seed=0):
    sides = torch.tensor([side]).expand(count, 2)
    return random_matrices(config, torch.tensor([flips]).expand(count, 3), sides, torch.Generator().manual_seed(seed))


def windows_of(count=64):
    return torch.rand(count, 1, 5, 8, 8, generator=torch.Generator().manual_seed(1))


def test_nothing_asked_for_changes_nothing():
    assert torch.equal(matrices_of(NOTHING), torch.eye(2, 3).expand(64, 2, 3))
    assert torch.equal(change_intensities(windows_of(), NOTHING, torch.Generator()), windows_of())
    labels = windows_of()[:, :1].long()
    same = mirror_depth(windows_of(), labels, torch.ones(64).bool(), NOTHING, torch.Generator())
    assert torch.equal(same[0], windows_of()) and torch.equal(same[1], labels)


def test_same_seed_same_draws():
    assert torch.equal(matrices_of(MUCH, seed=5), matrices_of(MUCH, seed=5))
    assert not torch.equal(matrices_of(MUCH, seed=5), matrices_of(MUCH, seed=6))
    changed = [change_intensities(windows_of(), MUCH, torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


def test_windows_of_a_batch_differ():
    assert len(torch.unique(matrices_of(MUCH), dim=0)) == 64


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_geometry_is_changed_as_often_as_asked(part):
    matrices = matrices_of(MUCH.model_copy(update={"augment_probability": part}), NONE, count=2000)
    changed = (matrices != torch.eye(2, 3)).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(part, abs=0.04)


@pytest.mark.parametrize(
    ("flips", "turned"),
    [(NONE, []), ((False, True, False), ["rows"]), ((False, False, True), ["columns"]), (ALL, ["columns", "rows"])],
)
def test_mirrors_happen_only_where_they_are_allowed(flips, turned):
    matrices = matrices_of(only(flip_probability=0.5), flips, count=400)
    seen = {"columns": matrices[:, 0, 0] < 0, "rows": matrices[:, 1, 1] < 0}
    assert sorted(name for name, where in seen.items() if where.any()) == turned
    assert torch.equal(matrices.abs(), torch.eye(2, 3).expand(400, 2, 3))
    for name in turned:
        assert seen[name].float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_each_window_is_mirrored_only_as_its_plane_allows():
    sides, flips = torch.full((400, 2), 50.0), torch.tensor([[True, True, False], [True, False, True]]).repeat(200, 1)
    matrices = random_matrices(only(flip_probability=0.5), flips, sides, torch.Generator().manual_seed(0))
    rows, columns = matrices[:, 1, 1] < 0, matrices[:, 0, 0] < 0
    assert rows[0::2].any() and columns[1::2].any()
    assert not rows[1::2].any() and not columns[0::2].any()


def test_no_other_change_is_a_mirror():
    matrices = matrices_of(MUCH, NONE, count=1000)
    assert (torch.linalg.det(matrices[:, :, :2]) > 0).all()


@pytest.mark.parametrize("side", [(100.0, 100.0), (50.0, 200.0), (160.0, 90.0)])
def test_rotation_and_zoom_keep_shapes_in_millimeters(side):
    linear = matrices_of(MUCH, ALL, side=side)[:, :, :2]
    half = torch.diag(torch.tensor([side[1] / 2, side[0] / 2]))  # normalized (x, y) to mm
    in_mm = half @ linear @ half.inverse()
    scale = torch.linalg.det(in_mm).abs().sqrt()
    rotation = in_mm / scale[:, None, None]
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(2).expand(64, 2, 2), atol=1e-5)
    assert (1 / scale >= 1 / MUCH.max_zoom - 1e-5).all()
    assert (1 / scale <= MUCH.max_zoom + 1e-5).all()


def test_rotation_stays_within_its_limit_and_comes_near_it():
    matrices = matrices_of(only(max_rotation=30.0), NONE, count=500)
    angles = torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert angles.abs().max().item() == pytest.approx(30, abs=1)
    assert angles.min() < 0 < angles.max()


def test_shift_is_a_part_of_the_slices_size():
    matrices = matrices_of(only(max_shift=0.1), NONE, count=500)
    assert matrices[:, :, 2].abs().max().item() == pytest.approx(0.2, abs=0.01)  # of a side that is 2 long
    assert torch.equal(matrices[:, :, :2], torch.eye(2).expand(500, 2, 2))


def test_zoom_above_1_enlarges():
    blob = torch.zeros(32, 1, 1, 41, 41)
    blob[..., 15:26, 15:26] = 1
    matrices = matrices_of(only(max_zoom=2.0), NONE, count=32)
    areas = resample_windows(blob, matrices, (41, 41)).sum(dim=(1, 2, 3, 4))
    assert torch.allclose(areas, 121 / matrices[:, 0, 0] ** 2, rtol=0.25)
    assert areas.max() > 2 * 121
    assert areas.min() < 121 / 2


def test_labels_stay_on_their_image():
    """A bright blob in a 1 × 2 mm grid, labeled, is where its label is, whatever the geometry."""
    image = torch.zeros(64, 1, 3, 60, 30)
    image[..., 20:34, 12:20] = 1
    labels = image[:, 0, 1].long()
    matrices = matrices_of(MUCH, ALL, side=(60.0, 60.0))
    moved = resample_windows(image, matrices, (64, 48))[:, 0, 1]
    where = resample_labels(labels, matrices, (64, 48))[:, 0]
    assert (where.flatten(1).sum(dim=1) > 50).all()
    overlap = (where * (moved > 0.5)).flatten(1).sum(dim=1)
    assert (2 * overlap / (where + (moved > 0.5)).flatten(1).sum(dim=1) > 0.9).all()
    assert moved[where == 1].mean() > 0.93


@pytest.mark.parametrize("pixels", [24, 48])  # enlarged, and shrunk
def test_the_frame_beside_a_slice_is_black_as_in_prediction(pixels):
    """A bright slice in a field of twice its size: what lies beside it is no part of any change of intensities."""
    count, sides = 32, torch.full((32, 2), 50.0)
    bright, labels = torch.full((count, 1, 3, pixels, pixels), 90.0), torch.ones(count, 1, pixels, pixels)
    batch = WindowBatch(
        windows=bright,
        labels=labels.to(torch.uint8),
        extents=torch.full((count, 2), float(pixels)),
        sides=sides,
        centers=torch.zeros(count, 2),
        ranges=torch.tensor([0.0, 100.0]).expand(count, 1, 2),
        cases=torch.zeros(count, dtype=torch.long),
        axes=torch.zeros(count, dtype=torch.long),
    )
    config = MUCH.model_copy(update={"max_zoom": 1.0, "max_shift": 0.0})
    generator = torch.Generator().manual_seed(0)
    windows, votes = augment_batch(batch, 2 * sides, (64, 64), config, [ALL], generator)
    inside = votes.float().mean((1, 2))
    beside = windows.movedim(2, 0)[:, :, 0]
    assert torch.equal(beside[:, inside == 0], torch.zeros_like(beside[:, inside == 0]))
    assert inside.mean() == pytest.approx(0.25, abs=0.02)
    assert (beside[:, inside == 1] > 0).float().mean() > 0.99
    assert windows.max() <= 1


def test_center_slice_stays_the_center_slice():
    windows = windows_of()
    labels = (10 * windows).long()
    half = only(flip_probability=0.5)
    allowed = torch.arange(64) < 60
    turned, labels_turned = mirror_depth(windows.clone(), labels, allowed, half, torch.Generator().manual_seed(0))
    assert torch.equal(labels_turned, (10 * turned).long())
    assert torch.equal(turned[:, :, 2], windows[:, :, 2])
    upside_down = (turned == windows.flip(2)).flatten(1).all(dim=1)
    as_before = (turned == windows).flatten(1).all(dim=1)
    assert (upside_down ^ as_before).all()
    assert as_before[60:].all()
    assert 15 < int(upside_down.sum()) < 49


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({"max_intensity_scale": 0.25}, 0.375, 0.625),
        ({"max_intensity_shift": 0.1}, 0.4, 0.6),
        ({"max_gamma": 1.5}, 0.5**1.5, 0.5 ** (1 / 1.5)),
    ],
)
def test_intensity_changes_stay_within_their_limits_and_come_near_them(changes, low, high):
    none = {"max_intensity_scale": 0.0, "max_intensity_shift": 0.0, "max_gamma": 1.0, "max_noise": 0.0}
    config = only(intensity_probability=1.0, **{**none, **changes})
    gray = torch.full((500, 1, 3, 2, 2), 0.5)
    changed = change_intensities(gray, config, torch.Generator().manual_seed(0))
    assert torch.equal(changed, changed[:, :, :1, :1, :1].expand_as(changed))  # alike on all slices
    assert changed.min().item() == pytest.approx(low, abs=0.01)
    assert changed.max().item() == pytest.approx(high, abs=0.01)


def test_intensities_stay_those_that_a_network_sees_in_prediction():
    changed = change_intensities(windows_of(), MUCH, torch.Generator().manual_seed(0))
    assert changed.min() == 0
    assert changed.max() == 1
    assert 0.3 < changed.mean() < 0.7


def test_noise_has_the_deviation_asked_for():
    config = only(
        intensity_probability=1.0, max_noise=0.1, max_intensity_scale=0.0, max_intensity_shift=0.0, max_gamma=1.0
    )
    changed = change_intensities(torch.full((200, 1, 3, 16, 16), 0.5), config, torch.Generator().manual_seed(0))
    deviations = changed.flatten(1).std(dim=1)
    assert deviations.max().item() == pytest.approx(0.1, rel=0.1)
    assert deviations.mean().item() == pytest.approx(0.05, rel=0.2)
    assert changed.mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_rotation_by_hand():
    """A quarter turn takes the output's right to the slice's lower edge: rows run down, columns right."""
    config = only(max_rotation=180.0)
    matrices = matrices_of(config, NONE, count=256)
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])
    nearest = int((angles - math.pi / 2).abs().argmin())
    corner = torch.zeros(1, 1, 1, 31, 31)
    corner[..., 24:30, 12:19] = 1  # low in the middle
    turned = resample_windows(corner, matrices[nearest : nearest + 1], (31, 31))[0, 0, 0]
    assert turned[12:19, 24:30].mean() > 0.8  # right in the middle
