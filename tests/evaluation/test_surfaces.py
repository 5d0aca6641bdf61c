"""Surface measures against shapes whose distances are known, and against MONAI; lesions by hand."""

import math

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance

from inflate3d.evaluation.shapes import lesion_f1, shape_measures
from inflate3d.evaluation.surfaces import hausdorff_measures, nsd

NAN = math.nan
UNIT = (1.0, 1.0, 1.0)


def box(shape, start, stop, value=1):
    values = np.zeros(shape, np.uint8)
    values[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))] = value
    return values


def ball(radius, center, spacing, shape):
    places = (np.arange(size) * step for size, step in zip(shape, spacing, strict=True))
    grid = np.meshgrid(*places, indexing="ij")
    return sum((x - c) ** 2 for x, c in zip(grid, center, strict=True)) <= radius**2


def scored(prediction, label, spacing=UNIT, tolerance=2.0, classes=2):
    """HD95 and NSD, a row for each class."""
    measured = shape_measures(prediction, label, spacing, classes - 1, tolerance, ("hd95", "nsd"))
    return np.stack(list(measured.values()), axis=1)


def distances(prediction, label, spacing=UNIT):
    """HD95, pooled HD95, HD100 and ASSD of the only class."""
    measured = shape_measures(prediction, label, spacing, 1, 2.0)
    return [measured[name].item() for name in ("hd95", "hd95_pooled", "hd100", "assd")]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("spacing", [UNIT, (3.0, 0.5, 0.7)])
def test_plate_moved_along_its_normal_is_off_by_just_that(axis, spacing):
    """Each boundary voxel of a plate one voxel thick moves by two voxels, and no nearer one comes into its way."""
    shape, start, stop = [20, 20, 20], [5, 5, 5], [15, 15, 15]
    stop[axis] = start[axis] + 1
    first = box(shape, start, stop)
    distance = 2 * spacing[axis]
    value, within = scored(np.roll(first, 2, axis), first, spacing, tolerance=distance)[0]
    assert value == pytest.approx(distance)
    assert within == 1
    assert scored(np.roll(first, 2, axis), first, spacing, tolerance=0.4 * distance)[0, 1] < 0.7


@pytest.mark.slow
def test_concentric_balls():
    """All surface points of the one lie the difference of the radii from the other, but for the grid."""
    spacing, shape = (1.0, 0.5, 0.5), (50, 100, 100)
    center = tuple(size * step / 2 for size, step in zip(shape, spacing, strict=True))
    large, small = (ball(radius, center, spacing, shape).astype(np.uint8) for radius in (20, 15))
    value, within = scored(small, large, spacing, tolerance=3.5)[0]
    assert value == pytest.approx(5, abs=0.6)
    assert within == 0
    assert scored(small, large, spacing, tolerance=6.0)[0, 1] == 1


def test_nsd_weighs_by_area():
    """Of a box's faces the two of an axis move away; the rest of the surface stays within the tolerance."""
    shape, spacing = (50, 50, 50), (0.5, 1.0, 2.0)
    label, prediction = box(shape, (5, 5, 5), (45, 45, 45)), box(shape, (5, 5, 5), (45, 45, 41))
    sides = np.array([20, 40, 80])
    all_faces = 2 * (sides[0] * sides[1] + sides[0] * sides[2] + sides[1] * sides[2])
    shorter = sides - [0, 0, 8]
    lost = 2 * sides[0] * sides[1] + 2 * 8 * (sides[0] + sides[1])  # a face of each box, and the label's rim between
    faces = all_faces + 2 * (shorter[0] * shorter[1] + shorter[0] * shorter[2] + shorter[1] * shorter[2])
    assert scored(prediction, label, spacing, tolerance=0.1)[0, 1] == pytest.approx(1 - lost / faces, abs=0.01)


def test_ends_of_the_tolerance():
    first = box((9, 9, 9), (2, 2, 2), (6, 6, 6))
    second = np.roll(first, 1, axis=0)
    assert scored(second, first, (1.5, 1.0, 1.0), tolerance=1.5)[0, 1] == 1
    assert scored(second, first, (1.5, 1.0, 1.0), tolerance=1.49)[0, 1] < 1
    assert scored(first, first, tolerance=0.0).tolist() == [[0, 1]]


def test_absent_classes():
    label = box((6, 8, 10), (1, 1, 1), (3, 3, 3)) + box((6, 8, 10), (4, 4, 4), (5, 5, 5), 3)
    prediction = box((6, 8, 10), (1, 1, 1), (3, 3, 3)) + box((6, 8, 10), (4, 4, 4), (5, 5, 5), 4)
    spacing = (2.0, 1.0, 0.5)
    diagonal = math.sqrt(12**2 + 8**2 + 5**2)
    expected = [[0, 1], [NAN, NAN], [diagonal, 0], [diagonal, 0]]
    assert np.allclose(scored(prediction, label, spacing, classes=5), expected, equal_nan=True)


def test_single_voxels_at_the_edge():
    first, second = box((3, 3, 3), (0, 0, 0), (1, 1, 1)), box((3, 3, 3), (2, 0, 0), (3, 1, 1))
    value, within = scored(first, second, (4.0, 1.0, 1.0), tolerance=3.9)[0]
    assert value == pytest.approx(8)
    assert within == 0


def test_one_slice_is_a_scan_too():
    first = box((1, 12, 12), (0, 2, 2), (1, 8, 8))
    assert scored(first, first).tolist() == [[0, 1]]
    assert scored(np.roll(first, 3, axis=1), first, (5.0, 0.5, 0.5))[0, 0] == pytest.approx(1.5)


def test_ignored_voxels_belong_to_neither_map():
    label = box((12, 12, 12), (2, 2, 2), (8, 8, 8))
    prediction = box((12, 12, 12), (2, 2, 2), (8, 8, 8)) | box((12, 12, 12), (9, 9, 9), (12, 12, 12))
    assert scored(prediction, label)[0, 0] > 0
    label[9:, 9:, 9:] = 255
    assert scored(prediction, label).tolist() == [[0, 1]]
    label[:] = 255
    assert np.isnan(scored(prediction, label)).all()


def test_the_two_95th_percentiles():
    """A plate of 100 voxels and 8 voxels 10 mm above it: 7 % of one direction's distances, 4 % of both's."""
    label = box((14, 12, 12), (1, 1, 1), (2, 11, 11))
    prediction = label.copy()
    prediction[11, 1, 1:9] = 1
    assert distances(label, label) == [0, 0, 0, 0]
    assert distances(prediction, label) == pytest.approx([10, 0, 10, 80 / (108 + 100)])


@pytest.mark.parametrize("spacing", [UNIT, (3.0, 0.5, 0.7)])
def test_plate_moved_has_one_distance_alone(spacing):
    plate = box((20, 20, 20), (5, 5, 5), (6, 15, 15))
    assert distances(np.roll(plate, 2, 0), plate, spacing) == pytest.approx([2 * spacing[0]] * 4)


def test_balls_of_two_sizes_are_apart_by_the_difference_of_their_radii():
    spacing, shape = (1.0, 0.5, 0.5), (50, 100, 100)
    center = tuple(size * step / 2 for size, step in zip(shape, spacing, strict=True))
    large, small = (ball(radius, center, spacing, shape).astype(np.uint8) for radius in (20, 15))
    hd95, pooled, hd100, assd = distances(small, large, spacing)
    assert assd == pytest.approx(5, abs=0.25)
    assert assd < pooled <= hd95 <= hd100 < 6.2


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [UNIT, (3.0, 0.5, 0.7), (0.8, 2.0, 0.8)])
@pytest.mark.parametrize("part", [0.05, 0.4, 0.9])
@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")  # MONAI's own call of itself
def test_equal_to_monais(part, spacing):
    random, tolerance = np.random.default_rng(0), 0.97
    maps = random.random((2, 7, 9, 8)) < part
    maps[:, 3, 3, 3] = True
    first, second = (torch.from_numpy(values)[None, None] for values in maps)
    how = {"include_background": True, "spacing": list(spacing)}
    expected = {
        "hd95": compute_hausdorff_distance(first, second, percentile=95, **how),
        "hd100": compute_hausdorff_distance(first, second, **how),
        "assd": compute_average_surface_distance(first, second, symmetric=True, **how),
        "nsd": compute_surface_dice(first, second, [tolerance], use_subvoxels=True, **how),
    }
    padded, other = (np.pad(values, 1) for values in maps)
    single = hausdorff_measures(padded, other, spacing) | {"nsd": nsd(padded, other, spacing, tolerance)}
    whole = shape_measures(maps[0].astype(np.int64), maps[1].astype(np.uint8), spacing, 1, tolerance)
    for name, value in expected.items():
        assert single[name] == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
        assert whole[name] == pytest.approx([float(value)], rel=1e-4, abs=1e-6), name


# --- lesions ----------------------------------------------------------------------------------------------


def mask(*voxels):
    values = np.zeros((1, 1, 20), dtype=bool)
    values[0, 0, list(voxels)] = True
    return values


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        (mask(1, 2, 3), mask(1, 2, 3), 1),
        (mask(3), mask(1, 2, 3), 1),  # any voxel will do
        (mask(5), mask(1, 2, 3), 0),  # one missed, one false
        (mask(1), mask(1, 5, 9), 2 / (2 + 2)),  # two missed
        (mask(1, 5, 9, 12), mask(1), 2 / (2 + 3)),  # three false
        (mask(1, 2, 3, 4, 5), mask(1, 5), 1),  # one component over two lesions finds both
        (mask(1, 5), mask(1, 2, 3, 4, 5), 1),  # two parts of one lesion: neither is false
        (mask(1, 7), mask(1, 5), 2 / (2 + 1 + 1)),
    ],
)
def test_lesions_found_missed_and_false(prediction, label, expected):
    assert lesion_f1(prediction, label) == pytest.approx(expected)


def test_voxels_that_share_a_corner_are_of_one_lesion():
    label = np.zeros((3, 3, 3), dtype=bool)
    label[0, 0, 0] = label[1, 1, 1] = label[2, 2, 2] = True
    prediction = np.zeros_like(label)
    prediction[2, 2, 2] = True
    assert lesion_f1(prediction, label) == 1
