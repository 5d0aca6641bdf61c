"""A scan as an array with its affine; what moves its voxel grid and changes no value, and the exact way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Shaped

from inflate3d.errors import ConfigError, DataError
from inflate3d.orientation import DEPTH_AXES, DepthAxis, Orientation

__all__ = ["DEPTH_AXES", "DepthAxis", "Grid", "Orientation", "Volume", "spacing_of"]

SAME_PLACE = 0.01
"""How far apart, in voxels, two voxels may lie and still be the same: headers round, and differently."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie. Grids are equal when shape and affine are.

    Attributes:
        shape: Number of voxels along ``(I, J, K)``.
        affine: ``(4, 4)``, from voxel index ``(i, j, k, 1)`` to the voxel's center, in millimeters in RAS+ world
            space; may be oblique, left-handed or sheared.

    Raises:
        DataError: There are no voxels, or the affine can't be inverted.
    """

    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise DataError("a grid has no voxels", expected="one or more along each axis", got=self.shape)
        if not (is_box(self.affine) and np.array_equal(self.affine[3], (0, 0, 0, 1))):
            raise DataError(
                "a grid's affine can't be inverted",
                expected="finite numbers, three axes that don't lie in one plane, and (0, 0, 0, 1) as the last row",
                got=self.affine.tolist(),
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, *self.affine.flat))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimeters between voxels along ``(I, J, K)``."""
        return spacing_of(self.affine)

    def has_voxels_of(self, other: Grid) -> bool:
        """Whether the other grid has the very same voxels, be it along other axes or in another direction."""
        try:
            orientation, first = _placement(other, self)
        except DataError:
            return False
        i, j, k = orientation.axes
        return (other.shape[i], other.shape[j], other.shape[k]) == self.shape and not first.any()

    def at_spacing(self, spacing: tuple[float, float, float]) -> Grid:
        """The grid that fills the same box with voxels of another size.

        The outer edges of the box stay where they are (``align_corners=False`` in torch), so the center of the
        first voxel moves. Only whole voxels fit, so the spacing becomes the one that fills the box with the number
        of voxels nearest to the wanted: exactly the wanted where it divides the length of the box.

        Args:
            spacing: Millimeters wanted along ``(I, J, K)``.

        Raises:
            ConfigError: A spacing is not a positive number.
        """
        if not all(np.isfinite(length) and length > 0 for length in spacing):
            raise ConfigError("the spacing can't be used", expected="three positive numbers, in mm", got=spacing)
        before = np.array(self.shape)
        after = np.maximum(np.rint(before * self.spacing / spacing), 1).astype(int)
        if (after == before).all():
            return self
        step = before / after
        to_index_before = np.diag([*step, 1.0])
        to_index_before[:3, 3] = (step - 1) / 2
        i, j, k = after.tolist()
        return Grid((i, j, k), self.affine @ to_index_before)


@dataclass(frozen=True)
class Volume:
    """A scan on its own voxel grid.

    ``reorient``, ``crop`` and ``pad`` move the grid; the voxels that stay keep their values and their places in the
    world. One ``onto`` undoes any chain of them, exactly::

        part = scan.reorient("RAS").crop((10, 0, 0), (90, 64, 32))
        labels = Volume(segment(part.array), part.affine)
        labels.onto(scan.grid)  # on the scan's own voxels; background where nothing was segmented

    Attributes:
        array: Voxel values, ``(C, I, J, K)``: modality, then the file's own three voxel axes.
        affine: ``(4, 4)``, from voxel index ``(i, j, k, 1)`` to millimeters in RAS+ world space.
        notes: What its reader found odd but could use, each a sentence without a full stop.
    """

    array: Shaped[np.ndarray, "c i j k"]
    affine: Float[np.ndarray, "4 4"]
    notes: tuple[str, ...] = ()

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
        """Where the voxels lie.

        Raises:
            DataError: There are no voxels, or the affine can't be inverted.
        """
        return Grid(self.shape, self.affine)

    def reorient(self, codes: str) -> Volume:
        """Transposes and flips the voxel axes so that each leads, as nearly as it can, to a given side.

        Args:
            codes: For each voxel axis of the result the side that it leads to, such as ``"RAS"`` or ``"LPS"``:
                one letter each of L/R (left, right), P/A (posterior, anterior) and I/S (inferior, superior).

        Returns:
            The turned volume; its array is a view.

        Raises:
            ConfigError: The codes don't name three directions.
            DataError: The affine can't be inverted.
        """
        grid = self.grid
        orientation = Orientation.toward(grid.affine, codes)
        affine = grid.affine @ orientation.index_matrix(grid.shape)
        return replace(self, array=orientation.apply(self.array), affine=affine)

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Volume:
        """Keeps the voxels of a box.

        Args:
            start: Index of the first voxel of the box along ``(I, J, K)``.
            stop: Index behind its last one.

        Returns:
            The box; its array is a view.

        Raises:
            DataError: The box is empty, or not inside the volume.
        """
        if not all(0 <= low < high <= size for low, high, size in zip(start, stop, self.shape, strict=True)):
            raise DataError(
                "the box to crop is empty, or not inside the volume",
                expected=f"0 <= start < stop <= {self.shape} along each axis",
                got=f"start {start}, stop {stop}",
            )
        return replace(self, array=self.array[_box(start, stop)], affine=_starting_at(np.array(start), self.affine))

    def pad(self, before: tuple[int, int, int], after: tuple[int, int, int], value: float | int = 0) -> Volume:
        """Puts voxels around the volume.

        Args:
            before: How many to put before the first voxel along ``(I, J, K)``.
            after: How many to put behind the last one.
            value: Theirs, in all modalities.

        Raises:
            DataError: A number of voxels is negative, or the array's type can't hold the value.
        """
        if min(*before, *after) < 0:
            raise DataError("can't pad by a negative number of voxels", got=f"before {before}, after {after}")
        start = np.array(before)
        stop = start + self.shape
        array = _filled((len(self.array), *(stop + after).tolist()), self.array.dtype, value)
        array[_box(start, stop)] = self.array
        return replace(self, array=array, affine=_starting_at(-start, self.affine))

    def onto(self, grid: Grid, fill: float | int = 0) -> Volume:
        """Lays the voxels on another grid that has them too: the undo of ``reorient``, ``crop`` and ``pad``.

        No value is interpolated. Voxels that the grid doesn't have are left out.

        Args:
            grid: Where to lay them, such as ``grid`` of the volume from before. Its very affine is the result's.
            fill: Value of the voxels that the volume doesn't have.

        Returns:
            A copy of the volume on the grid.

        Raises:
            DataError: The voxels lie further than a hundredth of a voxel from the grid's, or the array's type
                can't hold the fill.
        """
        orientation, first = _placement(self.grid, grid)
        turned = orientation.apply(self.array)
        start = np.maximum(first, 0)
        stop = np.minimum(first + turned.shape[1:], grid.shape)
        array = _filled((len(turned), *grid.shape), turned.dtype, fill)
        if (start < stop).all():
            array[_box(start, stop)] = turned[_box(start - first, stop - first)]
        return replace(self, array=array, affine=grid.affine)

    def resample(self, to: Grid | tuple[float, float, float], *, labels: bool = False) -> Volume:
        """Interpolates the volume on another grid, by the rules of `inflate3d.resampling`.

        The undo, for a label map, is ``labels.resample(scan.grid, labels=True)``.

        Args:
            to: The grid, or a spacing along ``(I, J, K)`` in millimeters, see `Grid.at_spacing`.
            labels: Whether the values are class numbers, which can't be mixed.

        Raises:
            ConfigError: The spacing can't be used.
            DataError: The affine can't be inverted, or labels are not integers.
        """
        from inflate3d.resampling import resample_image, resample_labels

        grid = to if isinstance(to, Grid) else self.grid.at_spacing(to)
        return resample_labels(self, grid) if labels else resample_image(self, grid)


def is_box(affine: Float[np.ndarray, "4 4"]) -> bool:
    """Whether an affine is finite and maps a box of voxels to one in space, so that it can be inverted."""
    # the determinant of the unit axes is the volume of their box: 1 at right angles, 0 in one plane
    volume = abs(np.linalg.det(affine[:3, :3]))
    return bool(np.isfinite(affine).all() and volume > 1e-6 * np.prod(spacing_of(affine)))


def spacing_of(affine: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """Millimeters between voxels along each of the three voxel axes of ``affine``."""
    i, j, k = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return i, j, k


def _box(start: Sequence[int] | Int[np.ndarray, "3"], stop: Sequence[int] | Int[np.ndarray, "3"]) -> tuple[slice, ...]:
    return (slice(None), *(slice(low, high) for low, high in zip(start, stop, strict=True)))


def _starting_at(first: Int[np.ndarray, "3"], affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The affine after voxel ``first`` has become voxel 0."""
    moved = affine.astype(np.float64)
    moved[:3, 3] += moved[:3, :3] @ first
    return moved


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


def _placement(grid: Grid, target: Grid) -> tuple[Orientation, Int[np.ndarray, "3"]]:
    """The way to lay a grid's voxels along the target's axes, and the target's index of the first one so laid.

    Raises:
        DataError: They are not voxels of the target.
    """
    to_target = np.rint(np.linalg.solve(target.affine, grid.affine))  # from index to index
    turn = to_target[:3, :3]
    is_turn = (np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all()
    last = np.array(grid.shape) - 1
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*last, 1]
    apart = np.linalg.norm((grid.affine - target.affine @ to_target)[:3] @ corners.T, axis=0).max()
    if not is_turn or apart > SAME_PLACE * min(target.spacing):
        raise DataError(
            "the voxels don't lie on the grid's",
            expected=f"voxels of the affine {target.affine.round(4).tolist()}",
            got=f"voxels of the affine {grid.affine.round(4).tolist()}",
            hint="resample to the grid",
        )
    (i, j, k), flips = np.abs(turn).argmax(axis=1).tolist(), turn.sum(axis=1) < 0
    first = to_target[:3, 3].astype(int) - np.where(flips, last[[i, j, k]], 0)
    return Orientation((i, j, k), (bool(flips[0]), bool(flips[1]), bool(flips[2]))), first
