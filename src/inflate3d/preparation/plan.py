"""The plan: how scans of a data set are turned into the model's input, each choice with its reason."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from inflate3d.atomic import write_text
from inflate3d.config import FrozenModel, parse_settings
from inflate3d.datasets.case import Dataset
from inflate3d.errors import ConfigError, DataError
from inflate3d.preparation.fingerprint import Fingerprint, measure_intensities, merge_intensities
from inflate3d.volume import DEPTH_AXES, DepthAxis

PLAN_VERSION = 1

SIZE_STEP = 32
"""The planned image size is a multiple of this; training moves it to the encoder's own step."""
SMALLEST_SIZE, LARGEST_SIZE = 96, 512
ENLARGEMENT = 2.0
"""Slices smaller than the smallest size are enlarged at least so much: patches of 14 or 16 pixels see little else."""

OPPOSITES: dict[DepthAxis, frozenset[str]] = {
    "sagittal": frozenset({"left", "right", "l", "r", "lt", "rt"}),
    "coronal": frozenset({"anterior", "posterior", "ventral", "dorsal"}),
    "axial": frozenset({"superior", "inferior", "upper", "lower", "cranial", "caudal"}),
}
"""Words in class names that a mirror along the axis would make wrong."""


class Normalisation(FrozenModel):
    """How one modality's voxel values become 0 to 1.

    ``clip`` maps the same range of values for every case (CT, whose values are absolute);
    ``case`` maps each case's own 0.5th to 99.5th percentile (MR, whose values are not).
    """

    kind: Literal["clip", "case"]
    low: float | None = None
    high: float | None = None

    def value_range(self, channel: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
        """The voxel values that become 0 and 1 in this scan's channel."""
        if self.kind == "clip":
            assert self.low is not None and self.high is not None
            return self.low, self.high
        measured = measure_intensities(channel)
        low, high = measured.percentile_00_5, measured.percentile_99_5
        return low, high if high > low else low + 1.0


class Plan(FrozenModel):
    """How scans become windows; training and prediction follow the same plan.

    Attributes:
        classes: Label value to class name. Inside, classes are numbered 0 to K-1 in ascending label value.
        flips: Whether mirroring the frame's (depth, row, column) axis leaves every label right.
        image_size: In-plane size (rows, columns) of the model's input.
        reasons: For each choice, why.
    """

    version: Literal[1] = PLAN_VERSION
    dataset: str
    modalities: tuple[str, ...]
    classes: dict[int, str]
    depth_axis: DepthAxis
    image_size: tuple[int, int]
    normalisation: tuple[Normalisation, ...]
    flips: tuple[bool, bool, bool]
    reasons: dict[str, str]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 0 to K-1, background first."""
        return tuple(self.classes.values())

    @property
    def label_values(self) -> np.ndarray:
        """Label values of the classes 0 to K-1: what is written into label files."""
        return np.array(list(self.classes))

    def write(self, path: Path) -> None:
        """Writes the plan as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads what :meth:`write` wrote.

        Raises:
            ConfigError: The file is missing, is not JSON, or is no plan of this version.
        """
        import json

        try:
            return parse_settings(cls, json.loads(path.read_text(encoding="utf-8")), file=path)
        except (OSError, ValueError) as error:
            raise ConfigError("plan can't be read", file=path, got=error) from error


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    *,
    depth_axis: DepthAxis | None = None,
    image_size: tuple[int, int] | None = None,
    clip: tuple[float, float] | None = None,
    flips: bool | None = None,
) -> Plan:
    """Decides how scans become windows.

    Args:
        dataset: Names, modalities and classes.
        fingerprint: What its cases are like.
        depth_axis: The stacking direction, if the user knows better.
        image_size: In-plane size (rows, columns) of the model's input, likewise.
        clip: Range of voxel values that becomes 0 to 1 in every modality, likewise.
        flips: Whether windows may be mirrored, likewise.

    Raises:
        ConfigError: ``clip`` is not a range.
    """
    reasons: dict[str, str] = {}
    axis = depth_axis or _largest_spacing(fingerprint, reasons)
    if depth_axis is not None:
        reasons["depth_axis"] = f"{axis}, as asked for"
    size = image_size or _in_plane_size(fingerprint, axis, reasons)
    if image_size is not None:
        reasons["image_size"] = f"{size[0]}×{size[1]}, as asked for"
    return Plan(
        dataset=dataset.name,
        modalities=dataset.modalities,
        classes=dataset.classes,
        depth_axis=axis,
        image_size=size,
        normalisation=_normalisations(dataset, fingerprint, clip, reasons),
        flips=_safe_flips(dataset, axis, flips, reasons),
        reasons=reasons,
    )


def check_depth(fingerprint: Fingerprint, axis: DepthAxis, depth: int) -> None:
    """Makes sure that every scan has at least as many slices as a window.

    Raises:
        DataError: Naming the thinnest case.
    """
    world = DEPTH_AXES.index(axis)
    thinnest = min(fingerprint.cases, key=lambda case: case.shape[world])
    if thinnest.shape[world] < depth:
        raise DataError(
            "scan is thinner than the window",
            expected=f"at least {depth} slices along the {axis} direction",
            got=f"{thinnest.shape[world]} slices",
            remedy="train with a smaller --depth, or leave the case out",
            case=thinnest.case,
        )


def _largest_spacing(fingerprint: Fingerprint, reasons: dict[str, str]) -> DepthAxis:
    spacing = fingerprint.median_spacing()
    largest = max(spacing)
    # Ties go to the last, axial; scanners round, so one per cent is a tie.
    world = max(axis for axis in range(3) if spacing[axis] >= 0.99 * largest)
    sides = " × ".join(f"{side:.3g}" for side in spacing)
    reasons["depth_axis"] = f"{DEPTH_AXES[world]}: median spacing is {sides} mm (left-right, back-front, down-up)"
    return DEPTH_AXES[world]


def _in_plane_size(fingerprint: Fingerprint, axis: DepthAxis, reasons: dict[str, str]) -> tuple[int, int]:
    shape = fingerprint.median_shape()
    rows, columns = (shape[world] for world in range(3) if world != DEPTH_AXES.index(axis))
    longest = max(rows, columns)
    wanted = longest if longest >= SMALLEST_SIZE else longest * ENLARGEMENT
    side = SIZE_STEP * math.ceil(min(max(wanted, SMALLEST_SIZE), LARGEST_SIZE) / SIZE_STEP - 1e-9)
    reasons["image_size"] = f"{side}×{side}: the median slice has {rows:.0f}×{columns:.0f} pixels"
    return side, side


def _normalisations(
    dataset: Dataset, fingerprint: Fingerprint, clip: tuple[float, float] | None, reasons: dict[str, str]
) -> tuple[Normalisation, ...]:
    if clip is not None:
        low, high = clip
        if not low < high:
            raise ConfigError("clip is not a range", expected="low < high", got=f"{low} {high}")
        reasons["normalisation"] = f"{low:g} to {high:g}, as asked for"
        return tuple(Normalisation(kind="clip", low=low, high=high) for _ in dataset.modalities)
    chosen, why = [], []
    for index, modality in enumerate(dataset.modalities):
        inside = [case.foreground[index] for case in fingerprint.cases if case.foreground]
        if re.fullmatch(r"ct(\W.*)?|computed tomography", modality.strip(), re.IGNORECASE) and inside:
            typical = merge_intensities(inside)
            # The labelled tissue, and as much again on both sides, so that its surroundings stay visible.
            margin = 0.5 * (typical.percentile_99_5 - typical.percentile_00_5)
            low, high = (
                round(typical.percentile_00_5 - margin, 1),
                round(typical.percentile_99_5 + margin, 1),
            )
            chosen.append(Normalisation(kind="clip", low=low, high=high))
            why.append(f"{modality} is CT: {low:g} to {high:g} HU, round the labelled voxels' values")
        else:
            chosen.append(Normalisation(kind="case"))
            why.append(f"{modality} is not CT: each case by its own 0.5th to 99.5th percentile")
    reasons["normalisation"] = "; ".join(why)
    return tuple(chosen)


def _safe_flips(
    dataset: Dataset, axis: DepthAxis, wanted: bool | None, reasons: dict[str, str]
) -> tuple[bool, bool, bool]:
    if wanted is not None:
        reasons["flips"] = f"{'allowed' if wanted else 'forbidden'}, as asked for"
        return wanted, wanted, wanted
    words = {word for name in dataset.classes.values() for word in re.findall(r"[a-z]+", name.lower())}
    named = {direction: sorted(words & opposites) for direction, opposites in OPPOSITES.items()}
    if named["sagittal"]:
        # A mirror along any axis turns left into right, however the patient then lies.
        reasons["flips"] = f"none: a class name says {' and '.join(named['sagittal'])}"
        return False, False, False
    depth = DEPTH_AXES.index(axis)
    frame = [DEPTH_AXES[depth], *(DEPTH_AXES[world] for world in range(3) if world != depth)]
    first, second, third = (not named[direction] for direction in frame)
    forbidden = [f"not {d} (a class name says {' and '.join(named[d])})" for d in frame if named[d]]
    reasons["flips"] = "; ".join(["along axes whose ends no class name tells apart", *forbidden])
    return first, second, third
