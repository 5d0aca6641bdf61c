"""The cases of a project on disk: their scans, their label maps by version, and what clients note about them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, Dataset, check_id
from inflate3d.errors import DataError, OutputError
from inflate3d.io import label_suffix, lay_on, read_grid, read_images, read_labels, stem_of, suffix_of, write_labels
from inflate3d.io.formats import is_dicom_image
from inflate3d.server.coding import LabelCoding
from inflate3d.server.faults import ConflictError, NotFoundError
from inflate3d.server.labels import LabelHistory, LabelVersion, Tag
from inflate3d.server.project import Project
from inflate3d.server.uploads import UPLOAD_SUFFIXES
from inflate3d.settings import read_json
from inflate3d.volume import Volume

LARGEST_NOTES = 1 << 16
"""Size limit of what clients may note about a case, in bytes."""


@dataclass
class AnnotatedCase:
    """A case with its label maps.

    Attributes:
        case: Its scan's files.
        history: Its label maps.
        folder: Where they are.
        uploaded: Whether a client has sent its scan.
        notes: What clients noted about the scan, such as when it was drawn by which strategy.
    """

    case: Case
    history: LabelHistory
    folder: Path
    uploaded: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.case.id

    @property
    def file(self) -> Path | None:
        """The scan's file if it is a single one that other programs can read as it is; else None."""
        images = self.case.images
        only = images[0] if len(images) == 1 else None
        return only if only is not None and only.is_file() and _is_single(only) else None

    @property
    def labeled(self) -> bool:
        """Whether a person finished its label map."""
        return self.history.newest("final") is not None

    def read_scan(self) -> Volume:
        """All modalities on the grid of the first; a missing one is zeros."""
        return read_images(self.case.images, case=self.id)

    def read_grid(self) -> Volume:
        """Zeros on the scan's grid, from its headers."""
        grid = read_grid(self.case.scan, case=self.id)
        return Volume(np.zeros((1, *grid.shape), np.uint8), grid.affine)


class CaseList:
    """All cases of a project, in a folder of their own; safe to use from several threads of one process.

    The dataset's files are only read. The folder has:

    - ``labels/CASE/``: label maps by version (see `LabelHistory`), and ``notes.json``;
    - ``images/``: uploaded scans.

    Args:
        project: The dataset's cases and scans.
        folder: The folder of the annotations.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.dataset: Dataset = project.dataset
        self.coding = LabelCoding.of(project.dataset)
        self.folder = folder
        self._lock = threading.RLock()
        self._cases: dict[str, AnnotatedCase] = {}
        for case in project.dataset.cases:
            self._take(case)
        for file in sorted(path for path in self._images.iterdir() if path.is_file()) if self._images.is_dir() else ():
            if file.name.startswith("."):
                file.unlink()  # of an upload that was cut off
            elif stem_of(file) not in self._cases:
                self._take(Case(stem_of(file), (file,), label=None), uploaded=True)

    @property
    def _images(self) -> Path:
        return self.folder / "images"

    def _take(self, case: Case, *, uploaded: bool = False) -> AnnotatedCase:
        folder = self.folder / "labels" / check_id(case.id)
        notes = read_json(folder / "notes.json") if (folder / "notes.json").exists() else {}
        taken = AnnotatedCase(case, LabelHistory.open(folder, case.label), folder, uploaded, notes)
        self._cases[case.id] = taken
        return taken

    def __iter__(self) -> Iterator[AnnotatedCase]:
        """All cases, sorted by id."""
        with self._lock:
            return iter(sorted(self._cases.values(), key=lambda case: case.id))

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, name: str) -> AnnotatedCase:
        """Looks a case up; the name never becomes a path.

        Raises:
            NotFoundError: There is none of this name.
        """
        with self._lock:
            if name not in self._cases:
                raise NotFoundError("case not found", got=name, hint="GET /datastore/?output=all lists all cases")
            return self._cases[name]

    def add_scan(self, name: str, file: Path) -> AnnotatedCase:
        """Adds an uploaded scan; sending the same one again changes nothing.

        Args:
            name: The new case's id.
            file: The scan, in a temporary place on the same disk, from which it is moved.

        Raises:
            DataError: The name can't be one of a file, or the scan is invalid.
            ConflictError: There is a case of this name with another scan.
        """
        try:
            check_id(name)
        except ValueError as error:
            raise DataError(
                "invalid case name",
                expected="a name without slashes, that doesn't begin with a dot",
                got=repr(name[:200]),
            ) from error
        volume = read_images((file,), case=name)
        if len(volume.array) != len(self.dataset.modalities):
            raise DataError(
                "scan's number of modalities differs from the dataset's",
                expected=f"{len(self.dataset.modalities)} ({', '.join(self.dataset.modalities)})",
                got=len(volume.array),
                case=name,
            )
        with self._lock:
            same = next((case for case in self._cases.values() if case.id.casefold() == name.casefold()), None)
            if same is not None:
                if same.id == name and same.read_scan() == volume:
                    return same
                raise ConflictError("another case has this name", got=name, hint="choose another name")
            target = self._images / f"{name}{suffix_of(file).lower()}"
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
            except OSError as error:
                raise OutputError("the file can't be written", got=error.strerror, file=target) from error
            return self._take(Case(name, (target,), label=None), uploaded=True)

    def remove_scan(self, name: str) -> None:
        """Removes an uploaded scan for which no person saved a label map.

        Raises:
            ConflictError: It belongs to the dataset, or a person saved a label map.
        """
        with self._lock:
            case = self[name]
            if not case.uploaded:
                raise ConflictError("the scan belongs to the dataset", got=name, hint="remove it there")
            if any(version.tag != "predicted" for version in case.history.versions()):
                raise ConflictError("the scan has label maps saved by a person", got=name)
            case.case.scan.unlink(missing_ok=True)
            del self._cases[name]

    def save_labels(
        self,
        name: str,
        labels: Integer[np.ndarray, "i j k"],
        *,
        tag: Tag,
        by: str | None = None,
        model: int | None = None,
        confidence: dict[str, float] | None = None,
        info: dict[str, Any] | None = None,
    ) -> LabelVersion:
        """Adds a label map on the scan's own grid, with the dataset's label values, as a new version.

        Raises:
            DataError: It does not fit the scan.
            OutputError: It can't be written.
        """
        case = self[name]
        scan = case.case.scan

        def write(path: Path) -> None:
            write_labels(path, labels, like=scan)

        return case.history.add(
            write, label_suffix(scan), tag=tag, by=by, model=model, confidence=confidence, info=info
        )

    def read_sent_labels(self, name: str, file: Path, label_info: object) -> Integer[np.ndarray, "i j k"]:
        """A label map from a client: on the scan's grid, with the dataset's label values.

        Args:
            label_info: See `LabelCoding.decode`.
        """
        scan = self[name].read_grid()
        labels = lay_on(read_labels(file, case=name, on=scan.grid), scan, case=name)
        return self.coding.decode(labels.array[0], label_info)

    def read_labels(self, name: str, version: LabelVersion) -> Volume:
        """A version's label map, on the scan's grid, with the dataset's values."""
        case = self[name]
        scan, file = case.read_grid(), case.history.path(version)
        labels = read_labels(file, case=name, on=scan.grid, structures=dict(self.dataset.structures) or None)
        return lay_on(labels, scan, case=name, file=file)

    def note(self, name: str, notes: dict[str, Any]) -> dict[str, Any]:
        """Adds to what is noted about a case.

        Raises:
            DataError: It would be too much.
        """
        with self._lock:
            case = self[name]
            changed = {**case.notes, **notes}
            text = json.dumps(changed)
            if len(text) > LARGEST_NOTES:
                raise DataError("too many notes on a case", expected=f"at most {LARGEST_NOTES} bytes", got=len(text))
            write_text(case.folder / "notes.json", text)
            case.notes = changed
            return changed


def _is_single(file: Path) -> bool:
    return suffix_of(file).lower() in UPLOAD_SUFFIXES and not is_dicom_image(file)
