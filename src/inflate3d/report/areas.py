"""Where predictions are wrong, and where only one of two is right, as numbered areas with their colors."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer, UInt8

from inflate3d.datasets.classes import IGNORED

MISSED, EXTRA, CONFUSED = 1, 2, 3
ERRORS = {MISSED: "#e69f00", EXTRA: "#56b4e9", CONFUSED: "#e08dbb"}
"""Errors and their colors: labeled and not predicted, predicted and not labeled, predicted as another class."""

ONLY_FIRST, ONLY_SECOND, NEITHER = 1, 2, 3
BETWEEN_METHODS = {ONLY_FIRST: "#56b4e9", ONLY_SECOND: "#f0672e", NEITHER: "#f0e442"}
"""Who is right, and the colors."""


def find_errors(
    label: Integer[np.ndarray, "d h w"], prediction: Integer[np.ndarray, "d h w"]
) -> UInt8[np.ndarray, "d h w"]:
    """Where a prediction errs, as `ERRORS`; 0 where it is right or the label is ignored.

    Args:
        label: Class numbers, 0 is background.
        prediction: Class numbers.
    """
    areas = np.zeros(label.shape, np.uint8)
    wrong = (label != prediction) & (label != IGNORED)
    areas[wrong] = CONFUSED
    areas[wrong & (prediction == 0)] = MISSED
    areas[wrong & (label == 0)] = EXTRA
    return areas


def compare_methods(
    label: Integer[np.ndarray, "d h w"], first: Integer[np.ndarray, "d h w"], second: Integer[np.ndarray, "d h w"]
) -> UInt8[np.ndarray, "d h w"]:
    """Which of two predictions is right, as `BETWEEN_METHODS`; 0 where both are, or the label is ignored.

    Args:
        label: Class numbers, 0 is background.
        first: Class numbers of the first prediction.
        second: Those of the second.
    """
    areas = np.zeros(label.shape, np.uint8)
    known, first_right, second_right = label != IGNORED, label == first, label == second
    areas[known & first_right & ~second_right] = ONLY_FIRST
    areas[known & ~first_right & second_right] = ONLY_SECOND
    areas[known & ~first_right & ~second_right] = NEITHER
    return areas
