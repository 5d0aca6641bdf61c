"""Published layouts of 2D weights, recognized by the names of tensors and converted to timm's.

timm itself reads the layouts of BEiT, Swin, DINO, MAE, DINOv2 and OpenAI's CLIP. These are others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import torch
from timm.layers.pos_embed import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from torch import Tensor
from torch.nn import functional as F

Tensors = dict[str, Tensor]
Shapes = Mapping[str, torch.Size]

_SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
_IMAGE_ENCODER = "image_encoder."

_LAYOUTS: dict[str, tuple[str, ...]] = {
    "MobileSAM": (f"{_IMAGE_ENCODER}layers.0.blocks.0.conv1.c.weight",),
    "SAM": (f"{_IMAGE_ENCODER}patch_embed.proj.weight",),
    "TinyViT": ("layers.0.blocks.0.conv1.c.weight",),
    "CLIP (OpenAI)": ("visual.class_embedding",),
    "CLIP (Hugging Face)": ("vision_model.embeddings.class_embedding",),
    "BEiT, self-supervised": (_SHARED_TABLE,),
    "BEiT": ("blocks.0.attn.q_bias", "blocks.0.attn.relative_position_bias_table"),
    "Swin": ("layers.0.downsample.reduction.weight", "layers.0.blocks.0.attn.relative_position_bias_table"),
    "MAE with its decoder": ("decoder_embed.weight", "blocks.0.attn.qkv.weight"),
    "CaiT": ("blocks_token_only.0.norm1.weight", "pos_embed"),
    "CrossViT": ("patch_embed.0.proj.weight", "blocks.0.fusion.0.norm1.weight"),
    "DINOv2": ("mask_token", "blocks.0.ls1.gamma"),
    "plain transformer (ViT, DINO, MAE)": ("pos_embed", "blocks.0.attn.qkv.weight"),
}
"""Tensor names that identify a layout, the most specific first."""

_TINY_VIT = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"stages.{int(match[1]) + 1}.downsample."),
    (r"^layers\.", "stages."),
    (r"\.c\.weight$", ".conv.weight"),
)
_HUGGING_FACE_CLIP = (
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^pre_layrnorm\.", "norm_pre."),  # misspelt in the published files
    (r"^post_layernorm\.", "norm."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
)
_QUERY = re.compile(r"^(blocks\.\d+)\.self_attn\.q_proj\.(weight|bias)$")

_Renaming = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


def layout_of(tensors: Mapping[str, Tensor]) -> str | None:
    """The layout of a checkpoint; None if its names don't identify one, as with most of timm's own."""
    stem = tensors.get("patch_embed.proj.weight")
    if stem is not None and stem.ndim == 5:
        return "Video Swin"
    return next((layout for layout, telling in _LAYOUTS.items() if all(name in tensors for name in telling)), None)


def to_timm(tensors: Mapping[str, Tensor], shapes: Shapes, image_size: tuple[int, int]) -> Tensors:
    """Converts a checkpoint to names and shapes that timm reads.

    Args:
        shapes: Shapes of the backbone's tensors, by timm's names with underscores for dots.
        image_size: ``(H, W)`` in pixels, to which position embeddings are resampled if timm does not.

    Returns:
        The tensors with timm's names; those in timm's layout stay as they are.
    """
    layout = layout_of(tensors)
    if layout in ("MobileSAM", "TinyViT"):
        return _renamed(_below(tensors, _IMAGE_ENCODER) or dict(tensors), _TINY_VIT)
    if layout == "CLIP (Hugging Face)":
        return _from_hugging_face_clip(tensors)
    if layout == "BEiT, self-supervised":
        return _with_tables_of_their_own(tensors)
    if layout == "SAM":
        tensors = {name.replace("mlp.lin", "mlp.fc"): t for name, t in _below(tensors, _IMAGE_ENCODER).items()}
    if layout in ("CaiT", "CrossViT"):
        return {name: _resampled_tokens(name, tensor, shapes, image_size) for name, tensor in tensors.items()}
    _check_class_token(tensors.get("pos_embed"), shapes)
    return {
        name: _gray_as_rgb(_resampled(name, tensor, shapes), shapes.get(name.replace(".", "_")))
        for name, tensor in tensors.items()
    }


def _from_hugging_face_clip(tensors: Mapping[str, Tensor]) -> Tensors:
    renamed = _renamed(_below(tensors, "vision_model."), _HUGGING_FACE_CLIP)
    if "cls_token" in renamed:
        renamed["cls_token"] = renamed["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in renamed:
        renamed["pos_embed"] = renamed["pos_embed"][None]
    for match in filter(None, map(_QUERY.match, list(renamed))):
        block, kind = match.groups()
        parts = [f"{block}.self_attn.{part}_proj.{kind}" for part in "qkv"]
        if all(part in renamed for part in parts):
            renamed[f"{block}.attn.qkv.{kind}"] = torch.cat([renamed.pop(part) for part in parts])
    return renamed


def _with_tables_of_their_own(tensors: Mapping[str, Tensor]) -> Tensors:
    """Copies the position table that BEiT's blocks share in pre-training to every block, as its authors do."""
    blocks = [
        name.removesuffix(".qkv.weight") for name in tensors if re.fullmatch(r"blocks\.\d+\.attn\.qkv\.weight", name)
    ]
    shared = {f"{block}.relative_position_bias_table": tensors[_SHARED_TABLE] for block in blocks}
    return {**shared, **{name: tensor for name, tensor in tensors.items() if name != _SHARED_TABLE}}


def _resampled(name: str, tensor: Tensor, shapes: Shapes) -> Tensor:
    """Resamples SAM's and PiT's embeddings and SAM's position tables to the image size, which timm does not do."""
    expected = shapes.get(name.replace(".", "_"))
    if expected is None or expected == tensor.shape:
        return tensor
    if name == "pos_embed" and tensor.ndim == len(expected) == 4:
        if tensor.shape[1] == expected[1] and tensor.shape[3] != expected[3]:  # PiT's channels come first
            return F.interpolate(tensor, size=expected[2:], mode="bicubic", align_corners=False, antialias=True)
        return resample_abs_pos_embed_nhwc(tensor, new_size=[expected[1], expected[2]])
    if name.endswith((".rel_pos_h", ".rel_pos_w")) and tensor.ndim == 2 and tensor.shape[1] == expected[1]:
        return F.interpolate(tensor.T[None], size=expected[0], mode="linear")[0].T.contiguous()
    return tensor


def _resampled_tokens(name: str, tensor: Tensor, shapes: Shapes, image_size: tuple[int, int]) -> Tensor:
    """Resamples the position embeddings of CaiT (no class token) and CrossViT (two of them) to the image size."""
    name = re.sub(r"^pos_embed\.(\d)$", r"pos_embed_\1", name)  # as in CrossViT's own files
    expected = shapes.get(name.replace(".", "_"))
    if not name.startswith("pos_embed") or expected is None or expected == tensor.shape:
        return tensor
    prefix = 0 if name == "pos_embed" else 1
    rows = round(math.sqrt((expected[1] - prefix) * image_size[0] / image_size[1]))
    grid = [rows, (expected[1] - prefix) // rows]
    return resample_abs_pos_embed(tensor, new_size=grid, num_prefix_tokens=prefix)


def _check_class_token(embedding: Tensor | None, shapes: Shapes) -> None:
    """Explains a mismatch on which timm's resampling fails with an obscure error."""
    expected = shapes.get("pos_embed")
    has_token = any(name.endswith("cls_token") for name in shapes)
    if embedding is None or expected is None or embedding.ndim != 3 or not has_token or embedding.shape == expected:
        return
    side = math.isqrt(embedding.shape[1])
    if side**2 == embedding.shape[1] and math.isqrt(expected[1]) ** 2 != expected[1]:
        raise ValueError(f"its position embedding has {side} x {side} patches and no entry for the class token")


def _gray_as_rgb(tensor: Tensor, expected: torch.Size | None) -> Tensor:
    """Extends a stem's gray weight to RGB such that gray images give exactly the same result."""
    if expected is None or tensor.ndim != 4 or (tensor.shape[1], *expected[1:2]) != (1, 3):
        return tensor
    return torch.cat([tensor, torch.zeros_like(tensor), torch.zeros_like(tensor)], dim=1)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _renamed(tensors: Mapping[str, Tensor], renaming: _Renaming) -> Tensors:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in renaming:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
