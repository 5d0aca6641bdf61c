"""The decoders by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inflate3d.config import REGISTERED_DECODERS
from inflate3d.errors import ConfigError
from inflate3d.models.decoders.decoder import Decoder
from inflate3d.models.decoders.progressive import ConvTranspose, SetrPup
from inflate3d.models.decoders.upernet import UPerNet

LIGHT = 128
"""Width of light decoders, and of UNETR's deepest level."""

HIERARCHICAL = 512
"""Width of the paper's decoder for Swin."""


def build_decoder(
    name: str, channels: Sequence[int], strides: Sequence[int], *, in_channels: int, width: int
) -> Decoder:
    """Builds a decoder; see :class:`inflate3d.models.decoders.decoder.Decoder` for the arguments."""
    return _kind(name).build(channels, strides, in_channels=in_channels, width=width)


def default_widths(name: str, channels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """Default widths of a decoder.

    Returns:
        Width of the decoder and of the additional full-resolution path (0 for none).
    """
    kind = _kind(name)
    return kind.width(channels, strides), kind.detail


@dataclass(frozen=True)
class DecoderKind:
    """One of the decoders.

    Attributes:
        build: Creates it.
        width: Its default width for the maps' channels and strides.
        detail: Default width of the additional full-resolution path.
    """

    build: Callable[..., Decoder]
    width: Callable[[Sequence[int], Sequence[int]], int]
    detail: int = 0


def _light(channels: Sequence[int], strides: Sequence[int]) -> int:
    return LIGHT


def _as_in_the_paper(channels: Sequence[int], strides: Sequence[int]) -> int:
    """As wide as a plain transformer (768 for the base size); 512 for a hierarchical backbone."""
    return channels[-1] if len(set(strides)) == 1 else HIERARCHICAL


def _unetr(channels: Sequence[int], strides: Sequence[int], *, in_channels: int, width: int) -> Decoder:
    from inflate3d.models.decoders.unetr import UNETR  # brings MONAI along, which takes seconds

    return UNETR(channels, strides, in_channels=in_channels, width=width)


DECODERS: dict[str, DecoderKind] = {
    "fpn-lite": DecoderKind(UPerNet, _light, detail=16),
    "upernet": DecoderKind(UPerNet, _as_in_the_paper),
    "setr-pup": DecoderKind(SetrPup, _as_in_the_paper),
    "conv-transpose": DecoderKind(ConvTranspose, _as_in_the_paper),
    "unetr": DecoderKind(_unetr, _light),
}


def register_decoder(
    name: str, factory: Callable[..., Decoder], *, decoder_channels: int = LIGHT, detail_channels: int = 0
) -> None:
    """Registers your own decoder by name, for `create_model`, `train` and `load_model`.

    A model folder stores only the name, so register the decoder before you load the model.

    Args:
        name: Its name for ``decoder=``.
        factory: A :class:`inflate3d.models.decoders.decoder.Decoder` subclass, or a function with its arguments.
        decoder_channels: Its default width.
        detail_channels: Default width of the additional full-resolution path; 0 for none.

    Raises:
        ConfigError: A built-in decoder or another factory has this name.

    Examples:
        >>> import inflate3d as i3d
        >>> from inflate3d.models.decoders.upernet import UPerNet
        >>> i3d.register_decoder("narrow-upernet", UPerNet, decoder_channels=32)
        >>> encoder = i3d.create_encoder("resnet10t", image_size=64, weights=None)
        >>> i3d.create_model(encoder=encoder, num_classes=3, decoder="narrow-upernet").architecture.decoder_channels
        32
    """
    if name in DECODERS and DECODERS[name].build is not factory:
        raise ConfigError("duplicate decoder name", expected="a name that no decoder has", got=name)
    DECODERS[name] = DecoderKind(factory, lambda channels, strides: decoder_channels, detail=detail_channels)
    REGISTERED_DECODERS.add(name)


def _kind(name: str) -> DecoderKind:
    if name not in DECODERS:
        raise ConfigError("unknown decoder", expected=", ".join(DECODERS), got=name)
    return DECODERS[name]
