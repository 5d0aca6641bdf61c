"""Finds the scans to predict at a path or an address."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.file_names import find_label_maps
from inflate3d.distributed.remote import RemoteFolder, is_remote
from inflate3d.errors import ConfigError, DataError, DatasetProblems, truncate
from inflate3d.inference.manifest import written_in
from inflate3d.io import SUFFIXES, Series, find_series, scan_files, stem_of, suffix_of
from inflate3d.io.formats import is_dicom_image, is_dicomdir
from inflate3d.preparation.plan import Plan

_NUMBERED = re.compile(r"(.+)_(\d{4})")
"""A file of one modality, as nnU-Net names it."""

_FIRST = "_0000"
"""nnU-Net's suffix of a scan's first or only modality."""

_LABEL_FOLDER = re.compile(r"labels?(?:tr|ts|va)?|masks?|segmentations?|gt|uncertainty", re.IGNORECASE)
"""A subfolder of label maps or of our uncertainty maps."""

_SEPARATE_FILES = (".hdr", ".img", ".nhdr", ".mhd")
"""Suffixes of headers and voxels in separate files."""

_UNNAMED = "scan"
"""Name of a scan whose path has none."""

_LISTED = 10
"""Most series that a message lists."""


@dataclass(frozen=True)
class FoundScans:
    """Scans to predict.

    Attributes:
        cases: The cases sorted by name. Images of remote cases only have file names.
        remote: Their remote folder, if they are not on the disk.
    """

    cases: list[Case]
    remote: RemoteFolder | None = None
    warnings: list[DataError] = field(default_factory=list)


def find_scans(
    path: str | Path, plan: Plan | Dataset, *, series: str | None = None, volume: int | None = None
) -> FoundScans:
    """Finds the scans that a path or an address stands for.

    Files ``CASE_0000``, ``CASE_0001``, ..., or ``CASE_T1``, ``CASE_T2``, ... by the names of the plan's modalities, are
    the modalities of one scan if the plan has several. A scan's only modality, ``CASE_0000``, is named ``CASE``. Label
    maps beside scans are skipped: those that inflate3d wrote, ``CASE`` beside ``CASE_0000``, ``CASE_seg`` beside
    ``CASE`` and the like, and subfolders such as ``labelsTr``.

    Args:
        path: A scan (see `inflate3d.io.read_volume`), or a folder with scan files and DICOM series, subfolders
            included; or the address of a scan file or of a folder of scan files.
        plan: The model's plan, or a dataset, with the modalities that scans must have.
        series: Of DICOM series, only those of this UID, or with this description, such as ``T1*``; one of each study.
        volume: Which volume of each DICOM series, from 1 on, where it holds several.
    """
    if is_remote(str(path)):
        if series or volume:
            raise ConfigError("--series and --volume choose among DICOM series on a disk", got=path)
        return _remote_scans(str(path), plan)
    path = Path(path)
    if is_dicomdir(path):
        path = path.parent
    if path.name in ("", ".."):  # such as ".", which has no name
        path = path.resolve()
    if series is not None:
        found = _chosen_series(path, series)
    elif path.is_dir():
        found = _scans_below(path, plan)
    else:
        found = FoundScans([Case(stem_of(path).removesuffix(_FIRST) or _UNNAMED, (path,), label=None)])
    if not found.cases:
        raise DataError(
            "no scans found",
            file=path,
            expected=f"a scan file, a DICOM series, or a folder of them ({', '.join(SUFFIXES)})",
            got=truncate([str(warning.got) for warning in found.warnings]) or "none",
        )
    return found if volume is None else replace(found, cases=[_volume_of(case, volume) for case in found.cases])


def group_files(files: Sequence[Path], plan: Plan | Dataset, folder: Path) -> list[Case]:
    """One case for each scan, whose modalities may be in several files; does not access the disk."""
    if len(plan.modalities) == 1:
        names = _unique_names(files, folder)
        if all(_NUMBERED.fullmatch(name) and name.endswith(_FIRST) for name in names):
            names = [name.removesuffix(_FIRST) for name in names]
        return [Case(name, (file,), label=None) for name, file in zip(names, files, strict=True)]
    groups: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    whole: list[Path] = []
    for file in files:
        name, number = _split_modality(stem_of(file), plan.modalities)
        if number is None:
            whole.append(file)
        else:
            groups.setdefault((file.parent, name), []).append((number, file))
    cases = [_join(name, members, plan) for (_, name), members in groups.items()]
    cases += [Case(name, (file,), label=None) for name, file in zip(_unique_names(whole, folder), whole, strict=True)]
    return sorted(cases, key=lambda case: case.id)


def _scans_below(folder: Path, plan: Plan | Dataset) -> FoundScans:
    folders = sorted({folder, *(path for path in folder.rglob("*") if path.is_dir() and not _is_hidden(path, folder))})
    inside = {place: scan_files(place) for place in folders}
    everything = [file for files in inside.values() for file in files]
    labels = find_label_maps(everything, folder)
    for place, files in inside.items():
        written = written_in(place)
        labels |= {file for file in files if file.name in written or _in_label_folder(place, folder)}
    files = [file for file in everything if file not in labels]
    passed = [file for file in everything if file in labels]
    warnings = [_passed_over("label maps are not predicted", passed, folder)] if passed else []
    if files and _LABEL_FOLDER.fullmatch(folder.resolve().name):
        got = f"{len(files)} files predicted as scans"
        warnings.append(DataError("the folder is named like a folder of label maps", got=got, file=folder))
    cases = group_files(files, plan, folder)
    series, flaws = _series_cases(folder, alone=not files)
    return FoundScans(sorted([*cases, *series], key=lambda case: case.id), None, [*warnings, *flaws])


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _in_label_folder(place: Path, folder: Path) -> bool:
    return any(_LABEL_FOLDER.fullmatch(part) for part in place.relative_to(folder).parts)


def _passed_over(what: str, files: Sequence[Path], folder: Path) -> DataError:
    names = [file.relative_to(folder).as_posix() for file in files]
    return DataError(what, got=f"{len(files)} skipped: {truncate(names)}", file=folder)


def _unique_names(files: Sequence[Path], folder: Path) -> list[str]:
    """A name for each scan: its file name, with its folders where several files have the same name."""
    names = [stem_of(file) for file in files]
    counts = Counter(names)
    return [
        "_".join((*file.parent.relative_to(folder).parts, name)) if counts[name] > 1 and file.parent != folder else name
        for file, name in zip(files, names, strict=True)
    ]


def _split_modality(stem: str, modalities: Sequence[str]) -> tuple[str, int | None]:
    """Case name and modality number from a file name; None if it names no modality."""
    if match := _NUMBERED.fullmatch(stem):
        return match[1], int(match[2])
    for number, modality in enumerate(modalities):
        if match := re.fullmatch(rf"(.+)[_.-]{re.escape(modality)}", stem, re.IGNORECASE):
            return match[1], number
    return stem, None


def _join(name: str, members: Iterable[tuple[int, Path]], plan: Plan | Dataset) -> Case:
    """One case from the files of its modalities."""
    found: dict[int, Path] = {}
    for number, file in members:
        if number in found:
            raise DataError(
                "two files for one modality",
                got=f"{found[number].name}, {file.name}",
                hint="keep one",
                case=name,
                file=file,
            )
        found[number] = file
    images = tuple(found.pop(number, None) for number in range(len(plan.modalities)))
    missing = [plan.modalities[number] for number, image in enumerate(images) if image is None]
    may_miss = isinstance(plan, Plan) and plan.allow_missing_modality
    if found or (missing and not may_miss):
        raise DataError(
            "scan does not have the modalities of the model",
            expected=", ".join(f"_{number:04d} ({name})" for number, name in enumerate(plan.modalities)),
            got=f"no {' and no '.join(missing)}" if missing else f"{len(found)} more",
            hint="add the files; only a model trained with --allow-missing-modality works without them",
            case=name,
            file=next(iter([*found.values(), *filter(None, images)])),
        )
    return Case(name, images, label=None)


def _series_cases(folder: Path, *, alone: bool) -> tuple[list[Case], list[DataError]]:
    """The DICOM series below a folder that may be volumes, named by location, and warnings about the others."""
    found = find_series(folder)
    if alone and len(found) == 1:  # if it is not a volume, reading it explains best why
        return [Case(stem_of(found[0].path) or _UNNAMED, (found[0].path,), label=None)], []
    flaws = [_flaw(series) for series in found if series.flaw]
    if alone and flaws and len(flaws) == len(found):
        raise DatasetProblems(flaws, what="none of the DICOM series is a volume")
    paths = [series.path for series in found if not series.flaw]
    return [
        Case("_".join(path.relative_to(folder).parts) or stem_of(path), (path,), label=None) for path in paths
    ], flaws


def _flaw(series: Series) -> DataError:
    return DataError("DICOM series is not a volume", got=f"{series.flaw}: {series}", file=series.path)


def _chosen_series(folder: Path, pattern: str) -> FoundScans:
    """The series below a folder of a UID, or whose descriptions match a pattern: at most one of each study.

    Raises:
        DataError: None matches, or the path is not a folder.
        DatasetProblems: Several of one study do.
    """
    found = find_series(folder)
    matching = [series for series in found if _matches(series, pattern)]
    flaws = [_flaw(series) for series in matching if series.flaw]
    studies: dict[str, list[Series]] = {}
    for series in found:
        studies.setdefault(series.study or str(series.path), []).append(series)
    cases: list[Case] = []
    problems: list[DataError] = []
    for study in studies.values():
        chosen = [series for series in study if series in matching and not series.flaw]
        if len(chosen) > 1:
            problems.append(_unclear_choice("several DICOM series of a study match --series", pattern, chosen, folder))
        elif chosen:
            path = chosen[0].path
            name = "_".join(path.relative_to(folder).parts) or stem_of(path) or _UNNAMED
            cases.append(Case(name, (path,), label=None))
        elif any(not series.flaw for series in study):
            flaws.append(_unclear_choice("no DICOM series of a study matches --series", pattern, study, folder))
    if problems:
        what = f"in {len(problems)} studies several DICOM series match --series"
        raise problems[0] if len(problems) == 1 else DatasetProblems(problems, what=what)
    if not cases:
        raise _unclear_choice("no DICOM series matches --series", pattern, found, folder)
    return FoundScans(sorted(cases, key=lambda case: case.id), None, flaws)


def _matches(series: Series, pattern: str) -> bool:
    return series.uid == pattern or fnmatchcase(series.description.strip().lower(), pattern.lower())


def _unclear_choice(what: str, pattern: str, series: Sequence[Series], folder: Path) -> DataError:
    more = f" and {len(series) - _LISTED} more" if len(series) > _LISTED else ""
    return DataError(
        what,
        expected=f"one with the UID or the description {pattern}",
        got="; ".join(map(str, series[:_LISTED])) + more or "no DICOM series",
        hint="choose by a UID, or by a description such as --series 'T1*'",
        file=Path(os.path.commonpath([each.path for each in series])) if series else folder,
    )


def _volume_of(case: Case, number: int) -> Case:
    """The case that has one volume of a DICOM series.

    Raises:
        ConfigError: A scan is no DICOM series.
    """
    for image in filter(None, case.images):
        if suffix_of(image) and not is_dicom_image(image):
            raise ConfigError("--volume chooses among the volumes of a DICOM series", got=image.name)
    images = tuple(image and image.with_name(f"{image.name}#{number}") for image in case.images)
    return replace(case, id=f"{case.id}_volume{number}", images=images)


def _remote_scans(address: str, plan: Plan | Dataset) -> FoundScans:
    if suffix_of(address.partition("?")[0]):
        folder, name = RemoteFolder.of_file(address)
        _check_single_file(name, folder.address_of(name))
        return FoundScans([Case(stem_of(name).removesuffix(_FIRST), (Path(name),), label=None)], folder)
    folder = RemoteFolder.of(address)
    names = [name for name in folder.names() if suffix_of(name) and not name.startswith(".")]
    for name in names:
        _check_single_file(name, folder.address_of(name))
    files = [Path(name) for name in names]
    labels = find_label_maps(files, Path())
    cases = group_files([file for file in files if file not in labels], plan, Path())
    if not cases:
        raise DataError(
            "no scans found",
            expected="files that end in .nii.gz, .nii, .nrrd or .mha",
            got="none",
            hint="give the folder that holds them; DICOM series can only be read from a local disk",
            file=address,
        )
    passed = [file for file in files if file in labels]
    warnings = [_passed_over("label maps are not predicted", passed, Path())] if passed else []
    return FoundScans(cases, folder, warnings)


def _check_single_file(name: str, address: str) -> None:
    """Rejects headers whose voxels are in another file: only single files can be downloaded."""
    if suffix_of(name).lower().startswith(_SEPARATE_FILES):
        raise DataError(
            "only scans in a single file can be downloaded",
            expected="a name that ends in .nii.gz, .nii, .nrrd or .mha",
            got=name,
            hint="copy pairs of header and image, and DICOM series, to a disk first",
            file=address,
        )
