"""The cost of a network, counted by the paper's rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from inflate3d.config import DecoderName
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model

_FUSED = "fused_attn"
"""Attribute that switches fused attention on in timm's modules."""


@dataclass(frozen=True)
class ModelCost:
    """Floating-point operations of one window, and parameters.

    Attributes:
        decoder: Operations after the encoder, full-resolution path and classifier included.
    """

    encoder: int
    decoder: int
    encoder_parameters: int
    decoder_parameters: int

    @property
    def model(self) -> int:
        """Operations of the whole network for one window, which gives one slice of labels."""
        return self.encoder + self.decoder

    @property
    def parameters(self) -> int:
        return self.encoder_parameters + self.decoder_parameters


def measure_model(model: Segmenter) -> ModelCost:
    """Counts the cost of a network as it is, including its slices, levels and norms.

    Args:
        model: In eval mode; on the meta device nothing is computed.
    """
    about = model.architecture
    device = next(model.parameters()).device
    windows = torch.empty(1, about.in_channels, about.depth, *about.image_size, device=device)
    encoder, encoder_parameters = count_flops(model.encoder, windows), count_parameters(model.encoder)
    return ModelCost(
        encoder=encoder,
        decoder=count_flops(model, windows) - encoder,
        encoder_parameters=encoder_parameters,
        decoder_parameters=count_parameters(model) - encoder_parameters,
    )


def measure_cost(
    encoder: str,
    *,
    image_size: int | tuple[int, int],
    depth: int = 5,
    in_channels: int = 1,
    levels: Sequence[int] | None = None,
    num_classes: int = 14,
    decoder: DecoderName = "fpn-lite",
    decoder_channels: int | None = None,
    detail_channels: int | None = None,
) -> ModelCost:
    """Counts what a network would cost, without computing or downloading anything.

    The arguments are those of :func:`inflate3d.create_encoder` and :func:`inflate3d.create_model`.
    """
    with torch.device("meta"):
        model = create_model(
            encoder=create_encoder(
                encoder, depth=depth, in_channels=in_channels, image_size=image_size, weights="none", levels=levels
            ),
            num_classes=num_classes,
            decoder=decoder,
            decoder_channels=decoder_channels,
            detail_channels=detail_channels,
        )
    return measure_model(model.eval())


def count_flops(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Floating-point operations of one forward pass, two for each multiply-accumulate.

    The rules are those of torchprofile, which the paper used: matrix products, convolutions and attention, and also
    elementwise products, norms with weights, means, and four multiply-accumulates per pixel of bilinear resizing. One
    rule is corrected: a transposed convolution is counted as computed, from its input; torchprofile counts the whole
    kernel for each pixel of its output.

    Attention is counted by its individual operations, even if the network fuses them.

    Args:
        *inputs: Its inputs; on the meta device, nothing is computed.
    """
    with (
        _attention_step_by_step(network),
        FlopCounterMode(display=False, custom_mapping=_RULES) as counter,
        torch.no_grad(),
    ):
        network(*inputs)
    return counter.get_total_flops()


def count_parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@contextmanager
def _attention_step_by_step(network: nn.Module) -> Iterator[None]:
    """Disables fused attention in this context, so that every step is counted; each of timm's modules has a switch."""
    fused = [module for module in network.modules() if getattr(module, _FUSED, False)]
    for module in fused:
        setattr(module, _FUSED, False)
    try:
        yield
    finally:
        for module in fused:
            setattr(module, _FUSED, True)


def _each_pixel(*inputs: Any, out_shape: Any, **options: Any) -> int:
    return 2 * prod(out_shape)


def _norm(shape: Any, weight: Any, *inputs: Any, out_shape: Any, **options: Any) -> int:
    return 0 if weight is None else 2 * prod(shape)


def _bilinear(*inputs: Any, out_shape: Any, **options: Any) -> int:
    return 2 * 4 * prod(out_shape)


def _layer_norm(shape: Any, normalized: Any, weight: Any, *inputs: Any, out_shape: Any, **options: Any) -> int:
    return 0 if weight is None else 2 * prod(shape)


_ATEN = torch.ops.aten
_RULES: dict[Any, Any] = {
    _ATEN.mul: _each_pixel,
    _ATEN.mul_: _each_pixel,
    _ATEN.mean: _each_pixel,
    _ATEN.avg_pool2d: _each_pixel,
    _ATEN._adaptive_avg_pool2d: _each_pixel,
    _ATEN.leaky_relu: _each_pixel,
    _ATEN.leaky_relu_: _each_pixel,
    _ATEN.upsample_bilinear2d: _bilinear,
    _ATEN.native_layer_norm: _layer_norm,
    _ATEN.native_group_norm: _norm,
    _ATEN.native_batch_norm: _norm,
    _ATEN._native_batch_norm_legit: _norm,
    _ATEN._native_batch_norm_legit_no_training: _norm,
}
