"""Structures that may overlap, to one label map: each voxel gets the value that is in the same regions as the voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Shaped, UInt16

from inflate3d.errors import DataError
from inflate3d.io.segments import Structures

_MOST = np.iinfo(np.uint16).max
"""Combinations of structures."""


@dataclass
class Overlaps:
    """Which regions the voxels of structures are in, while they are read.

    Attributes:
        regions: The label values of each region of the dataset; none: each combination keeps its own number.
        covered: The numbers of the regions that each structure of the file lies in.
        structures: The structures of each combination that occurs, in the order in which they were found.
    """

    regions: tuple[tuple[int, ...], ...] = ()
    covered: Mapping[int, frozenset[int]] = field(default_factory=dict)
    structures: list[frozenset[int]] = field(default_factory=lambda: [frozenset()])

    @classmethod
    def of(cls, found: Mapping[int, int | tuple[int, ...]], wanted: Structures) -> Overlaps | None:
        """What the structures of a file stand for; None if the dataset has no regions.

        A structure named as a class, which is a single value, is in all regions of that value. So is one named as a
        region of a single value, unless the file has larger regions, too.

        Args:
            found: For each structure of the file, by number, a label value or those of a region; 0: not wanted.
            wanted: All structures that the dataset knows.
        """
        regions = tuple(dict.fromkeys(held for held in wanted.values() if isinstance(held, tuple)))
        if not regions:
            return None
        has_larger = any(isinstance(held, tuple) and len(held) > 1 for held in found.values())

        def covered(held: int | tuple[int, ...]) -> frozenset[int]:
            if isinstance(held, tuple) and (has_larger or len(held) > 1):
                return frozenset({regions.index(held)})
            value = max(held) if isinstance(held, tuple) else held  # a single one
            return frozenset(number for number, other in enumerate(regions) if value in other)

        return cls(regions, {number: covered(held) for number, held in found.items() if held})

    def joined(
        self, combinations: UInt16[np.ndarray, "*part"], mask: Bool[np.ndarray, "*part"], structure: int
    ) -> UInt16[np.ndarray, "*part"]:
        """The combination of each voxel once those of a mask are in a structure, too."""
        after = combinations.copy()
        for number in np.unique(combinations[mask]).tolist():
            after[mask & (combinations == number)] = self._number_of(self.structures[number] | {structure})
        return after

    def labels(
        self, combinations: UInt16[np.ndarray, "i j k"], names: Mapping[int, str]
    ) -> Shaped[np.ndarray, "i j k"]:
        """The label value of each voxel.

        Args:
            names: Of the structures, for the message.

        Raises:
            DataError: Voxels are in regions that no value stands for.
        """
        if not self.regions:
            return combinations
        value_in = {self._holding(value): value for value in sorted({v for held in self.regions for v in held})}
        table = np.zeros(len(self.structures), np.min_scalar_type(max(value_in.values())))
        for number in np.unique(combinations).tolist():
            structures = self.structures[number]
            within = frozenset[int]().union(*(self.covered[each] for each in structures))
            if structures and within not in value_in:
                raise DataError(
                    "structures overlap, and no label value represents the overlap",
                    expected="a value that belongs to exactly these regions",
                    got=f"{' + '.join(names[each] for each in sorted(structures))} in "
                    f"{np.count_nonzero(combinations == number)} voxels",
                    hint="correct the structures, or give the overlap a value of its own in dataset.yaml",
                )
            table[number] = value_in[within] if structures else 0
        return table[combinations]

    def _holding(self, value: int) -> frozenset[int]:
        return frozenset(number for number, held in enumerate(self.regions) if value in held)

    def _number_of(self, structures: frozenset[int]) -> int:
        if structures not in self.structures:
            if len(self.structures) > _MOST:
                raise DataError("structures overlap in too many ways", expected=f"at most {_MOST} combinations")
            self.structures.append(structures)
        return self.structures.index(structures)
