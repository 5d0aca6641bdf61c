"""A scan as an array with its affine; changes of its voxel grid that change no value, and the exact way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from inflate3d.errors import DataError
from inflate3d.grid import Grid, check_affine, placement, spacing_of, starting_at
from inflate3d.orientation import Orientation
from inflate3d.units import Unit

_AXES = 4
"""Of a volume's array: modality and three voxel axes."""

_LARGEST = float(np.finfo(np.float32).max)
"""Of a voxel's value."""


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Volume:
    """A scan, or a label map, on its own voxel grid.

    `reorient` and indexing change the grid; voxels keep their values and their places in the world. One
    `match_geometry` undoes any chain of them, exactly. Volumes are equal when their arrays, types and affines are.

    Examples:
        >>> scan = Volume(np.zeros((1, 64, 64, 20), np.int16), np.diag([-0.8, -0.8, 3.0, 1.0]))
        >>> scan
        Volume(1 modality, shape (64, 64, 20), spacing (0.8, 0.8, 3) mm, orientation LPS, int16)
        >>> part = scan.reorient("RAS")[:, 10:50, :, ::2]
        >>> part
        Volume(1 modality, shape (40, 64, 10), spacing (0.8, 0.8, 6) mm, orientation RAS, int16)
        >>> labels = scan.reorient("RAS")[:, 10:50].with_array(np.ones((1, 40, 64, 20), np.uint8))
        >>> labels.match_geometry(scan).shape  # on the scan's own voxels, 0 where nothing was labeled
        (64, 64, 20)

    Attributes:
        array: Voxel values, ``(C, I, J, K)``: modality, then the file's own three voxel axes. Integers, truth values
            or finite floats of any width; a tensor on the CPU or nested lists become an array.
        affine: ``(4, 4)``, from voxel index ``(i, j, k, 1)`` to millimeters in RAS+ world space; may be given as
            lists.
        notes: What its reader found unusual, each a sentence without a full stop.
        units: The unit of each modality's values, where the file states it, as PET series do; empty if none is known.

    Raises:
        DataError: The array is not such an array, has no voxels, or holds NaN, infinity or floats that 32 bits don't;
            or the affine is not ``(4, 4)``, or can't be inverted.
    """

    array: Shaped[np.ndarray, "c i j k"]
    affine: Float[np.ndarray, "4 4"]
    notes: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()

    def __init__(self, array: Any, affine: Any, notes: tuple[str, ...] = (), units: tuple[Unit, ...] = ()) -> None:
        object.__setattr__(self, "array", _checked_array(array))
        object.__setattr__(self, "affine", _checked_affine(affine))
        object.__setattr__(self, "notes", notes)
        object.__setattr__(self, "units", units)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Volume):
            return NotImplemented
        same_type = self.array.dtype == other.array.dtype
        return same_type and self.grid == other.grid and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.grid, len(self.array), self.array.dtype))

    def __repr__(self) -> str:
        from nibabel.orientations import aff2axcodes

        count = len(self.array)
        spacing = ", ".join(f"{length:.4g}" for length in self.spacing)
        parts = [f"{count} modalit{'y' if count == 1 else 'ies'}", f"shape {self.shape}", f"spacing ({spacing}) mm"]
        codes = "".join(map(str, aff2axcodes(self.affine)))
        return f"Volume({', '.join(parts)}, orientation {codes}, {self.array.dtype})"

    def __getitem__(self, index: Any) -> Volume:
        """Selects modalities and voxels by their numbers, and keeps them at their places in the world.

        Args:
            index: Up to four slices or integers for ``(C, I, J, K)``, as for an array; an integer keeps its axis,
                with a length of 1.

        Returns:
            The selected part; its array is a view.

        Raises:
            DataError: Nothing is selected, or the index is of another kind.
        """
        steps = _slices_of(index, self.array.shape)
        first, step = (np.array([getattr(each, name) for each in steps[1:]]) for name in ("start", "step"))
        affine = starting_at(first, self.affine)
        affine[:3, :3] *= step
        array = self.array
        for axis, each in enumerate(steps):  # a negative stop means the end, which a slice can't say
            array = np.moveaxis(np.moveaxis(array, axis, 0)[_as_slice(each)], 0, axis)
        return replace(self, array=array, affine=affine, units=self.units[_as_slice(steps[0])])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along ``(I, J, K)``."""
        i, j, k = self.array.shape[1:]
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimeters between voxels along ``(I, J, K)``."""
        return spacing_of(self.affine)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.shape, self.affine)

    def with_array(self, array: Any) -> Volume:
        """Returns other values on the same voxels, such as a label map of a scan.

        Args:
            array: ``(C, I, J, K)`` with this volume's ``(I, J, K)``.

        Raises:
            DataError: The shape differs, or see `Volume`.
        """
        other = replace(self, array=array, units=())
        if other.shape != self.shape:
            raise DataError("the array does not have the volume's shape", expected=self.shape, got=other.shape)
        return other

    def reorient(self, codes: str) -> Volume:
        """Transposes and flips the voxel axes so that each leads, as nearly as possible, to a given side.

        Args:
            codes: For each voxel axis of the result the side that it leads to, such as ``"RAS"`` or ``"LPS"``:
                one letter each of L/R (left, right), P/A (posterior, anterior) and I/S (inferior, superior).

        Returns:
            The reoriented volume; its array is a view.

        Raises:
            ConfigError: The codes don't name three directions.
        """
        orientation = Orientation.toward(self.affine, codes)
        affine = self.affine @ orientation.index_matrix(self.shape)
        return replace(self, array=orientation.apply(self.array), affine=affine)

    def match_geometry(self, other: Volume | Grid, fill: float | int = 0) -> Volume:
        """Moves the voxels to another grid that has them too: the undo of `reorient` and indexing.

        No value is interpolated. Voxels that the other grid doesn't have are left out.

        Args:
            other: The grid, or a volume on it. The result has its exact affine.
            fill: Value of the voxels that this volume doesn't have.

        Returns:
            A copy of the volume on the grid.

        Raises:
            DataError: The voxels lie further than a hundredth of a voxel from the grid's, or the array's type
                can't hold the fill.
        """
        grid = other.grid if isinstance(other, Volume) else other
        orientation, first = placement(self.grid, grid)
        turned = orientation.apply(self.array)
        start = np.maximum(first, 0)
        stop = np.minimum(first + turned.shape[1:], grid.shape)
        array = _filled((len(turned), *grid.shape), turned.dtype, fill)
        if (start < stop).all():
            array[_box(start, stop)] = turned[_box(start - first, stop - first)]
        return replace(self, array=array, affine=grid.affine)


def check_volume(given: object) -> None:
    """Refuses what is not a volume, such as an array alone, which has no place in space."""
    if not isinstance(given, Volume):
        raise DataError(
            "this is not a volume",
            expected="a Volume",
            got=type(given).__name__,
            hint="read it with read_volume(path), or create one: Volume(array, affine)",
        )


def as_array(values: Any) -> Shaped[np.ndarray, "..."]:
    """Voxels of any kind as an array."""
    kind = type(values).__name__
    try:
        array = np.asanyarray(values)  # which keeps a mask
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, ragged lists
        raise DataError("voxels can't be read as a NumPy array", got=f"{kind}: {error}") from error
    if np.ma.is_masked(array):
        raise DataError(
            "a volume has no masked voxels",
            got=f"{np.ma.count_masked(array)} masked voxels",
            hint="fill them first: array.filled(value)",
        )
    return np.asarray(array)


def _checked_array(array: Any) -> Shaped[np.ndarray, "c i j k"]:
    """The array, if it is one of finite real numbers with four axes."""
    array = as_array(array)
    if array.dtype.kind not in "biuf":
        raise DataError("voxels are not real numbers", expected="integers or floats", got=str(array.dtype))
    if array.ndim != _AXES:
        raise DataError(
            "a volume needs four axes",
            expected="(modality, I, J, K)",
            got=f"{array.ndim} axes, {array.shape}",
            hint="add an axis for the modality: array[np.newaxis]" if array.ndim == _AXES - 1 else None,
        )
    if not array.size:
        raise DataError("a volume has no voxels", expected="one or more along each axis", got=array.shape)
    check_finite(array)
    return array


def check_finite(array: Shaped[np.ndarray, "..."]) -> None:
    """Refuses NaN, infinity, and what becomes infinity in 32 bits."""
    if array.dtype.kind != "f":
        return
    wrong = sum(part.size - np.count_nonzero(np.isfinite(part)) for part in array)  # by modality, for memory
    if wrong:
        raise DataError(
            "voxels are NaN or infinite",
            expected="finite numbers",
            got=f"{wrong} of {array.size} voxels are not",
            hint="replace them, for example with the value of air, or leave the case out",
        )
    if array.dtype.itemsize > np.dtype(np.float32).itemsize and (largest := float(np.abs(array).max())) > _LARGEST:
        raise DataError("voxels are too large for 32-bit floats", expected=f"up to {_LARGEST:.3g}", got=f"{largest:g}")


def _checked_affine(affine: Any) -> Float[np.ndarray, "4 4"]:
    """The affine, if it is one; of floats."""
    try:
        array = np.asarray(affine)
        array = array if array.dtype.kind == "f" else array.astype(np.float64, casting="same_kind")
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError("the affine is not a matrix of numbers", expected="4 x 4 numbers", got=error) from error
    if array.shape != (4, 4):
        raise DataError("the affine has the wrong shape", expected=(4, 4), got=array.shape)
    check_affine(array)
    return array


def _slices_of(index: Any, shape: tuple[int, ...]) -> list[range]:
    """For each axis the numbers that an index selects."""
    parts = index if isinstance(index, tuple) else (index,)
    ranges = [range(size) for size in shape]
    if len(parts) > len(shape) or not all(isinstance(part, slice | int | np.integer) for part in parts):
        raise DataError("invalid index of a volume", expected="up to four slices or integers", got=str(index))
    for axis, part in enumerate(parts):
        if isinstance(part, slice):
            ranges[axis] = ranges[axis][part]
        elif -shape[axis] <= part < shape[axis]:
            ranges[axis] = range(int(part) % shape[axis], int(part) % shape[axis] + 1)
        else:
            ranges[axis] = range(0)
    if not all(ranges):
        raise DataError("the index selects no voxels", expected=f"numbers within {shape}", got=str(index))
    return ranges


def _as_slice(numbers: range) -> slice:
    return slice(numbers.start, numbers.stop if numbers.stop >= 0 else None, numbers.step)


def _box(start: Sequence[int] | Int[np.ndarray, "3"], stop: Sequence[int] | Int[np.ndarray, "3"]) -> tuple[slice, ...]:
    return (slice(None), *(slice(low, high) for low, high in zip(start, stop, strict=True)))


def _filled(shape: tuple[int, ...], dtype: np.dtype, value: float | int) -> Shaped[np.ndarray, "c i j k"]:
    if dtype.kind != "f":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if not (low <= value <= high and value == int(value)):
            raise DataError(
                "voxels of this type can't hold the value to fill with",
                expected=f"a whole number from {low} to {high} ({dtype})",
                got=value,
            )
    return np.full(shape, value, dtype)
