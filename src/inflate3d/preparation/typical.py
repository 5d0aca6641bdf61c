"""What the training scans look like, and whether another scan is like them.

A model knows nothing of scans that are unlike those that it was trained on, such as a CT given to a model of MR scans:
the label map may be anything. So the plan keeps the range of a few measurements over the training cases, none of which
needs a label, and `predict` names those that lie far outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from inflate3d.preparation.fingerprint import CaseFingerprint, Intensities, measure_intensities
from inflate3d.settings import FrozenModel
from inflate3d.volume import Volume

AXES = ("left-right", "back-front", "down-up")

Kind = Literal["spacing", "field of view", "intensities"]

_LEAST_WIDTH: dict[Kind, float] = {"spacing": math.log(1.25), "field of view": math.log(1.5), "intensities": 0.1}
"""Least width of a range: of logarithms of millimeters, and of intensities as a fraction of a scan's own range."""

_MARGIN = 1.0
"""How far outside the range a scan may lie, in widths of it: a new scan of few cases often lies a little outside."""


class TypicalRange(FrozenModel):
    """The range of a measurement over the training cases.

    Attributes:
        kind: What is measured: logarithms of millimeters, or intensities as a fraction of the scan's own range.
        what: Its name, for the user.
    """

    kind: Kind
    what: str
    low: float
    high: float

    def distance(self, value: float) -> float:
        """How far a value lies outside the range, in widths of it; 0 inside."""
        width = max(self.high - self.low, _LEAST_WIDTH[self.kind])
        return max(self.low - value, value - self.high, 0.0) / width

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.2f}" if self.kind == "intensities" else f"{math.exp(value):.3g} mm"


class TypicalScans(FrozenModel):
    """The ranges of all measurements over the training cases.

    Examples:
        >>> import inflate3d as i3d
        >>> typical = i3d.Plan.read(i3d.RunFolder(Path("runs/Liver")).plan).typical
        >>> [name for name, *_ in typical.unusual(i3d.read_volume("new_scan.nii.gz"))]
        []
    """

    cases: int = Field(ge=1)
    ranges: tuple[TypicalRange, ...]

    @classmethod
    def of(cls, cases: Sequence[CaseFingerprint], modalities: Sequence[str]) -> TypicalScans:
        """Measures the ranges over some cases; a missing modality does not count."""
        measured = [
            _measure(case.shape, case.spacing, _present(case.whole, modalities, missing=case.missing)) for case in cases
        ]
        names = dict.fromkeys(name for each in measured for name in each)
        values = {name: [each[name] for each in measured if name in each] for name in names}
        ranges = (
            TypicalRange(kind=kind, what=what, low=min(found), high=max(found))
            for (kind, what), found in values.items()
        )
        return cls(cases=len(cases), ranges=tuple(ranges))

    def unusual(self, volume: Volume, modalities: Sequence[str] = ("",)) -> list[tuple[str, str, str]]:
        """The measurements of a scan that lie far outside, the farthest first.

        Args:
            volume: The scan, ``(C, I, J, K)`` in any orientation.
            modalities: Names of the modalities; channels of zeros are missing ones.

        Returns:
            For each its name, the range of the training cases, and the scan's own value, in words.
        """
        turned = volume.reorient("RAS")
        missing = [number for number, channel in enumerate(turned.array) if not channel.any()]
        whole = [measure_intensities(channel) for channel in turned.array]
        own = _measure(turned.shape, turned.spacing, _present(whole, modalities, missing=missing))
        found = [
            (each.distance(own[each.kind, each.what]), each) for each in self.ranges if (each.kind, each.what) in own
        ]
        far = sorted(((distance, each) for distance, each in found if distance > _MARGIN), key=lambda pair: -pair[0])
        return [
            (
                " ".join(filter(None, (each.kind, each.what))),
                f"{each.shown(each.low)} to {each.shown(each.high)}",
                each.shown(own[each.kind, each.what]),
            )
            for _, each in far
        ]


def _present(
    whole: Sequence[Intensities], modalities: Sequence[str], *, missing: Sequence[int]
) -> dict[str, Intensities]:
    """The intensities of each modality that is there; unnamed where it is the only one."""
    names = modalities if len(modalities) > 1 else ("",)
    return {name: each for number, (name, each) in enumerate(zip(names, whole, strict=True)) if number not in missing}


def _measure(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], intensities: Mapping[str, Intensities]
) -> dict[tuple[Kind, str], float]:
    """All measurements of a scan whose axes are those of RAS+."""
    found: dict[tuple[Kind, str], float] = {}
    for axis, voxels, side in zip(AXES, shape, spacing, strict=True):
        found["spacing", axis] = math.log(side)
        found["field of view", axis] = math.log(side * voxels)
    for name, each in intensities.items():
        for what, value in _shape_of(each).items():
            found["intensities", f"{name}: {what}" if name else what] = value
    return found


def _shape_of(values: Intensities) -> dict[str, float]:
    """The shape of a histogram, which does not depend on the unit of the values.

    Only the black level says something of the values themselves: air is -1000 in a CT, and about 0 in an MR scan.
    """
    low, high = values.percentile_00_5, values.percentile_99_5
    width = high - low if high > low else 1.0
    return {
        "black level": max(-10.0, min(low / width, 10.0)),
        "5th percentile": (values.percentile_05_0 - low) / width,
        "median": (values.percentile_50_0 - low) / width,
        "95th percentile": (values.percentile_95_0 - low) / width,
        "deviation": values.deviation / width,
    }
