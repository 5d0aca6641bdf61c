"""A small picture of a case: one slice of the scan, its classes in color."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Shaped, UInt8

from inflate3d.orientation import Orientation
from inflate3d.report.drawing import class_color
from inflate3d.report.slices import display_range
from inflate3d.volume import Volume

SIDE = 96
"""Width and height in pixels."""

_OPACITY = 0.5


def thumbnail(scan: Volume, numbers: UInt8[np.ndarray, "i j k"] | None = None) -> bytes:
    """A slice as a PNG file: of the plane with the finest pixels, with the most labeled voxels or else in the middle.

    The patient's right is on the left, the front or the head is up, and in sagittal slices the front is on the left.

    Args:
        numbers: Classes on the scan's grid, counted from 1 on.
    """
    from PIL import Image

    orientation = Orientation.toward(scan.affine, "RAS")
    spacing = [scan.spacing[axis] for axis in orientation.axes]
    through = max(range(3), key=lambda axis: (spacing[axis], axis))
    classes = None if numbers is None else np.moveaxis(orientation.apply(numbers), through, 0)
    slices = np.moveaxis(orientation.apply(scan.array[0]), through, 0)
    labeled = np.zeros(len(slices)) if classes is None else np.count_nonzero(classes, axis=(1, 2))
    place = int(labeled.argmax()) if labeled.any() else len(slices) // 2
    low, high = display_range(scan.array[0])
    gray = np.clip((_upright(slices[place]) - low) / (high - low), 0, 1)
    colors = np.repeat(gray[..., np.newaxis], 3, axis=2) * 255
    if classes is not None:
        shown = _upright(classes[place])
        for number in np.unique(shown[shown > 0]):
            tint = [int(class_color(int(number))[at : at + 2], 16) for at in (1, 3, 5)]
            colors[shown == number] = (1 - _OPACITY) * colors[shown == number] + _OPACITY * np.array(tint)
    across, down = [length for axis, length in enumerate(spacing) if axis != through]
    width, height = colors.shape[1] * across, colors.shape[0] * down
    scale = SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    file = io.BytesIO()
    Image.fromarray(colors.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR).save(file, "png")
    return file.getvalue()


def _upright(plane: Shaped[np.ndarray, "across up"]) -> Shaped[np.ndarray, "row column"]:
    """Rows and columns of a picture, from axes that lead to the patient's left or front, and to the front or head."""
    return plane[::-1, ::-1].T.astype(np.float32) if plane.dtype.kind != "u" else plane[::-1, ::-1].T
