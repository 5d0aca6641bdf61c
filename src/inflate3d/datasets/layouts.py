"""Which layout a data set's folder has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from inflate3d.datasets import msd
from inflate3d.datasets.case import Dataset
from inflate3d.errors import DataError


@dataclass(frozen=True)
class Layout:
    """A way to lay out a data set in a folder.

    Attributes:
        name: What the field calls it.
        mark: The file in the folder that tells it from the others.
        read: Reads the folder.
    """

    name: str
    mark: str
    read: Callable[[Path], Dataset]


LAYOUTS = (Layout("Medical Segmentation Decathlon", msd.LISTING, msd.read_msd),)
"""Every layout that is known, in the order in which they are tried."""


def read_dataset(folder: str | Path) -> Dataset:
    """Reads a data set of any known layout; no scan is opened.

    Args:
        folder: The data set's folder.

    Raises:
        DataError: The folder doesn't exist, has no known layout, or its description is wrong.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            "the data set's path is a file, not a folder"
            if folder.exists()
            else "the data set's folder does not exist",
            remedy=_near(folder),
            file=folder,
        )
    for layout in LAYOUTS:
        if (folder / layout.mark).is_file():
            return layout.read(folder)
    found = sorted(path.name for path in folder.iterdir())
    raise DataError(
        "the data set's layout is not known",
        expected=" or ".join(f"{layout.mark} ({layout.name})" for layout in LAYOUTS),
        got=", ".join(found[:8]) + (", ..." if len(found) > 8 else "") if found else "an empty folder",
        remedy="give the folder that holds the listing itself, or write one",
        file=folder,
    )


def _near(folder: Path) -> str:
    """Names what the user may have meant."""
    parent = folder.parent
    if folder.exists() or not parent.is_dir():
        return "check the path"
    siblings = {path.name.lower(): path.name for path in parent.iterdir() if path.is_dir()}
    close = [siblings[name] for name in get_close_matches(folder.name.lower(), siblings)]
    return f"did you mean {' or '.join(str(parent / name) for name in close)}?" if close else "check the path"
