"""What every data set layout is read into: cases, classes, modalities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One scan with its labels.

    Attributes:
        id: Unique in the data set; names the case in splits, tables and messages.
        images: The scan's files; one that holds all modalities (4D), or one for each.
        label: The label map's file; none for a scan to be predicted.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None


@dataclass(frozen=True)
class Dataset:
    """A data set as its own description states it.

    Attributes:
        name: Its name.
        root: Its folder.
        modalities: Names of the input channels, in order, such as ``("CT",)`` or ``("FLAIR", "T1w")``.
        classes: Label value to class name, ascending; 0 is the background.
        cases: The labelled cases, sorted by id.
    """

    name: str
    root: Path
    modalities: tuple[str, ...]
    classes: dict[int, str]
    cases: tuple[Case, ...]
