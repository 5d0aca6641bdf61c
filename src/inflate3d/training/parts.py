"""Batches larger than the device's memory: the encoder processes them in parts, with the same result.

The parts go through the encoder one after the other, and their activations are computed again, part by part, in the
backward pass (Chen et al. 2016, arXiv:1604.06174). The decoder, with its batch norms, and the loss see the batch as a
whole. So the step is that of the whole batch to rounding; dropout and stochastic depth draw other numbers. Batch norms
of the encoder itself (ResNets and the like have them) take the statistics of each part. A 3D network takes parts whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from inflate3d.errors import ConfigError
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter


def take_in_parts(model: Segmenter | VolumetricSegmenter, parts: int) -> None:
    """Lets a network process each batch in parts; its weights and their names stay as they are.

    Args:
        parts: How many; one is the batch as a whole.
    """
    if parts == 1:
        return
    network: nn.Module = model.encoder if isinstance(model, Segmenter) else model
    whole = network.forward

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _still_statistics(network)

    def forward(batch: Tensor) -> Any:
        take = _recomputed(whole, contexts) if torch.is_grad_enabled() else whole
        return _joined([take(part) for part in batch.chunk(parts)])

    network.forward = forward  # type: ignore[method-assign]


def has_batch_norms(model: Segmenter | VolumetricSegmenter) -> bool:
    """Whether parts of a batch would be normalized separately."""
    network: nn.Module = model.encoder if isinstance(model, Segmenter) else model
    return any(isinstance(module, _BatchNorm) and module.training for module in network.modules())


def more_parts(parts: int, batch_size: int, reason: str) -> int:
    """Twice as many parts, but no more than there are windows.

    Args:
        reason: What was said of the memory.
    """
    if parts >= batch_size:
        raise too_little_memory(f"{reason} (with one window at a time in the encoder)")
    return min(2 * parts, batch_size)


def too_little_memory(reason: str) -> ConfigError:
    """The error of a training that does not fit into memory."""
    return ConfigError(
        "not enough memory to train",
        got=reason,
        hint="give a smaller --batch-size with a larger --accumulate, --precision bf16-mixed, or a smaller "
        "--image-size or --decoder-channels",
    )


def _recomputed(whole: Callable[[Tensor], Any], contexts: Callable[[], Any]) -> Callable[[Tensor], Any]:
    return lambda part: checkpoint(whole, part, use_reentrant=False, context_fn=contexts)


def _joined(outputs: list[Any]) -> Any:
    if isinstance(outputs[0], Tensor):
        return torch.cat(outputs)
    return [torch.cat(maps) for maps in zip(*outputs, strict=True)]


@contextmanager
def _still_statistics(network: nn.Module) -> Iterator[None]:
    """Keeps batch norms from counting a recomputed batch twice."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    batches = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # without statistics they would save fewer tensors for the backward pass than before
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, batches, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)
