"""Regions: structures that may overlap, each a union of values of the label maps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from inflate3d.settings import FrozenModel


class Regions(FrozenModel):
    """Structures that may overlap, such as a whole tumor and its core.

    A label map still has one value for each voxel; a region is a union of values. Networks have an output for each
    region, and none for the background.

    Attributes:
        values: Label values of each region by its name, in the order of the network's outputs.
        order: The label value to write where a region is predicted, for each region; later ones overwrite earlier ones,
            as with nnU-Net's ``regions_class_order``. If empty, each voxel gets the value whose regions are most
            probable together.

    Examples:
        >>> regions = Regions(values={"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, order=(1, 2, 3))
        >>> regions.holding(2)
        ('whole', 'core')
        >>> regions.members([0, 1, 2, 3]).astype(int)
        array([[0, 1, 1, 1],
               [0, 0, 1, 1],
               [0, 0, 0, 1]])
    """

    values: dict[str, tuple[int, ...]]
    order: tuple[int, ...] = Field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def all_values(self) -> set[int]:
        """The values that are in a region."""
        return {value for held in self.values.values() for value in held}

    def holding(self, value: int) -> tuple[str, ...]:
        """The regions that a value is in."""
        return tuple(name for name, held in self.values.items() if value in held)

    def members(self, values: Sequence[int]) -> Bool[np.ndarray, "regions values"]:
        """Whether each region holds each of the values."""
        return np.array([[value in held for value in values] for held in self.values.values()])

    def name_values(self) -> dict[int, str]:
        """A name for each value, from the regions that it is in, such as ``"whole + core"``."""
        names = {value: " + ".join(self.holding(value)) for value in sorted(self.all_values)}
        repeated = {name for name in names.values() if list(names.values()).count(name) > 1}
        return {value: f"{name} ({value})" if name in repeated else name for value, name in names.items()}

    def keep(self, names: Collection[str]) -> Regions:
        """Only some of the regions; without an order if theirs would not do for them alone."""
        values = {name: held for name, held in self.values.items() if name in names}
        order = tuple(value for name, value in zip(self.values, self.order, strict=False) if name in names)
        kept = Regions(values=values, order=order)
        return kept if not order or kept._mistake_in_order() is None else Regions(values=values)

    def in_order(self) -> Regions | None:
        """The same regions with an order, in which they may stand in another; None if no order can express them."""
        if self.order:
            return self
        values = dict(sorted(self.values.items(), key=lambda region: -len(region[1])))
        ordered = Regions(values=values)
        last = {
            name: next((value for value in held if ordered.holding(value)[-1] == name), held[0])
            for name, held in values.items()
        }
        found = Regions(values=values, order=tuple(last.values()))
        return None if found._mistake_in_order() else found

    def renumber(self, numbers: Mapping[int, int]) -> Regions:
        """The same regions in label maps with other values.

        Args:
            numbers: The new value of each value.
        """
        values = {name: tuple(numbers[value] for value in held) for name, held in self.values.items()}
        return Regions(values=values, order=tuple(numbers[value] for value in self.order))

    def without(self, value: int, name: str) -> int:
        """The value for a voxel that is taken out of a region: that with most of its other regions, and no more."""
        left = {*self.holding(value)} - {name}
        fitting = [each for each in (0, *sorted(self.all_values)) if left.issuperset(self.holding(each))]
        return max(fitting, key=lambda each: len(self.holding(each)))

    def adding(self, value: int, name: str) -> int:
        """The value for a voxel that is put into a region: that with fewest other regions; its own if there is none."""
        wanted = {*self.holding(value), name}
        fitting = [each for each in sorted(self.all_values) if wanted.issubset(self.holding(each))]
        return min(fitting, key=lambda each: len(self.holding(each)), default=value)

    def mistake(self, classes: Mapping[int, str], ignore: int | None = None) -> str | None:
        """What is wrong with them, if anything.

        Args:
            classes: Name by label value; 0 is the background.
            ignore: Label value of unlabeled voxels.
        """
        lowered = [name.strip().lower() for name in self.values]
        foreground = {*classes} - {0}
        if not self.values or "" in lowered or "background" in lowered or len({*lowered}) < len(lowered):
            return "a name is empty, repeated or background"
        for name, held in self.values.items():
            if not held or len({*held}) < len(held):
                return f"{name} has no value, or one twice"
            if ignore in held:
                return f"{name} holds {ignore}, which is ignored"
            if strange := sorted({*held} - foreground):
                return f"{name} holds {strange[0]}, which is " + ("the background" if strange[0] == 0 else "no class")
        if lacking := sorted(foreground - self.all_values):
            return f"{lacking[0]} ({classes[lacking[0]]}) is in no region"
        if len({frozenset(held) for held in self.values.values()}) < len(self.values):
            return "two regions hold the same values"
        return self._mistake_in_order() if self.order else None

    def _mistake_in_order(self) -> str | None:
        """Written in this order, a label map has to keep its regions: others would be trained on and scored."""
        if len(self.order) != len(self.values):
            return f"regions_class_order has {len(self.order)} values for {len(self.values)} regions"
        written = dict(zip(self.values, self.order, strict=True))
        for value in sorted(self.all_values):
            last = written[self.holding(value)[-1]]
            if self.holding(last) != self.holding(value):
                return (
                    f"regions_class_order writes {last} ({_words(self.holding(last))}) for {value} "
                    f"({_words(self.holding(value))})"
                )
        return None


def _words(names: Sequence[str]) -> str:
    return "in " + ", ".join(names) if names else "in no region"
