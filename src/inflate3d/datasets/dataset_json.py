"""``dataset.json``, in which datasets of the Decathlon and of nnU-Net describe themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from inflate3d.documents import DAMAGED_JSON, parse_json, read_text
from inflate3d.errors import DataError

LISTING = "dataset.json"
"""The file that describes the dataset."""

LARGEST_LISTING = 1 << 25
"""Bytes of the largest listing that is read; one of 100,000 cases is half as large."""

LARGEST_VALUE = 1 << 63
"""Label values are below this."""

Document = TypeVar("Document", bound=BaseModel)


def _check_keys(value: Any) -> Any:
    if isinstance(value, dict):
        numbers = Counter(int(key) for key in value if isinstance(key, str) and key.isdecimal())
        if repeated := [number for number, count in numbers.items() if count > 1]:
            raise ValueError(f"duplicate key: {repeated[0]}")
    return value


NamesByNumber = Annotated[dict[int, str], BeforeValidator(_check_keys)]
"""Names by number, such as ``{"0": "background", "1": "liver"}``; no number twice, however it is spelled."""


def read_json_as(kind: type[Document], path: Path, *, what: str, example: str) -> Document:
    """Reads a JSON file of a dataset.

    Args:
        kind: What it has to hold.
        path: The file; a byte order mark is skipped.
        what: What is wrong with the file if it holds something else.
        example: What such a file looks like, for the error message.

    Raises:
        DataError: The file can't be read, is not JSON, names a key twice, or doesn't hold a ``kind``.
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
    """The keys of a JSON object; none if the file holds no such thing."""
    try:
        document = parse_json(read_text(path, encoding="utf-8-sig", most=LARGEST_LISTING))
    except (OSError, *DAMAGED_JSON):
        return set()  # reading the file reports what is wrong with it
    return set(document) if isinstance(document, dict) else set()


def check_classes(classes: dict[int, str], *, file: Path) -> dict[int, str]:
    """The classes by ascending value.

    Raises:
        DataError: The background or a class besides it is missing, or a value is negative or too large.
    """
    if 0 not in classes or len(classes) < 2 or min(classes) < 0 or max(classes) >= LARGEST_VALUE:
        raise DataError(
            "invalid classes",
            expected="a name for 0, the background, and for at least one class from 1 on",
            got=classes,
            hint='correct "labels"',
            file=file,
        )
    return dict(sorted(classes.items()))


def first_mistakes(error: ValidationError, most: int = 3) -> str:
    """The first of pydantic's complaints in one line."""
    mistakes = [f"{'.'.join(map(str, mistake['loc'])) or 'the file'}: {mistake['msg']}" for mistake in error.errors()]
    return "; ".join(mistakes[:most]) + (f"; and {len(mistakes) - most} more" if len(mistakes) > most else "")
