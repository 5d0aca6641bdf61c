"""Detects the layout of a dataset's folder, and checks what every layout has to meet."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from inflate3d.datasets import acdc, bcv, msd, nnunet
from inflate3d.datasets.case import Dataset, check_id
from inflate3d.datasets.folder import is_folder, read_folder
from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io.formats import is_series_uid, split_volume_number

_OTHER_FORM = (
    "the folder has a file of this name in another Unicode form (macOS writes letters like ü as two characters): "
    "rename it, or copy its name into the list"
)


@dataclass(frozen=True)
class Layout:
    """A way to lay out a dataset in a folder.

    Attributes:
        name: Its usual name.
        looks: The contents of its folder, in words.
        matches: Whether a folder has it.
        read: Reads such a folder, without the checks of `read_dataset`.
        inside: Whether all files have to be in the folder.
    """

    name: str
    looks: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Dataset]
    inside: bool = True


LAYOUTS = (
    Layout("folder of one's own", "dataset.yaml and cases.csv", is_folder, read_folder, inside=False),
    Layout("nnU-Net", 'dataset.json with "channel_names"', nnunet.is_nnunet, nnunet.read_nnunet),
    Layout("Medical Segmentation Decathlon", 'dataset.json with "training"', msd.is_msd, msd.read_msd),
    Layout("BCV", "RawData/Training/img and label", bcv.is_bcv, bcv.read_bcv),
    Layout("ACDC", "training/patient001 and so on", acdc.is_acdc, acdc.read_acdc),
)
"""All known layouts, in the order in which they are tried."""


def read_dataset(folder: str | Path) -> Dataset:
    """Reads a dataset in any known layout, without opening scans.

    Args:
        folder: The dataset's folder.

    Raises:
        DataError: The folder doesn't exist, has no known layout, an invalid description, or no case.
        DatasetProblems: Files are missing or outside the folder, or case ids are duplicate or can't be file names;
            all of them at once.

    Examples:
        >>> dataset = read_dataset("data/Liver")
        >>> dataset.modalities, len(dataset.cases)
        (('CT',), 5)
    """
    folder = Path(folder)
    layout = _layout_of(folder)
    dataset = layout.read(folder)
    if not dataset.cases:
        raise DataError("no labeled case", expected=f"{layout.looks} ({layout.name})", got="none", file=folder)
    problems = [*_id_problems(dataset), *_file_problems(dataset, inside=layout.inside)]
    if problems:
        raise DatasetProblems(problems)
    return dataset


def _layout_of(folder: Path) -> Layout:
    if not folder.is_dir():
        raise DataError(
            "the dataset is a file, not a folder" if folder.exists() else "dataset folder not found",
            hint=_near(folder),
            file=folder,
        )
    for layout in LAYOUTS:
        if layout.matches(folder):
            return layout
    found = sorted(path.name for path in folder.iterdir())
    raise DataError(
        "unknown dataset layout",
        expected=" or ".join(f"{layout.looks} ({layout.name})" for layout in LAYOUTS),
        got=", ".join(found[:8]) + (", ..." if len(found) > 8 else "") if found else "an empty folder",
        hint=_inside(folder),
        file=folder,
    )


def _near(folder: Path) -> str:
    """Names that the user may have meant."""
    parent = folder.parent
    if folder.exists() or not parent.is_dir():
        return "check the path"
    siblings = {path.name.lower(): path.name for path in parent.iterdir() if path.is_dir()}
    close = [siblings[name] for name in get_close_matches(folder.name.lower(), siblings)]
    return f"did you mean {' or '.join(str(parent / name) for name in close)}?" if close else "check the path"


def _inside(folder: Path, most: int = 3) -> str:
    """Names of datasets one folder deeper."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    readable = [path for path in inner if any(layout.matches(path) for layout in LAYOUTS)]
    if readable:
        return f"did you mean {' or '.join(map(str, readable[:most]))}?"
    return f"give the dataset's own folder, or describe what lies there: inflate3d init {folder}"


def _id_problems(dataset: Dataset) -> Iterator[DataError]:
    """Ids name files, also on disks that do not distinguish ``A`` from ``a``."""
    same = Counter(case.id.casefold() for case in dataset.cases)
    for case in dataset.cases:
        try:
            check_id(case.id)
        except ValueError:
            yield DataError(
                "invalid case name",
                expected="a name without slashes, control characters and .. that doesn't begin with a dot, "
                "is not a Windows device name, and has at most 200 bytes",
                got=repr(case.id[:200]),
                file=dataset.root,
            )
        if (count := same.pop(case.id.casefold(), 1)) > 1:
            yield DataError("duplicate case name", got=f"{count} scans", case=case.id, file=dataset.root)


def _file_problems(dataset: Dataset, *, inside: bool) -> Iterator[DataError]:
    for case in dataset.cases:
        if not any(case.images):
            yield DataError("the case has no scan", case=case.id, file=dataset.root)
        listed = [path for path in (*case.images, case.label) if path is not None]
        if repeated := sorted({str(path) for path in listed if listed.count(path) > 1}):
            yield DataError(
                "a case names one file twice",
                expected="a file for each modality, and a label map",
                got=", ".join(repeated),
                hint="correct the list of cases",
                case=case.id,
                file=dataset.root,
            )
        for path in (*case.images, case.label):
            if path is not None and inside and _leads_out(path, dataset.root):
                yield DataError(
                    "path outside the dataset",
                    expected="a path below the folder, like ./imagesTr/case.nii.gz",
                    got=str(path),
                    hint="put the file into the folder and correct the entry",
                    case=case.id,
                    file=dataset.root,
                )
            elif path is not None and not _is_there(path):
                yield DataError(
                    "file not found",
                    hint=_OTHER_FORM if _is_there_composed_otherwise(path) else "restore it, or leave the case out",
                    case=case.id,
                    file=path,
                )


def _leads_out(path: Path, root: Path) -> bool:
    return not path.is_relative_to(root) or ".." in path.relative_to(root).parts


def _is_there(path: Path) -> bool:
    try:
        path, _ = split_volume_number(path)
        return path.is_file() or _is_series(path)
    except OSError:
        return False  # a name that is too long for any file


def _is_there_composed_otherwise(path: Path) -> bool:
    """Whether the folder has a file of the same name with letters like ü as two characters, or the other way round."""
    name = unicodedata.normalize("NFC", path.name)
    if name.isascii():
        return False
    try:
        return any(unicodedata.normalize("NFC", each.name) == name for each in path.parent.iterdir())
    except OSError:
        return False


def _is_series(path: Path) -> bool:
    """Whether the path names a DICOM series: a folder, or the series of one by its UID."""
    return path.is_dir() or (is_series_uid(path.name) and path.parent.is_dir())
