"""Settings of the network: an inflated 2D backbone with a decoder, or a 3D network."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import tyro
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from inflate3d.named_encoders import resolved_weights
from inflate3d.settings import FrozenModel, Planned, planned

Inflation = Literal["center", "average", "random"]
Planes = Literal["one", "all"]
DepthMixing = Literal["none", "decoder"]
DECODERS = ("fpn-lite", "upernet", "setr-pup", "conv-transpose", "unetr")
"""The package's decoders."""

REGISTERED_DECODERS: set[str] = set()
"""Names that :func:`inflate3d.register_decoder` added in this process."""


def _known_decoder(name: str) -> str:
    if name not in DECODERS and name not in REGISTERED_DECODERS:
        known = ", ".join((*DECODERS, *sorted(REGISTERED_DECODERS)))
        raise ValueError(f"must be one of {known}, or a name registered with inflate3d.register_decoder")
    return name


DecoderName = Annotated[str, AfterValidator(_known_decoder)]
Volumetric = Literal["unetr", "swin-unetr", "segresnet", "dynunet"]
Network = Literal["inflated", "unetr", "swin-unetr", "segresnet", "dynunet"]

_MOST_CHANNELS = 1 << 16
"""Width of a layer; wider ones don't fit into any memory."""


def _odd(depth: int) -> int:
    if depth % 2 == 0:
        raise ValueError(f"must be odd, so that a window has a center slice; try {depth - 1} or {depth + 1}")
    return depth


Depth = Annotated[int, Field(ge=1, lt=10_000), AfterValidator(_odd)]


class InflatedConfig(FrozenModel):
    """An inflated 2D backbone with a decoder.

    Examples:
        >>> InflatedConfig(encoder="resnet18", weights="none", depth=3).decoder
        'fpn-lite'
    """

    common: ClassVar = ("encoder", "weights", "depth", "planes", "image_size", "decoder")

    network: tyro.conf.Fixed[Literal["inflated"]] = "inflated"
    """The kind of network."""
    encoder: str = "vit_small_patch16_224"
    """The 2D backbone, by its timm name; `inflate3d encoders` lists them."""
    weights: str = "timm"
    """Its 2D weights: timm (downloaded), none (random), a file, or the folder of an earlier run to start from."""
    inflation: Inflation = "center"
    """How the first convolution is distributed over the window's slices; random reinitializes only this layer."""
    depth: Planned[Depth] = planned()
    """Slices per window, odd; 1 is the plain 2D network. None: the plan's, usually 5."""
    stride: Annotated[Planned[int], tyro.conf.Suppress] = planned(ge=1)
    """Steps from one slice of a window to the next. None: the plan's."""
    planes: Planes = "one"
    """Planes of the slices: one, or all three with averaged predictions (for nearly isotropic voxels)."""
    depth_mixing: DepthMixing = "none"
    """Mix the decoder's features of neighboring slices along the depth; each slice is encoded separately."""
    slab: int = Field(default=8, ge=2, le=1_000)
    """Neighboring slices in a training sample with depth mixing; the batch size must be a multiple of it."""
    image_size: tuple[int, int] | None = None
    """In-plane size in pixels (rows, columns) that slices are resized to. None: the plan's."""
    decoder: DecoderName = "fpn-lite"
    """Decoder: fpn-lite (light, also good for small structures) or one of the paper's."""
    decoder_channels: int | None = Field(default=None, ge=8, le=_MOST_CHANNELS)
    """Width of the decoder. None: 128, or the paper's for upernet, setr-pup and conv-transpose."""
    detail_channels: int | None = Field(default=None, ge=0, le=_MOST_CHANNELS)
    """Width of the full-resolution path for small structures; 0 disables it. None: 16 for fpn-lite, otherwise 0."""
    input_scaling: Literal["pretrained", "unit"] = "pretrained"
    """Intensities normalized as for the 2D weights, or from 0 to 1 as in the paper."""

    @model_validator(mode="after")
    def _check_depth(self) -> InflatedConfig:
        if self.depth_mixing != "none" and self.depth not in (None, 1):
            raise ValueError("depth mixing needs --depth 1: neighbors are mixed in through the features")
        return self

    @property
    def resolved_weights(self) -> str:
        """Where the 2D weights come from, see `inflate3d.named_encoders.resolved_weights`."""
        return resolved_weights(self.encoder, self.weights)

    @property
    def pretrained(self) -> bool:
        """Whether the encoder starts from 2D weights."""
        return self.resolved_weights != "none"

    @property
    def is_2d_network_at_start(self) -> bool:
        """Whether the encoder starts with the features of the 2D network: pre-trained, inflated, and on its scale."""
        return self.pretrained and self.inflation != "random" and self.input_scaling == "pretrained"

    def resolve(self, depth: int) -> InflatedConfig:
        """Fills in the depth. Stride and image size follow later, see `inflate3d.training.build.plan_run`."""
        if self.depth is not None:
            return self
        return self.model_copy(update={"depth": depth if self.depth_mixing == "none" else 1})


class VolumetricConfig(FrozenModel):
    """A 3D network of MONAI, for comparison (dynunet is nnU-Net's).

    Examples:
        >>> VolumetricConfig(network="dynunet", patch_size=(16, 128, 128)).pretrained
        False
    """

    common: ClassVar = ("patch_size", "network_width")

    network: tyro.conf.Fixed[Volumetric]
    """The kind of network."""
    patch_size: tuple[int, int, int] | None = None
    """Patch in voxels (slices, rows, columns). None: from the median scan."""
    network_width: int | None = Field(default=None, ge=1, le=_MOST_CHANNELS)
    """Channels of the first level. None: the network's default."""

    pretrained: ClassVar = False

    def resolve(self, depth: int) -> VolumetricConfig:
        """Returns the settings as they are: patch size and width are chosen with the median scan and the network."""
        return self


def model_type(network: str) -> type[InflatedConfig] | type[VolumetricConfig]:
    """The class of settings for a kind of network."""
    return InflatedConfig if network == "inflated" else VolumetricConfig


def _kind(model: Any) -> str:
    network = model.get("network", "inflated") if isinstance(model, dict) else getattr(model, "network", None)
    return "inflated" if network == "inflated" else "volumetric"


ModelConfig: TypeAlias = Annotated[
    Annotated[InflatedConfig, Tag("inflated")] | Annotated[VolumetricConfig, Tag("volumetric")], Discriminator(_kind)
]
"""The network, by ``network``: settings of the other kind are refused."""
