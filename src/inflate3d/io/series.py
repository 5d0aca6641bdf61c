"""DICOM series: what they are, and which ones lie in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from inflate3d.errors import DataError
from inflate3d.io.formats import scan_files, suffix_of


@dataclass(frozen=True)
class Series:
    """The images of one DICOM series, which may lie in several folders.

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
        DataError: The folder does not exist, or a part of it can't be looked into.
    """
    from inflate3d.io.dicom_header import images_by_place, scan_folder  # SimpleITK is slow to load
    from inflate3d.io.dicom_stack import why_no_volume

    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("folder not found", hint="check the path", file=folder)
    groups = images_by_place(scan_folder(folder))
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
                flaw=why_no_volume(headers),
            )
        )
    return found


@dataclass(frozen=True)
class FoundScans:
    """What `find_scans` found below a folder.

    Attributes:
        scans: What names each scan to `read_volume`, sorted.
        skipped: Everything else that is not hidden, and why it is no scan.
    """

    scans: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]


def find_scans(folder: str | Path) -> FoundScans:
    """Everything in a folder and below it that is a scan: files of all formats, and DICOM series by their UIDs.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "a.nii.gz").touch()
        ...     Path(folder, "notes.txt").touch()
        ...     found = find_scans(folder)
        >>> [path.name for path in found.scans], [(path.name, why) for path, why in found.skipped]
        (['a.nii.gz'], [('notes.txt', 'not a scan file')])

    Args:
        folder: Where to look; links to other folders are not followed.

    Raises:
        DataError: The folder is not found, or a part of it can't be read.
    """
    series = find_series(folder)  # checks that all folders can be read
    places = [Path(place) for place, _, _ in os.walk(folder)]
    files = [file for place in places for file in scan_files(place)]
    images = {file for each in series for file in each.files}
    others = (file for place in places for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
    skipped = [(each.path, each.flaw) for each in series if each.flaw]
    skipped += [(file, "not a scan file") for file in others if not suffix_of(file) and file not in images]
    scans = {*files, *(each.path for each in series if not each.flaw)} - {file for file in images if suffix_of(file)}
    return FoundScans(tuple(sorted(scans)), tuple(sorted(skipped)))
