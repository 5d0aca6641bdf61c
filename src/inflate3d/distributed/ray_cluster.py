"""A map over the machines of a Ray cluster, or over the cores of this one."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

from inflate3d.errors import ConfigError, Inflate3dError

Item = TypeVar("Item")
Result = TypeVar("Result")

TRIES = 4
"""Number of attempts at an item whose worker processes die."""

_MIN_QUEUED = 256
"""Least number of items that Ray knows of: its queue makes a cluster grow."""

_QUEUED_PER_CORE = 4

_RESULTS_AT_ONCE = 64
_RESULTS_TIMEOUT = 0.5
"""Seconds to wait for a group of results that are ready at about the same time."""

_CONNECT_TIMEOUT = 10


class LostError(Inflate3dError):
    """The worker processes of an item died repeatedly, for example out of memory; other items are not affected."""


@runtime_checkable
class Engine(Protocol):
    """A parallel map."""

    def __call__(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yields ``work(item)`` for each item, in order; a `LostError` for a lost item.

        Args:
            work: A module-level function or a ``functools.partial`` of one, which other processes import.
        """
        ...


@contextmanager
def ray_cluster(address: str | None = None, *, cores: int | None = None, gpus: bool = False) -> Iterator[Engine]:
    """Joins a Ray cluster, or starts one on this machine.

    If this process has already joined a cluster, that one is used. Every item is a task of one core. If its process or
    machine dies, Ray restarts it elsewhere, up to `TRIES` attempts in all. Ray's usage statistics are off.

    Args:
        address: The cluster's address, such as ``auto`` or ``ray://head:10001``. Default: ``RAY_ADDRESS``, or otherwise
            a cluster on this machine that ends with the block.
        cores: Cores of a cluster on this machine; by default all.
        gpus: Whether a task uses a GPU if the cluster has any.

    Yields:
        The map. Paths in its items have to be valid on all machines.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(TRIES - 1))  # unlimited by default
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "ray is not installed", got="--engine ray", hint="pip install 'inflate3d[ray]', on all machines"
        ) from error
    joined = ray.is_initialized()  # by a program that uses this package
    if not joined:
        _start(address or os.environ.get("RAY_ADDRESS"), cores)
    try:
        resources = ray.cluster_resources()
        yield _RayMap(int(resources.get("CPU", 1)), gpus=1 if gpus and resources.get("GPU") else 0)
    finally:
        if not joined:
            ray.shutdown()


def _start(address: str | None, cores: int | None) -> None:
    import ray

    if address:
        _check_reachable(address)
    own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError, AssertionError) as error:
        raise _unreachable(address, error) from error


def _check_reachable(address: str) -> None:
    """Checks that a host and port answer: Ray itself keeps trying for minutes."""
    found = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        "Ray cluster can't be reached",
        expected="the address of a running cluster, such as --address auto on one of its machines",
        got=f"{address or 'a cluster on this machine'}: {error}",
        hint="check with `ray status` whether it is running; docs/batch-prediction.md has the commands",
    )


class _RayMap:
    """Runs work as tasks on the cluster that this process has joined."""

    def __init__(self, cores: int, *, gpus: int) -> None:
        self._gpus = gpus
        self._most_queued = max(_MIN_QUEUED, _QUEUED_PER_CORE * cores)

    def __call__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | LostError]:
        import ray

        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_retries": TRIES - 1}
        task = ray.remote(_call).options(**options)
        shared = ray.put(work)  # sent to each machine once
        todo = iter(enumerate(items))
        running: dict[Any, int] = {}
        finished: dict[int, Result | LostError] = {}
        next_index = 0
        # If the caller stops early, what is queued runs to its end: `ray.cancel` aborts the whole process where a task
        # ends at that moment (Ray 2.60, "Tried to complete task that was not pending").
        while next_index < len(items):
            for index, item in islice(todo, self._most_queued - len(running)):
                running[task.remote(shared, item)] = index
            for reference in _ready(list(running)):
                finished[running.pop(reference)] = _result(reference)
            while next_index in finished:
                yield finished.pop(next_index)
                next_index += 1


def _call(work: Callable[[Item], Result], item: Item) -> Result:
    return work(item)


def _ready(references: list[Any]) -> list[Any]:
    import ray

    ready, _ = ray.wait(references, num_returns=min(_RESULTS_AT_ONCE, len(references)), timeout=_RESULTS_TIMEOUT)
    return ready


def _result(reference: Any) -> Any:
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        if isinstance(error.cause, Inflate3dError):
            raise error.cause from error
        raise
    except (
        exceptions.WorkerCrashedError,
        exceptions.OutOfMemoryError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
    ) as error:
        return LostError(
            "worker processes died repeatedly",
            got=f"{TRIES} times, last: {str(error).splitlines()[0]}",
            hint="the usual cause is running out of memory: use fewer cores per machine; see Ray's logs",
        )
