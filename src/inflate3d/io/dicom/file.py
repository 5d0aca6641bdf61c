"""A DICOM file's elements, read by pydicom within bounds: GDCM, which decodes the pixels, allocates what they claim."""

from __future__ import annotations

import io
import logging
import os
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filereader import dcmread, read_dataset, read_partial, read_sequence
from pydicom.uid import ImplicitVRLittleEndian
from pydicom.valuerep import VR

logging.getLogger("pydicom").addHandler(logging.NullHandler())  # without any, Python prints its warnings

_DEFERRED = 1024
"""Bytes of a value from which on it is passed over; tags that we use are shorter."""

_MOST_READS = 4_000_000
_MOST_NESTED = 32
_MOST_INFLATED = 1 << 30
"""Bytes of a deflated file's elements."""

_CHUNK = 1 << 13
"""Bytes that pydicom reads at a time, wherever the file ends."""

UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_FRAGMENTS_END = b"\xfe\xff\xdd\xe0"
_KINDS = frozenset(str(kind) for kind in VR)


def read_elements(file: Path) -> tuple[Dataset, str]:
    """Reads all elements of a DICOM file, the values of long ones left out.

    Returns:
        The elements, and the UID of the transfer syntax; empty if the file does not name it.

    Raises:
        OSError: The file can't be read.
        ValueError: An element, a nested one too, ends behind the file, is of unknown type, or is nested too deeply.
    """
    with file.open("rb") as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is checked here
        stream = _Bounded(opened)
        try:
            try:
                elements = dcmread(cast(BinaryIO, stream), defer_size=_DEFERRED, force=True)
                _check(elements.file_meta, stream, "", 0)
                syntax = str(elements.file_meta.get("TransferSyntaxUID", ""))
            except _DeflatedError:
                stream, syntax = _Bounded(_inflate(opened)), "1.2.840.10008.1.2.1.99"
                elements = read_dataset(cast(BinaryIO, stream), False, True, defer_size=_DEFERRED)
            _check(elements, stream, syntax, 0)
        except RecursionError:
            raise ValueError("elements that are nested too deeply") from None
        except (OSError, ValueError):
            raise
        except Exception as error:  # pydicom has many, such as struct.error, KeyError and NotImplementedError
            raise ValueError(f"no DICOM elements: {error}") from error
    return elements, syntax


def storage_class_of(file: Path) -> str:
    """The UID of what a file says to be in its first elements; empty if they can't be read."""
    try:
        with file.open("rb") as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta = read_partial(cast(BinaryIO, _Bounded(opened)), stop_when=lambda *_: True, force=True).file_meta
            return str(meta.get("MediaStorageSOPClassUID", ""))
    except Exception:  # noqa: BLE001 - pydicom has many, see above
        return ""


class _DeflatedError(Exception):
    """All that follows is deflated."""


class _Bounded:
    """A stream in which nothing is read, or passed over, beyond its end.

    It is not mapped into memory: a file that is cut short meanwhile would end the process.
    """

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._size = stream.seek(0, os.SEEK_END)
        self._reads = 0
        stream.seek(0)
        self.tell = stream.tell

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:  # pydicom does so for deflated elements alone
            raise _DeflatedError
        self._reads += 1
        if self._reads > _MOST_READS:
            raise ValueError("too many elements")
        if size > _CHUNK:
            self._check(self._stream.tell(), size)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            return self._stream.seek(offset, whence)
        start = self._stream.tell()
        end = offset if whence == os.SEEK_SET else start + offset
        self._check(start, end - start)
        return self._stream.seek(end)

    def _check(self, start: int, size: int) -> None:
        if size > self._size - start:
            raise ValueError(f"an element of {size} bytes, but only {self._size - start} are left")


def _inflate(stream: io.BufferedIOBase) -> io.BytesIO:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        elements = inflater.decompress(stream.read(), _MOST_INFLATED)
    except zlib.error as error:
        raise ValueError(f"damaged deflated elements: {error}") from error
    if not inflater.eof:
        raise ValueError(f"deflated elements that are cut short, or more than {_MOST_INFLATED} bytes")
    return io.BytesIO(elements)


def _check(elements: Dataset, stream: _Bounded, syntax: str, depth: int) -> None:
    if depth > _MOST_NESTED:
        raise RecursionError
    for element in elements.values():
        is_implicit = isinstance(element, RawDataElement) and element.is_implicit_VR and element.VR is None
        if element.tag and element.VR not in _KINDS and not is_implicit:
            raise ValueError(f"element {element.tag} of the type {element.VR}")
        if isinstance(element, DataElement):  # a sequence of undefined length, or one that pydicom has used itself
            items = element.value if element.VR == "SQ" else []
        else:
            _check_element(element, syntax, depth)
            if element.length == UNDEFINED_LENGTH:
                _check_fragments(element, stream)
            items = _items_of(element, stream)
        for item in items:
            _check(item, stream, syntax, depth + 1)


def _check_element(element: RawDataElement, syntax: str, depth: int) -> None:
    if element.length != UNDEFINED_LENGTH and element.value is not None and len(element.value) < element.length:
        raise ValueError(f"element {element.tag} of {element.length} bytes, but only {len(element.value)} are left")
    if syntax and not depth and element.tag.group > 2 and element.is_implicit_VR != (syntax == ImplicitVRLittleEndian):
        raise ValueError(f"element {element.tag} is not as the transfer syntax {syntax} says")


def _check_fragments(element: RawDataElement, stream: _Bounded) -> None:
    """Compressed pixels are items; pydicom looks for the end of what is not an item, and GDCM takes seconds for it."""
    stream.seek(element.value_tell)
    while (header := stream.read(8))[:4] == _ITEM[0]:
        stream.seek(int.from_bytes(header[4:], "little"), os.SEEK_CUR)
    if header[:4] != _FRAGMENTS_END:
        raise ValueError(f"element {element.tag} of undefined length is not a list of items")


def _items_of(element: RawDataElement, stream: _Bounded) -> list[Dataset]:
    """The items of a sequence of defined length, which pydicom leaves unread."""
    if element.length in (0, UNDEFINED_LENGTH) or element.VR not in (None, "SQ", "UN"):
        return []
    stream.seek(element.value_tell)
    start = stream.read(4)
    stream.seek(element.value_tell)
    if start not in _ITEM:
        return []
    implicit = element.is_implicit_VR or element.VR == "UN"
    return list(read_sequence(cast(BinaryIO, stream), implicit, element.is_little_endian, element.length, "iso8859"))
