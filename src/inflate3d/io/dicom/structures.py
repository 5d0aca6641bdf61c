"""One label map of named structures, as DICOM objects hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from inflate3d.errors import DataError, truncate
from inflate3d.io.segments import plain_name
from inflate3d.volume import Grid, Volume


@dataclass
class StructureLabels:
    """The label map of named structures while it is read, and once it is.

    Attributes:
        grid: Where its voxels lie.
        array: ``(I, J, K)``.
        names: The structures' names by their numbers in the file.
        values: The label value of each number; 0 of those that are not wanted.
        series: UID of the series that the structures were drawn on; empty if the file does not say.
        notes: What was odd but could be used.
    """

    grid: Grid
    array: Shaped[np.ndarray, "i j k"]
    names: dict[int, str]
    values: dict[int, int]
    series: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def empty(
        cls, grid: Grid, names: Mapping[int, str] | Sequence[str], wanted: Mapping[str, int] | None
    ) -> StructureLabels:
        """Background alone.

        Args:
            grid: Where voxels lie.
            names: The structures, by number or from 1 on.
            wanted: Label value by plain name; all structures with their numbers as values if not given.

        Raises:
            DataError: None of the structures is wanted.
        """
        numbered = dict(names) if isinstance(names, Mapping) else dict(enumerate(names, start=1))
        values = {
            number: number if wanted is None else wanted.get(plain_name(name), 0) for number, name in numbered.items()
        }
        if numbered and not any(values.values()):
            raise DataError(
                "none of the structures is a class of the dataset",
                expected=truncate(list(wanted or {})),
                got=truncate(list(numbered.values())),
                hint="correct the names of the classes, or map others to them under synonyms in dataset.yaml",
            )
        array = np.zeros(grid.shape, np.min_scalar_type(max(values.values(), default=0)))
        return cls(grid, array, numbered, values)

    def add(self, at: Any, mask: Bool[np.ndarray, "*part"], value: int, place: str) -> None:
        """Gives the voxels of a mask a value.

        Raises:
            DataError: Some have another one already.
        """
        old = self.array[at]
        if (clash := mask & (old > 0) & (old != value)).any():
            both = [self._name_of(int(old[clash][0])), self._name_of(value)]
            raise DataError(
                "structures overlap",
                expected="one structure a voxel",
                got=f"{' and '.join(both)} share {np.count_nonzero(clash)} voxels in {place}",
                hint="leave one of them out of the classes",
            )
        self.array[at] = np.where(mask, np.array(value, self.array.dtype), old)

    def finished(self, series: str, notes: tuple[str, ...] = ()) -> StructureLabels:
        """The same with what else the file says."""
        unwanted = [name for number, name in self.names.items() if not self.values[number]]
        if unwanted:
            notes += (f"structures that are not classes are left out: {truncate(unwanted)}",)
        return replace(self, series=series, notes=notes)

    @property
    def volume(self) -> Volume:
        """The labels, ``(1, I, J, K)``."""
        return Volume(self.array[np.newaxis], self.grid.affine, self.notes)

    def _name_of(self, value: int) -> str:
        return next(name for number, name in self.names.items() if self.values[number] == value)
