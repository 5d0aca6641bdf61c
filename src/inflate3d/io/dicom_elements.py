"""The elements of a DICOM file, walked once before GDCM reads it: it takes memory for any length that one claims."""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path

_PREAMBLE = 132
_UNDEFINED = 0xFFFFFFFF
_MOST_ELEMENTS = 1_000_000
_BLOCK = 1 << 14

_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_PIXELS = (0x7FE0, 0x0010)
_META_GROUP = 0x0002
_TRANSFER_SYNTAX = (0x0002, 0x0010)

_LONG_TYPES = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Types whose length takes four bytes, behind two that are empty."""

_TYPES = _LONG_TYPES | {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"),
    *(b"ST", b"TM", b"UI", b"UL", b"US"),
}

IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def check_elements(file: Path) -> None:
    """Makes sure that every element of a DICOM file, nested ones too, ends within the file.

    Raises:
        OSError: The file can't be read.
        ValueError: One claims more bytes than there are, or what stands there is no element.
    """
    with file.open("rb") as stream:
        _Walk(_Bytes(stream)).run()


class _Bytes:
    """A file's bytes by their places.

    They are not mapped into memory: a file that is cut short meanwhile would end the process.
    """

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size
        self._start, self._block = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, places: slice) -> bytes:
        start, stop, _ = places.indices(self._size)
        if not self._start <= start <= stop <= self._start + len(self._block):
            self._stream.seek(start)
            self._start, self._block = start, self._stream.read(max(stop - start, _BLOCK))
            if len(self._block) < stop - start:
                raise ValueError("it was cut short while it was read")
        return self._block[start - self._start : stop - self._start]


class _Walk:
    """A walk from element to element; into sequences and their items, past all other values.

    Values of a sequence are elements again, so that nested ones need no stack: only how they are spelled may change.

    Args:
        data: The file.
    """

    def __init__(self, data: _Bytes) -> None:
        self._data = data
        self._at = _PREAMBLE
        self._syntax = IMPLICIT
        self._in_fragments = False
        self._unknown_depth = 0
        self._end: int | None = None

    def run(self) -> None:
        for _ in range(_MOST_ELEMENTS):
            if self._at >= len(self._data) or self._is_padding():
                return
            self._step()
        raise ValueError(f"more than {_MOST_ELEMENTS} elements")

    def _step(self) -> None:
        start = self._at
        in_meta = self._number(start, 2, "little") == _META_GROUP and self._unknown_depth == 0
        order = "big" if self._syntax == BIG_ENDIAN and not in_meta else "little"
        tag = (self._number(start, 2, order), self._number(start + 2, 2, order))
        is_explicit = in_meta or (self._syntax != IMPLICIT and self._unknown_depth == 0)
        kind, header, length = self._header(start, tag, is_explicit=is_explicit, order=order)
        self._at = start + header
        if length != _UNDEFINED and length > len(self._data) - self._at:
            left = len(self._data) - self._at
            raise ValueError(f"element ({tag[0]:04x},{tag[1]:04x}) of {length} bytes, and {left} are left")
        if tag == _TRANSFER_SYNTAX:
            self._syntax = self._data[self._at : self._at + length].decode("latin-1").strip("\0 ")
            if self._syntax == DEFLATED:
                raise ValueError("a deflated DICOM file, which is not read")
        self._note_nesting(tag, kind, length)
        if not self._is_entered(tag, kind, length):
            self._at += length

    def _header(self, start: int, tag: tuple[int, int], *, is_explicit: bool, order: str) -> tuple[bytes, int, int]:
        """An element's type where it is spelled out, bytes of its header, and the length that it claims."""
        if tag[0] == _ITEM[0] or not is_explicit:
            return b"", 8, self._number(start + 4, 4, order)
        kind = self._data[start + 4 : start + 6]
        if kind not in _TYPES:
            raise ValueError(f"element ({tag[0]:04x},{tag[1]:04x}) of the type {kind!r}")
        if kind in _LONG_TYPES:
            return kind, 12, self._number(start + 8, 4, order)
        return kind, 8, self._number(start + 6, 2, order)

    def _note_nesting(self, tag: tuple[int, int], kind: bytes, length: int) -> None:
        """Elements within one of unknown type and length are spelled without types, to its end."""
        if self._in_fragments:
            self._in_fragments = tag != _SEQUENCE_END
        elif tag == _PIXELS and length == _UNDEFINED:
            self._in_fragments = True
        elif self._unknown_depth:
            if length == _UNDEFINED:
                self._unknown_depth += 1
            elif tag in (_ITEM_END, _SEQUENCE_END):
                self._unknown_depth -= 1
        elif kind == b"UN" and length == _UNDEFINED:
            self._unknown_depth = 1

    def _is_entered(self, tag: tuple[int, int], kind: bytes, length: int) -> bool:
        """Whether a value is made of elements."""
        if length == _UNDEFINED:
            if self._in_fragments and tag == _ITEM:
                raise ValueError("a part of the voxels without a length")
            return True
        if self._in_fragments:
            return False
        holds_items = self._data[self._at : self._at + 4] in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
        return tag == _ITEM or kind == b"SQ" or (not kind and tag != _PIXELS and length >= 8 and holds_items)

    def _is_padding(self) -> bool:
        """Whether nothing but zeros is left; some writers fill the file up."""
        if self._data[self._at : self._at + 8].strip(b"\0"):
            return False
        if self._end is None:  # looked up once: elements can be zeros, too
            self._end = self._at + len(self._data[self._at :].rstrip(b"\0"))
        return self._at >= self._end

    def _number(self, start: int, size: int, order: str) -> int:
        if start + size > len(self._data):
            raise ValueError("an element that is cut off")
        return int.from_bytes(self._data[start : start + size], "big" if order == "big" else "little")
