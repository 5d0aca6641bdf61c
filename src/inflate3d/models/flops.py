"""What a network costs, counted with the paper's rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from timm.layers.config import set_fused_attn, use_fused_attn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from inflate3d.config import DecoderName
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model


@dataclass(frozen=True)
class ModelCost:
    """Floating-point operations of one window, and weights.

    Attributes:
        encoder_2d: Operations of the encoder for a window of one slice.
        encoder_3d: The same for the window.
        decoder: Operations of all behind the encoder, the full-resolution path and the classifier counted.
        encoder_parameters: Weights of the encoder.
        decoder_parameters: Weights of all behind it.
    """

    encoder_2d: int
    encoder_3d: int
    decoder: int
    encoder_parameters: int
    decoder_parameters: int

    @property
    def model(self) -> int:
        """Operations of the whole network for one window, which gives one slice of labels."""
        return self.encoder_3d + self.decoder

    @property
    def parameters(self) -> int:
        """Weights of the whole network."""
        return self.encoder_parameters + self.decoder_parameters


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
    """Counts what a network costs, without computing or downloading anything.

    The arguments are those of :func:`inflate3d.create_encoder` and :func:`inflate3d.create_model`.

    Raises:
        ModelError: There is no such backbone, or it can't be inflated.
        ConfigError: The backbone can't take this image size, depth or levels, or the decoder can't.
    """

    def build(slices: int) -> Segmenter:
        network = create_encoder(
            encoder, depth=slices, in_channels=in_channels, image_size=image_size, weights="none", levels=levels
        )
        return create_model(
            encoder=network,
            num_classes=num_classes,
            decoder=decoder,
            decoder_channels=decoder_channels,
            detail_channels=detail_channels,
        )

    with _attention_in_the_open(), torch.device("meta"):
        flat, deep = build(1).eval(), build(depth).eval()
    windows = torch.empty(1, in_channels, depth, *deep.architecture.image_size, device="meta")
    encoder_3d = count_flops(deep.encoder, windows)
    encoder_parameters = _parameters(deep.encoder)
    return ModelCost(
        encoder_2d=count_flops(flat.encoder, windows[:, :, :1]),
        encoder_3d=encoder_3d,
        decoder=count_flops(deep, windows) - encoder_3d,
        encoder_parameters=encoder_parameters,
        decoder_parameters=_parameters(deep) - encoder_parameters,
    )


def count_flops(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Floating-point operations of one forward pass, two for each multiply-accumulate.

    The rules are those of torchprofile, with which the paper's figures were made: beside products of matrices,
    convolutions and attention, also products of elements, norms with weights, means, and four multiply-accumulates
    for a pixel of a bilinear resizing. One is mended: a transposed convolution is counted as it is computed, from
    its input; torchprofile counts it as if each pixel of its output saw the whole kernel.

    Attention is counted as what is done one operation at a time; build the network accordingly
    (timm: ``set_fused_attn(False)``), as :func:`measure_cost` does.

    Args:
        network: In eval mode.
        *inputs: What it takes; on the meta device nothing is computed.
    """
    with FlopCounterMode(display=False, custom_mapping=_RULES) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops()


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@contextmanager
def _attention_in_the_open() -> Iterator[None]:
    """Networks that are built here compute attention step by step, so that every step is counted."""
    before, experimental = use_fused_attn(), use_fused_attn(experimental=True)
    set_fused_attn(False)
    try:
        yield
    finally:
        set_fused_attn(before, experimental)


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
