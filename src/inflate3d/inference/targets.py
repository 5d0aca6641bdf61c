"""Which label map belongs to which scan, and which of them exist already."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.distributed.remote import RemoteFolder, is_remote
from inflate3d.errors import ConfigError, DataError, OutputError, truncate
from inflate3d.inference.manifest import check_replaceable
from inflate3d.inference.scans import FoundScans
from inflate3d.io import WRITABLE_SUFFIXES, label_suffix, read_images, suffix_of
from inflate3d.io.formats import dicom_suffix
from inflate3d.preparation.file_signatures import last_change
from inflate3d.volume import Volume

UNCERTAINTY = "uncertainty"
"""Subfolder of the uncertainty maps."""

MASKS = "masks"
"""Subfolder of the masks, with a folder for each scan."""

_LOOKUPS_AT_ONCE = 16
"""Number of remote files that are looked up at the same time."""


_NO_LABEL_MAPS = frozenset({
    ".bmp", ".csv", ".gif", ".gz", ".h5", ".hdf5", ".jpeg", ".jpg", ".json", ".mat",
    ".npy", ".npz", ".pdf", ".png", ".stl", ".tif", ".tiff", ".txt", ".zip",
})  # fmt: skip
"""Suffixes of files in other formats, for which no folder is meant."""


def _file_suffix(out: str) -> str:
    """The suffix of a label map's file; empty if the name is a folder's."""
    return suffix_of(out) or dicom_suffix(Path(out).name)


@dataclass(frozen=True)
class Destination:
    """Where label maps are written.

    Attributes:
        folder: A local folder; for remote label maps, that of their local copies.
        remote: The remote folder that they are uploaded to, if any.
        name: The file of a single label map, if a file was given.
        suffix: Their format, if one was given.
    """

    folder: Path
    remote: RemoteFolder | None = None
    name: str | None = None
    suffix: str | None = None

    @classmethod
    def of(cls, out: str | Path, cases: Sequence[Case], suffix: str | None) -> Destination:
        """The destination for a path or an address: a folder, or the file of a single label map."""
        remote = name = None
        if is_remote(str(out)):
            remote = RemoteFolder.of(str(out))
            if _file_suffix(str(out)):
                remote, name = RemoteFolder.of_file(str(out))
            if not remote.is_writable:
                raise OutputError(
                    "can't write to http(s)", expected="a folder, or one at s3:// or gs://", got=out, file=str(out)
                )
            folder = remote.local
        else:
            folder = Path(out)
            if _file_suffix(str(folder)) and not folder.is_dir():
                folder, name = folder.parent, folder.name
            elif folder.suffix.lower() in _NO_LABEL_MAPS and not folder.is_dir():
                raise ConfigError(
                    "label maps can't be written in this format",
                    expected=f"a folder, or a file that ends in {', '.join(WRITABLE_SUFFIXES)}",
                    got=folder.name,
                    hint=f"give {folder.stem}.nii.gz",
                )
        if name is not None and (len(cases) > 1 or suffix not in (None, _file_suffix(name))):
            raise ConfigError(
                "one file given for several label maps" if len(cases) > 1 else "file has another format than --suffix",
                expected="a folder" if len(cases) > 1 else suffix,
                got=name,
                hint="give a folder; the label maps are named after the scans",
            )
        return cls(folder, remote, name, suffix)

    def target(self, case: Case) -> Path:
        """The file of a scan's label map."""
        return self.folder / (self.name or f"{case.id}{label_suffix(case.scan, self.suffix)}")


@dataclass(frozen=True)
class Job:
    """A scan to predict.

    Attributes:
        case: The scan; images of a remote scan only have file names.
        remote: The scan's remote folder, if it is not on the disk.
        remote_target: The remote folder that the label map is uploaded to, if any.
        before: Time at which the existing label map was written, if there is one.
        is_done: Whether it is up to date and is skipped.
        masks: Names of the classes or regions to also write by themselves.
    """

    case: Case
    target: Path
    remote: RemoteFolder | None = None
    remote_target: RemoteFolder | None = None
    before: int | None = None
    is_done: bool = False
    masks: tuple[str, ...] = ()

    @property
    def mask_files(self) -> dict[str, Path]:
        """The file of each class or region to write by itself."""
        folder = self.target.parent / MASKS / self.case.id
        return {name: folder / f"{mask_file_name(name)}.nii.gz" for name in self.masks}

    @property
    def map_file(self) -> Path:
        """The file of the uncertainty map."""
        return self.target.parent / UNCERTAINTY / f"{self.case.id}.nii.gz"

    @property
    def address(self) -> str:
        """Path or address of the scan."""
        return self.remote.address_of(self.case.scan.name) if self.remote else str(self.case.scan)

    @property
    def target_address(self) -> str:
        """Path or address of the label map."""
        return self.remote_target.address_of(self.target.name) if self.remote_target else str(self.target)

    def read(self) -> tuple[Case, Volume]:
        """Reads the scan, downloading it first if it is remote; returns it with its local paths."""
        case = self.case
        if remote := self.remote:
            case = replace(case, images=tuple(image and remote.fetch(image.name) for image in case.images))
        return case, read_images(case.images, case=case.id)

    def release(self) -> None:
        """Removes local copies of a remote scan."""
        if self.remote:
            for image in filter(None, self.case.images):
                (self.remote.local / image.name).unlink(missing_ok=True)

    def deliver(self) -> None:
        """Uploads the label map if its destination is remote."""
        if self.remote_target:
            try:
                self.remote_target.put(self.target)
            finally:
                self.target.unlink()

    def changed(self) -> int | None:
        """When the label map was last written, in nanoseconds; None if it does not exist."""
        if self.remote_target:
            return self.remote_target.changed(self.target.name)
        return self.target.stat().st_mtime_ns if self.target.is_file() else None

    def is_up_to_date(self) -> bool:
        """Whether the label map exists and is newer than all files of the scan, as far as is known."""
        if self.before is None:
            return False
        images = [image for image in self.case.images if image]
        changes = [self.remote.changed(image.name) if self.remote else last_change(image) for image in images]
        return all(change is not None and change < self.before for change in changes)


def mask_file_name(name: str) -> str:
    """The name of a class or region as a file's name on any disk."""
    return re.sub(r"[^\w+-]+", "_", name).strip("_") or "_"


def find_jobs(
    found: FoundScans,
    destination: Destination,
    *,
    skip_existing: bool,
    overwrite: bool,
    uncertainty_maps: bool,
    masks: Sequence[str] = (),
) -> list[Job]:
    """The job of each scan; checks that nothing would be overwritten by mistake.

    Args:
        masks: Names of the classes or regions to also write by themselves.
    """
    for what, wanted in (("uncertainty maps", uncertainty_maps), ("masks", bool(masks))):
        if wanted and destination.remote:
            raise ConfigError(
                f"{what} can only be written to a local folder",
                got=destination.remote.address,
                hint=f"predict into a local folder and copy it, or leave out --{what.replace(' ', '-')}",
            )
    _check_mask_names(masks)
    jobs = [
        Job(case, destination.target(case), found.remote, destination.remote, masks=tuple(masks))
        for case in found.cases
    ]
    _check_names(jobs, uncertainty_maps=uncertainty_maps)
    with ThreadPoolExecutor(_LOOKUPS_AT_ONCE if found.remote or destination.remote else 1) as pool:
        checked = list(pool.map(lambda job: _look_up(job, skip_existing, uncertainty_maps), jobs))
    if not overwrite:
        _check_existing([job for job in checked if not job.is_done], uncertainty_maps=uncertainty_maps)
    return checked


def _look_up(job: Job, skip_existing: bool, uncertainty_maps: bool) -> Job:
    job = replace(job, before=job.changed())
    others = [file for file in _files(job, uncertainty_maps) if file != job.target]
    done = skip_existing and job.is_up_to_date() and all(file.is_file() for file in others)
    return replace(job, is_done=done)


def _check_existing(jobs: Sequence[Job], *, uncertainty_maps: bool) -> None:
    local = [file for job in jobs if job.remote_target is None for file in _files(job, uncertainty_maps)]
    check_replaceable(local)
    if remote := [job.target_address for job in jobs if job.remote_target and job.before is not None]:
        raise OutputError(
            "label maps exist",
            got=truncate(remote),
            hint="choose another output folder, skip them with --skip-existing, or replace them with --overwrite",
            file=remote[0],
        )


def _files(job: Job, uncertainty_maps: bool) -> Iterator[Path]:
    yield job.target
    if uncertainty_maps:
        yield job.map_file
    yield from job.mask_files.values()


def _check_mask_names(names: Sequence[str]) -> None:
    """Refuses classes that differ in characters only that file names can't have."""
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(mask_file_name(name), []).append(name)
    for file, alike in files.items():
        if len(alike) > 1:
            raise ConfigError(
                "masks of several classes would get the same file name",
                expected="names that differ in letters, digits, + or -",
                got=f"{' and '.join(alike)}, both in {file}.nii.gz",
                hint="leave out --masks: the label map holds all classes; or rename one before training",
            )


def _check_names(jobs: Sequence[Job], *, uncertainty_maps: bool) -> None:
    counts = Counter(file for job in jobs for file in _files(job, uncertainty_maps))
    for job in jobs:
        scans = {_absolute(image, job) for image in job.case.images if image}
        for file in _files(job, uncertainty_maps):
            if counts[file] > 1:
                raise DataError(
                    "duplicate scan name",
                    got=f"{counts[file]} files would be written to {file.name}",
                    hint="predict them one after another, into different folders",
                    case=job.case.id,
                    file=job.address,
                )
            address = job.target_address if job.remote_target else str(file.resolve())
            if address in scans:
                raise DataError(
                    "label map would overwrite its scan",
                    case=job.case.id,
                    file=address if job.remote_target else file,
                    hint="choose another folder for the result",
                )


def _absolute(image: Path, job: Job) -> str:
    return job.remote.address_of(image.name) if job.remote else str(image.resolve())
