"""The processes of one training: how they were started, which one this is, and how they are joined."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import distributed

from inflate3d.config import TrainingConfig
from inflate3d.errors import ConfigError

if TYPE_CHECKING:
    from pytorch_lightning.strategies import Strategy


@dataclass(frozen=True)
class Processes:
    """The processes that train one network together, one per device.

    Attributes:
        rank: Number of this process among them; 0 writes all files and shows all progress.
        environment: How they find each other.
        launcher: What started them, by the name of its command; none where rank 0 starts the others itself.
    """

    rank: int
    world: int
    environment: ClusterEnvironment
    launcher: str | None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0


def find_processes(training: TrainingConfig) -> Processes:
    """Finds out which launcher started this process, and its rank.

    A training on one device is alone, whatever surrounds it: tasks of a SLURM job may each train a network of
    their own. Where neither torchrun nor srun has started the processes, the first one starts those of its machine.
    """
    wanted = training.devices * training.nodes
    if TorchElasticEnvironment.detect():
        _check_count(training, int(os.environ["WORLD_SIZE"]), "torchrun")
        elastic = TorchElasticEnvironment()
        return Processes(elastic.global_rank(), wanted, elastic, "torchrun")
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if wanted > 1 and tasks > 1:
        _check_count(training, tasks, "srun")
        slurm = _slurm(training)
        return Processes(slurm.global_rank(), wanted, slurm, "srun")
    if training.nodes > 1:
        raise ConfigError(
            "no launcher has started the processes on the other nodes",
            expected="torchrun or srun in front of the command",
            got=f"--nodes {training.nodes}",
            hint="docs/cluster.md has the commands",
        )
    own = LightningEnvironment()
    return Processes(own.local_rank() if wanted > 1 else 0, wanted, own, None)


def make_strategy(processes: Processes) -> Strategy | str:
    """How Lightning joins them: gradients are averaged, buffers are left alone.

    Batch statistics that differ by process are made equal before each validation (see `BroadcastBuffers`), not at each
    step. Which parameters a step leaves without a gradient depends on the backbone, so that is looked up at each step.
    """
    if processes.world == 1:
        return "auto"
    from pytorch_lightning.strategies import DDPStrategy

    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True)


class BroadcastBuffers(Callback):
    """Sends the first process's batch statistics to all before a validation, so that what is saved is validated."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                distributed.broadcast(buffer, src=0)


def end_others(trainer: Trainer) -> None:
    """Ends the processes that this one has started, which would wait for it for a long time."""
    launcher = trainer.strategy.launcher
    if launcher is not None:
        launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no such signal


def _check_count(training: TrainingConfig, started: int, launcher: str) -> None:
    if started != training.devices * training.nodes:
        raise ConfigError(
            "the number of processes differs from the number started",
            expected=f"--devices times --nodes to be {started}, as {launcher} started that many",
            got=f"--devices {training.devices} --nodes {training.nodes}",
        )


def _slurm(training: TrainingConfig) -> SLURMEnvironment:
    try:
        environment = SLURMEnvironment(auto_requeue=False)  # it would write a checkpoint that we don't know
        environment.validate_settings(num_devices=training.devices, num_nodes=training.nodes)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "the SLURM job does not fit the training",
            expected=f"#SBATCH --nodes={training.nodes} and --ntasks-per-node={training.devices}",
            got=str(error),
        ) from error
    return environment
