"""Combines one mask per class, or several DICOM objects of a series, into one label map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from inflate3d.datasets.classes import IGNORED
from inflate3d.errors import DataError, truncate
from inflate3d.grid import Grid
from inflate3d.io import lay_on, read_grid, read_labels
from inflate3d.io.dicom.labels import read_structures
from inflate3d.io.segments import plain_name
from inflate3d.volume import Volume

Combination = tuple[str, ...]
"""Names of the masks that a voxel is in, sorted."""

MOST_VALUES = IGNORED - 1
"""Classes and combinations of them that a byte can number, besides the background and ignored voxels."""


def combine_masks(masks: Mapping[str, Path], values: Mapping[str, int], *, case: str) -> tuple[Volume, int]:
    """Combines the masks of a case into one label map.

    Where masks overlap, the class with fewer voxels is kept, so that a lesion is not hidden by its organ.

    Args:
        masks: The mask of each class: 0 outside, one other value inside.
        values: The label value of each class.

    Returns:
        The label map ``(1, I, J, K)`` on the first mask's grid, and how many voxels are in several masks.
    """
    first: Volume | None = None
    layers = _Layers()
    for name, first, mask in _read_masks(masks, case):  # noqa: B007 - the first is used below
        layers.add(name, values[name], mask)
    assert first is not None, "a case has a mask"
    return layers.joined(first.grid)


def overlay_masks(masks: Mapping[str, Path], *, case: str) -> tuple[Volume, dict[Combination, int]]:
    """Combines the masks of a case into a label map in which each combination of masks has a value of its own.

    Args:
        masks: The mask of each class: 0 outside, one other value inside.

    Returns:
        The label map ``(1, I, J, K)`` on the first mask's grid, and the value of each combination; without a mask it is
        0.
    """
    read = _read_masks(masks, case)
    name, first, mask = next(read)
    layers = chain([(name, mask)], ((name, mask) for name, _, mask in read))
    return _overlay(layers, first.grid, case)


def overlay_objects(
    objects: Sequence[Path], names: Iterable[str], *, scan: Path, case: str
) -> tuple[Volume, dict[Combination, int]]:
    """Combines the structures of SEG and RTSTRUCT objects of one series, as `overlay_masks` does masks.

    Args:
        objects: Their files.
        names: The structures' names as combinations have them; they match by their plain names.
        scan: The series.
    """
    header = read_grid(scan, case=case)
    grid = Grid(header.shape, header.affine)
    spelled = {plain_name(name): name for name in names}
    layers = (
        (spelled[plain_name(name)], mask[np.newaxis])
        for path in objects
        for name, mask in read_structures(path, on=grid, case=case)
    )
    return _overlay(layers, grid, case)


def _overlay(
    layers: Iterable[tuple[str, Bool[np.ndarray, "1 i j k"]]], grid: Grid, case: str
) -> tuple[Volume, dict[Combination, int]]:
    numbers: dict[Combination, int] = {(): 0}
    labels = np.zeros((1, *grid.shape), np.uint16)
    for name, mask in layers:
        names = {number: combination for combination, number in numbers.items()}
        before = labels[mask]
        after = before.copy()
        for number in np.unique(before).tolist():
            combination = tuple(sorted({*names[number], name}))
            after[before == number] = numbers.setdefault(combination, len(numbers))
        labels[mask] = after
        if len(numbers) > np.iinfo(np.uint16).max // 2:
            raise too_many_combinations(list(numbers), case=case)
    present = {*np.unique(labels).tolist()}
    kept = {combination: number for combination, number in numbers.items() if number in present or not number}
    return Volume(labels, grid.affine), kept


def too_many_combinations(combinations: list[Combination], *, case: str | None = None) -> DataError:
    """The error about masks that overlap in too many ways."""
    several = [" + ".join(combination) for combination in combinations if len(combination) > 1]
    return DataError(
        "masks overlap in too many combinations",
        expected=f"at most {MOST_VALUES} classes and combinations of them",
        got=f"{len(combinations) - 1}, such as {truncate(several, 3)}",
        hint="keep the smaller class where masks overlap (--overlaps smallest), or leave masks out",
        case=case,
    )


def combine_objects(objects: Sequence[Path], values: Mapping[str, int], *, scan: Path, case: str) -> tuple[Volume, int]:
    """Combines the SEG and RTSTRUCT objects of one series into one label map, as `combine_masks` does masks.

    Args:
        objects: Their files; no structure is in two of them.
        values: The label value of each structure, by its plain name.
        scan: The series.

    Returns:
        The label map ``(1, I, J, K)`` on the grid of the series, and how many voxels are in several objects.
    """
    header = read_grid(scan, case=case)
    grid = Grid(header.shape, header.affine)
    layers = _Layers()
    names = {value: name for name, value in values.items()}
    for path in objects:
        array = read_labels(path, case=case, on=grid, structures=values).array
        for value in np.unique(array[array > 0]).tolist():
            layers.add(names[value], value, array == value)
    return layers.joined(grid)


def _read_masks(masks: Mapping[str, Path], case: str) -> Iterator[tuple[str, Volume, Bool[np.ndarray, "1 i j k"]]]:
    """The name of each mask, the first of all, and the mask on its grid."""
    first: Volume | None = None
    for name, path in masks.items():
        mask = read_labels(path, case=case)
        first = first or mask
        array = lay_on(mask, first, case=case, file=path).array
        found = np.unique(array).tolist()
        if len(set(found) - {0}) > 1:
            raise DataError(
                "a mask holds several values",
                expected="0 and one other value",
                got=f"{len(found)} values, up to {found[-1]}",
                hint="if it is a label map of all classes, list it by hand in cases.csv",
                case=case,
                file=path,
            )
        yield name, first, array != 0


class _Layers:
    """Masks of classes that may overlap."""

    def __init__(self) -> None:
        self._packed: dict[str, UInt8[np.ndarray, " bytes"]] = {}  # an eighth of the memory
        self._voxels: dict[str, int] = {}
        self._values: dict[str, int] = {}

    def add(self, name: str, value: int, mask: Bool[np.ndarray, "1 i j k"]) -> None:
        self._packed[name] = np.packbits(mask)
        self._voxels[name] = int(np.count_nonzero(mask))
        self._values[name] = value

    def joined(self, grid: Grid) -> tuple[Volume, int]:
        """The label map, and the number of voxels in several masks; there the class with fewer voxels is kept."""
        largest = max(self._values.values(), default=0)
        labels: Integer[np.ndarray, "1 i j k"] = np.zeros((1, *grid.shape), np.min_scalar_type(largest))
        for name in sorted(self._packed, key=lambda name: (-self._voxels[name], name)):
            mask = np.unpackbits(self._packed[name], count=labels.size).reshape(labels.shape).astype(bool)
            labels[mask] = self._values[name]
        return Volume(labels, grid.affine), sum(self._voxels.values()) - int(np.count_nonzero(labels))
