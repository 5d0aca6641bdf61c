"""The optimizer and its learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast

from timm.models import group_parameters
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from inflate3d.config import TrainingConfig
from inflate3d.errors import ConfigError

if TYPE_CHECKING:
    from inflate3d.models.segmenter import Segmenter

_EMBEDDINGS = (
    "pos_embed",
    "position_embeddings",
    "cls_token",
    "reg_token",
    "relative_position_bias_table",
    "rel_pos_",
)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> AdamW:
    """AdamW with separate learning rates for the pre-trained backbone and the rest; a 3D network is all rest.

    The backbone's own falls from its last layer to its first by a constant ratio (Bao et al. 2022, arXiv:2106.08254),
    such that the first one's is ``stem_rate_factor`` of the last one's, whatever the number of layers.

    Weight decay acts on matrices and kernels only, not on norms, biases, layer scales, position embeddings
    and class tokens.
    """
    undecayed = _embeddings(model)
    depths = _relative_depths(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = config.learning_rate
        if name in depths:
            rate = config.encoder_learning_rate * config.stem_rate_factor ** depths[name]
        decay = 0.0 if parameter.ndim <= 1 or name in undecayed else config.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    optimizer = AdamW(
        [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()],
        betas=(0.9, config.beta2),
        fused=True,
    )
    # Fused, it could take the scale of float16 gradients off by itself; then they could not be clipped before.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def freeze(model: Segmenter, part: Literal["none", "encoder", "body"]) -> None:
    """Freezes the backbone, or all but its first convolution, including the statistics of batch norms.

    Fresh norms behind the backbone go on learning.
    """
    if part == "none":
        return
    backbone = model.encoder.network.requires_grad_(False).eval()
    if part == "body":
        next(module for module in backbone.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)).requires_grad_(True)


def freeze_layers(model: nn.Module, count: int) -> None:
    """Freezes the backbone's first layers, the stem included, so that the backward pass ends above them."""
    layers = _layers(model)
    if count and count > max(layers.values()):
        raise ConfigError(
            "no layer of the encoder is left to train",
            expected=f"a number below its {1 + max(layers.values())} layers",
            got=f"--freeze-layers {count}",
            hint="freeze the whole encoder with --freeze encoder",
        )
    frozen = {name for name, layer in layers.items() if layer < count}
    for path, module in model.named_modules():
        names = {f"{path}.{name}" for name, _ in module.named_parameters()}
        if names and names <= frozen:
            module.eval()
    for name, weight in model.named_parameters():
        if name in frozen:
            weight.requires_grad_(False)


def make_schedule(optimizer: AdamW, config: TrainingConfig) -> LambdaLR:
    """Linear warm-up, then linear or cosine decay to zero at the last step."""
    return LambdaLR(optimizer, schedule(config))


def schedule(config: TrainingConfig) -> Callable[[int], float]:
    """The learning rate's factor at each step, from 0 on; the schedule of an extended training starts there."""
    start = config.extended_from
    steps = config.steps - start
    warmup = min(config.warmup_steps, steps // 10)

    def factor(number: int) -> float:
        step = max(0, number - start)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 1 - done if config.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))

    return factor


def describe_rates(model: nn.Module, config: TrainingConfig) -> str:
    """The peak learning rates, for the user."""
    depths = _relative_depths(model)
    trained = [depths[name] for name, weight in model.named_parameters() if weight.requires_grad and name in depths]
    if not trained:
        return f"learning rate: {config.learning_rate:g}"
    first, last = (
        config.encoder_learning_rate * config.stem_rate_factor**depth for depth in (max(trained), min(trained))
    )
    return f"learning rates: decoder {config.learning_rate:g}, encoder {first:.2g} in its first layer to {last:.2g}"


def _relative_depths(model: nn.Module) -> dict[str, float]:
    """For each parameter of the backbone, its distance from the end: 0 in the last layer, 1 in the first."""
    layers = _layers(model)
    last = max(layers.values(), default=0)
    return {name: (last - layer) / max(1, last) for name, layer in layers.items()}


def _layers(model: nn.Module) -> dict[str, int]:
    """For each parameter of the backbone, the number of its layer, 0 for the stem.

    timm says what the layers of a transformer are; those of others are the parts that they are built from.
    """
    encoder = getattr(model, "encoder", None)
    if encoder is None:
        return {}
    network, prefix = encoder.network, "encoder.network."
    inner = getattr(network, "model", network)
    if hasattr(inner, "group_matcher"):
        prefix += "model." if inner is not network else ""
        layers = cast(dict[str, int], group_parameters(inner, inner.group_matcher(coarse=False), reverse=True))
    else:
        parts = _parts_of(network)
        layers = {
            name: number
            for name, _ in network.named_parameters()
            for number, part in enumerate(parts)
            if name.startswith(f"{part}.")
        }
    return {prefix + name: layer for name, layer in layers.items()}


def _parts_of(network: nn.Module) -> list[str]:
    """Names of a network's parts, in order; in a sequence of stages each counts."""
    parts: list[str] = []
    for name, module in network.named_children():
        if any(isinstance(stage, nn.Sequential) for stage in module.children()) and isinstance(module, nn.Sequential):
            parts += [f"{name}.{stage}" for stage, _ in module.named_children()]
        else:
            parts.append(name)
    return [part for part in parts if any(True for _ in network.get_submodule(part).parameters())]


def _embeddings(model: nn.Module) -> set[str]:
    """Names of the encoder's parameters that its authors exempt from weight decay, and of position tables."""
    exempt = {name for name, _ in model.named_parameters() if _is_embedding(name)}
    for prefix, module in model.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if callable(listed):
            exempt |= {f"{prefix}.{name}" for name in listed()}  # type: ignore[attr-defined]
    return exempt


def _is_embedding(name: str) -> bool:
    return any(part in name for part in _EMBEDDINGS)
