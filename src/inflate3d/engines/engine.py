"""What spreads work on many items, so that whoever has the work need not know where it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from inflate3d.errors import Inflate3dError


class LostError(Inflate3dError):
    """An item whose workers died again and again, such as for want of memory; the others are none the worse."""


@runtime_checkable
class Engine(Protocol):
    """Does a piece of work on every item, somewhere."""

    def __call__(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yields ``work(item)`` for each item, in order; a `LostError` in place of what was lost.

        Args:
            work: A function of a module, or a ``functools.partial`` of one; other processes import it.
            items: What it is done to.
        """
        ...
