"""Options that override the automatic plan, checked before any case is read."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.classes import choose_classes
from inflate3d.orientation import DepthAxis
from inflate3d.settings import FrozenModel

LEAST_SIZE, MOST_SIZE = 16, 4096
"""Limits of an image's side in pixels: a patch of a vision transformer, and more than any scanner's slice has."""

Spacing = Literal["own", "median"] | tuple[float, float, float]


def _possible_size(size: tuple[int, int]) -> tuple[int, int]:
    if not all(LEAST_SIZE <= side <= MOST_SIZE for side in size):
        raise ValueError(f"must be rows and columns, each of {LEAST_SIZE} to {MOST_SIZE} pixels")
    return size


def _lengths(spacing: Any) -> Any:
    """Checked before pydantic does, which would report an error for each type of the union."""
    lengths = isinstance(spacing, tuple | list) and len(spacing) == 3 and all(map(_is_length, spacing))
    if not lengths and spacing not in ("own", "median"):
        raise ValueError("must be own, median, or three lengths above 0 in mm")
    return spacing


def _is_length(side: Any) -> bool:
    return isinstance(side, int | float) and 0 < side < math.inf


def _range(clip: tuple[float, float]) -> tuple[float, float]:
    if not clip[0] < clip[1]:  # the model lets finite numbers in only
        raise ValueError("must be a range of voxel values, the lower one first")
    return clip


class PlanOptions(FrozenModel):
    """Overrides of the automatic plan.

    Examples:
        >>> options = PlanOptions(clip=(-100, 240), classes=("liver",))
        >>> options.as_flags(["clip", "classes"])
        '--clip -100 240, --classes liver'
    """

    common: ClassVar = ("clip", "classes")

    depth_axis: DepthAxis | None = None
    """Direction along which slices are stacked; by default that of the largest spacing."""
    planned_size: Annotated[tuple[int, int], AfterValidator(_possible_size)] | None = None
    """In-plane image size in pixels (rows, columns); by default from the median slice."""
    spacing: Annotated[Spacing, BeforeValidator(_lengths)] = "own"
    """Millimeters between slices, rows and columns to resample to; own keeps slices and fills the image with each."""
    stride: int | None = Field(default=None, ge=1)
    """Step from one slice of a window to the next; by default 1, neighboring slices."""
    clip: Annotated[tuple[float, float], AfterValidator(_range)] | None = None
    """Voxel values that become 0 and 1 in every case; by default depending on the modality."""
    flips: bool | None = None
    """Whether windows may be flipped; by default depending on the class names."""
    classes: tuple[str, ...] = ()
    """Classes to train on, by name or value; others count as background. By default all."""
    merge: tuple[str, ...] = ()
    """Classes to merge, each like kidneys=2+3 or "kidneys=left kidney+right kidney"."""
    ignore: str | None = None
    """Class or label value of voxels that are neither trained on nor scored."""
    allow_missing_modality: bool = False
    """Replace missing modalities of a case by zeros."""

    @property
    def needs_median_spacing(self) -> bool:
        """Whether model space depends on the scans' spacing."""
        return self.depth_axis is None or self.spacing == "median"

    def choose_classes(self, dataset: Dataset) -> Dataset:
        """The dataset with the classes that these options select.

        Raises:
            ConfigError: A class is missing, or a merge has the wrong form.
        """
        return choose_classes(dataset, keep=self.classes, merge=self.merge, ignore=self.ignore)

    def as_flags(self, names: Iterable[str]) -> str:
        """Options as command-line flags, such as ``--clip -175 250, no --flips``."""
        return ", ".join(_as_flag(name, getattr(self, name)) for name in names)


def _as_flag(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value == PlanOptions.model_fields[name].default:
        return f"no {flag}"
    if name == "allow_missing_modality":
        return flag
    parts = value if isinstance(value, tuple) else (value,)
    return " ".join([flag, *(shlex.quote(str(part).removesuffix(".0")) for part in parts)])
