"""Connected components and holes of one class in a label map, each computed in the class's bounding box.

Voxels of a component are connected by faces, edges or corners (26 neighbors), as in nnU-Net; those between components
only by faces (6 neighbors). Components are numbered by ``scipy.ndimage.label`` in 32-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer, Shaped
from scipy import ndimage

from inflate3d.io.voxels import find_values

Box = tuple[slice, slice, slice]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
_FACES = ndimage.generate_binary_structure(3, 1)


def in_memory_order(array: Shaped[np.ndarray, "a b c"]) -> Shaped[np.ndarray, "_ _ _"]:
    """A view of the array whose last axis is the contiguous one."""
    return array.transpose(np.argsort([-abs(step) for step in array.strides], kind="stable"))


def find_box(labels: Integer[np.ndarray, "a b c"], *values: int) -> Box | None:
    """The bounding box of all voxels with one of the values, or None; uses no memory proportional to the map."""
    planes = np.zeros(labels.shape[0], dtype=bool)
    rows, columns = (np.zeros(length, dtype=bool) for length in labels.shape[1:])
    for index, plane in enumerate(labels):
        holding = find_values(plane, values)
        in_rows = holding.any(axis=1)
        planes[index] = in_rows.any()
        if planes[index]:
            rows |= in_rows
            columns |= holding.any(axis=0)
    if not planes.any():
        return None
    return _extent(planes), _extent(rows), _extent(columns)


def number_components(
    mask: Bool[np.ndarray, "a b c"],
) -> tuple[Int32[np.ndarray, "a b c"], Int[np.ndarray, " numbers"]]:
    """Numbers the connected components of a mask.

    Returns:
        The number of each voxel's component, 0 outside the mask, and the voxel count of each number.
    """
    numbers = np.empty(mask.shape, np.int32)
    count = int(ndimage.label(mask, structure=_TOUCHING, output=numbers))  # pyright: ignore[reportArgumentType]
    return numbers, count_numbers(numbers, count)


def count_numbers(
    numbers: Int32[np.ndarray, "a b c"], highest: int, where: Bool[np.ndarray, "a b c"] | None = None
) -> Int[np.ndarray, " numbers"]:
    """The number of voxels with each number from 0 to the highest.

    Args:
        numbers: Of each voxel.
        highest: The highest possible number.
        where: Voxels to count; by default all.
    """
    counts = np.zeros(highest + 1, dtype=np.int64)
    for index, plane in enumerate(numbers):  # what counts makes 64 bits of each number
        counted = plane.ravel() if where is None else plane[where[index]]
        counts += np.bincount(counted, minlength=highest + 1)
    return counts


def find_holes(mask: Bool[np.ndarray, "a b c"]) -> Bool[np.ndarray, "a b c"]:
    """Voxels outside a mask with no path through faces to the outside."""
    outside = np.pad(~mask, 1, constant_values=True)
    numbers = np.empty(outside.shape, np.int32)
    ndimage.label(outside, structure=_FACES, output=numbers)
    return numbers[1:-1, 1:-1, 1:-1] > numbers[0, 0, 0]  # the outside has the first voxel, so the number 1


def remove_numbers(
    labels: Integer[np.ndarray, "a b c"],
    numbers: Int32[np.ndarray, "a b c"],
    removed: Bool[np.ndarray, " numbers"],
    left: Mapping[int, int],
) -> None:
    """Changes the voxels of some components, in place.

    Args:
        labels: The part of a label map with the numbered components.
        numbers: Number of each voxel, 0 for voxels that stay.
        removed: Whether to remove the voxels of each number.
        left: What becomes of each value there, such as the background, 0.
    """
    for plane, numbered in _planes(labels, numbers):
        gone = removed[numbered]
        before = plane[gone]
        after = before.copy()
        for value, becomes in left.items():
            after[before == value] = becomes
        plane[gone] = after


def _planes(*arrays: Shaped[np.ndarray, "a b c"]) -> Iterator[tuple[np.ndarray, ...]]:
    """Plane by plane, because indexing converts the numbers to 64 bits."""
    return zip(*arrays, strict=True)


def _extent(holding: Bool[np.ndarray, " n"]) -> slice:
    found = np.flatnonzero(holding)
    return slice(int(found[0]), int(found[-1]) + 1)
