"""The common form of every dataset layout: cases, classes, modalities, splits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from inflate3d.datasets.regions import Regions
from inflate3d.datasets.splits import Split
from inflate3d.errors import DataError
from inflate3d.io.segments import SegmentCode, Structures

_NO_NAME = re.compile(r"^$|^\.|[/\\]|\.\.")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows reserves for devices, with any suffix."""

_LONGEST_ID = 200
"""Length limit of an id in UTF-8 bytes: file systems allow names of 255, and the files of a case have suffixes."""


def check_id(name: str) -> str:
    """Checks that an id is a safe file name on any disk, which cannot lead out of its folder."""
    if not name.isprintable() or _NO_NAME.search(name) or _DEVICE.fullmatch(name) or len(name.encode()) > _LONGEST_ID:
        raise ValueError(f"invalid case name: {name[:_LONGEST_ID]!r}")
    return name


def listed_path(folder: Path, text: str) -> Path:
    """The file that a listing names, relative to the dataset's folder.

    Backslashes, which separate folders in listings made on Windows, are accepted unless a file has such a name.
    """
    path = folder / text
    return path if "\\" not in text or _exists(path) else folder / text.replace("\\", "/")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # no file can have such a name


CaseId = Annotated[str, AfterValidator(check_id)]
"""A case's id in a document."""


@dataclass(frozen=True)
class Case:
    """One scan with its labels.

    Attributes:
        id: Its unique name in splits, tables, messages and result files.
        images: The scan's files: one with all modalities (4D), or one per modality, ``None`` if it is missing. A DICOM
            series is named by its folder (see `inflate3d.io`).
        label: The label map's file; None for a scan to be predicted.
        group: Its group, such as the patient, which splits keep together; None: only the case.
    """

    id: str
    images: tuple[Path | None, ...]
    label: Path | None
    group: str | None = None

    @property
    def scan(self) -> Path:
        """The first of the scan's files: it identifies the scan in messages, and its grid is the case's."""
        return next(image for image in self.images if image is not None)


@dataclass(frozen=True)
class Dataset:
    """A dataset: its cases, modalities, classes and splits.

    Attributes:
        name: Its name.
        root: Its folder.
        modalities: Names of the input channels, in order, such as ``("CT",)`` or ``("FLAIR", "T1w")``.
        classes: Label value to class name, ascending; 0 is the background.
        cases: The labeled cases, sorted by id.
        merged: Label values in the files that count as another class: value to a value of ``classes``, or to 0 for
            background.
        ignore: Label value of unlabeled voxels, which are neither trained on nor scored.
        splits: The dataset's own splits by name; each is one split or a list of folds.
        structures: Label value of each structure in DICOM SEG and RTSTRUCT, or the values of a region, by its plain
            name; other names included.
        codes: By class name, the codes that DICOM labels have, where they differ from the built-in ones.
        regions: What to segment where structures may overlap; None: each class.
        announced: Number of labeled cases that the description claims (``numTraining``); None if it claims none.

    Examples:
        >>> import inflate3d as i3d
        >>> dataset = i3d.read_dataset("data/Liver")
        >>> dataset.classes, dataset.cases[0].id
        ({0: 'background', 2: 'liver', 5: 'tumor'}, 'toy0')
    """

    name: str
    root: Path
    modalities: tuple[str, ...]
    classes: dict[int, str]
    cases: tuple[Case, ...]
    merged: Mapping[int, int] = field(default_factory=dict)
    ignore: int | None = None
    splits: Mapping[str, tuple[Split, ...]] = field(default_factory=dict)
    structures: Structures = field(default_factory=dict)
    codes: Mapping[str, SegmentCode] = field(default_factory=dict)
    regions: Regions | None = None
    announced: int | None = field(default=None, compare=False)

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """What to segment: the label values of each region, or of each class but the background, by name."""
        return target_values(self.classes, self.regions)

    @property
    def label_values(self) -> set[int]:
        """All values that its label maps may contain."""
        return {*self.classes, *self.merged, *([] if self.ignore is None else [self.ignore])}

    def case(self, name: str) -> Case:
        """The case of this id.

        Raises:
            DataError: It is not in the dataset.
        """
        found = next((case for case in self.cases if case.id == name), None)
        if found is None:
            raise DataError(
                "case not found in the dataset",
                got=f"{len(self.cases)} other cases",
                hint="give the dataset that the run was trained on; --dataset if it has moved",
                case=name,
                file=self.root,
            )
        return found


def target_values(classes: Mapping[int, str], regions: Regions | None) -> dict[str, tuple[int, ...]]:
    """The label values of each region, or of each class but the background if there are no regions, by name."""
    return dict(regions.values) if regions else {name: (value,) for value, name in classes.items() if value}
