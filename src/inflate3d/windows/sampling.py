"""Random sampling of training windows, a function of the seed and the window's number alone.

There is no state to save: a resumed training draws what an uninterrupted one would have drawn, whatever the number of
loader processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from inflate3d.config import Planes
from inflate3d.preparation.store import StoredCase


class SampleLocation(NamedTuple):
    """The location of a sample in the dataset.

    Attributes:
        target: The class numbers, one or those of a region, that the slice was drawn for; none if it was drawn from all
            slices.
        axis: The axis of the store's arrays that the slice is one along.
    """

    case: str
    slice: int
    target: tuple[int, ...] = ()
    axis: int = 0


class WindowSampler:
    """Draws (case, center slice) for the n-th window of a training.

    A fraction of the windows is drawn by class, or by region: a class, each with equal probability, then a case that
    has it, then a slice of that case that has it. Rare classes and small cases are thus seen as often as others. The
    other windows are drawn uniformly from all slices of all cases.

    Args:
        seed: Seed of all draws.
        planes: Whether slices lie along the depth, or along all three axes, each as often.
        targets: Class numbers of each class or region to draw by; by default each class by itself.
    """

    def __init__(
        self,
        cases: Mapping[str, StoredCase],
        foreground_fraction: float,
        seed: int,
        planes: Planes = "one",
        targets: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        self.cases = dict(sorted(cases.items()))
        self.foreground_fraction = foreground_fraction
        self.seed = seed
        self.names = list(self.cases)
        self.axes = 1 if planes == "one" else 3
        self.ends = [np.cumsum([case.shape[axis] for case in self.cases.values()]) for axis in range(self.axes)]
        present = sorted({k for case in self.cases.values() for k in case.slices})
        wanted = [(k,) for k in present] if targets is None else targets
        self.targets = [target for target in wanted if not {*target}.isdisjoint(present)]
        self.holders = [
            [name for name in self.names if not self.cases[name].slices.keys().isdisjoint(target)]
            for target in self.targets
        ]

    def draw(self, number: int) -> SampleLocation:
        random = np.random.default_rng((self.seed, number))
        axis = 0 if self.axes == 1 else int(random.integers(self.axes))
        if self.targets and random.random() < self.foreground_fraction:
            chosen = int(random.integers(len(self.targets)))
            name = self.holders[chosen][int(random.integers(len(self.holders[chosen])))]
            slices = _slices_with(self.cases[name].slices_along(axis), self.targets[chosen])
            return SampleLocation(name, slices[int(random.integers(len(slices)))], self.targets[chosen], axis)
        ends = self.ends[axis]
        position = int(random.integers(ends[-1]))
        index = int(np.searchsorted(ends, position, side="right"))
        before = int(ends[index - 1]) if index else 0
        return SampleLocation(self.names[index], position - before, axis=axis)


def _slices_with(by_class: Mapping[int, tuple[int, ...]], target: tuple[int, ...]) -> Sequence[int]:
    """The slices with one of the classes, ascending."""
    if len(target) == 1:
        return by_class[target[0]]
    return sorted({each for number in target for each in by_class.get(number, ())})
