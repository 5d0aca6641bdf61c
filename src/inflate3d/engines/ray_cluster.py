"""Work spread over the machines of a Ray cluster, or over the cores of this one."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from inflate3d.engines.engine import Engine, LostError
from inflate3d.errors import ConfigError, Inflate3dError

Item = TypeVar("Item")
Result = TypeVar("Result")

TRIES = 4
"""How often an item is begun before it is given up, if those who work on it die."""

_FEWEST_WAITING = 256
"""Items that Ray knows of at the least: what waits is what makes a cluster grow."""

_WAITING_A_CORE = 4

_TOGETHER = 64
"""Results that are taken at a time, where so many are ready."""

_PATIENCE_SECONDS = 0.5
"""Time in which they are waited for, rather than taken one by one."""

_ANSWER_SECONDS = 10


@contextmanager
def ray_cluster(address: str | None = None, *, cores: int | None = None, gpus: bool = False) -> Iterator[Engine]:
    """Joins a Ray cluster, or starts one on this machine.

    Where this process has joined one already, that one is used. Every item is a task of one core. When the process or
    the machine that works on it dies, Ray begins it anew somewhere else, `TRIES` times in all. Ray's usage statistics
    are off.

    Args:
        address: The cluster's, such as ``auto`` or ``ray://head:10001``. If not given that in ``RAY_ADDRESS``, and
            where there is none, a cluster on this machine that ends with the block.
        cores: Of a cluster on this machine; as many as it has if not given.
        gpus: Whether a task takes a GPU, where the cluster has any.

    Yields:
        What does work there. What it is given has to name files by paths that all machines see.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(TRIES - 1))  # Ray's own default is without end
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "ray is not installed", got="--engine ray", hint="pip install 'inflate3d[ray]', on all machines"
        ) from error
    joined = ray.is_initialized()  # by a program that uses us
    if not joined:
        _start(address or os.environ.get("RAY_ADDRESS"), cores)
    try:
        resources = ray.cluster_resources()
        yield _Cluster(int(resources.get("CPU", 1)), gpus=1 if gpus and resources.get("GPU") else 0)
    finally:
        if not joined:
            ray.shutdown()


def _start(address: str | None, cores: int | None) -> None:
    import ray

    if address:
        _check_answer(address)
    own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError, AssertionError) as error:
        raise _no_cluster(address, error) from error


def _check_answer(address: str) -> None:
    """Makes sure that somebody listens at an address that has a port: Ray itself tries for minutes."""
    found = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        "the Ray cluster can't be reached",
        expected="the address of a cluster that runs, such as --address auto on one of its machines",
        got=f"{address or 'a cluster on this machine'}: {error}",
        hint="`ray status` tells whether one runs; docs/many-scans.md has the commands",
    )


class _Cluster:
    """Does work as tasks of the cluster that this process has joined."""

    def __init__(self, cores: int, *, gpus: int) -> None:
        self._gpus = gpus
        self._most_waiting = max(_FEWEST_WAITING, _WAITING_A_CORE * cores)

    def __call__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | LostError]:
        import ray

        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_retries": TRIES - 1}
        task = ray.remote(_call).options(**options)
        shared = ray.put(work)  # sent to each machine once
        todo = iter(enumerate(items))
        running: dict[Any, int] = {}
        finished: dict[int, Result | LostError] = {}
        following = 0
        try:
            while following < len(items):
                for index, item in islice(todo, self._most_waiting - len(running)):
                    running[task.remote(shared, item)] = index
                for reference in _ready(list(running)):
                    finished[running.pop(reference)] = _result(reference)
                while following in finished:
                    yield finished.pop(following)
                    following += 1
        finally:
            for reference in running:  # nobody waits for them
                ray.cancel(reference, force=True)


def _call(work: Callable[[Item], Result], item: Item) -> Result:
    return work(item)


def _ready(references: list[Any]) -> list[Any]:
    import ray

    ready, _ = ray.wait(references, num_returns=min(_TOGETHER, len(references)), timeout=_PATIENCE_SECONDS)
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
            "the processes that worked on it died",
            got=f"{TRIES} times, at last: {str(error).splitlines()[0]}",
            hint="mostly they lack memory: give each more, by fewer cores in the cluster; Ray's logs tell more",
        )
