"""The plan: how a dataset's scans become the model's input, with a reason for each choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Integer, Shaped
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from inflate3d.atomic import write_text
from inflate3d.config import Planes, TrainingDefaults
from inflate3d.datasets.case import Dataset, target_values
from inflate3d.datasets.classes import class_numbers, map_labels
from inflate3d.datasets.regions import Regions
from inflate3d.errors import DataError
from inflate3d.io.segments import SegmentCode, Segments
from inflate3d.orientation import DEPTH_AXES, DepthAxis, Turn, frame_axes, plane_turns
from inflate3d.preparation.fingerprint import Fingerprint, measure_intensities
from inflate3d.preparation.typical import TypicalScans
from inflate3d.settings import FrozenModel, parse_settings, read_json

PLAN_VERSION = 2

BLANK = (0.0, 1.0)
"""The value range of a missing modality, whose zeros stay zero."""


class Normalization(FrozenModel):
    """How one modality's voxel values are mapped to 0 to 1.

    ``clip`` maps the same range of values in every case (for CT, whose values are absolute); ``case`` maps each case's
    0.5th to 99.5th percentile (for MR, whose values are not).
    """

    kind: Literal["clip", "case"]
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _check_range(self) -> Normalization:
        if self.kind == "clip" and not (self.low is not None and self.high is not None and self.low < self.high):
            raise ValueError("clip needs a low, and a high that is larger")
        return self

    def value_range(self, channel: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
        """The voxel values that are mapped to 0 and 1 in this scan's channel; a missing one, all zeros, stays zero."""
        if not channel.any():
            return BLANK
        return self._fixed() or own_range(channel)

    def own_or_fixed(self, own: tuple[float, float], *, blank: bool) -> tuple[float, float]:
        """The same for a channel that was measured before.

        Args:
            own: The channel's `own_range`.
        """
        return BLANK if blank else self._fixed() or own

    def _fixed(self) -> tuple[float, float] | None:
        if self.kind == "case":
            return None
        assert self.low is not None and self.high is not None
        return self.low, self.high


def own_range(channel: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
    """The 0.5th and 99.5th percentile of a scan's voxel values, widened if they are equal."""
    measured = measure_intensities(channel)
    low, high = measured.percentile_00_5, measured.percentile_99_5
    return low, high if high > low else low + 1.0


class ModelSpace(FrozenModel):
    """The part of a plan that must be known before a case is stored: how scans and label maps become arrays.

    Attributes:
        classes: Class name by label value. Networks number classes 0 to K-1 by ascending label value.
        merged: Label values that count as the class of another value.
        ignore: Label value of voxels that are neither trained on nor scored.
        allow_missing_modality: Whether modalities may be missing, which are replaced by zeros.
        depth_axis: The anatomical direction along which slices are stacked.
        slice_spacing: Millimeters between slices after resampling; None keeps a scan's own slices.
        structures: Label value of each structure in DICOM SEG and RTSTRUCT, or those of a region, by its plain name.
        codes: By class name, the codes that DICOM labels have, where they differ from the built-in ones.
        regions: What networks segment where structures may overlap; None: each class.
        units: The unit of each modality's values, such as ``"SUVbw"``; empty if unknown, as for all but PET series.
    """

    dataset: str
    modalities: tuple[str, ...]
    classes: dict[int, str]
    merged: dict[int, int]
    ignore: int | None = None
    allow_missing_modality: bool = False
    depth_axis: DepthAxis
    slice_spacing: PositiveFloat | None = None
    structures: dict[str, int | tuple[int, ...]] = Field(default_factory=dict)
    codes: dict[str, SegmentCode] = Field(default_factory=dict)
    regions: Regions | None = None
    units: tuple[str, ...] = ()

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """What networks segment: the label values of each region, or of each class but the background, by name."""
        return target_values(self.classes, self.regions)

    @property
    def members(self) -> Bool[np.ndarray, "regions k"] | None:
        """Which of the classes 0 to K-1 each region holds; None if there are no regions."""
        return self.regions and self.regions.members(list(self.classes))

    @property
    def region_numbers(self) -> list[tuple[int, ...]] | None:
        """The class numbers in each region; None if there are no regions."""
        members = self.members
        return None if members is None else [tuple(np.flatnonzero(held).tolist()) for held in members]

    @property
    def segments(self) -> Segments:
        """What the label values stand for, as DICOM labels say."""
        return Segments(self.classes, self.codes, self.dataset, regions=self.regions.values if self.regions else {})

    @property
    def class_numbers(self) -> dict[int, int]:
        """Class number of every label value that files may contain (see `inflate3d.datasets.classes`)."""
        return class_numbers(self.classes, self.merged, self.ignore)

    def number_classes(self, labels: Integer[np.ndarray, "*grid"]) -> Integer[np.ndarray, "*grid"]:
        """Maps label values to class numbers 0 to K-1, and `IGNORED`."""
        return map_labels(labels, self.class_numbers, self.classes)

    def slice_count(self, slices: int, spacing: float) -> int:
        """Number of slices in model space of a scan with this many slices at this spacing."""
        if self.slice_spacing is None:
            return slices
        return max(1, round(slices * spacing / self.slice_spacing))


class Plan(ModelSpace):
    """How scans become windows; training and prediction follow the same plan.

    Attributes:
        pixel_spacing: Millimeters between rows and between columns of the model's input; None: every slice fills the
            input, whatever its size in millimeters.
        image_size: In-plane size (rows, columns) of the model's input.
        stride: Steps from one slice of a window to the next.
        flips: Whether flipping the (depth, row, column) axis keeps all labels correct.
        planes: Whether windows are stacked along the depth axis only, or along each axis (see `plane_plans`).
        thinnest: Extent in millimeters of the thinnest structure of the training cases along the (depth, row, column)
            axis: the shortest sequence of adjacent slices that hold a label. None before a training.
        typical: What the training cases look like, to recognize a scan that is unlike them. None before a training.
        defaults: Training settings for what the user leaves open.
        reasons: The reason for each choice.

    Examples:
        >>> plan = Plan.read(Path("runs/Liver/plan.json"))
        >>> plan.depth_axis, plan.modalities
        ('axial', ('CT',))
    """

    version: Literal[2] = PLAN_VERSION
    pixel_spacing: tuple[PositiveFloat, PositiveFloat] | None = None
    image_size: tuple[int, int]
    stride: PositiveInt = 1
    normalization: tuple[Normalization, ...]
    flips: tuple[bool, bool, bool]
    planes: Planes = "one"
    thinnest: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    typical: TypicalScans | None = None
    defaults: TrainingDefaults = TrainingDefaults()
    reasons: dict[str, str]

    @model_validator(mode="after")
    def _check_planes(self) -> Plan:
        if self.planes == "all" and (self.slice_spacing is None) != (self.pixel_spacing is None):
            raise ValueError("all planes need a spacing of slices and of pixels, or of neither")
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of what networks segment, background first: of the classes 0 to K-1, or of the regions."""
        return ("background", *self.regions.names) if self.regions else tuple(self.classes.values())

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the classes 1 to K-1; each voxel of a label map has one of them, even where regions overlap."""
        return tuple(self.classes.values())[1:]

    @property
    def outputs(self) -> int:
        """Number of a network's outputs: the classes, background included, or the regions."""
        return len(self.regions.names if self.regions else self.classes)

    @property
    def label_values(self) -> Integer[np.ndarray, " k"]:
        """Label values of the classes 0 to K-1, as in label files."""
        return np.array(list(self.classes))

    def apply_to(self, dataset: Dataset) -> Dataset:
        """The dataset with the plan's classes."""
        chosen = {"classes": self.classes, "merged": self.merged, "ignore": self.ignore, "regions": self.regions}
        return replace(dataset, **chosen)

    @property
    def plane_plans(self) -> tuple[Plan, ...]:
        """One plan per axis, along which its windows are stacked, in the order of `plane_turns`.

        Spacing and flips follow the axes. All share this plan's model space: slices along the other two axes are taken
        from its arrays and not resampled.
        """
        if self.planes == "one":
            return (self,)
        return tuple(self._along(turn) for turn in plane_turns(self.depth_axis))

    def _along(self, turn: Turn) -> Plan:
        depth, rows, columns = turn
        if depth == 0:
            return self.model_copy(update={"planes": "one"})
        depth_axis = DEPTH_AXES[frame_axes(self.depth_axis)[depth]]
        pixels = None
        if self.pixel_spacing is not None:
            assert self.slice_spacing is not None
            sides = (self.slice_spacing, *self.pixel_spacing)
            pixels = (sides[rows], sides[columns])
        flips = (self.flips[depth], self.flips[rows], self.flips[columns])
        thinnest = self.thinnest and (self.thinnest[depth], self.thinnest[rows], self.thinnest[columns])
        changes = {"depth_axis": depth_axis, "slice_spacing": None, "pixel_spacing": pixels, "flips": flips}
        changes["thinnest"] = thinnest
        return self.model_copy(update={"planes": "one", **changes})

    def check_depth(self, fingerprint: Fingerprint, depth: int) -> None:
        """Checks that every scan has enough slices for a window.

        Raises:
            DataError: A case has too few; the message names the thinnest.
        """
        world = DEPTH_AXES.index(self.depth_axis)
        counts = {case.case: self.slice_count(case.shape[world], case.spacing[world]) for case in fingerprint.cases}
        thinnest = min(counts, key=lambda name: counts[name])
        needed = window_span(depth, self.stride)
        if counts[thinnest] < needed:
            raise DataError(
                "scan has fewer slices than the window",
                expected=f"at least {needed} slices along the {self.depth_axis} direction",
                got=f"{counts[thinnest]} slices",
                hint="train with a smaller --depth, or leave the case out",
                case=thinnest,
            )

    def differing(self, other: Plan) -> dict[str, tuple[Any, Any]]:
        """Settings that differ between two plans and affect samples, inputs or scores: both values by name."""
        names = type(self).model_fields.keys() - {"version", "dataset", "thinnest", "typical", "defaults", "reasons"}
        values = {name: (getattr(self, name), getattr(other, name)) for name in sorted(names)}
        return {name: (own, others) for name, (own, others) in values.items() if own != others}

    def write(self, path: Path) -> None:
        """Writes the plan as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads a file of :meth:`write`.

        Raises:
            ConfigError: The file is missing, is not JSON, or is not a plan of this version.
        """
        return parse_settings(cls, read_json(path), file=path)


def window_span(depth: int, stride: int) -> int:
    """Number of slices from the first to the last one of a window."""
    return (depth - 1) * stride + 1
