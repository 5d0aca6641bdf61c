"""A sheet of pictures of one scan: some slices in each of three planes, with the outlines of label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Integer, Shaped

from inflate3d.orientation import DepthAxis, Orientation
from inflate3d.report.drawing import class_color, class_dashes, new_figure, png, short_text
from inflate3d.report.slices import crop_box, draw_outline, show_slice, spread_slices, upright
from inflate3d.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLANES: tuple[DepthAxis, ...] = ("axial", "coronal", "sagittal")
_ENDS: dict[DepthAxis, tuple[str, str]] = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}
"""The directions at the left and the right edge of a picture."""

_CELL, _HEAD, _NAME, _GAP, _LEGEND_ROW = 2.3, 0.62, 0.34, 0.06, 0.26
"""In inches: a picture's width; the heights of the title, of a map's name and of a row of the legend; the gap between
pictures."""

_TALLEST = 1.35
"""Largest height of a row of pictures relative to their width."""

_SCALE = 1.5
_PALE = "#d5d9dd"


@dataclass(frozen=True)
class LabelMap:
    """A label map to outline.

    Attributes:
        array: Label values on the scan's own grid; 0 is background.
    """

    name: str
    array: Integer[np.ndarray, "i j k"]


@dataclass(frozen=True)
class ClassEntry:
    """A class of the legend.

    Attributes:
        name: Its name; ``value N`` if unknown.
        number: Its position among the classes, from 1, which determines its color.
    """

    value: int
    name: str
    number: int


def list_classes(maps: Sequence[LabelMap], names: Mapping[int, str]) -> list[ClassEntry]:
    """The classes that occur in a map, by value; a class keeps its color if others are missing, if names are known.

    Args:
        names: Class name by label value, with or without background.
    """
    held = sorted({int(value) for each in maps for value in np.unique(each.array)} - {0})
    known = sorted((set(names) | set(held)) - {0})
    return [ClassEntry(value, names.get(value, f"value {value}"), known.index(value) + 1) for value in held]


def draw_sheet(
    scan: Volume,
    maps: Sequence[LabelMap],
    classes: Sequence[ClassEntry],
    *,
    title: str,
    values: tuple[float, float],
    modality: int = 0,
    slices: int = 5,
) -> bytes:
    """Draws a scan's slices in three planes in radiological orientation, with correct proportions.

    Slices are spread over those with a class in any map, or over the whole scan if there is none. Planes are those of
    the voxel grid closest to the anatomical ones; nothing is resampled between slices.

    Args:
        maps: Label maps on its grid, each in rows of its own; if empty, only the scan is shown.
        classes: See `list_classes`.
        values: The voxel values drawn black and white.
        slices: Number of slices per plane.

    Returns:
        A PNG file.
    """
    planes = [_Plane.of(scan, maps, plane, values, modality, slices) for plane in PLANES]
    shown: list[LabelMap | None] = list(maps) if maps else [None]
    heights = [plane.row_height for plane in planes]
    columns = max(1, min(slices, 4))
    legend = -(-len(classes) // columns) * _LEGEND_ROW
    width = _NAME + slices * (_CELL + _GAP)
    block = sum(heights) + len(heights) * _GAP + (_NAME if maps else 0)
    height = _HEAD + legend + len(shown) * block
    figure = new_figure(width, height, scale=_SCALE)
    figure.text(_NAME / width, 1 - 0.34 / height, short_text(title), color="white", fontsize=12, va="center")
    _draw_legend(figure, classes, columns, width, height)
    top = height - _HEAD - legend
    for number, each in enumerate(shown):
        if each is not None:
            middle = (top - _NAME / 2) / height
            figure.text(_NAME / width, middle, short_text(each.name), color=_PALE, fontsize=10, va="center")
            top -= _NAME
        for plane, row in zip(planes, heights, strict=True):
            figure.text(
                0.16 / width,
                (top - row / 2) / height,
                plane.name,
                color=_PALE,
                fontsize=9,
                rotation=90,
                ha="center",
                va="center",
            )
            for column, place in enumerate(plane.places):
                left = _NAME + column * (_CELL + _GAP)
                axes = figure.add_axes((left / width, (top - row) / height, _CELL / width, row / height))
                plane.draw(axes, place, number if each is not None else None, classes)
            top -= row + _GAP
    return png(figure)


@dataclass(frozen=True)
class _Plane:
    """A scan as slices of one plane.

    Attributes:
        name: Such as ``"axial"``.
        image: Voxel values, slices first, in the frame of this plane.
        spacing: Millimeters along the picture's height and width.
        box: Rows and columns of the frame that are shown.
        places: The slices that are shown.
    """

    name: DepthAxis
    image: Shaped[np.ndarray, "d h w"]
    maps: tuple[Integer[np.ndarray, "d h w"], ...]
    spacing: tuple[float, float]
    box: tuple[slice, slice]
    places: tuple[int, ...]
    values: tuple[float, float]

    @classmethod
    def of(
        cls,
        scan: Volume,
        maps: Sequence[LabelMap],
        plane: DepthAxis,
        values: tuple[float, float],
        modality: int,
        slices: int,
    ) -> _Plane:
        orientation = Orientation.of(scan.affine, plane)
        image = orientation.apply(scan.array[modality])
        turned = tuple(orientation.apply(each.array) for each in maps)
        marked = np.zeros(image.shape, bool)
        for each in turned:
            marked |= each != 0
        holding = np.flatnonzero(marked.any(axis=(1, 2))).tolist() or list(range(len(image)))
        _, row, column = (scan.spacing[axis] for axis in orientation.axes)
        # upright pictures run along the frame's columns from top to bottom
        return cls(plane, image, turned, (column, row), crop_box(marked), tuple(spread_slices(holding, slices)), values)

    @property
    def row_height(self) -> float:
        rows, columns = self.image[0][self.box].shape
        return _CELL * min(_TALLEST, columns * self.spacing[0] / (rows * self.spacing[1]))

    def draw(self, axes: Axes, place: int, shown: int | None, classes: Sequence[ClassEntry]) -> None:
        low, high = self.values
        show_slice(
            axes, np.clip((self._seen(self.image, place).astype(np.float32) - low) / (high - low), 0, 1), self.spacing
        )
        axes.set_aspect("equal")
        if shown is not None:
            labels = self._seen(self.maps[shown], place)
            for entry in classes:
                if (mask := labels == entry.value).any():
                    draw_outline(axes, mask, self.spacing, class_color(entry.number), class_dashes(entry.number))
        left, right = _ENDS[self.name]
        texts = ((0.02, 0.5, left, "left"), (0.98, 0.5, right, "right"))
        for x, y, text, side in (*texts, (0.02, 0.03, f"{place + 1}/{len(self.image)}", "left")):
            axes.text(
                x,
                y,
                text,
                color="white",
                fontsize=7,
                ha=side,
                va="center",
                transform=axes.transAxes,
                path_effects=_rim(),
            )

    def _seen(self, volume: Shaped[np.ndarray, "d h w"], place: int) -> Shaped[np.ndarray, "rows columns"]:
        return upright(volume[place][self.box])


def _draw_legend(figure: Figure, classes: Sequence[ClassEntry], columns: int, width: float, height: float) -> None:
    from matplotlib.lines import Line2D

    step = (width - _NAME) / columns
    for index, entry in enumerate(classes):
        row, column = divmod(index, columns)
        x, y = _NAME + column * step, height - _HEAD - (row + 0.35) * _LEGEND_ROW
        line = Line2D([x / width, (x + 0.3) / width], [y / height] * 2, color=class_color(entry.number), linewidth=2.5)
        line.set_linestyle(class_dashes(entry.number))  # pyright: ignore[reportArgumentType]
        figure.add_artist(line)
        text = f"{entry.value}  {entry.name}" if entry.name != f"value {entry.value}" else entry.name
        figure.text((x + 0.38) / width, y / height, short_text(text), color="white", fontsize=9, va="center")


def _rim() -> list:
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=2, foreground="black"), Normal()]


def volumes_ml(
    array: Integer[np.ndarray, "i j k"],
    spacing: Float[np.ndarray, "3"] | tuple[float, float, float],
    classes: Sequence[ClassEntry],
) -> dict[str, float]:
    """Volume of each class in a label map in milliliters, by name."""
    voxel = float(np.prod(spacing)) / 1000
    return {entry.name: round(int(np.count_nonzero(array == entry.value)) * voxel, 3) for entry in classes}
