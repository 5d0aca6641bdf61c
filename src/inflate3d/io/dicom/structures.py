"""One label map of named structures, as DICOM objects hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from inflate3d.errors import DataError, truncate
from inflate3d.grid import Grid
from inflate3d.io.dicom.overlaps import Overlaps
from inflate3d.io.segments import Wanted, plain_name
from inflate3d.volume import Volume


@dataclass
class StructureLabels:
    """The label map of named structures while it is read, and once it is.

    Attributes:
        grid: Where its voxels lie.
        array: ``(I, J, K)``; while structures that may overlap are read, the number of each voxel's combination.
        names: The structures' names by their numbers in the file.
        values: The label value of each number; 0 of those that are not wanted. Of structures that may overlap, the
            number itself.
        overlaps: What structures that may overlap stand for; None if each voxel is in one at most.
        series: UID of the series that the structures were drawn on; empty if the file does not say.
        notes: What was odd but could be used.
    """

    grid: Grid
    array: Shaped[np.ndarray, "i j k"]
    names: dict[int, str]
    values: dict[int, int]
    overlaps: Overlaps | None = None
    series: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def empty(cls, grid: Grid, names: Mapping[int, str] | Sequence[str], wanted: Wanted) -> StructureLabels:
        """Background alone.

        Args:
            grid: Where voxels lie.
            names: The structures, by number or from 1 on.
            wanted: What structures stand for.

        Raises:
            DataError: None of the structures is wanted.
        """
        numbered = dict(names) if isinstance(names, Mapping) else dict(enumerate(names, start=1))
        own = {number: number for number in numbered}
        if wanted == "combinations":
            return cls(grid, np.zeros(grid.shape, np.uint16), numbered, own, Overlaps())
        found = own if wanted is None else {each: wanted.get(plain_name(name), 0) for each, name in numbered.items()}
        if numbered and not any(found.values()):
            raise DataError(
                "none of the structures is a class of the dataset",
                expected=truncate(list(wanted or {})),
                got=truncate(list(numbered.values())),
                hint="correct the names of the classes, or map others to them under synonyms in dataset.yaml",
            )
        overlaps = Overlaps.of(found, wanted or {})
        if overlaps is None:
            values = {number: value for number, value in found.items() if isinstance(value, int)}
            return cls(
                grid, np.zeros(grid.shape, np.min_scalar_type(max(values.values(), default=0))), numbered, values
            )
        values = {number: number if value else 0 for number, value in found.items()}
        return cls(grid, np.zeros(grid.shape, np.uint16), numbered, values, overlaps)

    def add(self, at: Any, mask: Bool[np.ndarray, "*part"], value: int, place: str) -> None:
        """Gives the voxels of a mask a value.

        Raises:
            DataError: Some have another one already, and structures may not overlap.
        """
        old = self.array[at]
        if self.overlaps:
            self.array[at] = self.overlaps.joined(old, mask, value)
            return
        if (clash := mask & (old > 0) & (old != value)).any():
            both = [self._name_of(int(old[clash][0])), self._name_of(value)]
            raise DataError(
                "structures overlap",
                expected="one structure per voxel",
                got=f"{' and '.join(both)} share {np.count_nonzero(clash)} voxels in {place}",
                hint="leave one of them out of the classes, or list both as regions, as `inflate3d init --overlaps "
                "regions` does",
            )
        self.array[at] = np.where(mask, np.array(value, self.array.dtype), old)

    def finished(self, series: str, notes: tuple[str, ...] = ()) -> StructureLabels:
        """The same with what else the file says.

        Raises:
            DataError: Structures overlap in a way that no label value stands for.
        """
        unwanted = [name for number, name in self.names.items() if not self.values[number]]
        if unwanted:
            notes += (f"structures that are not classes are left out: {truncate(unwanted)}",)
        array = self.overlaps.labels(self.array, self.names) if self.overlaps else self.array
        return replace(self, array=array, series=series, notes=notes)

    def mask_of(self, number: int) -> Bool[np.ndarray, "i j k"]:
        """Where a structure is, after structures were read as combinations."""
        assert self.overlaps is not None
        return np.array([number in combination for combination in self.overlaps.structures])[self.array]

    @property
    def volume(self) -> Volume:
        """The labels, ``(1, I, J, K)``."""
        return Volume(self.array[np.newaxis], self.grid.affine, self.notes)

    def _name_of(self, value: int) -> str:
        return next(name for number, name in self.names.items() if self.values[number] == value)
