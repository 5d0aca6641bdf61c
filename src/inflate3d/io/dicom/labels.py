"""Label maps in DICOM objects that refer to a series: SEG and RTSTRUCT."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Shaped

from inflate3d.errors import DataError, truncate
from inflate3d.grid import Grid
from inflate3d.io.dicom.structures import StructureLabels
from inflate3d.io.formats import RTSTRUCT_STORAGE, SEG_STORAGE, is_dicom, split_volume_number, suffix_of
from inflate3d.io.segments import Segments, Wanted
from inflate3d.volume import Volume

# what imports pydicom, highdicom or SimpleITK is imported where it is used: they are slow to load

Kind = Literal["seg", "labelmap", "rtstruct"]

_NAMED = re.compile(r"(?:.*[._-])?(labelmap|rtstruct)\.(?:dcm|dicom)")


def kind_to_write(path: Path) -> Kind | None:
    """Which DICOM object a name stands for: SEG for ``.dcm``, but for ``.labelmap.dcm`` and ``.rtstruct.dcm``."""
    name = path.name.lower()
    if suffix_of(path) or not name.endswith((".dcm", ".dicom")):
        return None
    match = _NAMED.fullmatch(name)
    if match is None:
        return "seg"
    return "labelmap" if match[1] == "labelmap" else "rtstruct"


def kind_of(path: Path) -> Literal["SEG", "RTSTRUCT"] | None:
    """Which label object a file is, by its modality or storage class; None if it is no DICOM file, or another one."""
    path, number = split_volume_number(path)
    if number is not None or suffix_of(path) or not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            if not is_dicom(stream.read(132)):
                return None
        from inflate3d.io.dicom.file import read_elements

        elements, _ = read_elements(path)
        said = str(elements.get("Modality", "")), str(elements.get("SOPClassUID", ""))
    except (OSError, ValueError):
        return None  # the reader reports it
    if "SEG" in said or said[1].startswith(SEG_STORAGE):
        return "SEG"
    return "RTSTRUCT" if "RTSTRUCT" in said or said[1] == RTSTRUCT_STORAGE else None


@dataclass(frozen=True)
class LabelObject:
    """A SEG or RTSTRUCT.

    Attributes:
        path: Its file.
        series: UID of the series that it was made from; empty if it does not say.
        names: Its segments, or its structures that have contours.
    """

    path: Path
    series: str
    names: tuple[str, ...]


def find_label_objects(folder: Path) -> list[LabelObject]:
    """The SEG and RTSTRUCT objects in a folder and all below it, sorted by path; hidden files are passed over.

    Raises:
        DataError: One is damaged.
    """
    from inflate3d.io.dicom.file import storage_class_of
    from inflate3d.io.dicom.rtstruct import describe_rtstruct
    from inflate3d.io.dicom.seg_reader import describe_seg

    found: list[LabelObject] = []
    for path in sorted(each for each in folder.rglob("*") if not suffix_of(each) and each.is_file()):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        kind = storage_class_of(path)
        if kind in SEG_STORAGE:
            found.append(LabelObject(path, *describe_seg(path)))
        elif kind == RTSTRUCT_STORAGE:
            found.append(LabelObject(path, *describe_rtstruct(path)))
    return found


def structure_names(path: Path) -> tuple[str, ...]:
    """The segments of a SEG, or the structures with contours of an RTSTRUCT."""
    if kind_of(path) == "SEG":
        from inflate3d.io.dicom.seg_reader import describe_seg

        return describe_seg(path)[1]
    from inflate3d.io.dicom.rtstruct import describe_rtstruct

    return describe_rtstruct(path)[1]


def read_dicom_labels(
    path: Path, *, on: Grid | None = None, values: Wanted = None, case: str | None = None
) -> StructureLabels:
    """Reads a SEG or an RTSTRUCT, see `read_seg` and `read_rtstruct`.

    Raises:
        DataError: It can't be read, or an RTSTRUCT is given without the grid of its series.
    """
    if kind_of(path) == "SEG":
        from inflate3d.io.dicom.seg_reader import read_seg

        return read_seg(path, on=on, values=values, case=case)
    from inflate3d.io.dicom.rtstruct import read_rtstruct

    if on is None:
        raise DataError(
            "an RTSTRUCT has contours but no voxels",
            expected="the scan that it was drawn on",
            hint="give it as the label of a case whose image is the DICOM series",
            case=case,
            file=path,
        )
    return read_rtstruct(path, on, values=values, case=case)


def read_structures(path: Path, *, on: Grid, case: str) -> Iterator[tuple[str, Bool[np.ndarray, "i j k"]]]:
    """The name of each structure of a SEG or an RTSTRUCT, and its voxels, which may be those of others, too."""
    labels = read_dicom_labels(path, on=on, values="combinations", case=case)
    for number, name in labels.names.items():
        yield name, labels.mask_of(number)


def check_dicom_labels_writable(path: Path, scan: Path, segments: Segments) -> None:
    """Makes sure that labels of a scan can be written as a DICOM object, before there are any.

    Raises:
        DataError: The scan is no DICOM series, or the object can't hold what the values stand for.
        ConfigError: A package is missing.
    """
    from inflate3d.io.dicom.source import dicom_path, require_highdicom

    _check_overlap(path, segments)
    dicom_path(scan)
    if kind_to_write(path) != "rtstruct":
        require_highdicom()


def _check_overlap(path: Path, segments: Segments) -> None:
    if segments.regions and kind_to_write(path) == "labelmap":
        raise DataError(
            "a DICOM LABELMAP can't hold regions that overlap",
            got=truncate(list(segments.regions)),
            hint="write a SEG with a bit for each region: --format dicom-seg",
            file=path,
        )


def write_dicom_labels(
    path: Path, labels: Shaped[np.ndarray, "i j k"], scan: str | Path | Volume | Grid, segments: Segments
) -> None:
    """Writes a label map of a DICOM series as the object that the file's name stands for.

    Raises:
        DataError: The labels do not fit the scan, or it is no DICOM series.
        OutputError: The file can't be written.
    """
    if not isinstance(scan, str | Path):
        raise DataError(
            "DICOM labels need the DICOM series that they belong to",
            expected="the path of the series",
            got="only an array with its affine",
            hint="give the series' path as like=, or choose another format, such as .nii.gz",
            file=path,
        )
    _check_overlap(path, segments)
    kind = kind_to_write(path)
    if kind == "rtstruct":
        from inflate3d.io.dicom.rtstruct import write_rtstruct

        write_rtstruct(path, labels, Path(scan), segments)
        return
    from inflate3d.io.dicom.seg_writer import write_seg

    write_seg(path, labels, Path(scan), segments, labelmap=kind == "labelmap")
