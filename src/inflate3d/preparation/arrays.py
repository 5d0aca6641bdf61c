"""One array of a case in a file: slices compressed a few at a time, so that a window is read without the rest.

Blosc2 files, measured against numpy memmaps, which read faster but are up to three times the size of the dataset, and
against a file for each slice: `benchmarks/store_format.py`. Floats that take few values, as those of integers that a
header scales do, are kept as numbers of those values: a third of the bytes, and read as the very same floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Shaped, UInt, UInt16, UInt32

from inflate3d.atomic import atomic_path

CHUNK_BYTES = 256 * 1024
"""Slices are compressed together up to this size: a window is a few neighboring ones."""

MOST_VALUES = 2**16
"""Floats of more different values are kept as they are."""

_SAMPLE = 4096
"""Voxels that tell whether looking for all values is worth the time."""
_STRETCH = 2**18
"""Voxels that are looked at together: they lie in the processor's cache."""

_FACTORS = tuple(range(0x9E3779B1, 0x9E3779B1 + 64, 2))
"""Odd, after the golden ratio (multiplicative hashing, Knuth)."""

_FRAME = b"\x9e\xa8b2frame\x00\xd2"
"""A Blosc2 file begins with this, followed by the length of its header (4 bytes, big-endian)."""

_METALAYERS_AT = 87
"""Where in the header its metalayers stand: what kind of object the file holds, and how to make it."""

_LONGEST_HEADER = 1 << 16

DAMAGED = (
    *(OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
    *(SystemError, MemoryError),
)
"""What opening and reading a damaged file raises."""

_VALUES = "values"
"""Under this name a file keeps the values that its numbers stand for."""


def write_slices(path: Path, array: Shaped[np.ndarray, "*c d h w"], kind: Literal["image", "label"]) -> None:
    """Writes an array, whole or not at all; it is on the disk once the caller has flushed it.

    Args:
        path: The file; replaced where it exists.
        array: ``(D, H, W)``, or ``(C, D, H, W)``.
        kind: What it holds, which decides how it is compressed.

    Raises:
        OutputError: The file can't be written.
    """
    import blosc2

    contiguous = np.ascontiguousarray(array)
    coded = _code(contiguous) if contiguous.dtype == np.float32 else None
    stored, values = coded or (contiguous, None)
    compressed: Any = blosc2.asarray(
        cast(Any, stored),  # its type hints forget numpy arrays
        chunks=_chunks(stored),
        cparams={"nthreads": 1, **_compression(stored.itemsize, kind)},
    )
    if values is not None:
        compressed.schunk.vlmeta[_VALUES] = values.tobytes()
    with atomic_path(path, flush=False) as temporary:
        temporary.write_bytes(compressed.to_cframe())


class StoredSlices:
    """An array that `write_slices` wrote, opened.

    Args:
        path: The file.

    Raises:
        OSError: It can't be read.
        RuntimeError: It is none, or is damaged; so do all others of `DAMAGED`.
    """

    def __init__(self, path: Path) -> None:
        import blosc2

        blosc2.set_nthreads(1)  # loader processes run side by side, each reads a few slices at a time
        _check_plain_array(path)
        # Opening takes a tenth of a millisecond: kept open, thousands of cases would hold their indices in memory.
        self._array: Any = blosc2.open(str(path), mode="r")
        if type(self._array) is not blosc2.NDArray or self._array.ndim not in (3, 4):
            raise RuntimeError("it is no array of slices")
        if self._array.dtype.kind not in "iuf":
            raise RuntimeError(f"its numbers are of the type {self._array.dtype}")
        if (claimed := self._array.nbytes) > (held := self._array.schunk.nbytes):
            raise RuntimeError(f"it claims {claimed} bytes, and its chunks hold {held}")
        meta: Any = self._array.schunk.vlmeta
        self._values = np.frombuffer(meta[_VALUES], np.float32) if _VALUES in meta else None

    def read(self, first: int, last: int) -> Shaped[np.ndarray, "*c n h w"]:
        """The slices from ``first`` to ``last``, that one too, in the type that was written."""
        part = (slice(None),) * (self._array.ndim - 3) + (slice(first, last + 1),)
        block = self._array[part]
        return block if self._values is None else self._values[block]


def _check_plain_array(path: Path) -> None:
    """Refuses Blosc2 files of other objects, some of which Blosc2 would compute or fetch when it opens them.

    Only the file's header is read: compressed voxels can hold any bytes.
    """
    import msgpack

    with path.open("rb") as file:
        start = file.read(len(_FRAME) + 4)
        length = int.from_bytes(start[len(_FRAME) :], "big")
        if not start.startswith(_FRAME) or length > _LONGEST_HEADER:
            raise RuntimeError("not a Blosc2 file")
        header = start + file.read(length - len(start))
    _, metalayers, _ = msgpack.unpackb(header[_METALAYERS_AT:], raw=True)
    if set(metalayers) != {b"b2nd"}:
        raise RuntimeError(f"not a plain array: it has the metalayers {sorted(metalayers)}")


def _chunks(array: Shaped[np.ndarray, "*c d h w"]) -> tuple[int, ...]:
    depth_at = array.ndim - 3
    slices = array.shape[depth_at]
    together = max(1, min(slices, CHUNK_BYTES // max(1, array.nbytes // slices)))
    return (*array.shape[:depth_at], together, *array.shape[depth_at + 1 :])


def _compression(bytes_each: int, kind: Literal["image", "label"]) -> dict[str, Any]:
    """What measured best by size and speed of reading, see `benchmarks/store_format.py`."""
    from blosc2 import Codec, Filter

    if kind == "label":
        codec, level, filter_ = Codec.ZSTD, 1, Filter.NOFILTER  # long runs as they are
    elif bytes_each == 1:
        codec, level, filter_ = Codec.ZSTD, 1, Filter.BITSHUFFLE
    elif bytes_each == 2:
        codec, level, filter_ = Codec.LZ4, 5, Filter.BITSHUFFLE  # read 1.7 times as fast as zstd, and 4 % larger
    else:
        codec, level, filter_ = Codec.ZSTD, 1, Filter.SHUFFLE
    return {"codec": codec, "clevel": level, "filters": [filter_], "filters_meta": [0]}


def _code(array: Shaped[np.ndarray, "..."]) -> tuple[UInt[np.ndarray, "..."], Shaped[np.ndarray, " n"]] | None:
    """Numbers of floats, and the floats that they stand for; none where there are many different ones."""
    bits = array.reshape(-1).view(np.uint32)  # compared to the bit: -0 is not 0
    sample = bits[:: max(1, len(bits) // _SAMPLE)]
    if len(sample) > _SAMPLE // 2 < len(np.unique(sample)):
        return None
    values = np.zeros(0, np.uint32)
    for stretch in _stretches(bits):
        values = np.union1d(values, stretch)
        if len(values) > MOST_VALUES:
            return None
    numbers = np.empty(len(bits), np.min_scalar_type(len(values) - 1))
    hashed = _find_hash(values)
    for into, stretch in zip(_stretches(numbers), _stretches(bits), strict=True):
        into[:] = np.searchsorted(values, stretch) if hashed is None else hashed[1][_hash(stretch, hashed[0])]
    return numbers.reshape(array.shape), values.view(np.float32)


def _find_hash(values: UInt32[np.ndarray, " n"]) -> tuple[int, UInt16[np.ndarray, " slots"]] | None:
    """A factor that brings each value to a slot of its own, and the slots' numbers: ten times as fast as searching."""
    for factor in _FACTORS:
        slots = np.zeros(2**16, np.uint16)
        places, numbers = _hash(values, factor), np.arange(len(values))
        slots[places] = numbers
        if np.array_equal(slots[places], numbers):
            return factor, slots
    return None


def _hash(values: UInt32[np.ndarray, " n"], factor: int) -> UInt32[np.ndarray, " n"]:
    return values * np.uint32(factor) >> np.uint32(16)


def _stretches(flat: Shaped[np.ndarray, " n"]) -> Iterator[Shaped[np.ndarray, " m"]]:
    for start in range(0, len(flat), _STRETCH):
        yield flat[start : start + _STRETCH]
