"""Video Swin: the paper's only encoder with 3D weights, whose tokens keep their depth and attend along it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.models.video.swin_transformer import PatchEmbed3d, ShiftedWindowAttention3d, SwinTransformer3d

from inflate3d.config import Inflation
from inflate3d.errors import ModelError
from inflate3d.models.backbone import RGB, Backbone, Filled
from inflate3d.models.timm_backbones import check_levels
from inflate3d.named_encoders import VIDEO_SWIN

_TRAINED_AT = (224, 224)
_BASE: dict[str, Any] = {
    "embed_dim": 128,
    "depths": (2, 2, 18, 2),
    "num_heads": (4, 8, 16, 32),
    "patch_size": (2, 4, 4),
    "window_size": (8, 7, 7),
}
"""Settings of Video Swin-B; sizes are (depth, rows, columns)."""

_FROM_AUTHORS = (
    (r"^backbone\.", ""),
    (r"^layers\.(\d+)\.blocks\.", lambda match: f"features.{2 * int(match[1])}."),
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"features.{2 * int(match[1]) + 1}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
)
"""torchvision's name for each name in the authors' files (mmaction's layout)."""


class VideoSwin(nn.Module):
    """torchvision's Video Swin without its classifier: windows in, maps of their middle depth out.

    The stem reads patches of two slices; a window of odd depth is padded with one slice of zeros at its end.

    Args:
        levels: Stages whose maps are returned, ascending from 0.
        embed_dim: Channels of the first stage, doubled in each further one.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        patch_size: ``(depth, rows, columns)`` of a patch.
        window_size: ``(depth, rows, columns)`` of an attention window, in tokens.
    """

    def __init__(
        self,
        in_channels: int,
        levels: Sequence[int],
        *,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        patch_size: Sequence[int],
        window_size: Sequence[int],
    ) -> None:
        super().__init__()
        swin = SwinTransformer3d(
            patch_size=list(patch_size),
            embed_dim=embed_dim,
            depths=list(depths),
            num_heads=list(num_heads),
            window_size=list(window_size),
            stochastic_depth_prob=0.0,
            num_classes=1,
            patch_embed=partial(PatchEmbed3d, in_channels=in_channels),
        )
        self.patch_embed, self.token_slices = swin.patch_embed, patch_size[0]
        self.taken = frozenset(2 * level for level in levels)  # between two stages lies one that merges patches
        self.features = swin.features[: max(self.taken) + 1]
        for module in self.features.modules():
            if isinstance(module, ShiftedWindowAttention3d):
                _forget_index(module)

    def forward(self, windows: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The stages' maps before down-sampling, at the depth whose tokens contain the center slice.

        The original uses ``tokens in depth // 2``: the same for 1, 5, 9, ... slices, a later one for 3, 7, ...
        """
        tokens = self.patch_embed(windows)
        center = windows.shape[2] // 2 // self.token_slices
        maps = []
        for index, layer in enumerate(self.features):
            tokens = layer(tokens)  # (B, D', H', W', channels)
            if index in self.taken:
                maps.append(tokens[:, center].permute(0, 3, 1, 2))
        return maps


@dataclass(frozen=True)
class VideoSwinBackbone(Backbone):
    """Video Swin; its kernels have a depth already, so nothing has to be spread over slices."""

    @property
    def gray_mean(self) -> float:
        return sum(IMAGENET_DEFAULT_MEAN) / RGB

    @property
    def gray_std(self) -> float:
        return sum(IMAGENET_DEFAULT_STD) / RGB

    def build(self, in_channels: int, depth: int = 1) -> nn.Module:
        """Builds the network with random weights; it takes windows of any depth."""
        return VideoSwin(in_channels, self.levels, **{**_BASE, **self.arguments})

    def build_filled(self, tensors: Mapping[str, Tensor]) -> Filled:
        """Builds the network for RGB and loads tensors in the authors' layout or torchvision's."""
        network = self.build(RGB)
        result = network.load_state_dict({_own_name(name): tensor for name, tensor in tensors.items()}, strict=False)
        return Filled(network, tuple(result.missing_keys), tuple(result.unexpected_keys))

    def feature_maps(self, network: nn.Module, windows: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        return network(windows)

    def stem_names(self, network: nn.Module) -> tuple[str, ...]:
        return ("patch_embed.proj",)

    def inflated_stem(self, weight: Tensor, depth: int, in_channels: int, method: Inflation) -> Tensor:
        """Sums RGB, copies it to the modalities, divides by their number: ``(O, C, 2, 4, 4)``; or a random weight."""
        gray = weight.sum(dim=1, keepdim=True) / in_channels
        copied = gray.repeat(1, in_channels, 1, 1, 1)
        return nn.init.kaiming_uniform_(copied, a=math.sqrt(5)) if method == "random" else copied

    def as_original(self, windows: Float[Tensor, "1 1 d h w"]) -> Float[Tensor, "1 3 _ h w"]:
        """The whole window as a gray RGB clip."""
        return windows.expand(-1, RGB, -1, -1, -1)

    def takes_stage_norms(self, network: nn.Module) -> bool:
        """The paper's code normalizes the maps of Swin, but not those of Video Swin."""
        return False


def look_up_video_swin(
    image_size: int | tuple[int, int] | None, levels: Sequence[int] | None, arguments: Mapping[str, Any]
) -> VideoSwinBackbone:
    """Video Swin-B, or a variant with another width, depth, number of heads, patch or window size."""
    if unknown := sorted(set(arguments) - set(_BASE)):
        raise ModelError(f"{VIDEO_SWIN} has no such arguments", expected=", ".join(_BASE), got=", ".join(unknown))
    sizes = {**_BASE, **arguments}
    count = len(sizes["depths"])
    chosen = tuple(range(count)) if levels is None else check_levels(VIDEO_SWIN, levels, count)
    size = _TRAINED_AT if image_size is None else image_size
    return VideoSwinBackbone(
        VIDEO_SWIN,
        image_size=(size, size) if isinstance(size, int) else size,
        levels=chosen,
        channels=tuple(sizes["embed_dim"] * 2**level for level in chosen),
        strides=tuple(sizes["patch_size"][-1] * 2**level for level in chosen),
        trained_at=_TRAINED_AT,
        arguments=arguments,
    )


def _own_name(name: str) -> str:
    for pattern, replacement in _FROM_AUTHORS:
        name = re.sub(pattern, replacement, name)
    return name


def _forget_index(attention: ShiftedWindowAttention3d) -> None:
    """Keeps a derived index, a megabyte per block, out of model files."""
    index = attention.get_buffer("relative_position_index")
    del attention.relative_position_index
    attention.register_buffer("relative_position_index", index, persistent=False)
