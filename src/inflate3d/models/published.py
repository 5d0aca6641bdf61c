"""Weights that timm does not publish: the authors' files, downloaded into torch.hub's folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.hub import download_url_to_file

from inflate3d.errors import ModelError

SEE_SOURCE = "see source"


@dataclass(frozen=True)
class PublishedWeights:
    """A weight file that its authors publish.

    Attributes:
        encoder: The encoder that it is for, by the paper's name or timm's.
        sha256: Its checksum; None if there is no independent record of it.
    """

    file: str
    encoder: str
    about: str
    license: str
    source: str
    url: str
    sha256: str | None = None


PUBLISHED = {
    "beit_base_patch16_224_pt22k": PublishedWeights(
        file="beit_base_patch16_224_pt22k.pth",
        encoder="beit-ssl",
        about="BEiT-B/16, self-supervised on ImageNet-22k",
        license=SEE_SOURCE,
        source="https://github.com/microsoft/unilm/tree/master/beit",
        url="https://github.com/addf400/files/releases/download/v1.0/beit_base_patch16_224_pt22k.pth",
    ),
    "swin_base_patch244_window877_kinetics600_22k": PublishedWeights(
        file="swin_base_patch244_window877_kinetics600_22k.pth",
        encoder="videoswint",
        about="Video Swin-B, ImageNet-22k and Kinetics-600",
        license="Apache-2.0",
        source="https://github.com/SwinTransformer/Video-Swin-Transformer",
        url="https://github.com/SwinTransformer/storage/releases/download/v1.0.4/"
        "swin_base_patch244_window877_kinetics600_22k.pth",
    ),
    "mobile_sam": PublishedWeights(
        file="mobile_sam.pt",
        encoder="tiny_vit_5m_224",
        about="MobileSAM TinyViT-5M, distilled from SAM; its last stage at stride 16, here at 32",
        license="Apache-2.0",
        source="https://github.com/ChaoningZhang/MobileSAM",
        url="https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
}
"""The files by name. All other weights are timm's, named by its tags, such as ``vit_base_patch16_224.mae``."""


def weights_folder() -> Path:
    """torch.hub's folder, which TORCH_HOME moves."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def published_path(weights: PublishedWeights) -> Path:
    """The file in :func:`weights_folder`, downloaded if it is missing."""
    path = weights_folder() / weights.file
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(weights.url, str(path), hash_prefix=weights.sha256, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:  # torch raises a RuntimeError for a wrong checksum
        raise ModelError(
            f"{weights.file} can't be downloaded",
            expected=f"{weights.url}, SHA-256 {weights.sha256 or 'not known'}",
            got=getattr(error, "reason", error),
            hint=f"try again, or download it elsewhere and put it at {path} (terms: {weights.source})",
        ) from error
    return path
