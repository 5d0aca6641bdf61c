import numpy as np
import pytest
from scipy import ndimage

from inflate3d.evaluation.components import (
    count_numbers,
    find_box,
    find_holes,
    in_memory_order,
    number_components,
)


def test_box_of_a_value():
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[2, 3, 4] = labels[4, 1, 4] = 9
    assert find_box(labels, 9) == (slice(2, 5), slice(1, 4), slice(4, 5))
    assert find_box(labels, 3) is None


@pytest.mark.parametrize("offset", [(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, -1, 1)])
def test_voxels_that_share_a_face_an_edge_or_a_corner_are_one_component(offset):
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 2] = mask[tuple(2 + np.array(offset))] = True
    assert number_components(mask)[1].tolist() == [123, 2]


def test_voxels_two_apart_are_two_components():
    mask = np.zeros((5, 1, 1), bool)
    mask[[0, 2, 3]] = True
    numbers, voxels = number_components(mask)
    assert voxels.tolist() == [2, 1, 2]
    assert count_numbers(numbers, 2, mask & (numbers == 2)).tolist() == [0, 0, 2]


def test_holes_of_a_hollow_sphere():
    distance = np.linalg.norm(np.indices((21, 21, 21)) - 10, axis=0)
    shell, inside = (distance <= 8) & (distance > 4), distance <= 4
    assert np.array_equal(find_holes(shell), inside)
    shell[10, 10, :] = False  # a straight way out
    assert not find_holes(shell).any()


def test_a_way_out_through_edges_alone_is_none():
    mask = np.ones((3, 3, 3), bool)
    mask[1, 1, 1] = mask[0, 0, 1] = False
    assert find_holes(mask).sum() == 1


def test_a_dent_at_the_arrays_edge_is_no_hole():
    mask = np.ones((4, 4, 4), bool)
    mask[0, 1:3, 1:3] = False
    assert not find_holes(mask).any()


@pytest.mark.parametrize("seed", range(5))
def test_holes_are_scipys(seed):
    mask = np.random.default_rng(seed).random((9, 8, 7)) < 0.7
    filled = np.array(ndimage.binary_fill_holes(mask))
    assert np.array_equal(find_holes(mask), filled & ~mask)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order(order):
    array = np.zeros((3, 4, 5), order=order)
    assert in_memory_order(array[:, ::-1]).strides[-1] == array.itemsize
    assert np.shares_memory(in_memory_order(array), array)
