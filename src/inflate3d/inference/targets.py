"""Which label map is made of which scan, and which are there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError
from inflate3d.inference.transfer import Transfer
from inflate3d.inference.uncertainty_maps import map_file
from inflate3d.io import label_suffix

Skip = Callable[[Case], object]
"""Told of every scan that is left out."""

_LOOKS_AT_ONCE = 16
"""Files elsewhere that are asked for at the same time."""


def find_work(
    scans: Sequence[Case],
    folder: Path,
    suffix: str | None,
    skip: Skip | None,
    transfer: Transfer,
    *,
    with_maps: bool = False,
) -> Iterator[tuple[Case, Path]]:
    """The scans that are to be predicted, each with its label map's file; see `predict_files`.

    With maps of uncertainty, a scan whose map is missing is none to be left out.
    """
    targets = [folder / f"{scan.id}{label_suffix(scan.scan, suffix)}" for scan in scans]
    _check_targets(scans, targets, transfer)
    if skip is None:
        yield from zip(scans, targets, strict=True)
        return
    with ThreadPoolExecutor(1 if transfer.is_local else _LOOKS_AT_ONCE) as pool:
        for scan, target, done in zip(scans, targets, pool.map(transfer.is_up_to_date, scans, targets), strict=True):
            if done and (not with_maps or map_file(target, scan).is_file()):
                skip(scan)
            else:
                yield scan, target


def _check_targets(scans: Sequence[Case], targets: Sequence[Path], transfer: Transfer) -> None:
    several = Counter(targets)
    for scan, target in zip(scans, targets, strict=True):
        if several[target] > 1:
            raise DataError(
                "two scans have one name",
                got=f"{several[target]} label maps would go to {target.name}",
                hint="predict them one after another, into different folders",
                case=scan.id,
                file=transfer.address(scan.scan),
            )
        if _place(target, transfer) in {_place(image, transfer) for image in scan.images if image}:
            raise DataError(
                "label map would overwrite its scan",
                case=scan.id,
                file=transfer.address(target),
                hint="choose another folder for the result",
            )


def _place(path: Path, transfer: Transfer) -> str:
    address = transfer.address(path)
    return str(path.resolve()) if address == str(path) else address
