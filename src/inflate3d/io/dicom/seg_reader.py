"""DICOM Segmentation objects to label maps, whoever wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from pydicom import Dataset, dcmread

from inflate3d.errors import DataError, truncate
from inflate3d.grid import SAME_PLACE, Grid
from inflate3d.io.damage import check_claim, unreadable
from inflate3d.io.dicom.frames import expand_frames, stored_frames
from inflate3d.io.dicom.header import ImageHeader, read_header
from inflate3d.io.dicom.structures import StructureLabels
from inflate3d.io.grid import affine_from_lps, lps_of
from inflate3d.io.segments import Wanted

_MOST_SLICES = 20_000
_DENSEST = 10_000
"""Times that compression makes an object smaller at most."""

_EVEN = 0.1
"""Distance, in slice steps, of a frame from its place on an even grid that rounding explains."""


def read_seg(path: Path, *, on: Grid | None = None, values: Wanted = None, case: str | None = None) -> StructureLabels:
    """Reads a SEG object: BINARY, LABELMAP, or FRACTIONAL, of which voxels of at least half the maximum are taken.

    Args:
        path: The file.
        on: The grid of the scan, whose voxels the frames have to be; where no frame is, there is background. Without,
            the grid is the smallest one that has all frames.
        values: What each segment that is wanted stands for, by its plain name: a label value, or the values of a region
            that may overlap with others. None: all segments by their numbers.
        case: Id of the case, for error messages.

    Raises:
        DataError: The object is damaged, its frames are not on the grid, or segments overlap that are no regions.
    """
    try:
        header, elements = _header(path, case)
        frames = expand_frames([header])
        labels = StructureLabels.empty(on or _own_grid(frames), _names(elements), values)
        half = (int(elements.get("MaximumFractionalValue", 255)) + 1) // 2
        kind = str(elements.get("SegmentationType", ""))
        threshold = max(1, half) if kind == "FRACTIONAL" else 1
        for frame, pixels in zip(frames, stored_frames(frames), strict=True):
            place = _place(frame, pixels.shape, labels.grid)
            if kind == "LABELMAP":
                numbers = [number for number in np.unique(pixels).tolist() if number]
                masks = {number: pixels == number for number in numbers}
            else:
                only = (1.0,) if list(labels.names) == [1] else None
                masks = {int(frame.numbers("segment", 1, only)[0]): pixels >= threshold}
            for number, mask in masks.items():
                if value := _value_of(number, labels):
                    labels.add(np.ix_(*place.indices), place.turned(mask), value, frame.name)
    except DataError as error:
        raise error.with_context(case=case, file=path) from error
    except (ValueError, TypeError, AttributeError, OverflowError, NotImplementedError) as error:
        raise unreadable(path, case, expected="a DICOM SEG object", got=error) from error
    return labels.finished(_series(elements))


def describe_seg(path: Path) -> tuple[str, tuple[str, ...]]:
    """The UID of the series that a SEG object was made from, and its segments' names.

    Raises:
        DataError: It is damaged.
    """
    _, elements = _header(path, None)
    try:
        return _series(elements), tuple(_names(elements).values())
    except (ValueError, TypeError, AttributeError) as error:
        raise unreadable(path, None, expected="a DICOM SEG object", got=error) from error


def _value_of(number: int, labels: StructureLabels) -> int:
    if number not in labels.values:
        raise DataError(
            "a segment of the DICOM SEG is not described",
            expected=f"one of {truncate(list(map(str, labels.values)))}",
            got=number,
            hint="export it again",
        )
    return labels.values[number]


@dataclass(frozen=True)
class _Place:
    """Where a frame's pixels are in an array of voxels.

    Attributes:
        indices: Along each of the three axes.
        along_row: The axis along which a row runs.
        along_column: Likewise a column.
    """

    indices: list[np.ndarray]
    along_row: int
    along_column: int

    def turned(self, pixels: Shaped[np.ndarray, "rows columns"]) -> Shaped[np.ndarray, "i j k"]:
        """The pixels along the axes of the array."""
        turned = pixels.T if self.along_row < self.along_column else pixels
        return np.expand_dims(turned, 3 - self.along_row - self.along_column)


def _header(path: Path, case: str | None) -> tuple[ImageHeader, Dataset]:
    header = read_header(path)
    if header is None or header.text("modality") != "SEG" or not header.text("functional groups"):
        got = "no segmentation" if header is None else f"modality {header.text('modality') or 'none'}"
        raise unreadable(path, case, expected="a DICOM SEG object with frames", got=got)
    counts = [int(header.number(name, 1.0)) for name in ("frames", "rows", "columns")]
    if min(counts) < 1:
        raise unreadable(path, case, expected="frames of one pixel or more", got=counts)
    bits = int(header.number("bits allocated", 1.0))
    claimed = counts[0] * counts[1] * counts[2] * bits // 8
    check_claim(claimed, path.stat().st_size * _DENSEST, deflated=False, path=path, case=case)
    try:
        return header, dcmread(path, stop_before_pixels=True, force=True)
    except Exception as error:  # pydicom has many, see `read_elements`
        raise unreadable(path, case, expected="a whole DICOM SEG object", got=error) from error


def _names(elements: Dataset) -> dict[int, str]:
    items = elements.get("SegmentSequence") or []
    names = {int(item.SegmentNumber): str(item.get("SegmentLabel", "")).strip() for item in items}
    return {number: name or f"segment {number}" for number, name in sorted(names.items()) if number > 0}


def _series(elements: Dataset) -> str:
    items = elements.get("ReferencedSeriesSequence") or []
    return str(items[0].get("SeriesInstanceUID", "")) if items else ""


def _plane(frame: ImageHeader) -> tuple[Float[np.ndarray, "3 2"], Float[np.ndarray, "3"]]:
    """Steps from column to column and from row to row, and the first pixel's center, in LPS+ millimeters."""
    cosines = frame.numbers("orientation", 6).reshape(2, 3)
    between_rows, between_columns = frame.numbers("pixel spacing", 2)
    return np.stack([cosines[0] * between_columns, cosines[1] * between_rows], axis=1), frame.numbers("position", 3)


def _own_grid(frames: Sequence[ImageHeader]) -> Grid:
    """The smallest grid that has all frames.

    Raises:
        DataError: They are not slices of one.
    """
    first, _ = _plane(frames[0])
    normal = np.cross(*(first / np.linalg.norm(first, axis=0)).T)
    positions = np.unique(np.round([_plane(frame)[1] for frame in frames], 4), axis=0)
    heights = positions @ normal
    positions, heights = positions[np.argsort(heights)], np.sort(heights)
    apart = np.diff(heights)
    default = frames[0].number("slice step", frames[0].number("slice thickness", 1.0))
    smallest = float(apart.min()) if len(apart) else default
    steps = [
        step for step in (frames[0].number("slice step", smallest), smallest) if step > 0 and _is_even(heights, step)
    ]
    if not steps:
        raise DataError(
            "the frames of the DICOM SEG are not slices of one grid",
            expected="frames a whole number of equal steps apart",
            got=f"frames at {', '.join(f'{height:g}' for height in heights[:5])} mm along their normal",
            hint="read it together with the scan that it was made from",
        )
    step = steps[0]
    count = round((heights[-1] - heights[0]) / step) + 1
    third = normal * step if count == 1 else (positions[-1] - positions[0]) / (count - 1)
    shape = (int(frames[0].number("columns", 1.0)), int(frames[0].number("rows", 1.0)), count)
    return Grid(shape, affine_from_lps(np.column_stack([first, third]), positions[0]))


def _is_even(heights: Float[np.ndarray, " n"], step: float) -> bool:
    """Whether heights are whole numbers of steps above the first one, with no more steps than a scan has slices."""
    places = (heights - heights[0]) / step
    return bool(places[-1] < _MOST_SLICES and np.abs(places - np.rint(places)).max() < _EVEN)


def _place(frame: ImageHeader, shape: tuple[int, ...], grid: Grid) -> _Place:
    """Where a frame's pixels are on a grid.

    Raises:
        DataError: They are not voxels of the grid.
    """
    steps, first = _plane(frame)
    axes, origin = lps_of(grid.affine)
    turn, start = np.linalg.solve(axes, steps), np.linalg.solve(axes, first - origin)
    whole, begin = np.rint(turn), np.rint(start)
    rows, columns = shape
    corners = start[:, None] + turn @ [[0, columns - 1, 0, columns - 1], [0, 0, rows - 1, rows - 1]]
    ideal = begin[:, None] + whole @ [[0, columns - 1, 0, columns - 1], [0, 0, rows - 1, rows - 1]]
    apart = np.linalg.norm(axes @ (corners - ideal), axis=0).max()
    is_turn = (np.abs(whole).sum(axis=0) == 1).all() and np.abs(whole).sum(axis=1).max() == 1
    limits = np.array(grid.shape)[:, None]
    tolerance = max(SAME_PLACE * min(grid.spacing), 0.001)
    if not is_turn or apart > tolerance or (ideal < 0).any() or (ideal >= limits).any():
        raise DataError(
            "a frame of the DICOM SEG does not lie on the voxels of the scan",
            expected=f"voxels of a grid of {grid.shape}, {', '.join(f'{each:.4g}' for each in grid.spacing)} mm apart",
            got=f"frame {(frame.frame or 0) + 1} at {frame.text('position')}, {apart:.3g} mm away from them",
            hint="check that it was made from this series; if not, resample it to the series",
        )
    along_row, along_column = np.abs(whole).argmax(axis=0).tolist()
    indices = [np.array([round(each)]) for each in begin]
    for axis, number, count in ((along_row, 0, columns), (along_column, 1, rows)):
        indices[axis] = np.rint(begin[axis] + whole[axis, number] * np.arange(count)).astype(int)
    return _Place(indices, along_row, along_column)
