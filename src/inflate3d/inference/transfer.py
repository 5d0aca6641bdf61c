"""Where scans come from and label maps go: to and from this machine's disk, or with a way to a bucket or server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError, Inflate3dError, OutputError
from inflate3d.inference.scans import Warn, find_scans, tell_nobody
from inflate3d.io import scan_files, suffix_of
from inflate3d.io.remote import RemoteFolder, check_single_file, is_remote
from inflate3d.preparation.file_signatures import last_change
from inflate3d.preparation.plan import Plan


@dataclass(frozen=True)
class Transfer:
    """The way of scans to this machine's disk, and of label maps from it.

    A scan that comes from elsewhere is on the disk while it is worked on, and at no other time.

    Attributes:
        scans: Where scans come from; from paths if not given.
        labels: Where label maps go; to paths if not given.
    """

    scans: RemoteFolder | None = None
    labels: RemoteFolder | None = None

    @property
    def is_local(self) -> bool:
        """Whether nothing leaves this machine's disk."""
        return self.scans is None and self.labels is None

    def fetch(self, scan: Case) -> None:
        """Brings a scan's files to their paths.

        Raises:
            DataError: One can't be had.
        """
        if self.scans:
            for image in filter(None, scan.images):
                self.scans.fetch(image)

    def release(self, scan: Case) -> None:
        """Takes what was fetched from the disk."""
        if self.scans:
            for image in filter(None, scan.images):
                image.unlink(missing_ok=True)

    def deliver(self, target: Path) -> None:
        """Brings a label map to where it belongs.

        Raises:
            OutputError: It can't be written there.
        """
        if self.labels:
            try:
                self.labels.put(target)
            finally:
                target.unlink()

    def changed(self, target: Path) -> int | None:
        """When a label map was last written, in nanoseconds; None if there is none."""
        if self.labels:
            return self.labels.changed(target)
        return target.stat().st_mtime_ns if target.is_file() else None

    def is_up_to_date(self, scan: Case, target: Path) -> bool:
        """Whether a scan's label map is there, and none of the scan's files is known to have changed since."""
        written = self.changed(target)
        if written is None:
            return False
        look = self.scans.changed if self.scans else last_change
        changes = [look(image) for image in scan.images if image]
        return all(change is not None and change < written for change in changes)

    def address(self, path: Path | str) -> str:
        """What a user calls a file that is worked on under a path."""
        for folder in (self.scans, self.labels):
            if folder and Path(path).parent == folder.mirror:
                return folder.address_of(Path(path))
        return str(path)

    def told(self, error: Inflate3dError) -> Inflate3dError:
        """The same error, its file called as a user does."""
        if error.file is not None:
            error.file = self.address(error.file)
        return error

    def moved(self, scan: Case, target: Path, folder: Path) -> tuple[Transfer, Case, Path]:
        """The same way through another folder of this machine, such as where the work is done on another one."""
        scans, labels = (self._through(folder / name, remote) for name, remote in self._sides)
        if scans:
            scan = replace(scan, images=tuple(image and scans.mirror / image.name for image in scan.images))
        return Transfer(scans, labels), scan, labels.mirror / target.name if labels else target

    @property
    def _sides(self) -> tuple[tuple[str, RemoteFolder | None], tuple[str, RemoteFolder | None]]:
        return ("scans", self.scans), ("labels", self.labels)

    @staticmethod
    def _through(mirror: Path, remote: RemoteFolder | None) -> RemoteFolder | None:
        return remote and replace(remote, mirror=mirror)


LOCAL = Transfer()
"""Paths, nothing else."""


def open_scans(
    place: str, plan: Plan, mirror: Path, *, absolute: bool = False, warn: Warn = tell_nobody
) -> tuple[list[Case], RemoteFolder | None]:
    """The scans that a path or an address names, sorted by name; none of those elsewhere is fetched yet.

    Args:
        place: A path (see `find_scans`), or the address of a scan file or of a folder of them.
        plan: Which modalities there have to be.
        mirror: A new folder where those are worked on that come from elsewhere.
        absolute: Whether paths become absolute, as other machines need them.
        warn: Told of what is passed over.

    Returns:
        The scans, and where they come from if not from the disk.

    Raises:
        DataError: There is nothing to predict, a modality is missing, or the address can't be read.
        ConfigError: The package for this kind of address is missing.
    """
    if not is_remote(place):
        return find_scans(_path(place, absolute), plan, warn=warn), None
    mirror.mkdir()
    if suffix_of(place.partition("?")[0]):
        folder, name = RemoteFolder.around(place, mirror)
        names, path = [name], mirror / name
    else:
        folder, path = RemoteFolder.of(place, mirror), mirror
        names = [name for name in folder.names() if suffix_of(name)]
    for name in names:  # empty files stand for those elsewhere: their names tell all that is asked here
        check_single_file(name, folder.address_of(mirror / name))
        (mirror / name).touch()
    if not scan_files(mirror):
        raise DataError(
            "no scans here",
            expected="files that end in .nii.gz, .nii, .nrrd or .mha",
            got="none",
            hint="name the folder that holds them itself; DICOM series are read from a disk alone",
            file=place,
        )
    return find_scans(path, plan, warn=warn), folder


def open_labels(place: str, mirror: Path, *, absolute: bool = False) -> tuple[Path, RemoteFolder | None]:
    """The folder for label maps that a path or an address names.

    Args:
        place: A path, or an address.
        mirror: A folder for those on their way elsewhere.
        absolute: Whether a path becomes absolute.

    Returns:
        Where label maps are written, and where they go from there if they don't stay.

    Raises:
        ConfigError: The package for this kind of address is missing.
        OutputError: The address can't be written to.
    """
    if not is_remote(place):
        return _path(place, absolute), None
    folder = RemoteFolder.of(place, mirror)
    if not folder.is_writable:
        raise OutputError(
            "a web server takes no label maps", expected="a folder, or one at s3:// or gs://", got=place, file=place
        )
    return mirror, folder


def _path(place: str, absolute: bool) -> Path:
    return Path(place).absolute() if absolute else Path(place)
