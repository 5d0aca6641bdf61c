"""Mutations of binary and text headers: NIfTI, NRRD, MetaImage, DICOM, safetensors."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import nibabel

from fuzzing import documents, raw
from fuzzing.numbers import integer, real, text

_META_FIELDS = (
    "NDims", "DimSize", "ElementType", "ElementDataFile", "ElementNumberOfChannels", "HeaderSize", "BinaryData",
    "CompressedData", "CompressedDataSize", "TransformMatrix", "Offset", "ElementSpacing", "Comment",
)  # fmt: skip
_NRRD_FIELDS = (
    "dimension", "sizes", "type", "encoding", "data file", "byte skip", "line skip", "space", "space directions",
    "space origin", "kinds", "endian", "space dimension", "measurement frame", "block size", "content", "spacings",
)  # fmt: skip
_VALUE_LENGTHS = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"UC", b"UR")


def mutate_nifti(rng: random.Random, data: bytes) -> bytes:
    """Exchanges values of fields, most often of those that say how large the image is and where it lies."""
    second = data[:4] == struct.pack("<i", 540)
    dtype = (nibabel.Nifti2Header if second else nibabel.Nifti1Header).template_dtype
    fields: Any = dtype.fields
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        telling = ("dim", "dim", "datatype", "bitpix", "vox_offset", "sform_code", "srow_x", "pixdim", "scl_slope")
        name = rng.choice((*telling, *(dtype.names or ())))
        kind, offset = fields[name][:2]
        base = kind.base
        items = max(1, kind.itemsize // base.itemsize)
        place = offset + base.itemsize * rng.randrange(items)
        changed[place : place + base.itemsize] = _packed(rng, base.kind, base.itemsize)
    return bytes(changed)


def _packed(rng: random.Random, kind: str, size: int) -> bytes:
    if kind == "f":
        number = real(rng)
        if size == 4 and abs(number) > 3e38:
            number = float("inf")
        return struct.pack("<f" if size == 4 else "<d", number)
    if kind in "iu":
        return (integer(rng) % (1 << (8 * size))).to_bytes(size, "little")
    return rng.randbytes(size)


def mutate_text_header(rng: random.Random, data: bytes) -> bytes:
    """Exchanges, adds, repeats and removes lines of an NRRD's or a MetaImage's header."""
    is_nrrd = data.startswith(b"NRRD")
    separator = b": " if is_nrrd else b" = "
    end = data.find(b"\n\n") if is_nrrd else data.find(b"\n", max(0, data.find(b"ElementDataFile")))
    end = len(data) if end < 0 else end
    lines = data[:end].split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(lines))
        value = text(rng).encode("utf-8", "surrogatepass")
        chosen = rng.random()
        if chosen < 0.5 and separator in lines[place]:
            lines[place] = lines[place].split(separator)[0] + separator + value
        elif chosen < 0.6:
            words = lines[place].split(b" ")
            words[rng.randrange(len(words))] = value
            lines[place] = b" ".join(words)
        elif chosen < 0.75:
            field = rng.choice(_NRRD_FIELDS if is_nrrd else _META_FIELDS).encode()
            lines.insert(rng.randrange(len(lines)), field + rng.choice((separator, b":", b"=")) + value)
        elif chosen < 0.85:
            lines.insert(rng.randrange(len(lines)), lines[place])
        elif chosen < 0.95 and len(lines) > 1:
            del lines[place]
        else:
            lines[place] = raw.mutate(rng, lines[place])
    return b"\n".join(lines) + data[end:]


def mutate_dicom(rng: random.Random, data: bytes) -> bytes:
    """Exchanges the value, the length, the tag or the type of an element (explicit, little endian)."""
    elements = _elements(data)
    if not elements:
        return raw.mutate(rng, data)
    changed = data
    for _ in range(rng.choice((1, 1, 2, 3))):
        start, header, length = rng.choice(elements)
        chosen = rng.random()
        if chosen < 0.45:
            value = _dicom_value(rng, changed[start + 4 : start + 6], length)
            fixed = changed[start : start + header - (4 if header == 12 else 2)]
            size = len(value).to_bytes(4 if header == 12 else 2, "little")
            changed = changed[:start] + fixed + size + value + changed[start + header + length :]
            elements = _elements(changed) or elements
        elif chosen < 0.65:
            width = 4 if header == 12 else 2
            claimed = (integer(rng) % (1 << (8 * width))).to_bytes(width, "little")
            changed = changed[: start + header - width] + claimed + changed[start + header :]
        elif chosen < 0.75:
            changed = changed[:start] + rng.randbytes(4) + changed[start + 4 :]
        elif chosen < 0.85:
            kind = rng.choice((b"OB", b"OW", b"SQ", b"UN", b"US", b"UI", b"DS", b"IS", b"FD", b"AT", b"ZZ"))
            changed = changed[: start + 4] + kind + changed[start + 6 :]
        elif chosen < 0.92:
            changed = changed[:start] + changed[start + header + length :]
            elements = _elements(changed) or elements
        else:
            changed = changed[:start] + changed[start : start + header + length] + changed[start:]
    return changed


def _dicom_value(rng: random.Random, kind: bytes, length: int) -> bytes:
    if kind == b"US":
        value = (integer(rng) % 65536).to_bytes(2, "little")
    elif kind in _VALUE_LENGTHS:
        value = rng.randbytes(min(length, 4096))
    else:
        value = rng.choice((text(rng), "\\".join(text(rng)[:20] for _ in range(rng.choice((2, 3, 6)))))).encode(
            "utf-8", "surrogatepass"
        )[:60_000]
    return value + b"\0" * (len(value) % 2)


def _elements(data: bytes) -> list[tuple[int, int, int]]:
    """Start, bytes of the header and of the value of each element, as far as they can be recognized."""
    found = []
    place = 132
    while place + 8 <= len(data):
        is_long = data[place + 4 : place + 6] in _VALUE_LENGTHS
        header = 12 if is_long else 8
        width = 4 if is_long else 2
        length = int.from_bytes(data[place + header - width : place + header], "little")
        if place + header + length > len(data):
            break
        found.append((place, header, length))
        place += header + length
    return found


def mutate_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Exchanges the length of the header, or parts of the JSON in it: types, shapes, offsets."""
    length = int.from_bytes(data[:8], "little")
    chosen = rng.random()
    if chosen < 0.2:
        return raw.mutate(rng, data)
    if chosen < 0.35:
        return (integer(rng) % 2**64).to_bytes(8, "little") + data[8:]
    header = documents.mutate_json(rng, data[8 : 8 + length])
    if rng.random() < 0.3:
        tensors = json.loads(data[8 : 8 + length])
        tensors[rng.choice([name for name in tensors if name != "__metadata__"])]["dtype"] = rng.choice(_TYPES)
        header = json.dumps(tensors).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


_TYPES = ("F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F4", "I64", "I8", "U8", "U16", "BOOL", "C64", "E8M0", "?")
