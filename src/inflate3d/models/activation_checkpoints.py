"""Backbones that keep little for the backward pass and compute the rest anew (Chen et al. 2016, arXiv:1604.06174)."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from inflate3d.errors import ConfigError


def checkpoint_activations(network: nn.Module, name: str) -> None:
    """Lets a backbone keep the inputs of its blocks, or of its stages, and nothing from within them.

    timm's networks know how; the gradients stay the same.

    Args:
        network: The backbone.
        name: Its name, for messages.

    Raises:
        ConfigError: It has no such parts, or batch norms, whose running statistics would be updated twice.
    """
    holders = [module for module in network.modules() if hasattr(module, "grad_checkpointing")]
    # timm's wrapper would take whole stages; where there are blocks within them, those need less memory.
    holders = [module for module in holders if module is not network] or holders
    batch_norms = any(isinstance(module, _BatchNorm) for module in network.modules())
    if not holders or batch_norms:
        raise ConfigError(
            f"activations of {name} can't be checkpointed",
            expected="a backbone of timm's with blocks and without batch norms, such as ViT, BEiT, Swin or ConvNeXt",
            got="batch norms, which would see each batch twice" if batch_norms else "none that can be computed anew",
            hint="leave out --checkpoint-activations; a smaller --batch-size beside --accumulate needs less memory",
        )
    for module in holders:
        module.grad_checkpointing = True  # type: ignore[assignment]
