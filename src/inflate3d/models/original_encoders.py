"""Encoders in checkpoints of the paper's code: which one, of what size, and its tensors by our names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from inflate3d.models.inflation import flatten_depth
from inflate3d.models.renaming import Renaming
from inflate3d.paper_encoders import PAPER_ENCODERS, VIDEO_SWIN

Tensors = dict[str, Tensor]

WHOLE = "encoder."
"""What the original's encoder tensors begin with."""

_STEM = "patch_embed.proj.weight"
_TABLE = "attn.relative_position_bias_table"

_SWIN_NAMES: Renaming = (
    (r"^norm(\d)\.", r"norms.\1."),
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"network.layers_{int(match[1]) + 1}.downsample."),
    (r"^layers\.(\d+)\.", r"network.layers_\1."),
    (r"^patch_embed\.", "network.patch_embed."),
)
_VIDEO_NAMES: Renaming = (
    (r"^layers\.(\d+)\.blocks\.", lambda match: f"network.features.{2 * int(match[1])}."),
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"network.features.{2 * int(match[1]) + 1}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^patch_embed\.", "network.patch_embed."),
)
_PLAIN_NAMES: Renaming = ((r"^", "network.model."),)


@dataclass(frozen=True)
class OriginalEncoder:
    """An encoder of the paper's code.

    Attributes:
        name: Our name of its backbone.
        arguments: What differs from that.
        depth: Slices of a window; none where its kernels don't tell.
        in_channels: Modalities.
        blocks: Blocks of a plain transformer; none of a hierarchical one.
        stride: Pixels per pixel of its finest map.
        tensors: Its weights, by the original's names without ``encoder.``, the stem's in the shape of ours.
        renaming: Brings their names to those of :class:`inflate3d.models.encoders.Encoder`.
    """

    name: str
    arguments: dict[str, Any]
    depth: int | None
    in_channels: int
    blocks: int | None
    stride: int
    tensors: Tensors
    renaming: Renaming

    @property
    def is_swin(self) -> bool:
        """Whether it is Swin, which the original normalizes after each stage and pads before it shifts."""
        return self.name == PAPER_ENCODERS["swint"].backbone


def encoder_kind(tensors: Mapping[str, Tensor]) -> str | None:
    """What the encoder of a checkpoint is; none where its names are not known."""
    names = {name.removeprefix(WHOLE) for name in tensors if name.startswith(WHOLE)}
    if "patch_embedding.cls_token" in names or any(name.startswith("patch_embedding.") for name in names):
        return "MONAI's ViT"
    if _STEM not in names or tensors[WHOLE + _STEM].ndim != 5:
        return None
    if f"blocks.0.{_TABLE}" in names:
        return "BEiT"
    if {"pos_embed", "blocks.0.attn.qkv.weight"} <= names:
        return "DINO"
    if f"layers.0.blocks.0.{_TABLE}" in names:
        return "Swin" if "norm0.weight" in names else "Video Swin"
    return None


def read_encoder(kind: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> OriginalEncoder:
    """Reads sizes and weights of an encoder that :func:`encoder_kind` knows.

    Args:
        kind: What it is.
        tensors: Of the whole checkpoint, by the original's names.
        settings: Its hyper-parameters.
    """
    own = {name.removeprefix(WHOLE): tensor for name, tensor in tensors.items() if name.startswith(WHOLE)}
    return _READERS[kind](own, settings)


def _read_beit(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    return _read_plain("beit", own, own[_STEM], heads=own[f"blocks.0.{_TABLE}"].shape[1])


def _read_dino(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    # No tensor tells the number of heads; the paper's code has 12 at its one width.
    width = own["cls_token"].shape[-1]
    stem = own[_STEM].movedim(-1, 2)  # its kernels end in the depth
    return _read_plain("dino", own, stem, heads=12 if width == 768 else int(settings.get("num_heads", 12)))


def _read_plain(alias: str, own: Tensors, stem: Tensor, *, heads: int) -> OriginalEncoder:
    width, in_channels, depth, patch, _ = stem.shape
    blocks = 1 + max(int(match[1]) for match in (re.match(r"blocks\.(\d+)\.", name) for name in own) if match)
    found = {
        "embed_dim": width,
        "num_heads": heads,
        "depth": blocks,
        "mlp_ratio": _mlp_ratio(own["blocks.0.mlp.fc1.weight"]),
        "patch_size": patch,
    }
    usual = {"embed_dim": 768, "num_heads": 12, "depth": 12, "mlp_ratio": 4, "patch_size": 16}
    return OriginalEncoder(
        name=PAPER_ENCODERS[alias].backbone,
        arguments=_differing(found, usual),
        depth=depth,
        in_channels=in_channels,
        blocks=blocks,
        stride=patch,
        tensors={**own, _STEM: flatten_depth(stem)},
        renaming=_PLAIN_NAMES,
    )


def _read_swin(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    width, in_channels, depth, patch, _ = own[_STEM].shape
    window = (round(own[f"layers.0.blocks.0.{_TABLE}"].shape[0] ** 0.5) + 1) // 2
    usual = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "patch_size": 4, "mlp_ratio": 4}
    found = {"embed_dim": width, **_stages(own), "patch_size": patch, "mlp_ratio": _stage_mlp_ratio(own)}
    return OriginalEncoder(
        name=PAPER_ENCODERS["swint"].backbone,
        arguments={**_differing(found, usual), "window_size": window, "always_partition": True},
        depth=depth,
        in_channels=in_channels,
        blocks=None,
        stride=patch,
        tensors={**own, _STEM: flatten_depth(own[_STEM])},
        renaming=_SWIN_NAMES,
    )


def _read_video_swin(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    width, in_channels, *patch = own[_STEM].shape
    usual = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "patch_size": (2, 4, 4)}
    found = {"embed_dim": width, **_stages(own), "patch_size": tuple(patch)}
    return OriginalEncoder(
        name=VIDEO_SWIN,
        arguments=_differing(found, usual),
        depth=None,
        in_channels=in_channels,
        blocks=None,
        stride=patch[-1],
        tensors=own,
        renaming=_VIDEO_NAMES,
    )


def _stages(own: Tensors) -> dict[str, tuple[int, ...]]:
    """Blocks and heads of each of Swin's stages."""
    depths: dict[int, int] = {}
    heads: dict[int, int] = {}
    for name, tensor in own.items():
        if match := re.fullmatch(rf"layers\.(\d+)\.blocks\.(\d+)\.{re.escape(_TABLE)}", name):
            stage = int(match[1])
            depths[stage] = max(depths.get(stage, 0), int(match[2]) + 1)
            heads[stage] = tensor.shape[1]
    stages = sorted(depths)
    return {"depths": tuple(depths[s] for s in stages), "num_heads": tuple(heads[s] for s in stages)}


def _stage_mlp_ratio(own: Tensors) -> float:
    return _mlp_ratio(own["layers.0.blocks.0.mlp.fc1.weight"])


def _mlp_ratio(weight: Tensor) -> float:
    return weight.shape[0] / weight.shape[1]


def _differing(found: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value != usual[name]}


_READERS: dict[str, Callable[[Tensors, Mapping[str, Any]], OriginalEncoder]] = {
    "BEiT": _read_beit,
    "DINO": _read_dino,
    "Swin": _read_swin,
    "Video Swin": _read_video_swin,
}
