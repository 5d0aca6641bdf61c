"""The post-processing steps, and the file that stores them beside a model."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Integer
from pydantic import Field, field_validator, model_validator

from inflate3d.atomic import write_text
from inflate3d.datasets.regions import Regions
from inflate3d.errors import ConfigError
from inflate3d.evaluation.components import (
    find_box,
    find_holes,
    in_memory_order,
    number_components,
    remove_numbers,
)
from inflate3d.io.voxels import find_values
from inflate3d.settings import FrozenModel, parse_settings, read_json

POSTPROCESSING_FILE = "postprocessing.json"
"""File name, in the folder of the models that it was chosen for."""


class ClassSteps(FrozenModel):
    """Post-processing of one class or region."""

    value: int = Field(ge=1)
    """Its label value; of a region its number among all regions, from 1 on."""
    name: str
    """Its name."""
    largest_component: bool = False
    """Keep only its largest connected component, or several of the same size."""
    minimum_volume: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Remove connected components with a smaller volume, in cubic millimeters."""
    fill_holes: bool = False
    """Fill background that it fully encloses; of a region, also other voxels that can be in it, too."""

    @property
    def removes(self) -> bool:
        return self.largest_component or self.minimum_volume > 0

    def removed(self, voxels: Int[np.ndarray, " n"], voxel_volume: float) -> Bool[np.ndarray, " n"]:
        """Whether each component is removed.

        Args:
            voxels: Voxels of each component of the class.
            voxel_volume: Cubic millimeters.
        """
        small = voxels * voxel_volume < self.minimum_volume
        return small | (voxels < voxels.max(initial=0)) if self.largest_component else small

    def in_words(self) -> str:
        """Such as ``largest component, at least 120 mm³``; ``nothing`` where nothing is done."""
        steps = {
            "largest component": self.largest_component,
            f"at least {self.minimum_volume:g} mm³": self.minimum_volume > 0,
            "holes filled": self.fill_holes,
        }
        return ", ".join(words for words, done in steps.items() if done) or "nothing"


class Postprocessing(FrozenModel):
    """Post-processing of predictions, always in the same order.

    The depth filter smooths logits with a Gaussian; `Predictor.predict` applies it (argument ``depth_filter``).
    :meth:`apply` does the rest, on label maps. First it removes components of all classes: all but the largest, then
    those below the minimum volume; their voxels become background. Then it fills holes, one class after the other in
    the given order: background that a class fully encloses becomes that class; voxels of other classes never change.
    Voxels of a component are connected by faces, edges or corners (26 neighbors), those of a hole by faces (6).

    Examples:
        >>> labels = np.zeros((9, 9, 9), np.uint8)
        >>> labels[1:5, 1:5, 1:5], labels[8, 8, 8] = 1, 1
        >>> steps = Postprocessing(classes=(ClassSteps(value=1, name="liver", largest_component=True),))
        >>> steps.apply(labels, (1.0, 1.0, 1.0)).sum()
        np.uint64(64)
    """

    version: Literal[1] = 1
    depth_filter: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Standard deviation in millimeters of the Gaussian along the depth; 0 for none."""
    classes: tuple[ClassSteps, ...] = ()
    """Classes or regions that are changed."""
    regions: Regions | None = None
    """All regions of the label maps, if the steps are of regions."""

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[ClassSteps, ...]) -> tuple[ClassSteps, ...]:
        values = [each.value for each in classes]
        if len(set(values)) != len(values):
            raise ValueError("each class once")
        return classes

    @model_validator(mode="after")
    def _known_regions(self) -> Postprocessing:
        if self.regions and not {each.name for each in self.classes} <= {*self.regions.names}:
            raise ValueError("each class is one of the regions")
        return self

    def apply(self, labels: Integer[np.ndarray, "i j k"], spacing: Sequence[float]) -> Integer[np.ndarray, "i j k"]:
        """Applies all steps except the depth filter, and returns a new label map.

        Memory in addition to both maps: seven bytes per voxel of the largest class's bounding box.

        Args:
            labels: Label values on the scan's own grid; 0 is background.
            spacing: Millimeters between voxels along the three axes.
        """
        cleaned = labels.copy(order="K")
        view, voxel_volume = in_memory_order(cleaned), math.prod(spacing)
        for each in self.classes:
            if each.removes:
                _remove(view, each, self._left_without(each), voxel_volume)
        for each in self.classes:
            if each.fill_holes:
                _fill(view, self._left_without(each), self._filled(each))
        return cleaned

    def _left_without(self, steps: ClassSteps) -> dict[int, int]:
        """What becomes of each value of a class or region where it is removed."""
        if self.regions is None:
            return {steps.value: 0}
        return {value: self.regions.without(value, steps.name) for value in self.regions.values[steps.name]}

    def _filled(self, steps: ClassSteps) -> dict[int, int]:
        """What becomes of each value in a hole of a class or region."""
        return {0: steps.value} if self.regions is None else fillable_values(self.regions, steps.name)

    def in_words(self) -> str:
        """Describes all steps in one line; ``nothing`` if there are none."""
        smoothed = [f"depth filter {self.depth_filter:g} mm"] if self.depth_filter else []
        return "; ".join([*smoothed, *(f"{each.name}: {each.in_words()}" for each in self.classes)]) or "nothing"

    def check_classes(
        self, classes: Mapping[int, str], regions: Regions | None = None, *, file: Path | None = None
    ) -> None:
        """Checks that it fits a model with these classes.

        Args:
            classes: Name by label value.
            regions: The model's regions, if it has some.
            file: The file with the post-processing, for the message.

        Raises:
            ConfigError: A class is missing in the model or has another name, or regions differ.
        """
        if self.classes and self.regions != regions:
            raise ConfigError(
                "post-processing was chosen for other regions",
                expected=", ".join(f"{name} {list(held)}" for name, held in regions.values.items())
                if regions
                else "none",
                got=", ".join(f"{name} {list(held)}" for name, held in self.regions.values.items())
                if self.regions
                else "none",
                hint="predict with --no-postprocessing, or re-evaluate the model to choose it again",
                file=file,
            )
        for each in () if regions else self.classes:
            if classes.get(each.value) != each.name:
                raise ConfigError(
                    "post-processing was chosen for other classes",
                    expected=", ".join(f"{value} ({name})" for value, name in classes.items()),
                    got=f"{each.value} ({each.name})",
                    hint="predict with --no-postprocessing, or re-evaluate the model to choose it again",
                    file=file,
                )

    def write(self, path: str | Path) -> None:
        """Writes it as JSON, atomically.

        Raises:
            OutputError: The file can't be written.
        """
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Postprocessing:
        """Reads a file of :meth:`write`.

        Raises:
            ConfigError: The file is missing, is not JSON, or is not a post-processing of this version.
        """
        return parse_settings(cls, read_json(Path(path)), file=Path(path))


def find_postprocessing(folder: Path) -> Path | None:
    """The post-processing file for the models in a folder, or None.

    It is in the folder of folds, in the model folder, or in a run's model folder. That of a folder of folds does not
    apply to a single fold.
    """
    places = (folder / POSTPROCESSING_FILE, folder / "model" / POSTPROCESSING_FILE)
    return next((file for file in places if file.exists()), None)


def read_postprocessing(
    folders: Sequence[Path], classes: Mapping[int, str], regions: Regions | None = None
) -> Postprocessing | None:
    """The post-processing of an ensemble of models in several folders, or None.

    Args:
        folders: The model folders of `predict`.
        classes: The models' classes: name by label value.
        regions: Their regions, if they have some.
    """
    files = [find_postprocessing(folder) for folder in folders]
    found = [Postprocessing.read(file) if file else None for file in files]
    for each, file in zip(found, files, strict=True):
        if each:
            each.check_classes(classes, regions, file=file)
        if each != found[0]:
            raise ConfigError(
                "models of the ensemble have different post-processing",
                expected=f"for all: {found[0].in_words() if found[0] else 'none'}",
                got=each.in_words() if each else "none",
                hint="predict with --no-postprocessing",
                file=file,
            )
    return found[0]


def fillable_values(regions: Regions, name: str) -> dict[int, int]:
    """The values outside of a region that can become values of it, and those values."""
    others = sorted(({0} | regions.all_values) - {*regions.values[name]})
    return {value: after for value in others if (after := regions.adding(value, name)) != value}


def _remove(
    labels: Integer[np.ndarray, "a b c"], steps: ClassSteps, left: Mapping[int, int], voxel_volume: float
) -> None:
    if (box := find_box(labels, *left)) is None:
        return
    numbers, voxels = number_components(find_values(labels[box], left))
    removed = np.concatenate([[False], steps.removed(voxels[1:], voxel_volume)])  # the number 0 is what is around
    if removed.any():
        remove_numbers(labels[box], numbers, removed, left)


def _fill(labels: Integer[np.ndarray, "a b c"], held: Collection[int], filled: Mapping[int, int]) -> None:
    """Fills the holes of some values, by what becomes of each value there."""
    if (box := find_box(labels, *held)) is None:
        return
    part = labels[box]
    holes = find_holes(find_values(part, held))
    for value, after in filled.items():
        part[holes & (part == value)] = after
