"""Run by a test as a script of its own: `train_on_two.py CONFIG RUN`. Lightning starts it a second time."""

import json
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn import functional

from inflate3d.config import RunConfig, TrainingConfig
from inflate3d.datasets.classes import IGNORED
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder
from inflate3d.training.loss import make_loss
from inflate3d.training.run import train


def norm_by_fixed_statistics(self, values):
    """In place of batch norm, which on CPUs can't see the other process's part of a batch."""
    return functional.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias)


def nothing_dropped(self, values):
    """In place of dropout: each process drops channels of its own."""
    return values


def half_ignored(rank: int, ranks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of four windows, or one process's of them; most of the last ones' voxels are ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (4, 1, 1, 8, 8), generator=generator)
    labels[2:, ..., 1:, :] = IGNORED
    part = slice(rank * 4 // ranks, (rank + 1) * 4 // ranks)
    return logits[part].requires_grad_(), labels[part]


def loss_and_gradient(name: str, rank: int, ranks: int) -> tuple[float, torch.Tensor]:
    logits, labels = half_ignored(rank, ranks)
    value = make_loss(TrainingConfig(loss=name))(logits, labels)  # type: ignore[arg-type]
    value.backward()
    assert logits.grad is not None
    return value.item(), logits.grad


def main() -> None:
    torch.set_num_threads(1)
    torch.nn.BatchNorm2d.forward = norm_by_fixed_statistics  # type: ignore[method-assign]
    torch.nn.Dropout2d.forward = nothing_dropped  # type: ignore[method-assign]
    config, folder = RunConfig.read(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
    first = train(config, folder, Store(config.store))
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    assert first == (rank == 0)
    losses = {}
    for name in ("dice-ce", "dice-focal", "ce"):
        value, gradient = loss_and_gradient(name, rank, ranks)
        parts = [torch.empty_like(gradient) for _ in range(ranks)]
        distributed.all_gather(parts, gradient)
        losses[name] = {"value": value, "gradient": (torch.cat(parts) / ranks).tolist()}  # DDP takes the mean
    if first:
        (folder.root / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
