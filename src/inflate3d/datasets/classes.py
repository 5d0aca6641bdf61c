"""Which of a dataset's label values are learned, and as what."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from inflate3d.datasets.case import Dataset
from inflate3d.errors import ConfigError


def choose_classes(
    dataset: Dataset,
    *,
    keep: Sequence[str] = (),
    merge: Sequence[str] = (),
    ignore: str | None = None,
) -> Dataset:
    """The dataset with other classes; no file is touched.

    Args:
        dataset: The dataset.
        keep: Classes to learn, by name or value; all others count as background. All if empty.
        merge: Joins of classes, such as ``"kidneys=left kidney+right kidney"`` or ``"tumor=2+3"``. The joined
            class has the smallest of the joined values.
        ignore: The class, or the value, of voxels that are neither learned from nor scored, even where the dataset
            counts that value as another class.

    Raises:
        ConfigError: A class is not there, stands in two joins, or has the name of another; a join has not the form
            ``NAME=CLASS+CLASS``; the background is to be ignored.
    """
    classes, merged = dict(dataset.classes), dict(dataset.merged)
    ignored = dataset.ignore
    if ignore is not None:
        ignored = int(ignore) if ignore.isdecimal() else _value_of(ignore, classes)
        if ignored == 0:
            raise ConfigError("the background can't be ignored", expected="another value or class", got=ignore)
        classes.pop(ignored, None)
        merged.pop(ignored, None)
    for join in merge:
        _join(join, classes, merged)
    _check_names(classes, dataset)
    if keep:
        kept = {_value_of(name, classes) for name in keep} | {0}
        dropped = [value for value in classes if value not in kept]
        merged = {value: target if target in kept or target == ignored else 0 for value, target in merged.items()}
        merged |= dict.fromkeys(dropped, 0)
        classes = {value: name for value, name in classes.items() if value in kept}
    if len(classes) < 2:
        raise ConfigError("no class is left to learn", expected="at least one besides the background", got=classes)
    return dataclasses.replace(dataset, classes=classes, merged=merged, ignore=ignored)


def _check_names(classes: dict[int, str], dataset: Dataset) -> None:
    repeated = sorted(name for name, count in Counter(classes.values()).items() if count > 1)
    if repeated:
        raise ConfigError(
            "two classes have one name",
            got=", ".join(f"{value} ({name})" for value, name in classes.items() if name in repeated),
            hint="name them apart, or join them by --merge NAME=VALUE+VALUE",
            file=dataset.root,
        )


def _join(join: str, classes: dict[int, str], merged: dict[int, int]) -> None:
    name, equals, parts = join.partition("=")
    values = sorted({_value_of(part, classes) for part in parts.split("+")}) if equals else []
    if not name.strip() or len(values) < 2:
        raise ConfigError("classes can't be joined", expected="NAME=CLASS+CLASS", got=f"--merge {join!r}")
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
        "no such class",
        expected=", ".join(f"{value} ({known})" for value, known in classes.items()),
        got=wanted,
        hint=f"did you mean {near[0]}?" if near else None,
    )
