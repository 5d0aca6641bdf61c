import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inflate3d.volume import DEPTH_AXES, Orientation, Volume, spacing_of

SHAPE = (3, 4, 5)
FRAME_WORLD = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}
"""World axis (right, front, up) of each frame axis."""

AXIS_SETS = [
    (permutation, signs)
    for permutation in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""The 48 ways to lay voxel axes along world axes; half of them are left-handed."""


@st.composite
def affines(draw, most_tilt=0.6):
    permutation, signs = draw(st.sampled_from(AXIS_SETS))
    tilt = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    tilt *= most_tilt / max(1.0, float(np.linalg.norm(tilt)))
    spacing = draw(st.tuples(*[st.floats(0.3, 8)] * 3))
    affine = np.eye(4)
    directions = Rotation.from_rotvec(tilt).as_matrix() @ (np.eye(3)[:, permutation] * signs)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


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
def test_spacing_is_the_distance_between_neighbours(affine):
    world = world_of_voxels(affine)
    neighbours = [np.linalg.norm(np.diff(world, axis=1 + axis), axis=0).mean() for axis in range(3)]
    assert spacing_of(affine) == pytest.approx(neighbours)


def test_volume_tells_shape_and_spacing_in_array_order():
    volume = Volume(np.zeros((2, *SHAPE)), np.diag([-0.5, 2.0, 3.0, 1.0]))
    assert volume.shape == SHAPE
    assert volume.spacing == (0.5, 2.0, 3.0)
