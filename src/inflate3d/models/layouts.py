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
    "SAM (Hugging Face)": ("vision_encoder.patch_embed.projection.weight",),
    "DINOv2 (Hugging Face)": ("embeddings.patch_embeddings.projection.weight", "layer.0.layer_scale1.lambda1"),
    "CLIP (OpenCLIP, with a tower of timm's)": ("visual.trunk.patch_embed.proj.weight",),
    "RadImageNet": ("0.weight", "1.running_mean", "4.0.conv1.weight"),
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
    "DINOv3": ("storage_tokens", "blocks.0.ls1.gamma"),
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
_SAM = (
    (r"\.mlp\.lin", ".mlp.fc"),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^layers\.", "blocks."),
    (r"^(blocks\.\d+)\.layer_norm([12])\.", r"\1.norm\2."),
    (r"^neck\.conv1\.", "neck.0."),
    (r"^neck\.layer_norm1\.", "neck.1."),
    (r"^neck\.conv2\.", "neck.2."),
    (r"^neck\.layer_norm2\.", "neck.3."),
)
"""The authors' names, and those of Hugging Face."""

_HUGGING_FACE_DINOV2 = (
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^layer\.", "blocks."),
    (r"\.attention\.attention\.(query|key|value)\.", lambda match: f".self_attn.{match[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
)
_RADIMAGENET = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^([4-7])\.", lambda match: f"layer{int(match[1]) - 3}."),
)
"""The authors' network is a sequence of the children of torchvision's ResNet-50: 2 and 3 have no weights."""

_IMAGE_PARTS = {
    "SAM": _IMAGE_ENCODER,
    "MobileSAM": _IMAGE_ENCODER,
    "SAM (Hugging Face)": "vision_encoder.",
    "CLIP (Hugging Face)": "vision_model.",
    "CLIP (OpenAI)": "visual.",
    "CLIP (OpenCLIP, with a tower of timm's)": "visual.trunk.",
}
"""Prefix of the image encoder's tensors in files of larger models, by layout."""

_PRETRAINING_ONLY = re.compile(r"(^|\.)(mask_token|periods|bias_mask)$")
"""Tensors of DINOv2 and DINOv3 that serve pre-training, or are constants that timm computes itself."""

_QUERY = re.compile(r"^(blocks\.\d+)\.self_attn\.q_proj\.(weight|bias)$")

_MOST_TOKENS = 16
"""Most entries of a position embedding besides those of patches."""

_Renaming = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


def layout_of(tensors: Mapping[str, Tensor]) -> str | None:
    """The layout of a checkpoint; None if its names don't identify one, as with most of timm's own."""
    stem = tensors.get("patch_embed.proj.weight")
    if stem is not None and stem.ndim == 5:
        return "Video Swin"
    return next((layout for layout, telling in _LAYOUTS.items() if all(name in tensors for name in telling)), None)


def with_timm_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """A checkpoint with timm's names, of the image encoder only; one in timm's layout stays as it is."""
    layout = layout_of(tensors)
    if layout in _IMAGE_PARTS and layout != "CLIP (OpenAI)":  # timm reads that one
        tensors = _below(tensors, _IMAGE_PARTS[layout]) or tensors
    if layout in ("MobileSAM", "TinyViT"):
        return _renamed(tensors, _TINY_VIT)
    if layout in ("SAM", "SAM (Hugging Face)"):
        return _renamed(tensors, _SAM)
    if layout == "CLIP (Hugging Face)":
        return _from_hugging_face_clip(tensors)
    if layout == "DINOv2 (Hugging Face)":
        return _with_joined_queries(_renamed(tensors, _HUGGING_FACE_DINOV2))
    if layout == "RadImageNet":
        return _renamed(tensors, _RADIMAGENET)
    if layout == "BEiT, self-supervised":
        return _with_tables_of_their_own(tensors)
    return dict(tensors)


def fitted(tensors: Mapping[str, Tensor], shapes: Shapes, image_size: tuple[int, int]) -> Tensors:
    """Resamples what timm does not resample itself, and extends a gray stem to RGB.

    Args:
        tensors: From :func:`with_timm_names`.
        shapes: Shapes of the backbone's tensors, by timm's names with underscores for dots.
        image_size: ``(H, W)`` in pixels, to which position embeddings are resampled.
    """
    if layout_of(tensors) in ("CaiT", "CrossViT"):
        return {name: _resampled_tokens(name, tensor, shapes, image_size) for name, tensor in tensors.items()}
    return {
        name: _gray_as_rgb(_resampled(name, tensor, shapes), shapes.get(name.replace(".", "_")))
        for name, tensor in tensors.items()
    }


def not_of_the_encoder(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Tensors of a file that an image encoder has no place for: text and mask parts, and those of pre-training."""
    prefix = _IMAGE_PARTS.get(layout_of(tensors) or "", "")
    return tuple(name for name in tensors if not name.startswith(prefix) or _PRETRAINING_ONLY.search(name))


def _from_hugging_face_clip(tensors: Mapping[str, Tensor]) -> Tensors:
    renamed = _renamed(tensors, _HUGGING_FACE_CLIP)
    if "cls_token" in renamed:
        renamed["cls_token"] = renamed["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in renamed:
        renamed["pos_embed"] = renamed["pos_embed"][None]
    return _with_joined_queries(renamed)


def _with_joined_queries(tensors: Tensors) -> Tensors:
    """Joins queries, keys and values, which timm has in one tensor."""
    renamed = dict(tensors)
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


def embedding_mismatch(tensors: Mapping[str, Tensor], shapes: Shapes, image_size: tuple[int, int]) -> str | None:
    """Explains an embedding with other entries than the backbone's, on which timm's resampling fails obscurely.

    Args:
        shapes: As for `fitted`.
        image_size: As for `fitted`.

    Returns:
        The explanation; None if the entries besides those of patches (class token, register tokens) are as many.
    """
    embedding, expected, stem = tensors.get("pos_embed"), shapes.get("pos_embed"), shapes.get("patch_embed_proj_weight")
    if embedding is None or expected is None or stem is None or embedding.ndim != 3 or len(expected) != 3:
        return None
    side = math.isqrt(embedding.shape[1])
    further, patches = embedding.shape[1] - side**2, math.prod(map(int.__floordiv__, image_size, stem[-2:]))
    if (wanted := expected[1] - patches) == further or further > _MOST_TOKENS:
        return None
    return (
        f"its position embedding has {side} x {side} patches and {further or 'no'} further entries, the backbone's "
        f"{wanted or 'none'} (class token, register tokens)"
    )


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
