"""Maps of where a label map can't be trusted, beside it: ``uncertainty/NAME.nii.gz``.

A map has the normalized entropy of each voxel's mean probabilities: 0 is certain, 1 is anybody's guess. It is stored in
hundredths, as bytes with a slope of 0.01 in the header, and it is written before the scan's label map: where that is,
the scan is finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.errors import ConfigError, DataError
from inflate3d.inference.transfer import Transfer

FOLDER = "uncertainty"
"""In the folder of the label maps."""


def map_file(target: Path, scan: Case) -> Path:
    """The map that goes with a scan's label map."""
    return target.parent / FOLDER / f"{scan.id}.nii.gz"


def check_maps(scans: Sequence[Case], folder: Path, transfer: Transfer) -> None:
    """Tells before the first prediction what would stop the writing of maps.

    Args:
        scans: What is to be predicted.
        folder: Where the label maps go.
        transfer: Their way from there.

    Raises:
        ConfigError: Label maps, and so their maps, go to a bucket.
        DataError: Two scans would have one map, or a map would overwrite a scan.
    """
    if transfer.labels is not None:
        raise ConfigError(
            "maps of uncertainty are written to a disk alone",
            expected="a folder on a disk",
            got=transfer.labels.address,
            hint="predict into a folder and copy it, or leave out --uncertainty-maps",
        )
    several = Counter(scan.id for scan in scans)
    for scan in scans:
        file = map_file(folder / scan.id, scan)
        if several[scan.id] > 1:
            raise DataError(
                "two scans have one name",
                got=f"{several[scan.id]} maps of uncertainty would go to {file.name}",
                hint="predict them one after another, into different folders",
                case=scan.id,
                file=transfer.address(scan.scan),
            )
        if file.resolve() in {image.resolve() for image in scan.images if image}:
            raise DataError(
                "the map of uncertainty would overwrite its scan",
                case=scan.id,
                file=file,
                hint="choose another folder for the result",
            )
