"""Giving a dataset another layout and its files another format."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.folder import write_folder
from inflate3d.datasets.msd import write_msd
from inflate3d.datasets.nnunet import write_nnunet
from inflate3d.datasets.splits import Split
from inflate3d.errors import OutputError
from inflate3d.progress import Progress, silent

Target = Literal["folder", "msd", "nnunet"]
"""A layout that can be written: a folder of one's own, the Decathlon's, nnU-Net's."""


class Writer(Protocol):
    """Writes a dataset in one layout, its listing last, and gives it as it is read from there."""

    def __call__(self, dataset: Dataset, folder: str | Path, *, suffix: str, progress: Progress) -> Dataset:
        """Writes the dataset below ``folder`` in files of the format ``suffix``."""
        ...


WRITERS: Mapping[Target, Writer] = {"folder": write_folder, "msd": write_msd, "nnunet": write_nnunet}
"""Every layout that can be written."""


@dataclass(frozen=True)
class Written:
    """What came of a dataset.

    Attributes:
        dataset: The dataset as it is read from its new folder.
        values: The new value of each label value.
        split_files: Splits that the layout has no place for, as files that ``--split`` takes.
    """

    dataset: Dataset
    values: dict[int, int]
    split_files: tuple[Path, ...]


def write_dataset(
    dataset: Dataset, folder: str | Path, target: Target, *, suffix: str = ".nii.gz", progress: Progress = silent
) -> Written:
    """Writes a dataset in another layout, whole or not at all.

    Args:
        dataset: The dataset.
        folder: Where it goes: a folder that is empty, or not there yet.
        target: The layout.
        suffix: The files' format, such as ``".nii.gz"`` or ``".nrrd"``.
        progress: Shows how many cases are written.

    Raises:
        ConfigError: Files of that suffix can't be written.
        DataError: A case can't be used, or the layout can't say what the dataset says.
        OutputError: The folder is not empty, or a file can't be written.
    """
    folder = Path(folder)
    check_free(folder)
    was_there = folder.exists()
    try:
        written = WRITERS[target](dataset, folder, suffix=suffix, progress=progress)
        return Written(written, _new_values(dataset, written), tuple(_write_other_splits(dataset, written)))
    except BaseException:
        _remove(folder, keep=was_there)
        raise


def check_free(folder: Path) -> None:
    """Makes sure that nothing is where a dataset is to go.

    Raises:
        OutputError: The folder is not empty, or is a file.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(
            "there is something already where the dataset is to go",
            expected="a folder that is empty or not there yet",
            got=f"a folder that holds {next(folder.iterdir()).name}" if folder.is_dir() else "a file",
            hint="choose another folder, or remove this one",
            file=folder,
        )


def _remove(folder: Path, *, keep: bool) -> None:
    """Removes all that lies in a folder that was empty before, and the folder itself unless it is to be kept."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not keep and folder.exists():
        folder.rmdir()


def _new_values(before: Dataset, after: Dataset) -> dict[int, int]:
    """Classes keep their order, whatever their values become."""
    classes = dict(zip(sorted(before.classes), sorted(after.classes), strict=True))
    merged = {value: value if value in after.merged else classes[target] for value, target in before.merged.items()}
    ignored = {} if before.ignore is None or after.ignore is None else {before.ignore: after.ignore}
    return dict(sorted((classes | merged | ignored).items()))


def _write_other_splits(before: Dataset, after: Dataset) -> list[Path]:
    paths = []
    for name, folds in before.splits.items():
        if [_cases_of(fold) for fold in after.splits.get(name, ())] == [_cases_of(fold) for fold in folds]:
            continue
        for number, fold in enumerate(folds):
            plain = re.sub(r"[^\w-]", "_", name)
            paths.append(after.root / "splits" / f"{plain}{f'_fold{number}' if len(folds) > 1 else ''}.json")
            fold.write(paths[-1])
    return paths


def _cases_of(split: Split) -> tuple[tuple[str, ...], ...]:
    return split.train, split.validation, split.test
