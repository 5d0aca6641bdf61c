"""Real World Value Mappings of DICOM images are not read: an image with one instead of a rescale slope is refused."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmread

from inflate3d.errors import DataError
from inflate3d.io.damage import unreadable

_MAPPINGS = "RealWorldValueMappingSequence"


def mapping_in_words(elements: Dataset) -> str:
    """The first mapping of an image or a frame that changes its values; empty if there is none.

    Raises:
        ValueError, TypeError, AttributeError: A value is not what it should be.
    """
    for mapping in elements.get(_MAPPINGS) or ():
        if "RealWorldValueLUTData" in mapping:
            return "a table of values"
        slope = mapping.get("RealWorldValueSlope", 1)
        intercept = mapping.get("RealWorldValueIntercept", 0)
        if (float(slope), float(intercept)) != (1.0, 0.0):
            return f"slope {slope:g}, intercept {intercept:g}"
    return ""


def check_mapping(file: Path) -> None:
    """Refuses an image without a rescale slope whose values are mapped to physical ones, as in some PET and SPECT."""
    try:
        found = mapping_in_words(dcmread(file, specific_tags=[_MAPPINGS], force=True))
    except Exception as error:  # pydicom has many, see `read_elements`
        raise unreadable(file, None, expected="a Real World Value Mapping", got=error) from error
    if found:
        raise unread_mapping(found, file)


def unread_mapping(found: str, file: Path) -> DataError:
    return DataError(
        "an image has a Real World Value Mapping instead of a rescale slope, which is not supported",
        expected="rescale slope and intercept, (0028,1052) and (0028,1053)",
        got=found,
        hint="convert the series to NIfTI with a program that applies the mapping",
        file=file,
    )
