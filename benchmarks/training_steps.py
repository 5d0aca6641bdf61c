"""The training steps that the benchmarks time: the recipe's and ours, on the same batch of random windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from recipe.model import recipe_loss, recipe_model, recipe_optimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from inflate3d.config import DecoderName, TrainingConfig
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model, preferred_memory_format
from inflate3d.training.loss import make_loss
from inflate3d.training.optimization import make_optimizer

NUM_CLASSES = 14
CLIP = 1.0


@dataclass(frozen=True)
class Way:
    """A way of training.

    Attributes:
        decoder: Name of the decoder.
        precision: What the network computes in.
        recipe: Whether it is the paper's recipe.
    """

    decoder: DecoderName
    precision: torch.dtype
    recipe: bool = False


WAYS = {
    "recipe": Way("upernet", torch.float32, recipe=True),
    "ours, same decoder, float32": Way("upernet", torch.float32),
    "ours, same decoder, bfloat16": Way("upernet", torch.bfloat16),
    "ours, float32": Way("fpn-lite", torch.float32),
    "ours, bfloat16": Way("fpn-lite", torch.bfloat16),
}


@dataclass(frozen=True)
class Batch:
    """Windows, intensities from 0 to 1, and class numbers of their center slices."""

    windows: Tensor
    labels: Tensor


def random_batch(size: int, image_size: int, device: torch.device) -> Batch:
    """Five slices deep."""
    generator = torch.Generator().manual_seed(0)
    windows = torch.rand(size, 1, 5, image_size, image_size, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (size, 1, 1, image_size, image_size), generator=generator)
    return Batch(windows.to(device), labels.to(device))


@dataclass
class Trainer:
    """A network with all that a step needs."""

    model: Segmenter
    loss: nn.Module
    optimizer: Optimizer

    def step(self, batch: Batch, precision: torch.dtype) -> None:
        """Forward, loss, backward, clip, optimizer."""
        self.optimizer.zero_grad()
        with autocast(batch.windows.device, precision):
            logits = self.model(batch.windows)
        self.loss(logits.float()[:, :, None], batch.labels).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        synchronise(batch.windows.device)


def make_trainer(way: Way, image_size: int, device: torch.device, encoder: str = "beit") -> Trainer:
    """Builds a way's network with random weights."""
    torch.manual_seed(0)
    if way.recipe:
        model = recipe_model(image_size, NUM_CLASSES).to(device)
        return Trainer(model, recipe_loss(), recipe_optimizer(model))
    network = create_encoder(encoder, depth=5, image_size=image_size, weights="none")
    model = create_model(encoder=network, num_classes=NUM_CLASSES, decoder=way.decoder)
    reduced = way.precision != torch.float32
    model = model.to(device, memory_format=preferred_memory_format(device, reduced_precision=reduced))
    config = TrainingConfig(learning_rate=1e-3, stem_rate_factor=1.0)
    return Trainer(model, make_loss(config), make_optimizer(model, config))


@contextmanager
def autocast(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """As Lightning's ``bf16-mixed`` does it."""
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        yield


def synchronise(device: torch.device) -> None:
    """Waits until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
