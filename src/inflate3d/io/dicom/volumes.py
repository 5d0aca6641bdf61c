"""The volumes of one DICOM series: time points, echoes, b-values or stacks that share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from inflate3d.errors import DataError, truncate
from inflate3d.io.dicom.header import ImageHeader

DISTINGUISHING = (
    "echo time",
    "temporal position",
    "trigger time",
    "b-value",
    "gradient direction",
    "acquisition number",
    "acquisition time",
    "image type",
)
"""Tags in which the images of several volumes in one series differ."""

_MOST_SHOWN = 20


@dataclass(frozen=True)
class SeriesVolume:
    """Images of a series that have one each at a position.

    Attributes:
        name: What distinguishes it from the others, such as ``echo time 4.6``; empty if there are no others.
        images: Their headers.
    """

    name: str
    images: tuple[ImageHeader, ...]


def split_volumes(headers: Sequence[ImageHeader]) -> list[SeriesVolume]:
    """Splits the images of a series into volumes, sorted by what distinguishes them.

    Images that no tag distinguishes stay together.
    """
    stacks = _grouped(headers, ("stack",))
    return [
        SeriesVolume(_joined(f"stack {stack[0]}" if len(stacks) > 1 else "", part.name), part.images)
        for stack, images in stacks.items()
        for part in _split_stack(images)
    ]


def choose_volume(headers: Sequence[ImageHeader], number: int | None) -> list[ImageHeader]:
    """The images of one volume of a series.

    Args:
        headers: All images of the series.
        number: Which volume, from 1 on; None if there has to be one only.

    Raises:
        DataError: There are several and none is chosen, or fewer than the number.
    """
    volumes = split_volumes(headers)
    if number is None and len(volumes) == 1:
        return list(volumes[0].images)
    if number is not None and 1 <= number <= len(volumes):
        return list(volumes[number - 1].images)
    listed = [f"{index}: {each.name or 'all'} ({len(each.images)} slices)" for index, each in enumerate(volumes, 1)]
    raise DataError(
        "the DICOM series holds several volumes" if number is None else "the DICOM series has no volume of this number",
        expected="one volume" if number is None else f"a number from 1 to {len(volumes)}",
        got=truncate(listed, _MOST_SHOWN) if number is None else f"{number}; the volumes are {truncate(listed)}",
        hint="name one by --volume 1, or append #1 to the path of the series",
    )


def _split_stack(headers: Sequence[ImageHeader]) -> list[SeriesVolume]:
    if _has_single_positions(headers):
        return [SeriesVolume("", tuple(headers))]
    differing = [tag for tag in DISTINGUISHING if len({header.text(tag) for header in headers}) > 1]
    for tags in (*((tag,) for tag in differing), *_pairs(differing), tuple(differing)):
        groups = _grouped(headers, tags)
        if len(groups) > 1 and all(map(_has_single_positions, groups.values())):
            ordered = sorted(groups.items(), key=lambda group: [_sortable(text) for text in group[0]])
            return [SeriesVolume(_named(tags, texts), tuple(images)) for texts, images in ordered]
    return [SeriesVolume("", tuple(headers))]


def _pairs(tags: Sequence[str]) -> list[tuple[str, str]]:
    return [(one, other) for index, one in enumerate(tags) for other in tags[index + 1 :]]


def _grouped(headers: Sequence[ImageHeader], tags: Sequence[str]) -> dict[tuple[str, ...], list[ImageHeader]]:
    groups: dict[tuple[str, ...], list[ImageHeader]] = {}
    for header in headers:
        groups.setdefault(tuple(header.text(tag) for tag in tags), []).append(header)
    return groups


def _has_single_positions(headers: Sequence[ImageHeader]) -> bool:
    return max(Counter(_place(header) for header in headers).values()) == 1


def _place(header: ImageHeader) -> tuple[object, ...]:
    """The position to a thousandth of a millimeter, which other volumes of a series repeat."""
    try:
        return tuple(round(float(part), 3) + 0.0 for part in header.text("position").split("\\"))
    except ValueError:
        return (header.file, header.frame)


def _sortable(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("-inf"), text


def _named(tags: Sequence[str], texts: Sequence[str]) -> str:
    return ", ".join(f"{tag} {text or 'none'}" for tag, text in zip(tags, texts, strict=True))


def _joined(*names: str) -> str:
    return ", ".join(filter(None, names))
