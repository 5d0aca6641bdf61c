"""The optimizer, its learning rate over time, and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from inflate3d.config import TrainingConfig

_EMBEDDINGS = (
    "pos_embed",
    "position_embeddings",
    "cls_token",
    "reg_token",
    "relative_position_bias_table",
    "rel_pos_",
)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> AdamW:
    """AdamW with one learning rate for the encoder and one for the rest; a 3D network is all rest.

    Weight decay acts on matrices and kernels only, not on norms, biases, layer scales, position embeddings
    and class tokens.
    """
    undecayed = _embeddings(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = config.encoder_learning_rate if name.startswith("encoder.") else config.learning_rate
        decay = 0.0 if parameter.ndim <= 1 or name in undecayed else config.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return AdamW([{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()])


def make_schedule(optimizer: AdamW, config: TrainingConfig) -> LambdaLR:
    """Linear warm-up, then linear or cosine decay to zero at the last step."""
    return LambdaLR(optimizer, schedule(config))


def schedule(config: TrainingConfig) -> Callable[[int], float]:
    """The learning rate's factor at each step, from 0 on."""
    warmup = min(config.warmup_steps, config.steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, config.steps - warmup))
        return 1 - done if config.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))

    return factor


def make_loss(config: TrainingConfig) -> nn.Module:
    """The loss on logits ``(B, K, S, H, W)`` and class numbers ``(B, 1, S, H, W)``.

    Dice is taken over the batch as a whole, foreground only: a class that is absent from a window then costs
    nothing by its absence.
    """
    from monai.losses.dice import DiceCELoss, DiceFocalLoss

    dice: dict[str, Any] = {"to_onehot_y": True, "softmax": True, "batch": True, "include_background": False}
    if config.loss == "dice-focal":
        return DiceFocalLoss(**dice, gamma=2.0)
    return DiceCELoss(**dice, lambda_dice=0.0 if config.loss == "ce" else 1.0)


def _embeddings(model: nn.Module) -> set[str]:
    """Names of the encoder's parameters that its authors exempt from decay, and of position tables."""
    exempt = {name for name, _ in model.named_parameters() if _is_embedding(name)}
    for prefix, module in model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if callable(listed):
            exempt |= {f"{prefix}.{name}" for name in listed()}  # type: ignore[attr-defined]
    return exempt


def _is_embedding(name: str) -> bool:
    return any(part in name for part in _EMBEDDINGS)
