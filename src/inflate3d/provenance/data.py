"""What a run learned from: a digest of each prepared case, and what the cases are like.

What is digested are the voxels that the store gives to the training, not the bytes of its files: a store that is
prepared anew, or compressed by another version of Blosc2, has the same digests, and one changed voxel has another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from inflate3d.errors import DataError, truncate
from inflate3d.preparation.store import Store
from inflate3d.settings import FrozenModel

SLICES_AT_ONCE = 16
"""Read together: what is in memory stays small."""

_PREPARE = "run `inflate3d prepare` on the data that the run was trained on, or name its store by --store"


class Spread(FrozenModel):
    """Least, median and largest of a figure over the cases, along left-right, posterior-anterior, inferior-superior."""

    least: tuple[float, float, float]
    median: tuple[float, float, float]
    most: tuple[float, float, float]


class DataOrigin(FrozenModel):
    """What a run learned from and chose its checkpoint on.

    Attributes:
        cases: SHA-256 of each prepared case, by its id.
        sha256: Of all of them together.
        spacing: Millimeters between the voxels of the scans.
        shape: Voxels of the scans.
    """

    cases: dict[str, str]
    sha256: str
    spacing: Spread
    shape: Spread


def data_origin(store: Store, cases: Iterable[str]) -> DataOrigin:
    """Digests prepared cases: all their voxels are read, about as fast as SHA-256 goes.

    Args:
        store: The prepared dataset.
        cases: Ids of those that a run trains and validates on.

    Raises:
        DataError: A case is not there, or can't be read.
    """
    chosen = sorted(cases)
    measured = {case.case: case for case in store.fingerprint.cases}
    digests = {name: digest_case(store, name) for name in chosen}
    return DataOrigin(
        cases=digests,
        sha256=_digest_of_all(digests),
        spacing=_spread(measured[name].spacing for name in chosen),
        shape=_spread(measured[name].shape for name in chosen),
    )


def digest_case(store: Store, case: str) -> str:
    """SHA-256 of what a training takes from a prepared case: geometry, value ranges, image and labels, by slice.

    Raises:
        DataError: The case is not there, or can't be read.
    """
    if case not in store.cases:
        raise DataError("the store lacks a case of the run", hint=_PREPARE, case=case, file=store.folder)
    stored = store.cases[case]
    digest = hashlib.sha256(stored.model_dump_json(include={"shape", "spacing", "ranges"}).encode())
    for read in (store.image_slices, store.label_slices):
        _add_slices(digest, store, case, stored.shape[0], read)
    return digest.hexdigest()


def check_data(before: DataOrigin, now: DataOrigin, store: Store) -> None:
    """Makes sure that prepared cases are those that a run learned from.

    Args:
        before: What the run noted.
        now: The same cases of a store.
        store: That one.

    Raises:
        DataError: They are not.
    """
    changed = changed_cases(before.cases, now.cases)
    if changed:
        raise DataError(
            "the prepared cases are not those that the run learned from",
            expected=f"cases with the SHA-256 digest {before.sha256}",
            got=f"{now.sha256}; {len(changed)} of {len(before.cases)} cases differ: {truncate(changed)}",
            hint=_PREPARE,
            case=changed[0],
            file=store.folder,
        )


def changed_cases(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The cases whose digests differ, or that only one of the two has, sorted."""
    return sorted(case for case in before.keys() | now.keys() if before.get(case) != now.get(case))


def _add_slices(digest: Any, store: Store, case: str, depth: int, read: Callable[[str, list[int]], np.ndarray]) -> None:
    for first in range(0, depth, SLICES_AT_ONCE):
        try:
            block = read(case, list(range(first, min(first + SLICES_AT_ONCE, depth))))
        except RuntimeError as error:  # Blosc2's, of a damaged file
            raise DataError(
                "prepared case can't be read", got=error, hint=_PREPARE, case=case, file=store.folder
            ) from error
        if not first:
            digest.update(f"{block.dtype.str}{block.ndim}".encode())
        for index in range(block.shape[-3]):
            digest.update(np.ascontiguousarray(block[..., index, :, :]).data)


def _digest_of_all(digests: Mapping[str, str]) -> str:
    lines = "".join(f"{digest}  {case}\n" for case, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _spread(figures: Iterable[tuple[float, float, float]]) -> Spread:
    table = np.array(list(figures), np.float64)
    least, median, most = (each.tolist() for each in (table.min(0), np.median(table, 0), table.max(0)))
    return Spread(least=tuple(least), median=tuple(median), most=tuple(most))
