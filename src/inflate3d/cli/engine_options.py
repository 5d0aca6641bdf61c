"""Where ``prepare`` and ``predict`` do their work: on this machine, a share of it, or a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from inflate3d.engines.engine import Engine
from inflate3d.engines.shard import Shard
from inflate3d.errors import ConfigError
from inflate3d.settings import FrozenModel


class EngineOptions(FrozenModel):
    """How the work is spread."""

    engine: Literal["local", "ray"] = "local"
    """Where the work is done: on this machine, or on a Ray cluster, whose machines see the same files."""
    address: str | None = None
    """The Ray cluster's, such as auto; a new one on this machine if not given, nor in RAY_ADDRESS."""
    shard: str | None = None
    """Work on one share of the scans alone, such as 3/16: the third of sixteen; the first is 1/16."""

    def chosen_shard(self) -> Shard | None:
        """The share, if it is one.

        Raises:
            ConfigError: There is no such share, or options exclude each other.
        """
        if self.address is not None and self.engine != "ray":
            raise ConfigError("an address is a Ray cluster's", got="--address alone", hint="add --engine ray")
        if self.shard is not None and self.engine == "ray":
            raise ConfigError(
                "Ray spreads all the scans by itself",
                got="--engine ray --shard",
                hint="leave out one of them; shards are for schedulers that know nothing but jobs",
            )
        return None if self.shard is None else Shard.parse(self.shard)

    @contextmanager
    def open(self, *, cores: int | None = None, gpus: bool = False) -> Iterator[Engine | None]:
        """The cluster, or none where the work is done on this machine.

        Args:
            cores: Of a new cluster on this machine; as many as it has if not given.
            gpus: Whether each task takes a GPU, where there are any.

        Raises:
            ConfigError: Ray is not installed, or there is no such cluster.
        """
        if self.engine == "local":
            yield None
            return
        from inflate3d.engines.ray_cluster import ray_cluster

        with ray_cluster(self.address, cores=cores, gpus=gpus) as engine:
            yield engine
