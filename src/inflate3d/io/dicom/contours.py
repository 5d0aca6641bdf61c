"""Closed contours to masks of pixels and back, by one rule: a pixel is inside if its center is, even-odd.

Where contours of one structure lie in one another, they are holes, and islands in them, by turns.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float


def fill_contours(contours: Iterable[Float[np.ndarray, "_ 2"]], shape: tuple[int, int]) -> Bool[np.ndarray, "i j"]:
    """The pixels whose centers lie inside closed contours.

    Args:
        contours: Corners in pixels along the two axes of the mask, pixel centers at whole numbers; the last corner is
            joined to the first. Centers on a contour count as inside at its lower side, and as outside at its upper.
        shape: Of the mask.
    """
    crossings = np.zeros(
        (shape[0] + 1, shape[1]), bool
    )  # how often a line along the first axis was crossed, odd or not
    for contour in contours:
        for (i, j), (next_i, next_j) in zip(contour, np.roll(contour, -1, axis=0), strict=True):
            if j == next_j:
                continue
            first, last = (np.clip(np.ceil(each), 0, shape[1]).astype(int) for each in sorted((j, next_j)))
            lines = np.arange(first, last)
            at = i + (lines - j) * ((next_i - i) / (next_j - j))
            crossings[np.clip(np.ceil(at), 0, shape[0]).astype(int), lines] ^= True
    return np.logical_xor.accumulate(crossings, axis=0)[:-1]


def trace_contours(mask: Bool[np.ndarray, "i j"]) -> list[Float[np.ndarray, "_ 2"]]:
    """Closed contours halfway between the centers inside and outside, which `fill_contours` turns back into the mask.

    Returns:
        Corners in pixels, without a repeated last one; nothing for an empty mask.
    """
    from contourpy import LineType, contour_generator

    padded = np.pad(mask, 1).astype(np.float64)
    lines = contour_generator(z=padded, line_type=LineType.Separate).lines(0.5)
    # contourpy gives (x, y), the second axis first
    return [_corners(np.asarray(line)[:-1, ::-1] - 1) for line in lines]


def _corners(line: Float[np.ndarray, "_ 2"]) -> Float[np.ndarray, "_ 2"]:
    """The points in which a closed line turns."""
    before, after = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return line[turns]
