"""``dataset.json``, in which datasets of the Decathlon and of nnU-Net describe themselves."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from inflate3d.datasets.regions import Regions
from inflate3d.documents import DAMAGED_JSON, parse_json, read_text
from inflate3d.errors import DataError
from inflate3d.settings import message_of, shown

LISTING = "dataset.json"
"""The file that describes the dataset."""

LARGEST_LISTING = 1 << 25
"""Size limit of a listing in bytes; one of 100,000 cases has half as many."""

LARGEST_VALUE = 1 << 63
"""Label values are below this."""

Document = TypeVar("Document", bound=BaseModel)


def _check_keys(value: Any) -> Any:
    if isinstance(value, dict):
        if strange := [key for key in value if not key.isdecimal()]:
            raise ValueError(f"the key {shown(strange[0])} is not a whole number")
        repeated = [number for number, count in Counter(map(int, value)).items() if count > 1]
        if repeated:
            raise ValueError(f"duplicate key: {repeated[0]}")
    return value


NamesByNumber = Annotated[dict[int, str], BeforeValidator(_check_keys)]
"""Names by number, such as ``{"0": "background", "1": "liver"}``; each number once, however it is written."""


def _whole_number_or_none(value: Any) -> int | None:
    return int(value) if type(value) is int or (isinstance(value, str) and value.isdecimal()) else None


Announced = Annotated[int | None, BeforeValidator(_whole_number_or_none)]
"""``numTraining``; what is no number is passed over, since no case depends on it."""


def _check_numbers(value: Any) -> Any:
    """Rejects true and false, which Python takes for 1 and 0."""
    for each in value if isinstance(value, list) else [value]:
        is_number = type(each) is int or (isinstance(each, float) and each.is_integer())
        if not is_number and not isinstance(each, str):
            raise ValueError(f"{json.dumps(each)[:80]} is not a whole number")
    return value


Labels = dict[str, Annotated[str | int | list[int], BeforeValidator(_check_numbers)]]
"""The classes in the form of either layout, see `read_classes`."""

Order = Annotated[list[int], BeforeValidator(_check_numbers)]
"""nnU-Net's ``regions_class_order``."""

IGNORE = "ignore"
"""nnU-Net's name for unlabeled voxels."""

_NUMBER = re.compile(r"\s*[0-9]{1,20}\s*")


def read_json_as(kind: type[Document], path: Path, *, what: str, example: str) -> Document:
    """Reads a JSON file of a dataset.

    Args:
        path: The file; a byte order mark is skipped.
        what: What is wrong with the file if it has other contents.
        example: An example of such a file, for the error message.
    """
    try:
        return kind.model_validate(parse_json(read_text(path, encoding="utf-8-sig", most=LARGEST_LISTING)))
    except OSError as error:
        raise DataError(
            f"cannot read {path.name}", expected=f"a file like {example}", got=error.strerror, file=path
        ) from error
    except ValidationError as error:
        got: object = first_mistakes(error)
    except DAMAGED_JSON as error:  # UnicodeDecodeError too
        got = error
    raise DataError(what, expected=f"JSON like {example}", got=got, hint="correct the file", file=path)


def keys_of(path: Path) -> set[str]:
    """The keys of a JSON object; none if the file is not one."""
    try:
        document = parse_json(read_text(path, encoding="utf-8-sig", most=LARGEST_LISTING))
    except (OSError, *DAMAGED_JSON):
        return set()  # reading the file reports what is wrong with it
    return set(document) if isinstance(document, dict) else set()


def read_classes(labels: Labels, *, file: Path) -> tuple[dict[int, str], int | None]:
    """The classes in ascending order of value, and the ignored value.

    Args:
        labels: In the Decathlon's form, ``{"0": "background", "1": "liver"}``, or in nnU-Net's,
            ``{"background": 0, "liver": 1}``, where ``ignore`` is not a class. Both layouts may use both forms.
    """
    if regions := [name for name, value in labels.items() if isinstance(value, list) and len(value) != 1]:
        raise DataError(
            "classes are regions of several values",
            expected="one value for each class in this layout",
            got=", ".join(f"{name} {labels[name]}" for name in regions),
            hint="describe the dataset in nnU-Net's version 2 format or by dataset.yaml: both support regions",
            file=file,
        )
    single = {name: value[0] if isinstance(value, list) else value for name, value in labels.items()}
    by_number = all(isinstance(name, str) and _NUMBER.fullmatch(value) for value, name in single.items())
    pairs = [(value, name) if by_number else (name, value) for value, name in single.items()]
    if not all(_NUMBER.fullmatch(str(value)) for value, _ in pairs):
        raise _invalid_classes(labels, file)
    classes = {int(value): str(name) for value, name in pairs}
    if len(classes) < len(pairs):
        raise DataError("duplicate class value", got=single, hint='correct "labels"', file=file)
    ignore = None if by_number else next((value for value, name in classes.items() if name == IGNORE), None)
    if ignore is not None:
        del classes[ignore]
    if 0 not in classes or len(classes) < 2 or max(classes) >= LARGEST_VALUE:
        raise _invalid_classes(classes, file)
    return dict(sorted(classes.items())), ignore


def have_regions(labels: Labels) -> bool:
    """Whether nnU-Net would train on regions: one of them has several values."""
    return any(isinstance(value, list) and len(value) > 1 for value in labels.values())


def read_regions(labels: Labels, order: Sequence[int], *, file: Path) -> tuple[dict[int, str], int | None, Regions]:
    """The values in the regions with a name for each, the ignored value, and the regions.

    Args:
        labels: In nnU-Net's form, ``{"background": 0, "whole": [1, 2], "core": [2]}``.
        order: nnU-Net's ``regions_class_order``.
    """
    held: dict[str, tuple[int, ...]] = {}
    for name, listed in labels.items():
        values = listed if isinstance(listed, list) else [listed]
        held[name] = tuple(value for value in values if isinstance(value, int) and 0 <= value < LARGEST_VALUE)
        if len(held[name]) < len(values):
            raise _invalid_classes(labels, file)
    background = next((name for name, values in held.items() if values == (0,)), None)
    ignored = held.pop(IGNORE, ())
    if background is None or len(ignored) > 1:
        raise _invalid_classes(labels, file)
    del held[background]
    ignore = ignored[0] if ignored else None
    regions = Regions(values=held, order=tuple(order))
    classes = {0: background} | regions.name_values()
    wrong = regions.mistake(classes, ignore) or (None if order else "no regions_class_order")
    if wrong or ignore == 0:
        raise DataError(
            "invalid regions",
            expected='like "labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]',
            got=wrong or "the background is ignored",
            hint='correct "labels" and "regions_class_order", or describe the dataset by a dataset.yaml, in which '
            "regions need no order",
            file=file,
        )
    return classes, ignore, regions


def _invalid_classes(got: object, file: Path) -> DataError:
    return DataError(
        "invalid classes",
        expected="a name for 0, the background, and for at least one class from 1 on",
        got=got,
        hint='correct "labels"',
        file=file,
    )


def first_mistakes(error: ValidationError, most: int = 3) -> str:
    """The first validation errors in one line."""
    mistakes = [
        f"{'.'.join(map(str, mistake['loc'])) or 'the file'}: {message_of(mistake)}" for mistake in error.errors()
    ]
    return "; ".join(mistakes[:most]) + (f"; and {len(mistakes) - most} more" if len(mistakes) > most else "")
