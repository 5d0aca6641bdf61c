"""Arrays of cases in files, whose slices are compressed a few at a time, so that a window can be read without the rest.

Blosc2 was compared with numpy memmaps, which are faster but up to three times the size of the dataset, and with one
file per slice: `benchmarks/store_format.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Shaped

from inflate3d.atomic import atomic_path

CHUNK_BYTES = 256 * 1024
"""Slices are compressed together up to this size, since a window is a few neighboring slices."""

_FRAME = b"\x9e\xa8b2frame\x00\xd2"
"""Start of a Blosc2 file, followed by the length of its header (4 bytes, big-endian)."""

_METALAYERS_AT = 87
"""Offset of the metalayers in the header: the kind of object that the file holds, and how to make it."""

_LONGEST_HEADER = 1 << 16

READ_ERRORS = (
    *(OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
    *(SystemError, MemoryError),
)
"""Raised when a damaged file is opened or read."""


def write_slices(path: Path, array: Shaped[np.ndarray, "*c d h w"], kind: Literal["image", "label"]) -> None:
    """Writes an array atomically; the caller flushes it to disk (see `flush_files`).

    Args:
        path: The file; an existing one is replaced.
        array: ``(D, H, W)``, or ``(C, D, H, W)``.
        kind: Its contents, which determine the compression.
    """
    import blosc2

    contiguous = np.ascontiguousarray(array)
    compressed: Any = blosc2.asarray(
        cast(Any, contiguous),  # its type hints forget numpy arrays
        chunks=_chunks(contiguous),
        cparams={"nthreads": 1, **_compression(contiguous.itemsize, kind)},
    )
    with atomic_path(path, flush=False) as temporary:
        temporary.write_bytes(compressed.to_cframe())


class StoredSlices:
    """An array that `write_slices` wrote, opened.

    Raises:
        OSError: It can't be read.
        RuntimeError: It is not a stored array or is damaged; the other `READ_ERRORS` mean the same.
    """

    def __init__(self, path: Path) -> None:
        import blosc2

        blosc2.set_nthreads(1)  # loader processes run side by side, each reads a few slices at a time
        _check_plain_array(path)
        # Opening takes a tenth of a millisecond: kept open, thousands of cases would hold their indices in memory.
        self._array: Any = blosc2.open(str(path), mode="r")
        if type(self._array) is not blosc2.NDArray or self._array.ndim not in (3, 4):
            raise RuntimeError("not an array of slices")
        if self._array.dtype.kind not in "iuf":
            raise RuntimeError(f"invalid data type {self._array.dtype}")
        if (claimed := self._array.nbytes) > (held := self._array.schunk.nbytes):
            raise RuntimeError(f"its header declares {claimed} bytes, its chunks hold {held}")

    def read(self, first: int, last: int, axis: int = 0) -> Shaped[np.ndarray, "*c d h w"]:
        """The slices from ``first`` to ``last``, inclusive, in the type that was written.

        Args:
            axis: Axis that the slices are stacked along: depth (0), rows (1) or columns (2).
        """
        part = (slice(None),) * (self._array.ndim - 3 + axis) + (slice(first, last + 1),)
        return self._array[part]


def _check_plain_array(path: Path) -> None:
    """Rejects Blosc2 files of other objects, some of which Blosc2 would compute or fetch when opening them.

    Reads only the file's header: compressed voxels may contain any bytes.
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
    """The best in size and reading speed, see `benchmarks/store_format.py`."""
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
