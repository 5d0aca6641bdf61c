"""Feature maps to one map: the decoders by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inflate3d.config import DecoderName
from inflate3d.models.decoders.decoder import Decoder
from inflate3d.models.decoders.progressive import ConvTranspose, SetrPup
from inflate3d.models.decoders.upernet import UPerNet

LIGHT = 128
"""Width of a light decoder, and of UNETR's deepest level."""

HIERARCHICAL = 512
"""Width of the paper's decoder behind Swin."""


def build_decoder(
    name: DecoderName, channels: Sequence[int], strides: Sequence[int], *, in_channels: int, width: int
) -> Decoder:
    """Builds a decoder; see :class:`inflate3d.models.decoders.decoder.Decoder` for what its arguments mean."""
    return DECODERS[name].build(channels, strides, in_channels=in_channels, width=width)


def default_widths(name: DecoderName, channels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Widths of a decoder where the user gives none.

    Returns:
        Of the decoder, and of the full-resolution path beside it (0 for none).
    """
    kind = DECODERS[name]
    return kind.width(channels, strides), kind.detail


@dataclass(frozen=True)
class DecoderKind:
    """One of the decoders.

    Attributes:
        build: Makes it.
        width: Its default width behind maps of such channels and strides.
        detail: Default width of the full-resolution path beside it.
    """

    build: Callable[..., Decoder]
    width: Callable[[Sequence[int], Sequence[int]], int]
    detail: int = 0


def _light(channels: Sequence[int], strides: Sequence[int]) -> int:
    return LIGHT


def _as_in_the_paper(channels: Sequence[int], strides: Sequence[int]) -> int:
    """As wide as a plain transformer (768 for the base size); 512 behind a hierarchical backbone."""
    return channels[-1] if len(set(strides)) == 1 else HIERARCHICAL


def _unetr(channels: Sequence[int], strides: Sequence[int], *, in_channels: int, width: int) -> Decoder:
    from inflate3d.models.decoders.unetr import UNETR  # brings MONAI along, which takes seconds

    return UNETR(channels, strides, in_channels=in_channels, width=width)


DECODERS: dict[DecoderName, DecoderKind] = {
    "fpn-lite": DecoderKind(UPerNet, _light, detail=16),
    "upernet": DecoderKind(UPerNet, _as_in_the_paper),
    "setr-pup": DecoderKind(SetrPup, _as_in_the_paper),
    "conv-transpose": DecoderKind(ConvTranspose, _as_in_the_paper),
    "unetr": DecoderKind(_unetr, _light),
}
