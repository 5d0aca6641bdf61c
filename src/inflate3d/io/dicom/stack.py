"""From the images of a DICOM series to one regular stack of slices, or a clear error that explains why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

import numpy as np
from jaxtyping import Float

from inflate3d.errors import DataError
from inflate3d.io.dicom.header import ImageHeader
from inflate3d.io.dicom.volumes import DISTINGUISHING
from inflate3d.io.grid import affine_from_lps

_MOSAIC = "MOSAIC"
"""Among the image types of an image that holds all slices of a volume as tiles."""

_ALIKE = (("rows", 1, 0.0), ("columns", 1, 0.0), ("pixel spacing", 2, 1e-4), ("orientation", 6, 1e-4))
"""What all slices have in common: tag, how many numbers, and the difference that rounding explains."""

_SAME_POSITION = 0.01
"""Distance, in slice spacings, below which two slices lie at one position."""

_GAP = 1.5
"""Step, in slice spacings, above which a slice is missing."""

_UNEVEN = 0.1
"""Distance, in voxels, of a slice from its place in a regular stack that is still taken."""

_OTHER_DIRECTION = 0.1
"""Difference in a direction cosine from which on images are views of their own, not slices that were rounded."""

_LEAST_TILT = 0.05
"""Angle in degrees from which on a gantry counts as tilted; positions are rounded."""

_BITS_WITH_UNUSED = 16
"""Of a pixel of which GDCM reads the lower ones alone."""


@dataclass(frozen=True)
class Stack:
    """Slices in the order of their positions, on one grid.

    Attributes:
        slices: Their headers, ascending along the normal.
        affine: ``(4, 4)``, from (column, row, slice) to RAS+ millimeters.
        notes: What was odd but could be used.
    """

    slices: tuple[ImageHeader, ...]
    affine: Float[np.ndarray, "4 4"]
    notes: tuple[str, ...]


def stack_slices(headers: Sequence[ImageHeader]) -> Stack:
    """Sorts slices by position, and finds the grid that they lie on.

    The step from slice to slice is the way from the first to the last over their number less one, so that a
    tilted gantry gives a sheared grid.

    Raises:
        DataError: The images are not slices of one regular volume; the message says where.
    """
    _check_plain(headers)
    if len(headers) < 2:
        raise DataError("the series has a single slice, which is not a volume", expected="2 slices or more")
    _check_rescaled(headers)
    for name, count, tolerance in _ALIKE:
        _check_alike(headers, name, count, tolerance)
    along_row, along_column, normal = _directions(headers[0])
    placed = sorted(
        ((float(header.numbers("position", 3) @ normal), header) for header in headers), key=lambda at: at[0]
    )
    heights = [height for height, _ in placed]
    slices = tuple(header for _, header in placed)
    _check_heights(heights, slices)
    positions = np.array([header.numbers("position", 3) for header in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    row_spacing, column_spacing = headers[0].numbers("pixel spacing", 2)  # between rows, between columns
    axes = np.stack([along_row * column_spacing, along_column * row_spacing, step], axis=1)
    _check_regular(positions, axes, slices)
    return Stack(slices, affine_from_lps(axes, positions[0]), _tilt_note(step, normal))


def why_no_volume(headers: Sequence[ImageHeader]) -> str:
    """Why images are not those of a volume, whatever else is wrong with them; empty if they may be.

    A study holds such series beside its scans: localizers, single images, screenshots. A volume that lacks slices
    is none of them.
    """
    if any("LOCALIZER" in header.text("image type").upper() for header in headers):
        return "its images are a localizer's"
    if not all(header.text("photometric").startswith("MONOCHROME") for header in headers):
        return "its images are color pictures"
    if any(map(_is_mosaic, headers)):
        return "its images are mosaics"
    if any(header.text("functional groups") or header.number("frames", 1.0) > 1 for header in headers):
        return ""
    if len(headers) < 2:
        return "it has a single image"
    if not any(header.text("orientation") for header in headers):
        return "its images have no place in space"
    try:
        _check_alike(headers, "orientation", 6, _OTHER_DIRECTION)
    except DataError:
        return "its images lie in several directions"
    return ""


def check_no_mosaics(headers: Sequence[ImageHeader]) -> None:
    """Refuses images that hold all slices of a volume as tiles, as some scanners export time series and diffusion."""
    for header in headers:
        if _is_mosaic(header):
            raise DataError(
                "a DICOM image is a mosaic: its tiles are the slices of a volume, which is not supported",
                expected="an image for each slice",
                got=f"image type {header.text('image type')}",
                hint="convert the series to NIfTI by dcm2niix, or export it as enhanced MR",
                file=header.file,
            )


def _is_mosaic(header: ImageHeader) -> bool:
    """Enhanced objects keep the word though their frames are slices."""
    return header.frame is None and not header.text("functional groups") and _MOSAIC in header.text("image type")


def _check_plain(headers: Sequence[ImageHeader]) -> None:
    for header in headers:
        if header.number("frames", 1.0) > 1:
            raise DataError(
                "a DICOM file holds several frames, and does not say where each of them lies",
                expected="one slice per file, or an enhanced object with a position for each frame",
                got=f"{header.text('frames')} frames",
                hint="export the series as classic or enhanced CT, MR or PET images",
                file=header.file,
            )
        if header.number("samples", 1.0) > 1 or not header.text("photometric").startswith("MONOCHROME"):
            raise DataError(
                "the voxels are not single real numbers",
                expected="a gray image",
                got=f"colors ({header.text('photometric') or 'no photometric interpretation'})",
                hint="choose another series of the study; this one holds pictures for viewing only",
                file=header.file,
            )
        _check_bits(header)
        header.number("intercept", 0.0)
        if header.number("slope", 1.0) == 0:  # which GDCM passes over
            raise DataError(
                "an image's slope is 0, so its values are unknown",
                expected="a number other than 0 in (0028,1053)",
                got=header.text("slope"),
                hint="export the series again",
                file=header.file,
            )


def _check_bits(header: ImageHeader) -> None:
    """Refuses pixels that GDCM reads wrong: of 32 bits with 16 or fewer stored it makes zeros, high bits it drops."""
    allocated = header.number("bits allocated", 16.0)
    stored = header.number("bits stored", allocated)
    highest = header.number("high bit", stored - 1)
    if highest != stored - 1 or (allocated != _BITS_WITH_UNUSED and stored != allocated):
        raise DataError(
            "an image uses an unsupported bit layout for its pixels",
            expected="the lowest of 16 bits, or all bits",
            got=f"{stored:g} of {allocated:g} bits, the highest is number {highest:g}",
            hint="convert the series to NIfTI, with dcm2niix for example",
            file=header.file,
        )


def _check_rescaled(headers: Sequence[ImageHeader]) -> None:
    """Refuses slices without slope or intercept among others that have them: their values are in other units."""
    for name in ("slope", "intercept"):
        lacking = [header for header in headers if not header.text(name)]
        if 0 < len(lacking) < len(headers):
            raise DataError(
                f"some slices of the series have no {name}",
                expected="a rescale slope and intercept in all slices, or in none",
                got=f"{len(lacking)} of {len(headers)} slices have none",
                hint="export the series again; anonymization may have removed them",
                file=lacking[0].file,
            )


def _check_alike(headers: Sequence[ImageHeader], name: str, count: int, tolerance: float) -> None:
    first = headers[0].numbers(name, count)
    for header in headers[1:]:
        if np.abs(header.numbers(name, count) - first).max() > tolerance:
            raise DataError(
                f"the slices of the series differ in {name}",
                expected=f"{headers[0].text(name)}, as in {headers[0].name}",
                got=header.text(name),
                hint="move the slices that don't belong to the volume into a separate folder",
                file=header.file,
            )


def _directions(header: ImageHeader) -> Float[np.ndarray, "3 3"]:
    """Unit vectors along a row, along a column and along the stack, one a row, in LPS+."""
    cosines = header.numbers("orientation", 6).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if (
        abs(lengths - 1).max() > 0.01
        or abs(cosines[0] @ cosines[1]) > 0.01
        or header.numbers("pixel spacing", 2).min() <= 0
    ):
        raise DataError(
            "an image's orientation or pixel spacing is impossible",
            expected="two unit vectors at right angles, and spacings above 0",
            got=f"orientation {header.text('orientation')}, pixel spacing {header.text('pixel spacing')}",
            hint="export the series again",
            file=header.file,
        )
    cosines = cosines / lengths[:, np.newaxis]
    normal = np.cross(*cosines)
    return np.stack([*cosines, normal / np.linalg.norm(normal)])


def _check_heights(heights: Sequence[float], slices: Sequence[ImageHeader]) -> None:
    """Refuses positions that are taken twice, and positions that nothing takes."""
    steps = [upper - lower for lower, upper in pairwise(heights)]
    spacing = median_low([step for step in steps if step > 1e-3] or [1.0])
    _check_single(heights, slices, spacing)
    gaps = [
        f"{round(step / spacing) - 1} between {heights[index]:g} mm ({slices[index].name}) "
        f"and {heights[index + 1]:g} mm ({slices[index + 1].name})"
        for index, step in enumerate(steps)
        if step > _GAP * spacing
    ]
    if gaps:
        raise DataError(
            "slices of the series are missing",
            expected=f"a slice every {spacing:g} mm along the normal",
            got="missing " + _listed(gaps),
            hint="fetch the whole series again; if its spacing is meant to be uneven, export it with even spacing",
        )


def _check_single(heights: Sequence[float], slices: Sequence[ImageHeader], spacing: float) -> None:
    crowds: list[list[int]] = [[0]]
    for index in range(1, len(heights)):
        if heights[index] - heights[index - 1] < _SAME_POSITION * spacing:
            crowds[-1].append(index)
        else:
            crowds.append([index])
    shared = [crowd for crowd in crowds if len(crowd) > 1]
    if not shared:
        return
    together = [slices[index] for index in shared[0]]
    differing = [
        f"{name} ({', '.join(sorted({header.text(name) or 'none' for header in together}))})"
        for name in DISTINGUISHING
        if len({header.text(name) for header in together}) > 1
    ]
    are_copies = len({header.text("instance") for header in together}) == 1
    places = [f"{heights[crowd[0]]:g} mm ({', '.join(slices[index].name for index in crowd[:5])})" for crowd in shared]
    raise DataError(
        "several images of the series are at the same position",
        expected="one image at each position: a single volume",
        got=f"{len(shared)} of {len(crowds)} positions have more: {_listed(places)}"
        + (f"; they differ in {_listed(differing)}" if differing else ""),
        hint="remove the copies" if are_copies else "split the series into one folder for each volume, and name one",
    )


def _check_regular(
    positions: Float[np.ndarray, "n 3"], axes: Float[np.ndarray, "3 3"], slices: Sequence[ImageHeader]
) -> None:
    ideal = positions[0] + np.arange(len(positions))[:, np.newaxis] * axes[:, 2]
    apart = np.abs(np.linalg.solve(axes, (positions - ideal).T)).max(axis=0)  # in voxels
    worst = int(apart.argmax())
    if apart[worst] > _UNEVEN:
        raise DataError(
            "the slices of the series are unevenly spaced",
            expected=f"every slice within {_UNEVEN} voxels of its place in a regular stack",
            got=f"{slices[worst].name} is {apart[worst]:.2g} voxels away from it",
            hint="resample the series to even spacing, or split it where its spacing changes",
            file=slices[worst].file,
        )


def _tilt_note(step: Float[np.ndarray, "3"], normal: Float[np.ndarray, "3"]) -> tuple[str, ...]:
    angle = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
    if angle < _LEAST_TILT:
        return ()
    return (f"the gantry was tilted by {angle:.1f} degrees, so the grid is sheared",)


def _listed(parts: Sequence[str], most: int = 5) -> str:
    return "; ".join(parts[:most]) + (f"; and {len(parts) - most} more" if len(parts) > most else "")
