"""The classes of a dataset: which label values to train on, and the class number of each value."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.regions import Regions
from inflate3d.errors import ConfigError, DataError, truncate

IGNORED = 255
"""Class number of voxels that are neither trained on nor scored."""

_TABLE_SIZE = 2**16
"""Label values below this are looked up in a table; larger ones are searched for, which is ten times slower."""


def class_numbers(
    classes: Mapping[int, str], merged: Mapping[int, int] | None = None, ignore: int | None = None
) -> dict[int, int]:
    """The class number of every label value that files may contain.

    Classes are numbered 0 to K-1 in the order of ``classes``; the value to ignore becomes `IGNORED`.

    Examples:
        >>> class_numbers({0: "background", 2: "liver", 5: "tumor"}, merged={7: 5}, ignore=9)
        {0: 0, 2: 1, 5: 2, 9: 255, 7: 2}

    Args:
        merged: Label values that count as another value: that of a class or the one to ignore.
        ignore: Label value of unlabeled voxels.
    """
    numbers = {value: number for number, value in enumerate(classes)}
    if ignore is not None:
        numbers[ignore] = IGNORED
    return numbers | {value: numbers[target] for value, target in (merged or {}).items()}


def map_labels(
    labels: Integer[np.ndarray, "*grid"], numbers: Mapping[int, int], classes: Mapping[int, str] | None = None
) -> Integer[np.ndarray, "*grid"]:
    """Replaces each label by its number, such as label values by class numbers (see `class_numbers`).

    Examples:
        >>> map_labels(np.array([0, 5, 5, 2]), {0: 0, 2: 1, 5: 2})
        array([0, 2, 2, 1], dtype=uint8)

    Args:
        labels: The labels; not negative.
        numbers: The new number of every label that may occur.

    Returns:
        An array of the same shape, in the smallest unsigned type for all ``numbers``.
    """
    mapped = (_look_up if max(numbers) < _TABLE_SIZE else _search)(labels, numbers)
    if mapped is None:
        known = {value: classes.get(value) if classes else None for value in sorted(classes or numbers)}
        raise DataError(
            "unknown label values",
            expected=", ".join(f"{value} ({name})" if name else str(value) for value, name in known.items()),
            got=truncate([str(value) for value in np.setdiff1d(labels, list(numbers)).tolist()]),
            hint="name them in the dataset's list of classes, or correct the label map",
        )
    return mapped


def _look_up(labels: Integer[np.ndarray, "*grid"], numbers: Mapping[int, int]) -> Integer[np.ndarray, "*grid"] | None:
    """Maps by a lookup table; None if a label is not in it."""
    dtype = np.min_scalar_type(max(numbers.values()))
    highest = max(numbers)
    if labels.size and not 0 <= labels.min() <= labels.max() <= highest:
        return None
    if all(numbers.get(value) == value for value in range(highest + 1)):
        return labels.astype(dtype)
    table = np.full(highest + 1, -1, np.promote_types(dtype, np.int8))
    table[list(numbers)] = list(numbers.values())
    mapped = np.empty(labels.shape, dtype)
    for into, plane in zip(np.atleast_2d(mapped), np.atleast_2d(labels), strict=True):
        found = table[plane]  # plane by plane: indexing makes 64 bits of each label
        if found.size and found.min() < 0:
            return None
        into[...] = found
    return mapped


def _search(labels: Integer[np.ndarray, "*grid"], numbers: Mapping[int, int]) -> Integer[np.ndarray, "*grid"] | None:
    """Maps by binary search, for labels too large for a table; None if a label is unknown."""
    known, meant = (np.array(column) for column in zip(*sorted(numbers.items()), strict=True))
    places = np.searchsorted(known, labels).clip(max=len(known) - 1)
    dtype = np.min_scalar_type(max(numbers.values()))
    return meant.astype(dtype)[places] if (known[places] == labels).all() else None


def choose_classes(
    dataset: Dataset,
    *,
    keep: Sequence[str] = (),
    merge: Sequence[str] = (),
    ignore: str | None = None,
) -> Dataset:
    """The dataset with other classes; reads no file.

    Args:
        keep: Classes to train on, by name or value; others count as background. Empty: all. Of a dataset with regions,
            the regions, by name.
        merge: Classes to merge, such as ``"kidneys=left kidney+right kidney"`` or ``"tumor=2+3"``. A merged class has
            the smallest of their label values.
        ignore: Class or value of voxels that are neither trained on nor scored, even if the dataset counts that value
            as another class.
    """
    classes, merged = dict(dataset.classes), dict(dataset.merged)
    ignored = dataset.ignore
    if ignore is not None:
        ignored = int(ignore) if ignore.isdecimal() else _value_of(ignore, classes)
        if ignored == 0:
            raise ConfigError("the background cannot be ignored", expected="another value or class", got=ignore)
        classes.pop(ignored, None)
        merged.pop(ignored, None)
    for join in merge:
        _join(join, classes, merged)
    _check_names(classes, dataset)
    regions = dataset.regions and _choose_regions(dataset.regions, dataset, keep, merge, ignored)
    if keep:
        kept = (regions.all_values if regions else {_value_of(name, classes) for name in keep}) | {0}
        dropped = [value for value in classes if value not in kept]
        merged = {value: target if target in kept or target == ignored else 0 for value, target in merged.items()}
        merged |= dict.fromkeys(dropped, 0)
        classes = {value: name for value, name in classes.items() if value in kept}
    if len(classes) < 2:
        raise ConfigError("no class to train on", expected="at least one besides the background", got=classes)
    return dataclasses.replace(dataset, classes=classes, merged=merged, ignore=ignored, regions=regions)


def _choose_regions(
    regions: Regions, dataset: Dataset, keep: Sequence[str], merge: Sequence[str], ignored: int | None
) -> Regions:
    """The chosen regions; single values can be neither kept, merged nor ignored, as regions are made of them."""
    known = ", ".join(regions.names)
    if merge:
        raise ConfigError(
            "the classes of a dataset with regions can't be merged",
            got=f"--merge {merge[0]!r}",
            hint="list the merged class as a region of several values",
            file=dataset.root,
        )
    if ignored in regions.all_values:
        raise ConfigError(
            "a value of a region can't be ignored",
            got=f"{ignored}, which is in {', '.join(regions.holding(ignored))}",
            hint="remove it from the regions",
            file=dataset.root,
        )
    by_name = {name.strip().lower(): name for name in regions.names}
    if strange := [name for name in keep if name.strip().lower() not in by_name]:
        raise ConfigError("unknown region", expected=known, got=strange[0], file=dataset.root)
    return regions.keep([by_name[name.strip().lower()] for name in keep]) if keep else regions


def _check_names(classes: dict[int, str], dataset: Dataset) -> None:
    repeated = sorted(name for name, count in Counter(classes.values()).items() if count > 1)
    if repeated:
        raise ConfigError(
            "duplicate class name",
            got=", ".join(f"{value} ({name})" for value, name in classes.items() if name in repeated),
            hint="give them different names, or merge them with --merge NAME=VALUE+VALUE",
            file=dataset.root,
        )


def _join(join: str, classes: dict[int, str], merged: dict[int, int]) -> None:
    name, equals, parts = join.partition("=")
    values = sorted({_value_of(part, classes) for part in parts.split("+")}) if equals else []
    if not name.strip() or len(values) < 2:
        raise ConfigError("invalid merge", expected="NAME=CLASS+CLASS", got=f"--merge {join!r}")
    first = values[0]
    for value in values[1:]:
        del classes[value]
        merged.update({source: first for source, target in merged.items() if target == value})
        merged[value] = first
    classes[first] = name.strip()


def _value_of(name: str, classes: dict[int, str]) -> int:
    from difflib import get_close_matches

    wanted = name.strip()
    for value, known in classes.items():
        if wanted.lower() == known.lower() or wanted == str(value):
            return value
    near = get_close_matches(wanted, classes.values())
    raise ConfigError(
        "unknown class",
        expected=", ".join(f"{value} ({known})" for value, known in classes.items()),
        got=wanted,
        hint=f"did you mean {near[0]}?" if near else None,
    )
