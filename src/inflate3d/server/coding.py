"""How label maps travel: classes are numbered 1, 2, 3 ... in the order of `labels`, as MONAI Label's clients expect.

3D Slicer gives a class the value of its place in a list, for what it sends and for what it gets, whatever a dataset's
own label values are. On the disk, label maps have the dataset's values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.classes import map_labels
from inflate3d.errors import DataError, truncate

IGNORED_NAME = "ignore"
"""Name under which the value of voxels to ignore travels."""


@dataclass(frozen=True)
class LabelCoding:
    """Translates label maps between the dataset's values and the numbers that travel.

    Attributes:
        values: The dataset's label value of each number: ``values[0]`` is the background's.
        names: The names of the numbers 1, 2, 3 ...
        merged: Values that travel as another value.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    merged: Mapping[int, int]

    @classmethod
    def of(cls, dataset: Dataset) -> LabelCoding:
        values, names = list(dataset.classes), list(dataset.classes.values())[1:]
        if dataset.ignore is not None:
            values.append(dataset.ignore)
            names.append(IGNORED_NAME)
        return cls(tuple(values), tuple(names), dataset.merged)

    @property
    def numbers(self) -> dict[str, int]:
        """Number of each class by name."""
        return {name: number for number, name in enumerate(self.names, start=1)}

    @property
    def is_plain(self) -> bool:
        """Whether label maps travel as they are on the disk."""
        return self.values == tuple(range(len(self.values))) and not self.merged

    def encode(self, labels: Integer[np.ndarray, "i j k"]) -> Integer[np.ndarray, "i j k"]:
        """From the dataset's values to numbers."""
        numbers = {value: number for number, value in enumerate(self.values)}
        known = {**numbers, **{value: numbers[target] for value, target in self.merged.items()}}
        return map_labels(labels, known, dict.fromkeys(known, ""))

    def decode(self, labels: Integer[np.ndarray, "i j k"], label_info: object = None) -> Integer[np.ndarray, "i j k"]:
        """From a client's numbers to the dataset's values.

        Args:
            label_info: What the client says its numbers are, ``[{"name": "liver", "idx": 1}, ...]``. Required where
                the dataset's own values are not 0, 1, 2 ..., since a file would not tell which of the two it has.

        Raises:
            DataError: A number or a name is not one of a class.
        """
        if label_info is None and self.values != tuple(range(len(self.values))):
            raise DataError(
                "label_info is missing",
                expected=f'"label_info": [{{"name": "{self.names[0]}", "idx": 1}}, ...] in params',
                got="a label map alone, for a dataset whose label values have gaps",
                hint="state which class each number of the label map means",
            )
        present = [int(value) for value in np.unique(labels) if value]
        named = self.numbers if label_info is None else None
        places = dict(enumerate(self.names, start=1)) if named else _places(label_info, present)
        known = {name.strip().lower(): value for name, value in zip(self.names, self.values[1:], strict=True)}
        if unknown := [place for place in present if places.get(place, "").strip().lower() not in known]:
            raise DataError(
                "label map has unknown classes",
                expected=", ".join(f"{number} ({name})" for name, number in self.numbers.items()),
                got=truncate([f"{place} ({places[place]})" if place in places else str(place) for place in unknown]),
                hint="rename the segments to classes of the dataset, or remove them",
            )
        table = {0: self.values[0], **{place: known[places[place].strip().lower()] for place in present}}
        return map_labels(labels, table)


def _places(label_info: object, present: Sequence[int]) -> dict[int, str]:
    """The name of each number.

    Slicer numbers segments by their order, but counts in ``idx`` also those that it does not send (background and
    scribbles). Others mean ``idx``. Both are the same unless segments are left out.
    """
    entries = [_entry(each) for each in label_info] if isinstance(label_info, list) else []
    known = [each for each in entries if each is not None]
    if not known or len(known) < len(entries):
        raise DataError(
            "invalid label_info", expected='a list of {"name": "liver", "idx": 1} with all classes', got=label_info
        )
    by_order = {place: name for place, (name, _) in enumerate(known, start=1)}
    by_index = {index: name for name, index in known if index is not None}
    fitting = [names for names in (by_order, by_index) if all(number in names for number in present)]
    if len({tuple(names[number] for number in present) for names in fitting}) > 1:
        raise DataError(
            "label_info is ambiguous",
            expected='"idx" 1, 2, 3 ... in the order of the list',
            got=", ".join(f"{name}: {index}" for name, index in known),
            hint="remove segments that are not classes, such as background, and save again",
        )
    return fitting[0] if fitting else by_order


def _entry(entry: Any) -> tuple[str, int | None] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return None
    index = entry.get("idx")
    return (entry["name"], index) if index is None or type(index) is int else None
