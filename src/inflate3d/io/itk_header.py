"""The text headers of NRRD and MetaImage files, read for what ITK does not report or could not survive."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inflate3d.errors import DataError
from inflate3d.io.damage import check_claim, unreadable
from inflate3d.io.voxel_files import listed_files, named_file, numbered_files

_LONGEST_HEADER = 1 << 20

_LONGEST_FIELD = 800
"""Length limit of a field with its name: ITK's parsers copy what they can't understand into buffers of a fixed size."""

_MOST_AXES = 10
"""Limit of MetaImage."""

_MOST_CHANNELS = 1 << 16

_FIELD_NAME = re.compile(r"[A-Za-z][\w .-]*")

_WHOLE = "a whole NRRD or MetaImage file"

_NEEDED_OF_NRRD = ("type", "dimension", "sizes", "encoding")
_NEEDED_OF_META = ("ndims", "dimsize", "elementtype", "elementdatafile")
_FREE_TEXT = ("content",)

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "uint64", "uint64_t", "double"), 8),
    "float": 4,
}
_META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}

Encoding = Literal["raw", "deflate", "text"]

_NRRD_ENCODINGS: dict[str, Encoding] = {
    **dict.fromkeys(("raw",), "raw"),
    **dict.fromkeys(("gz", "gzip"), "deflate"),
    **dict.fromkeys(("txt", "text", "ascii", "hex"), "text"),
}

_TEXT_RATIO = 8
"""Bytes of voxels per byte of text: a digit of the largest type."""


@dataclass(frozen=True)
class TextHeader:
    """The header of an NRRD or MetaImage file.

    Attributes:
        is_nrrd: Whether it is NRRD; otherwise MetaImage.
        fields: Text of each field by name in lower case.
        end: Bytes before the voxels, if they are in the same file.
        listed: Lines after the header that name data files, if it says so.
    """

    path: Path
    is_nrrd: bool
    fields: dict[str, str]
    end: int
    listed: tuple[str, ...] = ()

    @property
    def data_files(self) -> list[Path]:
        """The files that hold the voxels: the header's own, another, or several."""
        name = self._data_field
        if name is None or name.upper() == "LOCAL":
            return [self.path]
        if _is_list(name):
            return listed_files(self.path, list(self.listed))
        if "%" not in name:
            return [named_file(self.path, name)]
        return numbered_files(self.path, name)

    @property
    def _data_field(self) -> str | None:
        if self.is_nrrd:
            return self.fields.get("data file") or self.fields.get("datafile")
        return self.fields["elementdatafile"]

    @property
    def encoding(self) -> Encoding:
        """How the voxels are stored: as they are, compressed by gzip or zlib, or written as text."""
        if self.is_nrrd:
            name = self.fields["encoding"]
            if name.lower() in ("bz2", "bzip2"):
                raise DataError(
                    "the file is compressed by bzip2, which is not supported",
                    expected="raw or gzip",
                    hint="save it again with gzip compression",
                    file=self.path,
                )
            if name.lower() not in _NRRD_ENCODINGS:
                raise ValueError(f"the encoding {name[:80]!r}")
            return _NRRD_ENCODINGS[name.lower()]
        if self._is_true("compresseddata"):
            return "deflate"
        return "raw" if self._is_true("binarydata", default="true") else "text"

    @property
    def intensity_scale(self) -> tuple[float, float] | None:
        """Slope and offset of MetaImage's voxel values; None if values are stored as they are."""
        if self.is_nrrd:
            return None
        names = (("elementtointensityfunctionslope", "1"), ("elementtointensityfunctionoffset", "0"))
        slope, offset = (float(self.fields.get(name, default)) for name, default in names)
        return None if (slope, offset) == (1, 0) else (slope, offset)

    @property
    def claimed_bytes(self) -> int:
        """Uncompressed bytes of all voxels; 0 if the type is unknown, which ITK will reject."""
        if self.is_nrrd:
            size = _NRRD_BYTES.get(self.fields["type"].lower(), 0)
        else:
            kind = self.fields["elementtype"].upper().removesuffix("_ARRAY")
            channels = int(self.fields.get("elementnumberofchannels", "1"))
            if not 1 <= channels <= _MOST_CHANNELS:
                raise ValueError(f"{channels} values per voxel")
            size = _META_BYTES.get(kind, 0) * channels
        return size * math.prod(self._counts)

    @property
    def slices(self) -> int:
        """Voxels along the last axis."""
        return self._counts[-1]

    @property
    def _counts(self) -> list[int]:
        sizes = self.fields["sizes" if self.is_nrrd else "dimsize"]
        axes = int(self.fields["dimension" if self.is_nrrd else "ndims"])
        counts = [int(text) for text in sizes.split()]
        if min(counts, default=0) < 1 or axes != len(counts) or axes > _MOST_AXES:
            raise ValueError(f"sizes {sizes[:80]} of {axes} axes")
        return counts

    def _is_true(self, field: str, default: str = "false") -> bool:
        return self.fields.get(field, default).lower() in ("true", "1")


def read_header(path: Path, case: str | None) -> TextHeader:
    """Reads a header, and checks that the files are as large as it claims."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_LONGEST_HEADER)
    except FileNotFoundError as error:
        raise DataError("the file is missing", hint="check the path", case=case, file=path) from error
    except OSError as error:
        raise unreadable(path, case, expected=_WHOLE, got=error.strerror) from error
    try:
        header = (_parse_nrrd if path.suffix.lower() in (".nrrd", ".nhdr") else _parse_meta)(path, start)
    except ValueError as error:
        raise unreadable(path, case, expected=_WHOLE, got=error) from error
    needed = _NEEDED_OF_NRRD if header.is_nrrd else _NEEDED_OF_META
    if missing := [name for name in needed if name not in header.fields]:
        raise unreadable(path, case, expected=_WHOLE, got=f"no {missing[0]!r} in its header")
    _check_data(header, case)
    return header


def _parse_nrrd(path: Path, start: bytes) -> TextHeader:
    fields: dict[str, str] = {}
    end = 0
    listed: list[str] = []
    for number, line in enumerate(start.splitlines(keepends=True) if start.startswith(b"NRRD") else ()):
        end += len(line)
        text = line.decode("latin-1").strip("\r\n")
        if not text.strip():
            break
        name, colon, value = text.partition(":")
        if number == 0 or text.startswith("#") or (colon and value.startswith("=")):
            continue  # the magic, a comment, or a custom key
        if _is_list(fields.get("data file") or fields.get("datafile")):
            listed.append(text)
        else:
            _add_field(fields, name if colon else "", value, text)
    return TextHeader(path, True, fields, end, tuple(listed))


def _parse_meta(path: Path, start: bytes) -> TextHeader:
    fields: dict[str, str] = {}
    end = 0
    for line in start.split(b"\n"):
        end += len(line) + 1
        text = line.decode("latin-1").strip("\r")
        name, equals, value = text.partition("=")
        if equals or text.strip():
            _add_field(fields, name if equals else "", value, text)
        if "elementdatafile" in fields:
            break
    names = start[end:].decode("latin-1").split("\n") if _is_list(fields.get("elementdatafile")) else []
    return TextHeader(path, False, fields, end, tuple(name.strip() for name in names if name.strip()))


def _add_field(fields: dict[str, str], name: str, value: str, line: str) -> None:
    """Adds a field that ITK will interpret as we do."""
    name = name.strip().lower()
    if not _FIELD_NAME.fullmatch(name) or (len(line) > _LONGEST_FIELD and name not in _FREE_TEXT):
        raise ValueError(f"a header line {line[:80]!r}")
    if name in fields:
        raise ValueError(f"the field {name!r} twice")
    fields[name] = value.strip()


def _is_list(name: str | None) -> bool:
    return name is not None and name.upper().split()[:1] == ["LIST"]


def _check_data(header: TextHeader, case: str | None) -> None:
    try:
        files, encoding, claimed = header.data_files, header.encoding, header.claimed_bytes
        _check_scale(header)
        if not header.is_nrrd and len(files) not in (1, header.slices):
            raise ValueError(f"{len(files)} data files for {header.slices} slices")
        held = sum(_size_of(file, header, case) for file in files)
    except DataError as error:
        raise error.with_context(case=case) from error
    except (OSError, ValueError) as error:
        raise unreadable(header.path, case, expected=_WHOLE, got=error) from error
    if encoding == "text":
        held *= _TEXT_RATIO
    check_claim(claimed, held, deflated=encoding == "deflate", path=header.path, case=case)
    if encoding == "deflate" and not header.is_nrrd and len(files) == 1:
        _check_zlib(files[0], header, case)


def _check_scale(header: TextHeader) -> None:
    """Rejects a slope with which all voxels would have one value, or none."""
    slope, offset = header.intensity_scale or (1.0, 0.0)
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(offset):
        raise DataError(
            "the header's slope is 0, or slope or offset are not finite, so the values are unknown",
            expected="finite numbers, and a slope other than 0",
            got=f"ElementToIntensityFunctionSlope = {slope:g}, ElementToIntensityFunctionOffset = {offset:g}",
            hint="correct the header, or export the scan again",
            file=header.path,
        )


def _size_of(file: Path, header: TextHeader, case: str | None) -> int:
    """Bytes that a file has for voxels."""
    if not file.exists():
        raise DataError(
            "the file with the voxels is missing",
            expected=f"{file.name}, which the header of {header.path.name} names",
            hint="copy the header and its data file together, and don't rename them",
            case=case,
            file=file,
        )
    if not file.is_file():
        raise ValueError(f"{file.name}, which is not a file")
    return max(0, file.stat().st_size - (header.end if file == header.path else 0))


def _check_zlib(data: Path, header: TextHeader, case: str | None) -> None:
    """Decompresses the voxels of a MetaImage once: MetaIO returns noise, and no error, for a damaged stream."""
    unpacked, claimed = 0, header.claimed_bytes
    stream = zlib.decompressobj(wbits=47)  # zlib or gzip, as the stream says
    try:
        with data.open("rb") as file:
            file.seek(header.end if data == header.path else 0)
            while not stream.eof and unpacked <= claimed and (packed := file.read(1 << 16)):
                unpacked += len(stream.decompress(packed))
    except (OSError, zlib.error) as error:
        raise unreadable(header.path, case, expected=_WHOLE, got=error) from error
    if not stream.eof or unpacked != claimed:
        got = f"{unpacked} bytes unpacked" if unpacked <= claimed else "more"
        raise unreadable(header.path, case, expected=f"{claimed} bytes of voxels", got=got)
