"""NIfTI files: single files and pairs of header and image, plain and compressed."""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path

import nibabel
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import logger
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from inflate3d.errors import DataError, Inflate3dError
from inflate3d.io.damage import unreadable
from inflate3d.io.formats import pair_of

MOST_BEFORE_VOXELS = 64 << 20
"""Size limit of a header with its extensions, which are read into memory, in bytes."""

NiftiImage = nibabel.Nifti1Pair
"""nibabel's common type of all NIfTI images: single and pair, version 1 and 2."""

_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    WrapStructError,
)


def _rounded(kind: type[NiftiImage]) -> type[NiftiImage]:
    """The same header class, but tolerant of quaternions whose length exceeds 1 by more than nibabel allows."""
    header = type(kind.__name__, (kind.header_class,), {"quaternion_threshold": -1e-5})
    return type(kind.__name__, (kind,), {"header_class": header})


_KINDS = {
    (False, False): _rounded(nibabel.Nifti1Image),
    (False, True): _rounded(nibabel.Nifti2Image),
    (True, False): _rounded(nibabel.Nifti1Pair),
    (True, True): _rounded(nibabel.Nifti2Pair),
}
"""Class by whether the file is a pair, and whether it is version 2."""


@contextmanager
def open_image(path: Path, case: str | None) -> Iterator[NiftiImage]:
    """Opens an image whose voxels are read inside the block; all errors become ours.

    Args:
        path: A single file, or either file of a pair.
    """
    header, voxels = pair_of(path) or (path, path)
    for half in {header, voxels}:
        if not half.exists():
            raise _missing(half, path, case)
        if not half.is_file():
            raise DataError("not a regular file", expected="a NIfTI file", case=case, file=half)
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(_open(header))
            start = stream.read(540)
            is_second = _is_second(start)
            _check_before_voxels(stream, start, is_pair=header != voxels)
            _check_scaling(start, header, case)
            files = {"image": FileHolder(fileobj=stream)}
            if header != voxels:
                _refuse_analyze(start, is_second, path, case)
                files = {"header": files["image"], "image": FileHolder(fileobj=stack.enter_context(_open(voxels)))}
            with _quiet():  # not mapped into memory: a file that is cut short meanwhile would end the process
                image = kind_of(is_pair=header != voxels, is_second=is_second).from_file_map(files, mmap=False)
            yield image
    except Inflate3dError:
        raise
    except _UNREADABLE as error:
        raise unreadable(path, case, expected="a whole NIfTI file", got=f"{type(error).__name__}: {error}") from error


def kind_of(*, is_pair: bool, is_second: bool) -> type[NiftiImage]:
    """The class that nibabel has for a single file or a pair, of NIfTI version 1 or 2."""
    return _KINDS[is_pair, is_second]


def _check_before_voxels(stream: gzip.GzipFile | BufferedReader, start: bytes, *, is_pair: bool) -> None:
    """Rejects header extensions of absurd length, which nibabel would read into memory.

    Leaves the stream at its start.
    """
    kind = nibabel.Nifti2Header if _is_second(start) else nibabel.Nifti1Header
    if len(start) < kind.sizeof_hdr:
        raise ValueError("it is cut short in its header")
    header = kind(start[: kind.sizeof_hdr], check=False)
    offset = float(header["vox_offset"])
    if not 0 <= offset <= MOST_BEFORE_VOXELS:
        raise ValueError(f"its voxels begin at byte {offset:g}")
    stream.seek(0)
    block = _read_most(stream, (MOST_BEFORE_VOXELS if is_pair else int(offset)) + 1)
    end = len(block) if is_pair else int(offset)
    stream.seek(0)
    if len(block) > MOST_BEFORE_VOXELS:
        raise ValueError(f"its header has more than {MOST_BEFORE_VOXELS} bytes")
    at = kind.sizeof_hdr + 4
    while block[kind.sizeof_hdr : kind.sizeof_hdr + 1] not in (b"", b"\0") and at + 16 <= end:
        size = int.from_bytes(block[at : at + 4], "little" if header.endianness == "<" else "big", signed=True)
        if not 8 <= size <= end - at:
            raise ValueError(f"its header has an extension of {size} bytes, but only {end - at} are before the voxels")
        at += size


def _check_scaling(start: bytes, file: Path, case: str | None) -> None:
    """Rejects an infinite slope, which nibabel takes for none; 0 and NaN do mean none."""
    header = _header(start)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope) or not (slope == 0 or math.isnan(slope) or math.isfinite(intercept)):
        raise DataError(
            "the header's slope or intercept is not finite, so the values are unknown",
            expected="finite numbers; a slope of 0 or NaN means that values are stored as they are",
            got=f"slope {slope:g}, intercept {intercept:g}",
            hint="convert the original scan again",
            case=case,
            file=file,
        )


def _read_most(stream: gzip.GzipFile | BufferedReader, most: int) -> bytes:
    """At most ``most`` bytes, allocating only what is there."""
    parts = []
    while most > 0 and (part := stream.read(min(most, 1 << 16))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def stored_header(path: Path) -> nibabel.Nifti1Header:
    """The header as stored, before nibabel repairs it."""
    with _open((pair_of(path) or (path, path))[0]) as stream:
        return _header(stream.read(540))


def _header(start: bytes) -> nibabel.Nifti1Header:
    kind = nibabel.Nifti2Header if _is_second(start) else nibabel.Nifti1Header
    return kind(start[: kind.sizeof_hdr], check=False)


def is_compressed(path: Path) -> bool:
    """Whether a file is gzip, whatever its name is."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if is_compressed(path) else path.open("rb")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences nibabel's messages about repaired headers; `stored_header` shows the original."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_second(start: bytes) -> bool:
    """Whether a header is NIfTI version 2, by its size in either byte order."""
    return 540 in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))


def _missing(half: Path, path: Path, case: str | None) -> DataError:
    if half == path:
        return DataError("the file is missing", hint="check the path", case=case, file=path)
    return DataError(
        "the other half of a header and image pair is missing",
        expected=f"{half.name} beside {path.name}",
        hint="copy both files of the pair into one folder",
        case=case,
        file=half,
    )


def _refuse_analyze(start: bytes, is_second: bool, path: Path, case: str | None) -> None:
    is_first = 348 in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    if is_first and not is_second and start[344:346] not in (b"ni", b"n+"):
        raise DataError(
            "the pair is in Analyze 7.5 format, which doesn't distinguish left from right",
            expected="a NIfTI pair, whose header holds the word ni1",
            hint="convert the original scan again, to .nii.gz",
            case=case,
            file=path,
        )
