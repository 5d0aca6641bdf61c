"""The layout of the Medical Segmentation Decathlon and the first nnU-Net: ``dataset.json`` lists the cases."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, Dataset, listed_path
from inflate3d.datasets.dataset_json import LISTING, Announced, Labels, NamesByNumber, read_classes, read_json_as
from inflate3d.datasets.splits import Split
from inflate3d.errors import DataError
from inflate3d.io import stem_of, suffix_of

TRAINING_CASES = (484, 20, 131, 260, 32, 63, 281, 303, 41, 126)
"""Number of training cases in the published listings of Task01 to Task10."""

_EXAMPLE = '{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": [...]}'


class _Pair(BaseModel):
    model_config = ConfigDict(strict=True)

    image: str
    label: str


class _Listing(BaseModel):
    """The part of ``dataset.json`` that is read; nnU-Net's keys may be there, too."""

    name: str | None = None
    modality: NamesByNumber = Field(validation_alias=AliasChoices("modality", "channel_names"))
    labels: Labels
    training: list[_Pair]
    announced: Announced = Field(default=None, alias="numTraining")


def is_msd(folder: Path) -> bool:
    """Whether the folder has a ``dataset.json``; nnU-Net's own is recognized before (see `is_nnunet`)."""
    return (folder / LISTING).is_file()


def read_msd(folder: str | Path) -> Dataset:
    """Reads the listing of a dataset in the Decathlon's layout, or in nnU-Net's first; no scan is opened.

    nnU-Net v1 lists ``imagesTr/case.nii.gz`` for the files ``imagesTr/case_0000.nii.gz``, ``case_0001.nii.gz`` and so
    on, one for each modality. These are used if the listed file does not exist.

    Args:
        folder: The folder that holds ``dataset.json``.

    Returns:
        The labeled cases (``training``), named after their scans. The split ``paper`` is included if the folder is
        named like a task of the Decathlon (``Task09_Spleen``) and lists as many cases as are published (see
        `paper_split`).
    """
    folder = Path(folder)
    path = folder / LISTING
    listing = read_json_as(
        _Listing, path, what=f"{path.name} does not describe a dataset of the Decathlon", example=_EXAMPLE
    )
    if not listing.modality:
        raise DataError("no modality is named", expected='"modality" like {"0": "CT"}', file=path)
    classes, ignore = read_classes(listing.labels, file=path)
    listed = [_case(folder, pair, len(listing.modality)) for pair in listing.training]
    paper = paper_split(folder.resolve().name, [case.id for case in listed])
    return Dataset(
        name=listing.name or folder.resolve().name,
        root=folder,
        modalities=tuple(name for _, name in sorted(listing.modality.items())),
        classes=classes,
        ignore=ignore,
        cases=tuple(sorted((case for case in listed if not _is_macos_shadow(case)), key=lambda case: case.id)),
        splits={"paper": (paper,)} if paper else {},
        announced=None if listing.announced == len(listed) else listing.announced,  # macOS files may be counted
    )


def _case(folder: Path, pair: _Pair, modalities: int) -> Case:
    image, label = listed_path(folder, pair.image), listed_path(folder, pair.label)
    name = stem_of(image)
    images: tuple[Path | None, ...] = (image,)
    if not image.exists():
        suffix = suffix_of(image)
        channels = [image.with_name(f"{name}_{channel:04d}{suffix}") for channel in range(modalities)]
        found = tuple(channel if channel.is_file() else None for channel in channels)
        images = found if any(found) else images
    return Case(name, images, label)


def paper_split(folder: str, listed: Sequence[str]) -> Split | None:
    """The paper's split of a task: 80 % for training, 15 % for choosing the checkpoint, 5 % for scoring.

    The paper's ``data/msd/split_data_to_slices_nii.py`` seeds Python's random numbers with 1234 and shuffles the ten
    tasks' lists one after the other, so that a task's split depends on the lengths of the lists before it.

    Args:
        folder: The name of the task's folder, such as ``Task09_Spleen``.
        listed: Ids of its training cases in the order of the published ``dataset.json``. In another order, such as by
            name, the split has the same sizes but not the paper's cases.

    Returns:
        The split; None if the folder is not named like a task, or the number of cases is not the published one.
    """
    match = re.match(r"Task(0[1-9]|10)_", folder)
    if match is None or len(listed) != TRAINING_CASES[int(match[1]) - 1]:
        return None
    shuffled = list(listed)
    generator = random.Random(1234)  # noqa: S311 - the paper's
    for length in TRAINING_CASES[: int(match[1]) - 1]:
        generator.shuffle(list(range(length)))
    generator.shuffle(shuffled)
    first, second = int(0.8 * len(shuffled)), int(0.95 * len(shuffled))
    caution = "; the listing is sorted by name: if the published one is not, these are not the paper's cases"
    return Split(
        train=tuple(sorted(shuffled[:first])),
        validation=tuple(sorted(shuffled[first:second])),
        test=tuple(sorted(shuffled[second:])),
        source=f"the paper's shuffle (seed 1234) of Task{match[1]} at 80 % and 95 %"
        + (caution if list(listed) == sorted(listed) else ""),
    )


def write_msd_listing(dataset: Dataset) -> None:
    """Writes ``dataset.json`` for a dataset whose files lie in its folder, one scan file a case."""

    def entry(path: Path | None) -> str:
        assert path is not None, "the listing is of labeled cases"
        return f"./{path.relative_to(dataset.root).as_posix()}"

    listing = {
        "name": dataset.name,
        "tensorImageSize": "3D" if len(dataset.modalities) == 1 else "4D",
        "modality": {str(index): name for index, name in enumerate(dataset.modalities)},
        "labels": {str(value): name for value, name in dataset.classes.items()},
        "numTraining": len(dataset.cases),
        "numTest": 0,
        "training": [{"image": entry(case.images[0]), "label": entry(case.label)} for case in dataset.cases],
        "test": [],
    }
    write_text(dataset.root / LISTING, json.dumps(listing, indent=1) + "\n")


def _is_macos_shadow(case: Case) -> bool:
    """Whether the entry is one of the ``._`` files that macOS leaves beside the real ones in archives."""
    return case.id.startswith("._")
