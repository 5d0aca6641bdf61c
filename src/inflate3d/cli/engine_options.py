"""Where ``prepare`` and ``predict`` do their work: on this machine, a share of it, or a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from inflate3d.distributed.ray_cluster import Engine
from inflate3d.distributed.shard import Shard
from inflate3d.errors import ConfigError
from inflate3d.settings import FrozenModel


class EngineOptions(FrozenModel):
    """Where the work is done."""

    engine: Literal["local", "ray"] = "local"
    """Where the work is done: on this machine, or on a Ray cluster, whose machines see the same files."""
    address: str | None = None
    """Address of the Ray cluster, such as auto; by default RAY_ADDRESS, or else a new cluster on this machine."""
    shard: str | None = None
    """Process only one share of the scans, such as 3/16: the third of sixteen; the first is 1/16."""

    def chosen_shard(self) -> Shard | None:
        """The shard, or None for all of the work."""
        if self.address is not None and self.engine != "ray":
            raise ConfigError("--address requires --engine ray", got="--address alone", hint="add --engine ray")
        if self.shard is not None and self.engine == "ray":
            raise ConfigError(
                "--shard can't be combined with --engine ray",
                got="--engine ray --shard",
                hint="leave out one of them; Ray distributes the scans itself",
            )
        return None if self.shard is None else Shard.parse(self.shard)

    @contextmanager
    def open(self, *, cores: int | None = None, gpus: bool = False) -> Iterator[Engine | None]:
        """The cluster, or None for this machine.

        Args:
            cores: Cores of a new cluster on this machine; by default all.
            gpus: Whether each task uses a GPU if there are any.
        """
        if self.engine == "local":
            yield None
            return
        from inflate3d.distributed.ray_cluster import ray_cluster

        with ray_cluster(self.address, cores=cores, gpus=gpus) as engine:
            yield engine
