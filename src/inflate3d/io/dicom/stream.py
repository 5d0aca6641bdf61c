"""What the stream of a compressed DICOM image says of its size, which its decoder allocates and fills."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_LONGEST_START = 1 << 16
"""Bytes of a stream in which its size stands; what is before it in a JPEG, such as a color profile, is short."""

_ITEM = b"\xfe\xff\x00\xe0"

_JPEG_2000 = b"\xff\x4f\xff\x51"

_BOXES = b"\0\0\0\x0cjP  "
"""The first of the boxes that a JPEG 2000 stream may lie in, as in a file .jp2."""

_FRAMES_OF_JPEG = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Markers behind which a JPEG or JPEG-LS stream has its size."""


def start_of_stream(file: Path, place: int) -> bytes:
    """The first bytes of the first stream of compressed pixels.

    Args:
        file: The DICOM file.
        place: Where the pixels' value begins in it: a list of items, of which the first is a table of offsets.

    Raises:
        OSError: The file can't be read.
    """
    with file.open("rb") as opened:
        opened.seek(place)
        for number in range(2):
            header = opened.read(8)
            if header[:4] != _ITEM:
                return b""
            length = int.from_bytes(header[4:], "little")
            if number:
                return opened.read(min(length, _LONGEST_START))
            opened.seek(length, os.SEEK_CUR)
    return b""


def size_of_stream(start: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 stream; none of others, which have no size of their own."""
    at = _start_within_boxes(start) if start.startswith(_BOXES) else 0
    if start[at:].startswith(_JPEG_2000) and len(start) >= at + 24:
        right, bottom, left, top = struct.unpack(">4I", start[at + 8 : at + 24])
        return bottom - top, right - left
    at = 2
    while start.startswith(b"\xff\xd8") and at + 9 <= len(start):
        if start[at + 1] in _FRAMES_OF_JPEG:
            rows, columns = struct.unpack(">2H", start[at + 5 : at + 9])
            return rows, columns
        fill = start[at + 1] == 0xFF
        at += 1 if fill else 2 + int.from_bytes(start[at + 2 : at + 4], "big")
    return None


def _start_within_boxes(start: bytes) -> int:
    """Where the stream begins that lies in the last box: the marks of one may stand anywhere in other data."""
    at = 0
    while start[at + 4 : at + 8] not in (b"jp2c", b""):
        length = int.from_bytes(start[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(start[at + 8 : at + 16], "big")
        at += max(length, 8)
    return at + (16 if start[at : at + 4] == b"\0\0\0\x01" else 8)
