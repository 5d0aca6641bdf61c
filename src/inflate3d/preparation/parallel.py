"""Processes many cases in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from threading import Thread
from typing import TypeVar

from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.resources import count_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

FEWEST_ITEMS = 4
"""Fewer items are processed in this process: starting others takes seconds."""

LARGEST_CHUNK = 16
"""Most items that a process takes at a time: results arrive chunk by chunk, and progress with them."""


def worker_context(*preload: str) -> BaseContext:
    """How worker processes start: from a clean process, never as a fork of this one.

    Forks of a process that has used threads of torch or Blosc2 can hang.

    Args:
        preload: Modules that the clean process imports once for all workers, when it starts.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    if preload:
        context.set_forkserver_preload(list(preload))
    return context


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None) -> Iterator[Result]:
    """Yields ``work(item)`` for each item, in order.

    Args:
        work: A module-level function or a ``functools.partial`` of one, which other processes import.
        workers: Number of processes; by default one per core. With one process, or few items, no others are started.
    """
    processes = count_cores() if workers is None else workers
    if processes < 1:
        raise ConfigError("invalid number of processes", expected="--jobs of 1 or more", got=workers)
    if processes == 1 or len(items) < FEWEST_ITEMS:
        yield from map(work, items)
        return
    many = min(processes, len(items))
    with ProcessPoolExecutor(many, mp_context=worker_context(), initializer=_end_with_parent) as pool:
        try:
            chunk = min(LARGEST_CHUNK, max(1, len(items) // (8 * processes)))
            yield from pool.map(work, items, chunksize=chunk)
        except BrokenProcessPool as error:
            raise Inflate3dError(
                "a worker process was killed, or could not start",
                expected="enough memory for one scan per process",
                got=error,
                hint="use fewer processes: `inflate3d prepare --jobs 1`; in a script, call this below "
                "`if __name__ == '__main__':`",
            ) from error


def _end_with_parent() -> None:
    """Ends this process when its parent is killed; it would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
