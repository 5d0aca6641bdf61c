"""The paper's results, shown beside ours.

Source: Zhang et al., "Adapting Pre-trained Vision Transformers from 2D to 3D through Weight Inflation Improves Medical
Image Segmentation", ML4H 2022, PMLR 193:391-404, its tables of results, pre-training and ablations.

All are Dice in percent, micro-averaged over the slices of all test cases on the resized grid: comparable with our
micro-averaged Dice, where the split is the same, and not with a mean over cases.
"""

from __future__ import annotations

import re

_BCV_MAIN = {
    "ours": 87.13,
    "without-depth": 85.18,
    "without-transfer": 74.70,
    "without-both": 74.00,
    "unetr": 80.07,
}
"""Mean of 8 organs over 12 cases."""

_BCV_PRETRAINING = {
    "vit": 74.70,
    "ct-dino": 82.56,
    "beit-ssl": 84.41,
    "dino": 84.60,
    "swint": 85.57,
    "videoswint": 85.94,
    "beit": 87.13,
}
"""Mean of 8 organs over 12 cases."""

_BCV_ABLATIONS = {
    "random": 72.49,
    "average": 76.33,
    "center": 84.30,
    "slices-1": 83.34,
    "slices-5": 84.74,
    "slices-11": 83.83,
    "slices-21": 77.52,
    "stride-1": 84.74,
    "stride-2": 84.30,
    "stride-3": 77.68,
}
"""Mean of 14 labels, background counted."""

_BCV = _BCV_MAIN | _BCV_PRETRAINING | _BCV_ABLATIONS

_TASKS: dict[str, dict[str, float]] = {
    name: {"ours": ours, "without-depth": without_depth}
    for name, ours, without_depth in (
        ("acdc", 92.69, 92.62),
        ("task01", 80.13, 79.30),
        ("task02", 90.78, 91.22),
        ("task03", 87.67, 87.24),
        ("task04", 86.83, 86.24),
        ("task05", 75.20, 74.29),
        ("task06", 70.20, 62.01),
        ("task07", 59.94, 58.60),
        ("task08", 70.42, 67.95),
        ("task09", 95.56, 95.12),
        ("task10", 51.70, 46.28),
    )
}
"""ACDC and the tasks of the Decathlon."""

NOTE = (
    "the paper's own figures are micro-averaged over the slices of all its test cases, on its own split and resized "
    "grid, after 25,000 steps of 16 windows; for BCV a mean of 8 organs, in its ablations of 14 labels with background"
)


def paper_figure(dataset: str, arm: str) -> float | None:
    """The paper's Dice in percent for an arm of a built-in set, if it reports this dataset.

    Args:
        dataset: The dataset's name or folder, such as ``Task04_Hippocampus``, ``BCV`` or ``ACDC``.
    """
    name = dataset.lower()
    if re.search(r"\b(bcv|btcv)", name):
        return _BCV.get(arm)
    task = re.match(r"task(0[1-9]|10)_", name)
    key = task[0].rstrip("_") if task else "acdc" if re.search(r"\bacdc", name) else None
    return _TASKS[key].get(arm) if key else None
