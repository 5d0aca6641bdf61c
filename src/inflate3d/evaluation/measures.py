"""The measures of a predicted label map: name, definition and source of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 2.0
"""Default distance in millimeters up to which a surface counts as matched in NSD."""

MeasureName = Literal[
    "dice",
    "iou",
    "precision",
    "recall",
    "volume_difference_ml",
    "volume_difference_percent",
    "hd95",
    "hd95_pooled",
    "hd100",
    "assd",
    "nsd",
    "lesion_f1",
]

DEFAULT_MEASURES: tuple[MeasureName, ...] = ("dice", "hd95", "nsd")
"""Measures shown by default."""


@dataclass(frozen=True)
class Measure:
    """A measure of one class in one case; A is the prediction's set of voxels, B the label's.

    Attributes:
        definition: How it is computed, its unit, and its value if the class is absent from one map. If absent from
            both, it is never defined.
        bounds: Its lowest and highest possible value.
    """

    title: str
    definition: str
    digits: int = 4
    bounds: tuple[float, float] = (0.0, 1.0)


_ANY, _LENGTH = (-math.inf, math.inf), (0.0, math.inf)
_ONE_IS_0 = "0 where the class is in only one map"
_ONE_IS_DIAGONAL = "the scan's diagonal where the class is in only one map"

MEASURES: dict[str, Measure] = {
    "dice": Measure("Dice", f"2|A∩B|/(|A|+|B|) (Dice 1945); {_ONE_IS_0}"),
    "iou": Measure("IoU", f"|A∩B|/|A∪B| (Jaccard 1912); {_ONE_IS_0}"),
    "precision": Measure("precision", "|A∩B|/|A|; not defined where the class is not predicted"),
    "recall": Measure("recall", "|A∩B|/|B|; not defined where the class is not in the label"),
    "volume_difference_ml": Measure("volume diff. in ml", "|A|-|B| in milliliters, positive where too much", 2, _ANY),
    "volume_difference_percent": Measure(
        "volume diff. in %",
        "100(|A|-|B|)/|B| (Heimann et al. 2009), positive where too much; not defined where the class is not in the "
        "label",
        1,
        _ANY,
    ),
    "hd95": Measure(
        "HD95 in mm",
        "mm, the larger of the two directed 95th percentiles of the distances between boundary voxels; "
        + _ONE_IS_DIAGONAL,
        2,
        _LENGTH,
    ),
    "hd95_pooled": Measure(
        "pooled HD95 in mm",
        "mm, the 95th percentile of the distances between boundary voxels, those of both directions together; "
        + _ONE_IS_DIAGONAL,
        2,
        _LENGTH,
    ),
    "hd100": Measure(
        "HD100 in mm",
        f"mm, the largest distance between boundary voxels in either direction (Hausdorff 1914); {_ONE_IS_DIAGONAL}",
        2,
        _LENGTH,
    ),
    "assd": Measure(
        "ASSD in mm",
        "mm, the mean of the distances between boundary voxels, those of both directions together (Heimann et al. "
        f"2009); {_ONE_IS_DIAGONAL}",
        2,
        _LENGTH,
    ),
    "nsd": Measure(
        "NSD",
        "normalized surface Dice: part of both surfaces that lies within the tolerance of the other (Nikolov et al. "
        f"2021); {_ONE_IS_0}",
    ),
    "lesion_f1": Measure(
        "lesion F1",
        "2TP/(2TP+FP+FN) over connected components (26 neighbors): one of the label is found (TP) if any of its "
        "voxels is predicted, else missed (FN); one of the prediction without any voxel of the label is false (FP) "
        f"(ISLES 2022); {_ONE_IS_0}",
    ),
}
