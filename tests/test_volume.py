import itertools

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inflate3d.errors import ConfigError, DataError
from inflate3d.grid import Grid, common_grid, spacing_of
from inflate3d.orientation import DEPTH_AXES, Orientation
from inflate3d.volume import Volume, check_volume

SHAPE = (3, 4, 5)
OBLIQUE = np.array([[0.9, 0.1, 0.3, -20], [-0.1, 0.95, 0.2, 5], [-0.1, -0.1, 3, 7], [0, 0, 0, 1.0]])
FRAME_WORLD = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}
"""World axis (right, front, up) of each frame axis."""

AXIS_SETS = [
    (permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""The 48 ways to lay voxel axes along world axes; half of them are left-handed."""


CODES = ["".join(code) for axes in itertools.permutations(("LR", "PA", "IS")) for code in itertools.product(*axes)]
"""The 48 ways to name where three axes lead."""


@st.composite
def affines(draw, most_tilt=0.6, most_shear=0.0):
    permutation, signs = draw(st.sampled_from(AXIS_SETS))
    tilt = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    tilt *= most_tilt / max(1.0, float(np.linalg.norm(tilt)))
    spacing = draw(st.tuples(*[st.floats(0.3, 8)] * 3))
    affine = np.eye(4)
    directions = Rotation.from_rotvec(tilt).as_matrix() @ (np.eye(3)[:, permutation] * signs)
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = draw(st.tuples(*[st.floats(-most_shear, most_shear)] * 3))
    affine[:3, :3] = directions @ shear * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


ANY_AFFINE = affines(most_tilt=3.2, most_shear=0.4)
"""Oblique, left-handed and sheared."""


def padded(volume, before, after, fill: float = 0):
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ before
    i, j, k = (int(sum(sizes)) for sizes in zip(before, volume.shape, after, strict=True))
    return volume.match_geometry(Grid((i, j, k), affine), fill)


def moved(data, volume, steps=("reorient", "crop", "pad")):
    """The volume after a chain of moves; what is put around it has the value 0."""
    for step in data.draw(st.lists(st.sampled_from(steps), max_size=6)):
        if step == "reorient":
            volume = volume.reorient(data.draw(st.sampled_from(CODES)))
        elif step == "pad":
            before, after = (data.draw(st.tuples(*[st.integers(0, 3)] * 3)) for _ in range(2))
            volume = padded(volume, before, after)
        else:
            start = data.draw(st.tuples(*[st.integers(0, size - 1) for size in volume.shape]))
            stop = data.draw(
                st.tuples(*[st.integers(low + 1, size) for low, size in zip(start, volume.shape, strict=True)])
            )
            volume = volume[:, *(slice(low, high) for low, high in zip(start, stop, strict=True))]
    return volume


def numbered(affine, shape=SHAPE):
    """A volume whose every voxel has a number of its own, from 1 on."""
    return Volume(1 + np.arange(np.prod(shape), dtype=np.int32).reshape(1, *shape), affine, ("its note",))


def world_of_voxels(affine, shape=SHAPE):
    """World position of every voxel, ``(3, I, J, K)``."""
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


@given(affines(), st.sampled_from(DEPTH_AXES))
def test_undo_gives_the_array_back(affine, depth_axis):
    orientation = Orientation.of(affine, depth_axis)
    array = np.arange(2 * np.prod(SHAPE)).reshape(2, *SHAPE)
    there = orientation.apply(array)
    assert np.array_equal(orientation.undo(there), array)
    assert np.array_equal(orientation.undo(orientation.apply(array[0])), array[0])
    assert np.shares_memory(there, array)


@given(affines(), st.sampled_from(DEPTH_AXES))
def test_frame_axes_run_up_their_own_world_axes(affine, depth_axis):
    world = Orientation.of(affine, depth_axis).apply(world_of_voxels(affine))
    for frame_axis, world_axis in enumerate(FRAME_WORLD[depth_axis]):
        steps = np.diff(world, axis=1 + frame_axis)
        along = steps[world_axis]
        assert (along > 0).all()
        assert (along >= np.abs(steps).max(axis=0) - 1e-9).all()


@given(affines(most_tilt=3.2), st.sampled_from(DEPTH_AXES))
def test_axes_are_a_permutation_at_any_tilt(affine, depth_axis):
    orientation = Orientation.of(affine, depth_axis)
    assert sorted(orientation.axes) == [0, 1, 2]


@given(affines())
def test_axial_frame_agrees_with_nibabels_canonical_image(affine):
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine))
    frame = Orientation.of(affine, "axial").apply(array)
    assert np.array_equal(frame, np.asarray(canonical.dataobj).transpose(2, 0, 1))


def test_known_orientation():
    lps = np.diag([-1.0, -1.0, 3.0, 1.0])
    assert Orientation.of(lps, "axial") == Orientation(axes=(2, 0, 1), flips=(False, True, True))
    assert Orientation.of(lps, "sagittal") == Orientation(axes=(0, 1, 2), flips=(True, True, False))
    array = np.arange(8).reshape(2, 2, 2)
    assert Orientation.of(lps, "axial").apply(array)[0, 0, 0] == array[1, 1, 0]


@given(affines())
def test_spacing_is_the_distance_between_neighbors(affine):
    world = world_of_voxels(affine)
    neighbors = [np.linalg.norm(np.diff(world, axis=1 + axis), axis=0).mean() for axis in range(3)]
    assert spacing_of(affine) == pytest.approx(neighbors)


def test_volume_tells_shape_and_spacing_in_array_order():
    volume = Volume(np.zeros((2, *SHAPE)), np.diag([-0.5, 2.0, 3.0, 1.0]))
    assert volume.shape == SHAPE
    assert volume.spacing == (0.5, 2.0, 3.0)


def test_a_volumes_grid_is_its_shape_and_affine():
    affine = np.diag([-0.5, 2.0, 3.0, 1.0])
    grid = Volume(np.zeros((2, *SHAPE)), affine).grid
    assert (grid.shape, grid.spacing) == (SHAPE, (0.5, 2.0, 3.0))
    assert np.array_equal(grid.affine, affine)
    assert grid == Grid(SHAPE, affine.copy())
    assert hash(grid) == hash(Grid(SHAPE, affine.copy()))
    assert grid != Grid((3, 4, 6), affine)
    assert grid != Grid(SHAPE, affine + 1e-9 * (affine != 0) * (affine != 1))
    assert grid != "grid"


@pytest.mark.parametrize(
    ("row", "column", "value"), [(0, 0, 0.0), (0, 1, 1e7), (1, 3, np.nan), (2, 2, np.inf), (3, 0, 1.0), (3, 3, 2.0)]
)
def test_a_grid_needs_an_affine_that_can_be_inverted(row, column, value):
    affine = np.eye(4)
    affine[row, column] = value
    with pytest.raises(DataError, match="affine"):
        Grid(SHAPE, affine)


@pytest.mark.parametrize("spacing", [1e-300, 1e-7, 2e5, 1e30])
def test_a_spacing_that_no_scan_has_is_refused(spacing):
    with pytest.raises(DataError, match="impossible"):
        Volume(np.zeros((1, *SHAPE)), np.diag([spacing, 1.0, 1.0, 1.0]))
    assert Grid(SHAPE, np.diag([4e-6, 4e-6, 3e-5, 1.0])).spacing[0] == 4e-6


def test_a_place_that_no_scan_has_is_refused():
    affine = np.eye(4)
    affine[0, 3] = 1e30
    with pytest.raises(DataError, match="impossible"):
        Grid(SHAPE, affine)


def test_a_grid_needs_voxels():
    with pytest.raises(DataError, match=r"no voxels[\s\S]*\(3, 0, 5\)"):
        Grid((3, 0, 5), np.eye(4))


# --- moves, and their undo -----------------------------------------------------------------------------------


@given(st.data(), ANY_AFFINE)
def test_any_chain_of_moves_is_undone_to_the_bit(data, affine):
    scan = numbered(affine)
    there = moved(data, scan)
    back = there.match_geometry(scan.grid)
    kept = np.isin(scan.array, there.array)
    assert np.array_equal(back.array, np.where(kept, scan.array, 0))
    assert np.array_equal(back.affine, affine)
    assert back.array.dtype == scan.array.dtype
    assert there.notes == back.notes == ("its note",)


@given(st.data(), ANY_AFFINE)
def test_nothing_is_lost_where_nothing_is_cropped(data, affine):
    scan = numbered(affine)
    back = moved(data, scan, ("reorient", "pad")).match_geometry(scan.grid, fill=-1)
    assert np.array_equal(back.array, scan.array)


@given(st.data(), ANY_AFFINE)
def test_no_voxel_moves_in_the_world(data, affine):
    scan = numbered(affine)
    there = moved(data, scan)
    before = dict(zip(scan.array.ravel().tolist(), world_of_voxels(affine).reshape(3, -1).T, strict=True))
    after = zip(there.array.ravel().tolist(), world_of_voxels(there.affine, there.shape).reshape(3, -1).T, strict=True)
    assert all(np.allclose(before[number], place, rtol=0, atol=1e-9) for number, place in after if number)


@given(st.data(), ANY_AFFINE)
def test_a_grid_in_single_precision_is_the_same_place(data, affine):
    scan = numbered(affine)
    there = moved(data, scan, ("reorient", "pad"))
    rounded = Volume(there.array, there.affine.astype(np.float32))
    back = rounded.match_geometry(scan.grid)
    assert np.array_equal(back.array, scan.array)


@given(ANY_AFFINE, st.sampled_from(CODES))
def test_codes_are_those_of_nibabel(affine, codes):
    scan = numbered(affine)
    turned = scan.reorient(codes)
    before, after = nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(codes)
    way = nibabel.orientations.ornt_transform(before, after)
    assert np.array_equal(turned.array[0], nibabel.orientations.apply_orientation(scan.array[0], way))
    assert turned.affine == pytest.approx(affine @ nibabel.orientations.inv_ornt_aff(way, SHAPE))
    assert np.shares_memory(turned.array, scan.array)
    assert sorted(turned.spacing) == pytest.approx(sorted(scan.spacing))


@pytest.mark.parametrize("codes", ["RAX", "RA", "RASS", "RAL", "ras", ""])
def test_codes_that_name_no_orientation_are_refused(codes):
    with pytest.raises(ConfigError, match=r"three directions[\s\S]*such as RAS or LPS"):
        numbered(np.eye(4)).reorient(codes)


def test_indexing_keeps_voxels_at_their_places():
    scan = numbered(OBLIQUE, (6, 7, 8))
    part = scan[0, 1:5:2, ::-1, -3]
    assert part.shape == (2, 7, 1)
    assert np.array_equal(part.array, scan.array[:1, 1:5:2, ::-1, 5:6])
    assert np.shares_memory(part.array, scan.array)
    places = world_of_voxels(OBLIQUE, (6, 7, 8))[:, 1:5:2, ::-1, 5:6]
    assert np.allclose(world_of_voxels(part.affine, part.shape), places)
    assert part.notes == scan.notes


def test_indexing_selects_modalities():
    scan = Volume(np.arange(3 * 60).reshape(3, *SHAPE), OBLIQUE)
    assert np.array_equal(scan[1].array, scan.array[1:2])
    assert np.array_equal(scan[::-1].array, scan.array[::-1])
    assert scan[1].grid == scan.grid


@pytest.mark.parametrize("index", [(0, slice(2, 2)), 1, (0, 3), (0, 0, 0, 0, 0), None, ..., [0], (0, "a")])
def test_invalid_indices_are_refused(index):
    with pytest.raises(DataError):
        numbered(np.eye(4))[index]


def test_with_array_keeps_the_place():
    scan = numbered(OBLIQUE)
    labels = scan.with_array(np.ones((1, *SHAPE), np.uint8))
    assert labels.grid == scan.grid
    assert labels.array.dtype == np.uint8
    with pytest.raises(DataError):
        scan.with_array(np.ones((1, 3, 4, 6), np.uint8))


def test_equality_and_hash():
    scan, same = numbered(OBLIQUE), numbered(OBLIQUE.copy())
    assert scan == same
    assert hash(scan) == hash(same)
    assert scan != scan.with_array(scan.array + 1)
    assert scan != scan.with_array(scan.array.astype("int64"))
    assert scan != numbered(np.eye(4))
    assert scan != 3
    assert len({scan, same}) == 1


def test_repr_is_one_line():
    text = repr(Volume(np.zeros((2, *SHAPE), np.int16), np.diag([-0.5, -0.5, 3.0, 1.0])))
    assert text == "Volume(2 modalities, shape (3, 4, 5), spacing (0.5, 0.5, 3) mm, orientation LPS, int16)"


# --- the gate ------------------------------------------------------------------------------------------------


def holed(value, dtype="float32"):
    array = np.zeros((1, *SHAPE), dtype)
    array[0, 1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    "array",
    [
        holed(np.nan),
        holed(-np.inf),
        holed(1j, "complex64"),
        holed(-1e39, "float64"),
        np.zeros(SHAPE),
        np.zeros((1, 1, *SHAPE)),
        np.zeros((1, 3, 0, 5)),
        np.zeros((0, *SHAPE)),
        np.full((1, *SHAPE), "a"),
        np.full((1, *SHAPE), None),
        np.ma.masked_less(np.arange(60.0).reshape(1, *SHAPE), 3),
        [[[[1, 2], [3]]]],
        torch.zeros(1, *SHAPE, dtype=torch.bfloat16),
        torch.zeros(1, *SHAPE, requires_grad=True),
        None,
    ],
    ids=lambda array: f"{type(array).__name__} {getattr(array, 'dtype', '')}",
)
def test_invalid_arrays_are_refused(array):
    with pytest.raises(DataError):
        Volume(array, np.eye(4))


@pytest.mark.parametrize("given", [np.zeros((1, *SHAPE)), torch.zeros(1, *SHAPE), "scan.nii.gz", None])
def test_what_is_no_volume_is_refused(given):
    with pytest.raises(DataError, match="this is not a volume") as caught:
        check_volume(given)
    assert caught.value.got == type(given).__name__


@pytest.mark.parametrize("dtype", ["?", "uint8", "int16", "uint64", "float16", "float32", "float64", ">i2"])
def test_arrays_are_kept_as_they_are(dtype):
    array = np.arange(60).reshape(1, *SHAPE).astype(dtype)
    assert Volume(array, np.eye(4)).array is array


def test_tensors_and_lists_become_arrays():
    tensor = torch.arange(60).reshape(1, *SHAPE)
    assert np.array_equal(Volume(tensor, np.eye(4)).array, tensor.numpy())
    assert Volume(tensor.tolist(), np.eye(4).tolist()) == Volume(tensor.numpy(), np.eye(4))


@pytest.mark.parametrize(
    "affine",
    [np.eye(4)[:3], np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(4) + 1j, "affine", None, [[1], 2]],
    ids=str,
)
def test_invalid_affines_are_refused(affine):
    with pytest.raises(DataError):
        Volume(np.zeros((1, *SHAPE)), affine)


@pytest.mark.parametrize(
    ("dtype", "fill"), [("uint8", -1), ("uint8", 256), ("int16", 0.5), ("int16", np.nan), ("int16", np.inf), ("?", 2)]
)
def test_a_fill_that_the_type_cannot_hold_is_refused(dtype, fill):
    scan = Volume(np.zeros((1, *SHAPE), dtype), np.eye(4))
    with pytest.raises(DataError, match="can't hold the value"):
        scan.match_geometry(scan.grid, fill)


def test_floats_are_filled_with_any_finite_number():
    scan = Volume(np.zeros((1, *SHAPE), np.float32), np.eye(4))
    assert (padded(scan, (1, 0, 0), (0, 0, 0), 0.1).array[:, 0] == np.float32(0.1)).all()
    with pytest.raises(DataError):
        padded(scan, (1, 0, 0), (0, 0, 0), np.nan)


def test_match_geometry_of_a_grid_far_away_is_all_fill():
    scan = numbered(np.eye(4))
    far = padded(scan, (9, 9, 9), (0, 0, 0))[:, :2, :2, :2]
    assert (far.match_geometry(scan, fill=7).array == 7).all()


def test_match_geometry_copies():
    scan = numbered(np.eye(4))
    assert not np.shares_memory(scan.match_geometry(scan).array, scan.array)


@pytest.mark.parametrize(
    "change",
    [
        np.diag([2.0, 1, 1, 1]),
        np.block([[np.eye(3), np.array([[0.5], [0], [0]])], [np.array([[0, 0, 0, 1.0]])]]),
        np.block([[Rotation.from_rotvec([0, 0, 0.1]).as_matrix(), np.zeros((3, 1))], [np.array([[0, 0, 0, 1.0]])]]),
        np.array([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        np.array([[1.0, 1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["spacing", "half a voxel", "turned", "sheared", "diagonal"],
)
def test_match_geometry_refuses_voxels_that_lie_elsewhere(change):
    scan = numbered(np.diag([1.0, 1.0, 3.0, 1.0]))
    with pytest.raises(DataError):
        scan.match_geometry(Grid(SHAPE, scan.affine @ change))


CODES = ["RAS", "LPS", "SAR", "PIL", "ARI"]


@pytest.mark.parametrize("codes", CODES)
def test_a_turned_grid_has_the_same_voxels(codes):
    scan = numbered(OBLIQUE)
    assert scan.grid.has_same_voxels(scan.reorient(codes).grid)
    assert scan.reorient(codes).grid.has_same_voxels(scan.grid)


def test_another_grid_has_other_voxels():
    scan = numbered(OBLIQUE)
    others = [
        scan[:, :1],
        padded(scan, (0, 1, 0), (0, 0, 0)),
        padded(scan, (1, 0, 0), (0, 0, 0))[:, :3],
        Volume(scan.array, scan.affine @ np.diag([2.0, 1, 1, 1])),
    ]
    for other in others:
        assert not scan.grid.has_same_voxels(other.grid)
        assert not scan.grid.has_same_voxels(other.reorient("PIR").grid)


def test_common_grid_has_the_voxels_of_both():
    whole = Volume(np.arange(1, 6 * 5 * 4 + 1).reshape(1, 6, 5, 4), np.diag([-1.0, 2.0, 3.0, 1.0]))
    one, other = whole[:, :4, 1:, 2:], whole[:, 2:, :3, :3].reorient("RAI")

    grid = common_grid(one.grid, other.grid)

    assert grid == whole.grid
    for part in (one, other):
        laid = part.match_geometry(grid).array
        assert np.array_equal(laid[laid > 0], whole.array[laid > 0])
        assert np.count_nonzero(laid) == part.array.size
    with pytest.raises(DataError):
        common_grid(one.grid, Grid((2, 2, 2), np.diag([-1.0, 2.0, 3.1, 1.0])))
