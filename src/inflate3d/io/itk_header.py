"""The text headers of NRRD and MetaImage files, read for what ITK doesn't tell or would not survive."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inflate3d.errors import DataError
from inflate3d.io.damage import check_claim, unreadable

_LONGEST_HEADER = 1 << 20
_WHOLE = "a whole NRRD or MetaImage file"

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

_NRRD_ENCODINGS: dict[str, Literal["raw", "deflate"]] = {"raw": "raw", "gz": "deflate", "gzip": "deflate"}


@dataclass(frozen=True)
class TextHeader:
    """What the header of an NRRD or MetaImage file says.

    Attributes:
        path: The file that holds it.
        is_nrrd: NRRD, or else MetaImage.
        fields: Name of a field, in lower case, to its text.
        end: Bytes before the voxels, where they lie in the same file.
    """

    path: Path
    is_nrrd: bool
    fields: dict[str, str]
    end: int

    @property
    def data_file(self) -> Path | None:
        """The file that holds the voxels; nothing if they are spread over several."""
        if self.is_nrrd:
            name = self.fields.get("data file") or self.fields.get("datafile")
        else:
            name = self.fields["elementdatafile"]
        if name is None or name.upper() == "LOCAL":
            return self.path
        is_spread = name.upper().startswith("LIST") or "%" in name
        return None if is_spread else self.path.parent / name

    @property
    def encoding(self) -> Literal["raw", "deflate", "other"]:
        """How the voxels are stored: as they are, compressed by gzip or zlib, or otherwise, such as in text."""
        if self.is_nrrd:
            return _NRRD_ENCODINGS.get(self.fields["encoding"].lower(), "other")
        if self._is_true("compresseddata"):
            return "deflate"
        return "raw" if self._is_true("binarydata", default="true") else "other"

    @property
    def claimed_bytes(self) -> int:
        """Bytes of all voxels, uncompressed; 0 if the type is unknown, which ITK will refuse.

        Raises:
            ValueError: A size is no number from 1 on.
        """
        sizes = self.fields["sizes" if self.is_nrrd else "dimsize"]
        if self.is_nrrd:
            size = _NRRD_BYTES.get(self.fields["type"].lower(), 0)
        else:
            kind = self.fields["elementtype"].upper().removesuffix("_ARRAY")
            size = _META_BYTES.get(kind, 0) * int(self.fields.get("elementnumberofchannels", "1"))
        counts = [int(text) for text in sizes.split()]
        if min(counts, default=0) < 1:
            raise ValueError(f"sizes {sizes}")
        return size * math.prod(counts)

    def _is_true(self, field: str, default: str = "false") -> bool:
        return self.fields.get(field, default).lower() in ("true", "1")


def read_header(path: Path, case: str | None) -> TextHeader:
    """Reads a header, and checks that the files hold what it claims.

    Raises:
        DataError: A file is missing or cut short, or is neither NRRD nor MetaImage.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_LONGEST_HEADER)
    except FileNotFoundError as error:
        raise DataError("the file is missing", remedy="check the path", case=case, file=path) from error
    except OSError as error:
        raise unreadable(path, case, expected=_WHOLE, got=error.strerror) from error
    header = _parse_nrrd(path, start) if path.suffix.lower() in (".nrrd", ".nhdr") else _parse_meta(path, start)
    needed = ("type", "sizes", "encoding") if header.is_nrrd else ("dimsize", "elementtype", "elementdatafile")
    if missing := [name for name in needed if name not in header.fields]:
        raise unreadable(path, case, expected=_WHOLE, got=f"no {missing[0]!r} in its header")
    _check_data(header, case)
    return header


def _parse_nrrd(path: Path, start: bytes) -> TextHeader:
    fields: dict[str, str] = {}
    end = 0
    if start.startswith(b"NRRD"):
        for line in start.splitlines(keepends=True):
            end += len(line)
            name, colon, text = line.decode("latin-1").partition(":")
            if not line.strip():
                break
            if colon and not name.startswith("#") and not text.startswith("="):
                fields[name.strip().lower()] = text.strip()
    return TextHeader(path, True, fields, end)


def _parse_meta(path: Path, start: bytes) -> TextHeader:
    fields: dict[str, str] = {}
    end = 0
    for line in start.split(b"\n"):
        end += len(line) + 1
        name, equals, text = line.decode("latin-1").partition("=")
        if equals:
            fields[name.strip().lower()] = text.strip()
        if not equals or "elementdatafile" in fields:
            break
    return TextHeader(path, False, fields, end)


def _check_data(header: TextHeader, case: str | None) -> None:
    data = header.data_file
    if data is None:
        return
    try:
        held = data.stat().st_size - (header.end if data == header.path else 0)
        claimed = header.claimed_bytes
    except FileNotFoundError as error:
        raise DataError(
            "the file with the voxels is missing",
            expected=f"{data.name}, which the header of {header.path.name} names",
            remedy="copy the header and its data file together, and don't rename them",
            case=case,
            file=data,
        ) from error
    except (OSError, ValueError) as error:
        raise unreadable(header.path, case, expected=_WHOLE, got=error) from error
    if header.encoding != "other":
        check_claim(claimed, held, deflated=header.encoding == "deflate", path=header.path, case=case)
    if header.encoding == "deflate" and not header.is_nrrd:
        _check_zlib(data, header, case)


def _check_zlib(data: Path, header: TextHeader, case: str | None) -> None:
    """Unpacks the voxels of a MetaImage once: MetaIO gives noise, and no error, for a damaged stream."""
    unpacked = 0
    stream = zlib.decompressobj(wbits=47)  # zlib or gzip, as the stream says
    try:
        with data.open("rb") as file:
            file.seek(header.end if data == header.path else 0)
            while not stream.eof and (packed := file.read(1 << 16)):
                unpacked += len(stream.decompress(packed))
    except (OSError, zlib.error) as error:
        raise unreadable(header.path, case, expected=_WHOLE, got=error) from error
    if not stream.eof or unpacked != header.claimed_bytes:
        raise unreadable(
            header.path, case, expected=f"{header.claimed_bytes} bytes of voxels", got=f"{unpacked} bytes unpacked"
        )
