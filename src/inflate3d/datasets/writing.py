"""Writes a dataset in another layout, or its files in another format."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.classes import map_labels
from inflate3d.datasets.folder import listing_of, read_folder, write_folder_listing
from inflate3d.datasets.msd import read_msd, write_msd_listing
from inflate3d.datasets.nnunet import nnunet_regions, nnunet_values, read_nnunet, write_nnunet_listing
from inflate3d.errors import ConfigError, DataError, OutputError
from inflate3d.io import WRITABLE_SUFFIXES, lay_on, read_images, read_labels, write_labels, write_volume
from inflate3d.io.formats import DICOM_LABELS, LABELMAP, split_volume_number
from inflate3d.io.segments import Segments
from inflate3d.progress import Progress, silent
from inflate3d.volume import Volume

LayoutName = Literal["folder", "msd", "nnunet"]
"""A layout that can be written: own folder, Decathlon, or nnU-Net raw data."""


@dataclass(frozen=True)
class WrittenDataset:
    """A dataset in its new layout.

    Attributes:
        dataset: The dataset, read from its new folder.
        values: The new value of each label value.
        split_files: Splits that the layout can't express, as files for ``--split``.
    """

    dataset: Dataset
    values: dict[int, int]
    split_files: tuple[Path, ...]


def write_dataset(
    dataset: Dataset, folder: str | Path, layout: LayoutName, *, suffix: str = ".nii.gz", progress: Progress = silent
) -> WrittenDataset:
    """Writes a dataset in another layout; the folder is left as it was if anything fails.

    The listing is written last, so that an incomplete folder is not taken for a dataset.

    - ``folder`` keeps label values, groups and missing modalities, has one file per modality, and keeps the split
      ``own`` if it assigns one part to each case.
    - ``msd`` keeps label values except merged ones, which get the value of their class. All modalities are in one file;
      missing ones become zeros.
    - ``nnunet`` numbers the classes without gaps in the order of their values; the value to ignore is last. There is
      one file per modality; missing ones become zeros. Folds are kept or made (see `write_nnunet_listing`).

    Args:
        folder: The output folder, which must be empty or not exist.
        suffix: The files' format, such as ``".nii.gz"`` or ``".nrrd"``. ``".seg.dcm"`` and the other DICOM labels copy
            the series of a dataset of DICOM, in the layout ``folder``; merged values become those of their classes.
    """
    folder = Path(folder)
    check_empty(folder)
    check_suffix(suffix, layout)
    if suffix == LABELMAP:
        _refuse_regions(dataset, "a DICOM LABELMAP")
    values = _dicom_values(dataset) if suffix in DICOM_LABELS else _new_values(dataset, layout)
    existed = folder.exists()
    try:
        cases = [
            _write_case(case, dataset, folder, layout, suffix, values)
            for case in progress(dataset.cases, len(dataset.cases), "writing")
        ]
        moved = dataclasses.replace(dataset, root=folder, cases=tuple(cases))
        written = _write_listing(moved, layout, suffix)
        return WrittenDataset(written, dict(sorted(values.items())), tuple(_write_other_splits(dataset, written)))
    except BaseException:
        _remove(folder, keep=existed)
        raise


def check_empty(folder: Path) -> None:
    """Checks that no existing file can be replaced."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(
            "the output folder is not empty",
            expected="a folder that is empty or does not exist",
            got=f"a folder that holds {next(folder.iterdir()).name}" if folder.is_dir() else "a file",
            hint="choose another folder, or remove this one",
            file=folder,
        )


def check_suffix(suffix: str, layout: LayoutName) -> None:
    """Checks that files with a suffix can be written in a layout."""
    known = (*WRITABLE_SUFFIXES, *DICOM_LABELS) if layout == "folder" else WRITABLE_SUFFIXES
    if suffix not in known:
        raise ConfigError("invalid file format", expected=f"one of {', '.join(known)}", got=repr(suffix))


def _dicom_values(dataset: Dataset) -> dict[int, int]:
    """The new label values of DICOM labels."""
    if dataset.ignore is not None:
        raise DataError(
            "DICOM labels have no value for voxels to ignore",
            got=f"{dataset.ignore} is ignored",
            hint="choose another format, such as .nii.gz",
            file=dataset.root,
        )
    listing_of(dataset)  # which raises what is wrong with the classes
    return {value: value for value in dataset.classes} | dict(dataset.merged)


def _new_values(dataset: Dataset, layout: LayoutName) -> dict[int, int]:
    """The new value of every label value that files may contain."""
    if layout == "nnunet":
        if dataset.regions:
            nnunet_regions(dataset.regions, dataset.root)  # which raises what it can't express
        return nnunet_values(dataset)[0]
    if layout == "folder":
        listing_of(dataset)  # which raises what is wrong with the classes
        return {value: value for value in dataset.label_values}
    _refuse_regions(dataset, "the Decathlon's layout")
    if dataset.ignore is not None:
        raise DataError(
            "the Decathlon's layout has no value for voxels to ignore",
            got=f"{dataset.ignore} is ignored",
            hint="choose another layout, such as nnU-Net's",
            file=dataset.root,
        )
    return {value: value for value in dataset.classes} | dict(dataset.merged)


def _refuse_regions(dataset: Dataset, where: str) -> None:
    if dataset.regions:
        raise DataError(
            f"{where} can't hold regions that overlap",
            got=", ".join(dataset.regions.names),
            hint="choose the layout folder, with files such as .nii.gz or .seg.dcm, or nnunet",
            file=dataset.root,
        )


def _write_case(
    case: Case, dataset: Dataset, folder: Path, layout: LayoutName, suffix: str, values: Mapping[int, int]
) -> Case:
    scan, labels = _read_case(case, dataset, values)
    parts = ("images", "labels") if layout == "folder" else ("imagesTr", "labelsTr")
    image_folder, label_folder = (folder / part for part in parts)
    if suffix in DICOM_LABELS:
        copied = tuple(
            None if image is None else _copy_series(image, image_folder / f"{case.id}_{channel:04d}")
            for channel, image in enumerate(case.images)
        )
        label = label_folder / f"{case.id}{suffix}"
        regions = dataset.regions.values if dataset.regions else {}
        segments = Segments(dataset.classes, dataset.codes, dataset.name, by_model=False, regions=regions)
        moved = Case(case.id, copied, label, case.group)
        write_labels(label, labels, like=moved.scan, segments=segments)
        return moved
    if layout == "msd" or (layout == "folder" and len(scan.array) == 1):
        files: dict[Path, Volume | None] = {image_folder / f"{case.id}{suffix}": scan}
    else:
        files = {
            image_folder / f"{case.id}_{channel:04d}{suffix}": None
            if layout == "folder" and len(case.images) > 1 and case.images[channel] is None
            else dataclasses.replace(scan, array=array[np.newaxis])
            for channel, array in enumerate(scan.array)
        }
    for path, volume in files.items():
        if volume is not None:
            write_volume(path, volume)
    label = label_folder / f"{case.id}{suffix}"
    write_labels(label, labels, like=next(path for path, volume in files.items() if volume is not None))
    images = tuple(None if volume is None else path for path, volume in files.items())
    return Case(case.id, images, label, case.group)


def _copy_series(image: Path, folder: Path) -> Path:
    """Copies the files of a DICOM series into a folder of its own; returns the path that stands for the series."""
    from inflate3d.io.dicom.reading import read_stack  # SimpleITK is slow to load
    from inflate3d.io.dicom.source import dicom_path

    files = sorted({header.file for header in read_stack(dicom_path(image)).slices})
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"{number:05d}.dcm")
    _, volume = split_volume_number(image)
    has_others = any(header.frame is not None for header in read_stack(image).slices)  # in the same files
    return folder.with_name(f"{folder.name}#{volume}") if volume is not None and has_others else folder


def _read_case(case: Case, dataset: Dataset, values: Mapping[int, int]) -> tuple[Volume, Integer[np.ndarray, "i j k"]]:
    """The scan and its labels with the new values, on one grid; a missing modality is zeros."""
    volume = read_images(case.images, case=case.id)
    if len(volume.array) != len(dataset.modalities):
        raise DataError(
            "the scan's number of modalities differs from the dataset's",
            expected=f"{len(dataset.modalities)} ({', '.join(dataset.modalities)})",
            got=len(volume.array),
            case=case.id,
            file=case.scan,
        )
    if case.label is None:
        raise DataError("the case has no label map", case=case.id, file=case.scan)
    labels = read_labels(case.label, case=case.id, on=volume.grid, structures=dataset.structures or None)
    labels = lay_on(labels, volume, case=case.id, file=case.label)
    try:
        return volume, map_labels(labels.array[0], values)
    except DataError as error:
        raise error.with_context(case=case.id, file=case.label) from error


def _write_listing(dataset: Dataset, layout: LayoutName, suffix: str) -> Dataset:
    """Writes the listing, then reads the dataset back from it."""
    if layout == "folder":
        write_folder_listing(dataset)
        return read_folder(dataset.root)
    if layout == "msd":
        write_msd_listing(dataset)
        return read_msd(dataset.root)
    write_nnunet_listing(dataset, suffix)
    return read_nnunet(dataset.root)


def _remove(folder: Path, *, keep: bool) -> None:
    """Removes everything in a folder that was empty before, and the folder itself unless it is to be kept."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not keep and folder.exists():
        folder.rmdir()


def _write_other_splits(before: Dataset, after: Dataset) -> list[Path]:
    paths = []
    for name, folds in before.splits.items():
        kept = after.splits.get(name, ())
        if len(kept) == len(folds) and all(map(type(folds[0]).has_cases_of, kept, folds)):
            continue
        for number, fold in enumerate(folds):
            plain = re.sub(r"[^\w-]", "_", name)
            paths.append(after.root / "splits" / f"{plain}{f'_fold{number}' if len(folds) > 1 else ''}.json")
            fold.write(paths[-1])
    return paths
