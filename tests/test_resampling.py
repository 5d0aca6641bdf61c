import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from inflate3d.errors import ConfigError, DataError
from inflate3d.resampling import (
    nearest_slices,
    resample_image,
    resample_labels,
    resample_slices,
    slice_weights,
    thick_axis,
)
from inflate3d.volume import Grid, Volume

SHAPE = (6, 7, 8)

TURN = Rotation.from_rotvec([0.3, -0.2, 0.4]).as_matrix()


def affine_of(axes, shape=SHAPE):
    """An affine whose grid of the given shape has its middle in one place, whichever way its axes run."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array([-20.0, 5.0, 7.0]) - axes @ (np.array(shape) - 1) / 2
    return affine


AFFINES = {
    "straight": affine_of(np.diag([1.0, 1.5, 2.0])),
    "flipped": affine_of(np.diag([-1.0, 1.5, -2.0])),
    "left-handed": affine_of(np.eye(3)[:, [1, 0, 2]] * [1.0, 1.5, 2.0]),
    "oblique": affine_of(TURN * [1.0, 1.5, 2.0]),
    "sheared": affine_of(TURN @ np.array([[1.0, 0, 0.2], [0, 1.5, 0.7], [0, 0, 2]])),
}

any_affine = pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())

TURNED_GRID = Grid(
    (7, 12, 9), affine_of(Rotation.from_rotvec([0, 0.2, -0.5]).as_matrix() * [1.3, 0.9, 1.1], (5, 10, 8))
)
"""Lies along none of those, and partly beyond each."""


def centers(grid):
    """World position of every voxel, ``(3, I, J, K)`` in mm."""
    index = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine[:3, :3] @ index + grid.affine[:3, 3:]).reshape(3, *grid.shape)


def positions(source, target):
    """Every voxel of the target in voxels of the source, ``(3, I, J, K)``."""
    inverse = np.linalg.inv(source.affine)
    return (inverse[:3, :3] @ centers(target).reshape(3, -1) + inverse[:3, 3:]).reshape(3, *target.shape)


def within(source, target, margin):
    """Voxels of the target whose center lies this many voxels inside the source's outermost centers."""
    last = np.array(source.shape).reshape(3, 1, 1, 1) - 1
    place = positions(source, target)
    return ((place >= margin) & (place <= last - margin)).all(axis=0)


def grid_of(source, to):
    return to if isinstance(to, Grid) else source.at_spacing(to)


def name_of(to):
    return "turned" if isinstance(to, Grid) else "{} x {} x {} mm".format(*to)


def ramp(place):
    """A linear function of world position."""
    return np.einsum("cw,w...->c...", [[0.3, -0.5, 0.7], [1.0, 0.2, 0.1]], place) + 11


def noise(affine, shape=SHAPE, channels=1):
    return Volume(np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32), affine, ("a note",))


def blobs(affine, shape=SHAPE, classes=5, dtype="uint8"):
    return Volume(np.random.default_rng(1).integers(0, classes, (1, *shape)).astype(dtype), affine, ("a note",))


# --- images --------------------------------------------------------------------------------------------------


@any_affine
@pytest.mark.parametrize("to", [(0.7, 0.7, 0.7), (2.0, 1.5, 1.0), (3.0, 3.0, 3.0), TURNED_GRID], ids=name_of)
def test_a_linear_ramp_is_reproduced(affine, to):
    source = Grid(SHAPE, affine)
    target = grid_of(source, to)
    resampled = resample_image(Volume(ramp(centers(source)), affine), target, order=1)
    inner = within(source, target, -1e-9)
    assert inner.any()
    assert resampled.array[:, inner] == pytest.approx(ramp(centers(target))[:, inner], abs=1e-5)
    assert resampled.array.dtype == np.float32
    assert resampled.affine is target.affine


@any_affine
def test_splines_reproduce_a_ramp_far_from_the_edges(affine):
    source = Grid((24, 24, 24), affine)
    target = source.at_spacing((0.8, 1.9, 1.3))
    resampled = resample_image(Volume(ramp(centers(source)), affine), target)
    inner = within(source, target, 8)
    assert inner.any()
    assert resampled.array[:, inner] == pytest.approx(ramp(centers(target))[:, inner], abs=1e-3)


@any_affine
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("to", [(0.8, 2.1, 1.1), TURNED_GRID], ids=name_of)
def test_images_agree_with_scipy_in_three_dimensions(affine, order, to):
    volume = noise(affine, channels=2)
    target = grid_of(volume.grid, to)
    place = positions(volume.grid, target)
    last = np.array(SHAPE).reshape(3, 1, 1, 1) - 1
    expected = [
        map_coordinates(channel.astype(float), place.clip(0, last), order=order, mode="mirror")
        for channel in volume.array
    ]
    inside = within(volume.grid, target, -0.5)
    resampled = resample_image(volume, target, order=order, fill=-7)
    assert resampled.array == pytest.approx(np.where(inside, expected, -7), abs=1e-5)
    assert resampled.notes == ("a note",)


@pytest.mark.parametrize("name", [name for name in AFFINES if name != "sheared"])  # ITK knows no sheared grids
def test_linear_agrees_with_itk(name):
    volume = noise(AFFINES[name])
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetReferenceImage(_to_itk(np.zeros(TURNED_GRID.shape, np.float32), TURNED_GRID.affine))
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    resampler.SetDefaultPixelValue(-7)
    expected = SimpleITK.GetArrayFromImage(resampler.Execute(_to_itk(volume.array[0], volume.affine))).transpose(
        2, 1, 0
    )
    assert resample_image(volume, TURNED_GRID, order=1, fill=-7).array[0] == pytest.approx(expected, abs=1e-5)


def _to_itk(array, affine):
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    lps = np.diag([-1.0, -1, 1]) @ affine[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:, 3].tolist())
    image.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    return image


@pytest.mark.parametrize("counts", [(3, 5, 4), (12, 14, 16), (6, 20, 3)])
def test_linear_agrees_with_torch_to_the_very_edges(counts):
    volume = noise(np.diag([1.0, 1.0, 1.0, 1.0]))
    target = volume.grid.at_spacing(tuple(old / new for old, new in zip(SHAPE, counts, strict=True)))
    batch = torch.from_numpy(volume.array)[None].double()
    expected = torch.nn.functional.interpolate(batch, counts, mode="trilinear", align_corners=False)[0]
    assert resample_image(volume, target, order=1).array == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.parametrize("order", [1, 3])
def test_beyond_the_outer_edges_is_the_fill(order):
    volume = Volume(np.full((1, 4, 4, 4), 5, np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    grid = Grid((16, 4, 4), np.array([[1.0, 0, 0, -4.5], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]))
    line = resample_image(volume, grid, order=order, fill=-1024).array[0, :, 1, 1]
    assert line.tolist() == pytest.approx([-1024] * 4 + [5] * 8 + [-1024] * 4, abs=1e-4)


@any_affine
def test_one_grid_keeps_the_very_volume(affine):
    volume = noise(affine)
    assert resample_image(volume, volume.grid) is volume
    labels = blobs(affine)
    assert resample_labels(labels, labels.grid) is labels


@pytest.mark.parametrize("order", [1, 3])
def test_a_grid_of_the_same_voxels_gives_their_values(order):
    volume = noise(AFFINES["oblique"])
    turned = volume.reorient("LPI").crop((1, 0, 2), (5, 6, 6))
    assert resample_image(volume, turned.grid, order=order).array == pytest.approx(turned.array, abs=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_every_type_becomes_float32(dtype):
    volume = Volume(np.arange(336).reshape(1, *SHAPE).astype(dtype) % 200, np.eye(4))
    resampled = resample_image(volume, volume.grid.at_spacing((0.5, 1.0, 1.0)), order=1).array
    assert resampled.dtype == np.float32
    assert resampled[0, 1] == pytest.approx(0.75 * volume.array[0, 0] + 0.25 * volume.array[0, 1].astype(float))


@pytest.mark.parametrize("order", [1, 3])
def test_single_slices_can_be_resampled(order):
    volume = noise(np.eye(4), (5, 6, 1))
    resampled = resample_image(volume, volume.grid.at_spacing((1.0, 1.0, 0.5)), order=order)
    assert resampled.array == pytest.approx(np.repeat(volume.array, 2, axis=3), abs=1e-6)


# --- thick slices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((1.0, 1.0, 1.0), None),
        ((1.0, 1.0, 3.0), None),
        ((1.0, 1.0, 3.01), 2),
        ((5.0, 0.8, 0.8), 0),
        ((1.0, 3.5, 1.2), 1),
        ((0.24, 1.25, 1.25), None),
        ((1.25, 0.24, 1.2500001), None),
        ((1.0, 4.0, 5.0), 2),
    ],
)
def test_thick_axis_is_the_only_largest_beyond_three_to_one(spacing, axis):
    assert thick_axis(spacing) == axis


@pytest.mark.parametrize("thick", [0, 1, 2])
@pytest.mark.parametrize("thick_order", [0, 1])
@pytest.mark.parametrize("turn", [np.eye(3), TURN], ids=["straight", "oblique"])
@pytest.mark.parametrize("codes", [None, "ILP"])
def test_thick_slices_are_interpolated_plane_by_plane(thick, thick_order, turn, codes):
    spacing = [1.0, 1.2, 1.1]
    spacing[thick] = 5.0
    volume = noise(affine_of(turn * spacing))
    target = volume.grid.at_spacing((0.9, 0.9, 0.9))
    expected = _plane_by_plane(volume.array[0], target.shape, thick, thick_order)
    if codes is not None:  # the same voxels along other axes
        expected = Volume(expected[np.newaxis], target.affine).reorient(codes)
        target, expected = expected.grid, expected.array[0]
    resampled = resample_image(volume, target, order=3, thick_order=thick_order)
    assert resampled.array[0] == pytest.approx(expected, abs=1e-5)


def _plane_by_plane(array, counts, thick, thick_order):
    """Splines within each slice, one after the other, then a line through them."""
    places = [
        ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
        for old, new in zip(array.shape, counts, strict=True)
    ]
    along = places.pop(thick)
    slices = [
        map_coordinates(plane.astype(float), np.meshgrid(*places, indexing="ij"), order=3, mode="mirror")
        for plane in np.moveaxis(array, thick, 0)
    ]
    if thick_order == 0:
        return np.stack([slices[int(np.floor(place + 0.5 + 1e-9))] for place in along], axis=thick)
    lower = np.minimum(along.astype(int), len(slices) - 2)
    mixed = [
        (low + 1 - place) * slices[low] + (place - low) * slices[low + 1]
        for low, place in zip(lower, along, strict=True)
    ]
    return np.stack(mixed, axis=thick)


def test_a_grid_of_thick_slices_turns_the_rule_on_too():
    volume = noise(np.eye(4), (4, 5, 24))
    target = volume.grid.at_spacing((0.8, 0.8, 4.0))
    expected = _plane_by_plane(volume.array[0], target.shape, 2, 1)
    assert resample_image(volume, target).array[0] == pytest.approx(expected, abs=1e-5)


def test_no_value_overshoots_through_thick_slices():
    steps = np.zeros((1, 6, 6, 8), np.float32)
    steps[..., 4:] = 1
    thick, thin = Volume(steps, np.diag([1.0, 1.0, 5.0, 1.0])), Volume(steps, np.diag([1.0, 1.0, 2.0, 1.0]))
    smooth, curved = thick.resample((1.0, 1.0, 1.0)).array, thin.resample((1.0, 1.0, 0.5)).array
    assert (smooth.min(), smooth.max()) == pytest.approx((0, 1), abs=1e-6)
    assert curved.max() > 1.05


def test_thick_slices_turned_any_way_are_mixed_linearly():
    volume = noise(affine_of(np.diag([1.0, 1.5, 6.0])))
    place = positions(volume.grid, TURNED_GRID)
    lower = place[2].clip(0, 7).astype(int).clip(max=6)
    share = place[2].clip(0, 7) - lower
    last = np.array([5, 6]).reshape(2, 1, 1, 1)
    slices = np.stack(
        [
            map_coordinates(volume.array[0, ..., k].astype(float), place[:2].clip(0, last), order=3, mode="mirror")
            for k in range(8)
        ]
    )
    below, above = (np.take_along_axis(slices, index[np.newaxis], axis=0)[0] for index in (lower, lower + 1))
    expected = np.where(within(volume.grid, TURNED_GRID, -0.5), (1 - share) * below + share * above, 0)
    assert resample_image(volume, TURNED_GRID).array[0] == pytest.approx(expected, abs=1e-5)


# --- labels --------------------------------------------------------------------------------------------------


def one_hot_shares(labels, grid, orders):
    """Every class' mask interpolated, ``(classes, I, J, K)``: slow, and as large as the classes are many."""
    place = positions(labels.grid, grid)
    last = np.array(labels.shape).reshape(3, 1, 1, 1) - 1
    place = np.stack([p if order else np.floor(p + 0.5 + 1e-7) for p, order in zip(place, orders, strict=True)])
    masks = (labels.array[0] == value for value in np.unique(labels.array))
    return np.stack([map_coordinates(mask.astype(float), place.clip(0, last), order=1) for mask in masks])


def check_against_one_hot(labels, grid, orders, resampled):
    shares = one_hot_shares(labels, grid, orders)
    values = np.unique(labels.array)
    inside = within(labels.grid, grid, -0.5)
    chosen = np.take_along_axis(shares, np.searchsorted(values, resampled)[np.newaxis], axis=0)[0]
    assert (resampled[~inside] == 0).all()
    assert (chosen >= shares.max(axis=0) - 1e-5)[inside].all()
    lowest = values[(shares >= shares.max(axis=0) - 1e-7).argmax(axis=0)]  # ties go to the lowest number
    assert np.array_equal(resampled[inside], lowest[inside])


@any_affine
@pytest.mark.parametrize("to", [(0.5, 0.75, 1.0), (0.7, 0.7, 0.7), (2.2, 1.5, 2.9), TURNED_GRID], ids=name_of)
def test_linear_labels_are_the_argmax_of_one_hot_masks(affine, to):
    labels = blobs(affine)
    grid = grid_of(labels.grid, to)
    resampled = resample_labels(labels, grid)
    assert resampled.array.dtype == np.uint8
    assert resampled.affine is grid.affine
    assert resampled.notes == ("a note",)
    check_against_one_hot(labels, grid, (1, 1, 1), resampled.array[0])


@pytest.mark.parametrize("thick", [0, 1, 2])
@pytest.mark.parametrize("thick_order", [0, 1])
@pytest.mark.parametrize("turned", [False, True])
def test_labels_have_a_rule_of_their_own_through_thick_slices(thick, thick_order, turned):
    spacing = [1.0, 1.2, 1.1]
    spacing[thick] = 5.0
    labels = blobs(affine_of(np.diag(spacing)))
    grid = TURNED_GRID if turned else labels.grid.at_spacing((0.9, 0.9, 0.9))
    orders = [1, 1, 1]
    orders[thick] = thick_order
    resampled = resample_labels(labels, grid, thick_order=thick_order)
    check_against_one_hot(labels, grid, orders, resampled.array[0])


@any_affine
@pytest.mark.parametrize("to", [(0.5, 0.75, 1.0), (2.2, 1.5, 2.9), TURNED_GRID], ids=name_of)
def test_nearest_labels_are_those_of_the_nearest_voxel(affine, to):
    labels = blobs(affine, dtype="int16")
    grid = grid_of(labels.grid, to)
    place = np.floor(positions(labels.grid, grid) + 0.5 + 1e-7).astype(int)
    i, j, k = (index.clip(0, size - 1) for index, size in zip(place, SHAPE, strict=True))
    expected = np.where(within(labels.grid, grid, -0.5), labels.array[0, i, j, k], 0)
    resampled = resample_labels(labels, grid, order=0)
    assert np.array_equal(resampled.array[0], expected)
    assert resampled.array.dtype == np.int16


finer = st.tuples(*[st.floats(0.2, 1)] * 3)


@given(st.sampled_from(sorted(AFFINES)), finer, st.tuples(*[st.integers(1, 6)] * 3))
@settings(max_examples=40)
def test_nearest_labels_come_back_from_a_finer_grid(name, finer, shape):
    labels = blobs(AFFINES[name], shape)
    i, j, k = (length * factor for length, factor in zip(labels.spacing, finer, strict=True))
    there = resample_labels(labels, labels.grid.at_spacing((i, j, k)), order=0)
    back = resample_labels(there, labels.grid, order=0)
    assert np.array_equal(back.array, labels.array)
    assert back.affine is labels.affine


@given(st.sampled_from(sorted(AFFINES)), st.tuples(*[st.sampled_from([1, 3, 5])] * 3))
@settings(max_examples=40)
def test_linear_labels_come_back_from_a_grid_that_has_their_voxels(name, factors):
    labels = blobs(AFFINES[name])
    i, j, k = (length / factor for length, factor in zip(labels.spacing, factors, strict=True))
    back = labels.resample((i, j, k), labels=True).resample(labels.grid, labels=True)
    assert np.array_equal(back.array, labels.array)
    assert back.affine is labels.affine


@pytest.mark.parametrize("affine", [np.eye(4), np.diag([1.0, 1.0, 5.0, 1.0])], ids=["even", "thick slices"])
def test_large_shapes_survive_the_way_there_and_back(affine):
    index = np.indices((24, 24, 12))
    ball = ((index - [[[[12]]], [[[11]]], [[[6]]]]) ** 2 / [[[[80]]], [[[60]]], [[[20]]]]).sum(axis=0) < 1
    labels = Volume((3 * ball)[np.newaxis].astype(np.uint8), affine)
    there = labels.resample((0.8, 0.8, 0.9), labels=True)
    back = there.resample(labels.grid, labels=True)
    assert back.grid == labels.grid
    assert there.array.sum() * np.prod(there.spacing) == pytest.approx(
        labels.array.sum() * np.prod(labels.spacing), rel=0.05
    )
    assert (back.array != labels.array).sum() < 0.02 * np.count_nonzero(ball)


@pytest.mark.parametrize("dtype", ["?", "uint8", "uint16", "int32", "int64"])
def test_label_types_are_kept(dtype):
    labels = blobs(np.eye(4), classes=2, dtype=dtype)
    assert labels.resample((0.5, 0.5, 0.5), labels=True).array.dtype == np.dtype(dtype)


def test_labels_are_whole_numbers():
    with pytest.raises(DataError, match=r"only whole numbers[\s\S]*float32"):
        noise(np.eye(4)).resample((2.0, 2.0, 2.0), labels=True)


@pytest.mark.parametrize(
    ("change", "message"), [({"order": 2}, "no such order"), ({"thick_order": 3}, "no such thick_order")]
)
@pytest.mark.parametrize("resample", [resample_image, resample_labels])
def test_other_orders_are_refused(resample, change, message):
    unchecked = getattr(resample, "__wrapped__", resample)  # without the tests' own checks of types
    volume = blobs(np.eye(4))
    with pytest.raises(ConfigError, match=message):
        unchecked(volume, volume.grid, **change)


def test_a_volume_resamples_to_a_grid_or_a_spacing():
    volume = noise(np.eye(4))
    grid = volume.grid.at_spacing((2.0, 1.0, 1.0))
    assert np.array_equal(volume.resample((2.0, 1.0, 1.0)).array, volume.resample(grid).array)
    assert np.array_equal(volume.resample(grid).array, resample_image(volume, grid).array)


# --- stacks of slices ----------------------------------------------------------------------------------------

counts = st.integers(1, 60)


@given(counts, counts)
def test_slice_weights_are_where_a_ramp_says(old, new):
    lower, upper, weight = slice_weights(old, new)
    place = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    assert (1 - weight) * lower + weight * upper == pytest.approx(place, abs=1e-9)
    assert ((weight >= 0) & (weight < 1)).all()
    assert ((lower >= 0) & (upper < old) & (upper - lower <= 1)).all()


@given(counts, counts)
def test_slices_agree_with_torch(old, new):
    array = np.random.default_rng(0).normal(size=(2, old, 3, 2)).astype(np.float32)
    tensor = torch.from_numpy(array).permute(0, 2, 3, 1).flatten(0, 2)[:, None]
    expected = torch.nn.functional.interpolate(tensor.double(), new, mode="linear", align_corners=False)
    expected = expected[:, 0].unflatten(0, (2, 3, 2)).permute(0, 3, 1, 2)
    assert resample_slices(array, new) == pytest.approx(expected.numpy(), abs=1e-5)


@given(counts, counts)
def test_slices_agree_with_volumes(old, new):
    volume = noise(np.eye(4), (old, 2, 3))
    target = volume.grid.at_spacing((old / new, 1.0, 1.0))
    assert target.shape == (new, 2, 3)
    assert resample_slices(volume.array, new) == pytest.approx(resample_image(volume, target, order=1).array, abs=1e-5)


@given(counts, counts)
def test_labels_of_slices_come_back_from_a_larger_count(old, new):
    few, many = sorted((old, new))
    labels = np.arange(few)
    assert np.array_equal(labels[nearest_slices(few, many)][nearest_slices(many, few)], labels)


@given(counts, counts)
def test_nearest_slices_are_exact(old, new):
    expected = [(2 * n + 1) * old // (2 * new) for n in range(new)]  # the slice that holds the center
    assert nearest_slices(old, new).tolist() == expected


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float16", "float32", "float64"])
def test_equal_counts_change_nothing(dtype):
    array = np.random.default_rng(0).normal(size=(2, 7, 3, 4)).astype(dtype)
    assert resample_slices(array, 7) is array
    lower, _, weight = slice_weights(7, 7)
    assert (lower.tolist(), weight.tolist()) == (list(range(7)), [0.0] * 7)
    assert nearest_slices(7, 7).tolist() == list(range(7))


@pytest.mark.parametrize(("dtype", "expected"), [("int16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_integers_are_mixed_as_floats(dtype, expected):
    array = np.array([-32768, 32767]).astype(dtype).reshape(2, 1, 1)
    resampled = resample_slices(array, 4)
    assert resampled.dtype == np.dtype(expected)
    assert resampled.ravel().tolist() == [-32768, -16384.25, 16383.25, 32767]


def test_a_single_slice_is_repeated():
    array = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    assert np.array_equal(resample_slices(array, 3), np.repeat(array, 3, axis=1))
