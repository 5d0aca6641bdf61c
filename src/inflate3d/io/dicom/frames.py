"""The frames of enhanced multi-frame objects: each with a header and values of its own, like a file of a series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from pydicom import Dataset, dcmread

from inflate3d.errors import DataError
from inflate3d.io.damage import unreadable
from inflate3d.io.dicom.header import ImageHeader
from inflate3d.io.dicom.value_mapping import mapping_in_words, unread_mapping

_GROUPS = {
    "position": ("PlanePositionSequence", "ImagePositionPatient"),
    "orientation": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    "pixel spacing": ("PixelMeasuresSequence", "PixelSpacing"),
    "intercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "slope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "stack": ("FrameContentSequence", "StackID"),
    "temporal position": ("FrameContentSequence", "TemporalPositionIndex"),
    "acquisition number": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "echo time": ("MREchoSequence", "EffectiveEchoTime"),
    "trigger time": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "b-value": ("MRDiffusionSequence", "DiffusionBValue"),
    "slice step": ("PixelMeasuresSequence", "SpacingBetweenSlices"),
    "slice thickness": ("PixelMeasuresSequence", "SliceThickness"),
    "segment": ("SegmentIdentificationSequence", "ReferencedSegmentNumber"),
}
"""Name of a tag, as in the module of headers, to the functional group that has it, and its keyword there."""

_FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
)

_LARGEST_WHOLE = 2**31


def expand_frames(headers: Sequence[ImageHeader]) -> list[ImageHeader]:
    """A header for each frame of multi-frame files; those of single images are passed through.

    Frames keep the order of the file, which says nothing about their places.

    Raises:
        DataError: The functional groups of a file are damaged.
    """
    return [frame for header in headers for frame in _frames(header)]


def frame_values(headers: Sequence[ImageHeader]) -> Iterator[Shaped[np.ndarray, "rows columns"]]:
    """The values of frames of one file, slope and intercept applied; one frame is decoded at a time.

    Whole numbers stay so where slope and intercept are whole; all else is float32.

    Raises:
        DataError: A frame can't be decoded.
    """
    for header, stored in zip(headers, stored_frames(headers), strict=True):
        dtype, slope, intercept = frame_dtype(header), *_rescale(header)
        if (slope, intercept) == (1.0, 0.0):
            yield stored.astype(dtype)
        elif dtype.kind == "i":
            yield (stored.astype(np.int64) * round(slope) + round(intercept)).astype(dtype)
        else:
            yield (stored * slope + intercept).astype(dtype)


def stored_frames(headers: Sequence[ImageHeader]) -> Iterator[Shaped[np.ndarray, "rows columns"]]:
    """The pixels of frames of one file as they are stored; one frame is decoded at a time.

    Raises:
        DataError: A frame can't be decoded.
    """
    from pydicom.pixels.utils import iter_pixels

    file = headers[0].file
    try:
        if headers[0].number("bits allocated", 16.0) == 1 and not _is_compressed(file):
            yield from _bits(headers)
            return
        yield from iter_pixels(file, indices=[header.frame or 0 for header in headers])
    except (RuntimeError, NotImplementedError) as error:  # no decoder, or it failed
        hint = "if its compression has no decoder here, `pip install python-gdcm` may add one"
        raise unreadable(file, None, expected="frames that can be decoded", got=error, hint=hint) from error
    except Exception as error:  # pydicom and its decoders have many, such as struct.error and AttributeError
        raise unreadable(file, None, expected="a whole multi-frame DICOM image", got=error) from error


def _is_compressed(file: Path) -> bool:
    return dcmread(file, stop_before_pixels=True, force=True).file_meta.TransferSyntaxUID.is_compressed


def _bits(headers: Sequence[ImageHeader]) -> Iterator[UInt8[np.ndarray, "rows columns"]]:
    """The frames of an image of single bits, which follow each other without gaps: one may begin within a byte.

    pydicom 3.0 decodes some of these from a byte too few.
    """
    image = dcmread(headers[0].file, force=True)
    shape = (image.Rows, image.Columns)
    size = shape[0] * shape[1]
    data = np.frombuffer(image.PixelData, np.uint8)
    for header in headers:
        start = (header.frame or 0) * size
        packed = data[start // 8 : -(-(start + size) // 8)]
        bits = np.unpackbits(packed, bitorder="little")[start % 8 :][:size]
        yield bits.reshape(shape)


def frame_dtype(header: ImageHeader) -> np.dtype:
    """The type of a frame's values once they are read."""
    slope, intercept = _rescale(header)
    bits, signed = int(header.number("bits stored", 16.0)), bool(header.number("signed", 0.0))
    if (slope, intercept) == (1.0, 0.0):
        return np.dtype(f"{'i' if signed else 'u'}{int(header.number('bits allocated', 16.0)) // 8}")
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    limits = sorted((lowest * slope + intercept, highest * slope + intercept))
    if slope != round(slope) or intercept != round(intercept) or max(map(abs, limits)) >= _LARGEST_WHOLE:
        return np.dtype(np.float32)
    return np.dtype(np.int16) if limits[0] >= -(2**15) and limits[1] < 2**15 else np.dtype(np.int32)


def _rescale(header: ImageHeader) -> tuple[float, float]:
    return header.number("slope", 1.0), header.number("intercept", 0.0)


def _frames(header: ImageHeader) -> Iterator[ImageHeader]:
    if not header.text("functional groups"):
        yield header
        return
    count = int(header.number("frames", 1.0))
    elements = _functional_groups(header.file)
    shared, own = elements.get("SharedFunctionalGroupsSequence"), elements["PerFrameFunctionalGroupsSequence"].value
    if len(own) != count:
        raise unreadable(
            header.file, None, expected=f"the functional groups of {count} frames", got=f"those of {len(own)}"
        )
    plain = {name: text for name, text in header.tags.items() if name not in ("frames", "functional groups")}
    try:
        common = {**_mapping(elements), **(_tags(shared[0]) if shared else {})}
        for index, group in enumerate(own):
            tags = {**plain, **common, **_tags(group)}
            if "mapping" in tags and "slope" not in tags:
                raise unread_mapping(tags["mapping"], header.file)
            yield replace(header, tags=tags, frame=index)
    except DataError:
        raise
    except (ValueError, TypeError, AttributeError) as error:  # a value that should be a number may be anything
        raise unreadable(header.file, None, expected="functional groups of frames", got=error) from error


def _functional_groups(file: Path) -> Dataset:
    """Reads the elements before the pixels; their lengths and nesting were checked when the header was read."""
    try:
        elements = dcmread(file, stop_before_pixels=True, force=True)
        _ = elements["PerFrameFunctionalGroupsSequence"].value  # decoded here, where errors are expected
    except Exception as error:  # pydicom has many, see `read_elements`
        raise unreadable(file, None, expected="the functional groups of frames", got=error) from error
    return elements


def _tags(group: Dataset) -> dict[str, str]:
    """The texts of one item of functional groups."""
    found = {name: _value(group, sequence, keyword) for name, (sequence, keyword) in _GROUPS.items()}
    for sequence in _FRAME_TYPES:
        found["image type"] = found.get("image type") or _value(group, sequence, "FrameType")
    diffusion = _first(group, "MRDiffusionSequence")
    if diffusion is not None:
        found["gradient direction"] = _value(
            diffusion, "DiffusionGradientDirectionSequence", "DiffusionGradientOrientation"
        )
    return {**_mapping(group), **{name: text for name, text in found.items() if text}}


def _mapping(elements: Dataset) -> dict[str, str]:
    found = mapping_in_words(elements)
    return {"mapping": found} if found else {}


def _value(group: Dataset, sequence: str, keyword: str) -> str:
    item = _first(group, sequence)
    return "" if item is None else _text(item.get(keyword))


def _first(group: Dataset, sequence: str) -> Dataset | None:
    items = group.get(sequence)
    return items[0] if items else None


def _text(value: Any) -> str:
    """A value as the headers of single images have it: several parted by backslashes."""
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        return value.strip()
    return "\\".join(map(_text, value)) if hasattr(value, "__iter__") else f"{float(value):.17g}"
