"""DICOM series, and how to find those in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inflate3d.errors import DataError

_UNREADABLE = "its files can't be read"


@dataclass(frozen=True)
class Series:
    """The images of one DICOM series, which may lie in several folders.

    Attributes:
        path: What names it to `read_volume`: its folder, or ``FOLDER/UID`` if that holds others too.
        modality: Such as ``CT`` or ``MR``.
        description: What the scanner's operator called it; may be empty.
        patient: The patient's id; may be empty.
        study: Its Study Instance UID; may be empty.
        slices: Number of its images: of files, or of the frames in them.
        rows: Of the first image; 0 if its header does not say.
        columns: Likewise.
        flaw: Why its images can be no volume at all, such as a localizer's; empty if they may be one.
    """

    uid: str
    path: Path
    files: tuple[Path, ...]
    modality: str
    description: str
    patient: str
    study: str
    slices: int
    rows: int
    columns: int
    flaw: str = ""

    def __str__(self) -> str:
        """Modality, description and size, without the patient's id."""
        size = f"{self.slices} slices of {self.rows} × {self.columns}"
        return f"{self.uid} ({self.modality or '?'}, {self.description or 'no description'}, {size})"


def find_series(folder: str | Path) -> list[Series]:
    """The image series in a folder and in all folders below it.

    Files that are not DICOM, listings (DICOMDIR) and objects that are not scans (RTSTRUCT, SEG, SR, ...) are
    passed over. Only headers are looked at: whether a series is a whole volume shows when it is read, but one whose
    images are not slices of a volume is marked, and so are files named as DICOM in a folder where none can be read.

    Args:
        folder: Where to look; links to other folders are not followed.

    Returns:
        The series, sorted by folder, then by UID.
    """
    from inflate3d.io.dicom.header import images_by_place, scan_folder, slice_count  # SimpleITK is slow to load
    from inflate3d.io.dicom.stack import why_no_volume

    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("folder not found", hint="check the path", file=folder)
    scanned = scan_folder(folder)
    groups = images_by_place(scanned)
    found: list[Series] = []
    for place, uid, headers in groups:
        alone = all(other == uid for at, other, _ in groups if at.is_relative_to(place))
        found.append(
            Series(
                uid=uid,
                path=place if alone else place / uid,
                files=tuple(header.file for header in headers),
                modality=headers[0].text("modality"),
                description=headers[0].text("description"),
                patient=headers[0].text("patient"),
                study=headers[0].text("study"),
                slices=slice_count(headers),
                rows=int(headers[0].number("rows", 0.0)),
                columns=int(headers[0].number("columns", 0.0)),
                flaw=why_no_volume(headers),
            )
        )
    lost: dict[Path, list[Path]] = {}
    for file in (Path(error.file or "") for error in scanned.damaged):
        if not any(file.is_relative_to(place) for place, _, _ in groups):  # else reading the series refuses it
            lost.setdefault(file.parent, []).append(file)
    found += [
        Series("", place, tuple(files), "", "", "", "", len(files), 0, 0, _UNREADABLE) for place, files in lost.items()
    ]
    return sorted(found, key=lambda series: (series.path, series.uid))
