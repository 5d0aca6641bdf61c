"""Progress reports of long work: the library iterates through a function that the caller may replace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")


@runtime_checkable
class Progress(Protocol):
    """Passes the items of a loop through, and may show its progress."""

    def __call__(self, items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Yields ``items`` unchanged."""
        ...


def silent(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    del total, description
    yield from items
