"""The ``dataset.json`` in which a dataset describes itself, read with clear errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from inflate3d.documents import read_text
from inflate3d.errors import DataError

LISTING = "dataset.json"
"""The file that describes the dataset, in the Decathlon's layout and in nnU-Net's."""

Listing = TypeVar("Listing", bound=BaseModel)


def read_listing(path: Path, kind: type[Listing], *, whose: str, example: str) -> Listing:
    """Reads a listing.

    Args:
        path: The JSON file; a byte order mark is passed over.
        kind: What it has to hold.
        whose: Whose layout it is, for the error message.
        example: How such a file looks, for the error message.

    Raises:
        DataError: The file can't be read, is not JSON, or doesn't hold a ``kind``.
    """
    try:
        return kind.model_validate_json(read_text(path, encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(
            f"{path.name} can't be read", expected=f"a file like {example}", got=error.strerror, file=path
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name} does not describe a dataset of {whose}",
            expected=f"JSON like {example}",
            got=first_mistakes(error) if isinstance(error, ValidationError) else error,
            hint="correct the file",
            file=path,
        ) from error


def keys_of(path: Path) -> set[str]:
    """The keys of a JSON object, by which layouts are told apart; none if the file holds no such thing."""
    try:
        return set(TypeAdapter(dict[str, Any]).validate_json(read_text(path, encoding="utf-8-sig")))
    except (OSError, ValidationError, UnicodeDecodeError):
        return set()  # whoever reads the file tells what is wrong with it


def check_classes(classes: dict[int, str], *, file: Path) -> dict[int, str]:
    """The classes by ascending value.

    Raises:
        DataError: There is no background, no class besides it, or a negative value.
    """
    if 0 not in classes or len(classes) < 2 or min(classes) < 0:
        raise DataError(
            "the classes can't be used",
            expected="a name for 0, the background, and for at least one class from 1 on",
            got=classes,
            hint='correct "labels"',
            file=file,
        )
    return dict(sorted(classes.items()))


def first_mistakes(error: ValidationError, most: int = 3) -> str:
    """What pydantic complains about, in one line."""
    mistakes = [f"{'.'.join(map(str, mistake['loc'])) or 'the file'}: {mistake['msg']}" for mistake in error.errors()]
    return "; ".join(mistakes[:most]) + (f"; and {len(mistakes) - most} more" if len(mistakes) > most else "")
