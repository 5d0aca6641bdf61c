"""Which flips keep all class names true: a class named left must not be trained on the right side."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from inflate3d.orientation import DepthAxis

OPPOSITES: dict[DepthAxis, tuple[tuple[str, str], ...]] = {
    "sagittal": (("left", "right"), ("l", "r"), ("lt", "rt")),
    "coronal": (("anterior", "posterior"), ("ventral", "dorsal")),
    "axial": (("superior", "inferior"), ("upper", "lower"), ("cranial", "caudal")),
}
"""Words in class names that a flip along the axis would make wrong."""

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Boundaries of words in names like LeftKidney, kidneyL or LKidney."""

_PLACEHOLDER = re.compile(r"(class|label|value|object|structure|region|roi)?[\s_-]*\d+", re.IGNORECASE)
"""A name that is only a number, such as the `class 2` that `inflate3d init` proposes."""


def choose_flips(names: Collection[str], frame: Sequence[DepthAxis]) -> tuple[tuple[bool, bool, bool], str]:
    """The axes along which windows may be flipped.

    Args:
        names: Of the classes or regions to segment.
        frame: Directions of a window's depth, rows and columns.

    Returns:
        Whether each axis of the frame may be flipped, and the reason.
    """
    named = {direction: _sides_in(names, pairs) for direction, pairs in OPPOSITES.items()}
    if named["sagittal"]:
        # A mirror along any axis turns left into right, however the patient then lies.
        return (False, False, False), (
            f"none: a class name says {' and '.join(named['sagittal'])}; "
            "for chambers of the heart, which differ in shape, give --flips True"
        )
    unnamed = [name for name in names if _PLACEHOLDER.fullmatch(name.strip())]
    if unnamed:
        return (False, False, False), (
            f'none: "{unnamed[0]}" does not say whether left and right differ; name the classes, or give --flips True'
        )
    first, second, third = (not named[direction] for direction in frame)
    forbidden = [f"not {d} (a class name says {' and '.join(named[d])})" for d in frame if named[d]]
    return (first, second, third), "; ".join(["along axes whose ends no class name distinguishes", *forbidden])


def _sides_in(names: Collection[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Words for either end of an axis in a name, sorted."""
    words = {word for name in names for word in re.findall(r"[^\W\d_]+", _HUMP.sub(" ", name).lower())}
    alone = {side for pair in pairs for side in pair if side in words}
    return sorted(alone.union(*(pair for pair in pairs if _differ_only_in(pair, names))))


def _differ_only_in(pair: tuple[str, str], names: Collection[str]) -> bool:
    """Whether two names differ only in the side, as Lkidney and Rkidney do."""
    one, other = pair
    lowered = {name.strip().lower() for name in names}
    return any(
        (name.startswith(one) and other + name.removeprefix(one) in lowered)
        or (name.endswith(one) and name.removesuffix(one) + other in lowered)
        for name in lowered
    )
