"""The table of weight files that their authors publish, and where they lie on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inflate3d.atomic import write_text
from inflate3d.errors import ModelError
from inflate3d.models.download import NoConnectionError, Progress, check_sha256, download, sha256_of

SEE_SOURCE = "see source"


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that its authors publish.

    Attributes:
        file: Its name.
        encoder: The encoder that takes it, by the paper's name or timm's.
        about: What was trained, on what.
        license: SPDX identifier, or "see source".
        source: Page of the authors, with the terms.
        url: The file itself.
        bytes: Its size; none where it isn't known for sure.
        sha256: Its checksum; none where it isn't known for sure.
    """

    file: str
    encoder: str
    about: str
    license: str
    source: str
    url: str
    bytes: int | None = None
    sha256: str | None = None


_UNILM = "https://github.com/microsoft/unilm/tree/master/beit"
_META = "https://dl.fbaipublicfiles.com"

PUBLISHED = {
    "beit_base_patch16_224_pt22k_ft22k": PublishedWeights(
        file="beit_base_patch16_224_pt22k_ft22k.pth",
        encoder="beit",
        about="BEiT-B/16, self-supervised and fine-tuned on ImageNet-22k",
        license=SEE_SOURCE,
        source=_UNILM,
        url="https://github.com/addf400/files/releases/download/v1.0/beit_base_patch16_224_pt22k_ft22k.pth",
    ),
    "beit_base_patch16_224_pt22k": PublishedWeights(
        file="beit_base_patch16_224_pt22k.pth",
        encoder="beit-ssl",
        about="BEiT-B/16, self-supervised on ImageNet-22k",
        license=SEE_SOURCE,
        source=_UNILM,
        url="https://github.com/addf400/files/releases/download/v1.0/beit_base_patch16_224_pt22k.pth",
    ),
    "swin_base_patch4_window7_224_22k": PublishedWeights(
        file="swin_base_patch4_window7_224_22k.pth",
        encoder="swint",
        about="Swin-B, ImageNet-22k",
        license="MIT",
        source="https://github.com/microsoft/Swin-Transformer",
        url="https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224_22k.pth",
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
    "dino_vitbase16_pretrain": PublishedWeights(
        file="dino_vitbase16_pretrain.pth",
        encoder="dino",
        about="DINO ViT-B/16, ImageNet-1k",
        license="Apache-2.0",
        source="https://github.com/facebookresearch/dino",
        url=f"{_META}/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    ),
    "mae_pretrain_vit_base": PublishedWeights(
        file="mae_pretrain_vit_base.pth",
        encoder="vit_base_patch16_224.mae",
        about="MAE ViT-B/16, ImageNet-1k",
        license="CC-BY-NC-4.0",
        source="https://github.com/facebookresearch/mae",
        url=f"{_META}/mae/pretrain/mae_pretrain_vit_base.pth",
    ),
    "dinov2_vitb14_pretrain": PublishedWeights(
        file="dinov2_vitb14_pretrain.pth",
        encoder="vit_base_patch14_dinov2",
        about="DINOv2 ViT-B/14, LVD-142M",
        license="Apache-2.0",
        source="https://github.com/facebookresearch/dinov2",
        url=f"{_META}/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        bytes=346_378_731,
        sha256="0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    ),
    "sam_vit_b": PublishedWeights(
        file="sam_vit_b_01ec64.pth",
        encoder="samvit_base_patch16",
        about="Segment Anything ViT-B, SA-1B",
        license="Apache-2.0",
        source="https://github.com/facebookresearch/segment-anything",
        url=f"{_META}/segment_anything/sam_vit_b_01ec64.pth",
        bytes=375_042_383,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "mobile_sam": PublishedWeights(
        file="mobile_sam.pt",
        encoder="tiny_vit_5m_224",
        about="MobileSAM TinyViT-5M, distilled from SAM; its last stage at stride 16, here at 32",
        license="Apache-2.0",
        source="https://github.com/ChaoningZhang/MobileSAM",
        url="https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        bytes=40_728_226,
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
}
"""Known files by name; sizes and checksums only where independent records of the authors' file agree."""


@dataclass(frozen=True)
class FetchedWeights:
    """A published file on this machine.

    Attributes:
        path: Where it lies.
        sha256: Its checksum.
        verified: Whether the checksum is one that is known of the authors' file; else it is only that of the file
            as it was first met here.
        downloaded: Whether it was fetched just now.
    """

    path: Path
    sha256: str
    verified: bool
    downloaded: bool


def weights_folder() -> Path:
    """Where fetched weights lie: the folder of :mod:`torch.hub`, which TORCH_HOME moves."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def published_path(weights: PublishedWeights) -> Path:
    """The file's place in :func:`weights_folder`; it is fetched where it isn't there.

    Raises:
        ModelError: It can't be fetched, or is not the authors' file.
        OutputError: It can't be written.
    """
    path = weights_folder() / weights.file
    return path if path.exists() else fetch_published(weights).path


def fetch_published(
    weights: PublishedWeights, folder: Path | None = None, progress: Progress | None = None
) -> FetchedWeights:
    """Fetches a file where it isn't there, and makes sure that it is the right one.

    The checksum is written beside the file. Where none is known of the authors' file, that first one is trusted, and
    the file has to keep to it.

    Args:
        weights: From :data:`PUBLISHED`.
        folder: Where to put it; none for :func:`weights_folder`.
        progress: Is told bytes so far and in all.

    Raises:
        ModelError: It can't be fetched, or is not the file that it should be.
        OutputError: It can't be written.
    """
    path = (folder or weights_folder()) / weights.file
    record = path.with_name(f"{path.name}.sha256")
    wanted = weights.sha256 or _recorded(record)
    downloaded = not path.exists()
    if downloaded:
        checksum = _download(weights, path, progress)
    else:
        checksum = sha256_of(path)
        check_sha256(checksum, wanted, path)
    if checksum != _recorded(record):
        write_text(record, f"{checksum}  {path.name}\n")
    return FetchedWeights(path, checksum, verified=weights.sha256 is not None, downloaded=downloaded)


def _download(weights: PublishedWeights, path: Path, progress: Progress | None) -> str:
    try:
        return download(weights.url, path, sha256=weights.sha256, progress=progress)
    except NoConnectionError as error:
        raise ModelError(
            f"{weights.file} can't be fetched",
            expected=f"a network that reaches {weights.url}",
            got=error.got,
            hint=f"try again, what came so far is kept; or fetch it elsewhere and put it at {path}"
            f" (it is described at {weights.source})",
        ) from error


def _recorded(record: Path) -> str | None:
    """The checksum in a file as ``sha256sum`` writes it; none where there is no such file."""
    try:
        return record.read_text(encoding="utf-8").split()[0]
    except (FileNotFoundError, IndexError):
        return None
