"""DICOM series: what they are, and which ones lie in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from inflate3d.errors import DataError


@dataclass(frozen=True)
class Series:
    """The images of one DICOM series that lie in one folder.

    Attributes:
        uid: Its Series Instance UID.
        path: What names it to `read_volume`: its folder, or ``FOLDER/UID`` if that holds others too.
        files: Its images, sorted by name.
        modality: Such as ``CT`` or ``MR``.
        description: What the scanner's operator called it; may be empty.
        patient: The patient's id; may be empty.
        study: Its Study Instance UID; may be empty.
        flaw: Why its images can be no volume at all, such as a localizer's; empty if they may be one.
    """

    uid: str
    path: Path
    files: tuple[Path, ...]
    modality: str
    description: str
    patient: str
    study: str
    flaw: str = ""

    @property
    def slices(self) -> int:
        """Number of its image files."""
        return len(self.files)


def find_series(folder: str | Path) -> list[Series]:
    """The image series in a folder and in all folders below it.

    Files that are no DICOM, listings (DICOMDIR) and objects that are no scans (RTSTRUCT, SEG, SR, ...) are
    passed over. Only headers are looked at: whether a series is a whole volume shows when it is read, but one whose
    images are no slices of a volume is marked.

    Args:
        folder: Where to look; links to other folders are not followed.

    Returns:
        The series, sorted by folder, then by UID.

    Raises:
        DataError: There is no such folder, or a part of it can't be looked into.
    """
    from inflate3d.io.dicom_header import scan_folder  # SimpleITK is slow to load
    from inflate3d.io.dicom_stack import why_no_volume

    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("there is no such folder", hint="check the path", file=folder)
    found: list[Series] = []
    for place, inner, _ in os.walk(folder, onerror=_refuse_hidden):
        inner.sort()
        groups = scan_folder(Path(place)).series
        for uid, headers in sorted(groups.items()):
            first = headers[0]
            found.append(
                Series(
                    uid=uid,
                    path=Path(place) if len(groups) == 1 else Path(place, uid),
                    files=tuple(header.file for header in headers),
                    modality=first.text("modality"),
                    description=first.text("description"),
                    patient=first.text("patient"),
                    study=first.text("study"),
                    flaw=why_no_volume(headers),
                )
            )
    return found


def _refuse_hidden(error: OSError) -> None:
    raise DataError(
        "a folder can't be looked into",
        got=error.strerror,
        hint="change its permissions, or name another folder",
        file=error.filename,
    ) from error
