"""Weights that timm does not publish: the authors' files, by name, license and place."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from torch.hub import download_url_to_file

from inflate3d.errors import ModelError

NOT_STATED = "not stated"


@dataclass(frozen=True)
class PublishedWeights:
    """A weight file that its authors publish.

    Attributes:
        file: Name of the file, where it is published and in the cache.
        encoder: The encoder that it is for, by a name of :data:`inflate3d.named_encoders.NAMED_ENCODERS` or timm's.
        data: What the weights were trained on.
        license: SPDX identifier, or the license's name.
        source: Page of the authors.
        megabytes: Size of the file, in 10^6 bytes; None if its authors don't state it.
        url: Address of the file; None if it is on the Hugging Face hub or has to be downloaded by hand.
        hub_id: Repository on the hub, such as ``"microsoft/rad-dino"``.
        revision: Its commit, or branch if no commit is known.
        sha256: Checksum of the file; None if there is no independent record of it.
        terms: Address of a license that has to be accepted; None for licenses that permit any use.
    """

    file: str
    encoder: str
    about: str
    data: str
    license: str
    source: str
    megabytes: int | None
    url: str | None = None
    hub_id: str | None = None
    revision: str = "main"
    sha256: str | None = None
    terms: str | None = None

    @property
    def size(self) -> str:
        """The size in words."""
        return "size not stated" if self.megabytes is None else f"{self.megabytes} MB"

    @property
    def place(self) -> str:
        """Where the file is, in words or as an address."""
        if self.hub_id:
            return f"https://huggingface.co/{self.hub_id}/resolve/{self.revision}/{self.file}"
        return self.url or f"{self.source} (fetch it by hand)"


PUBLISHED = {
    "beit_base_patch16_224_pt22k": PublishedWeights(
        file="beit_base_patch16_224_pt22k.pth",
        encoder="beit-ssl",
        about="BEiT-B/16, self-supervised",
        data="ImageNet-22k, photographs",
        license="MIT",
        source="https://github.com/microsoft/unilm/tree/master/beit",
        megabytes=368,
        url="https://github.com/addf400/files/releases/download/v1.0/beit_base_patch16_224_pt22k.pth",
    ),
    "swin_base_patch244_window877_kinetics600_22k": PublishedWeights(
        file="swin_base_patch244_window877_kinetics600_22k.pth",
        encoder="videoswint",
        about="Video Swin-B",
        data="ImageNet-22k, photographs; Kinetics-600, videos",
        license="Apache-2.0",
        source="https://github.com/SwinTransformer/Video-Swin-Transformer",
        megabytes=351,
        url="https://github.com/SwinTransformer/storage/releases/download/v1.0.4/"
        "swin_base_patch244_window877_kinetics600_22k.pth",
    ),
    "mobile_sam": PublishedWeights(
        file="mobile_sam.pt",
        encoder="tiny_vit_5m_224",
        about="MobileSAM TinyViT-5M, distilled from SAM; its last stage at stride 16, here at 32",
        data="SA-1B, photographs",
        license="Apache-2.0",
        source="https://github.com/ChaoningZhang/MobileSAM",
        megabytes=41,
        url="https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    "rad-dino": PublishedWeights(
        file="model.safetensors",
        encoder="rad-dino",
        about="RAD-DINO, DINOv2 ViT-B/14",
        data="882,775 chest radiographs of five public datasets, self-supervised",
        license="MIT",
        source="https://huggingface.co/microsoft/rad-dino",
        megabytes=346,
        hub_id="microsoft/rad-dino",
        revision="110cbc18d5133582e320b43d53bf5c44e410c936",
    ),
    "biomedclip": PublishedWeights(
        file="open_clip_pytorch_model.bin",
        encoder="biomedclip",
        about="BiomedCLIP, ViT-B/16 of an OpenCLIP model",
        data="PMC-15M, 15 million figures and captions of biomedical articles",
        license="MIT",
        source="https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        megabytes=784,
        hub_id="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        revision="2584124ff32fcf3f2946e901aff906086e2d39bf",
    ),
    "pubmedclip": PublishedWeights(
        file="pytorch_model.bin",
        encoder="pubmedclip",
        about="PubMedCLIP, CLIP ViT-B/32",
        data="ROCO, 80,000 radiology figures and captions of PubMed Central",
        license="MIT",
        source="https://huggingface.co/flaviagiammarino/pubmed-clip-vit-base-patch32",
        megabytes=605,
        hub_id="flaviagiammarino/pubmed-clip-vit-base-patch32",
        revision="26c0c67f6da303ad2a38909130bd35744ea93517",
    ),
    "medsam": PublishedWeights(
        file="model.safetensors",
        encoder="medsam",
        about="MedSAM, SAM ViT-B/16, the authors' first version",
        data="more than 200,000 masks of eleven modalities (April 2023)",
        license="Apache-2.0",
        source="https://huggingface.co/wanglab/medsam-vit-base",
        megabytes=375,
        hub_id="wanglab/medsam-vit-base",
        revision="a0a0e4bf38278213a0df876d2378f5736731a15e",
    ),
    "meddinov3": PublishedWeights(
        file="meddinov3_vitb16_ct3m.pth",
        encoder="meddinov3",
        about="MedDINOv3, DINOv3 ViT-B/16; the teacher of the checkpoint",
        data="CT-3M, 3.87 million slices of CT, self-supervised",
        license="dinov3-license",
        source="https://github.com/ricklisz/MedDINOv3",
        megabytes=None,
        terms="https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
    ),
    "radimagenet-resnet50": PublishedWeights(
        file="ResNet50.pt",
        encoder="radimagenet-resnet50",
        about="RadImageNet, ResNet-50 of PyTorch",
        data="RadImageNet, 1.35 million CT, MR and ultrasound images with 165 labels",
        license=NOT_STATED,
        source="https://huggingface.co/Lab-Rasool/RadImageNet",
        megabytes=94,
        hub_id="Lab-Rasool/RadImageNet",
        terms="https://www.radimagenet.com",
    ),
}
"""The files by name. All other weights are timm's, named by its tags, such as ``vit_base_patch16_224.mae``."""


def weights_folder() -> Path:
    """torch.hub's folder, which TORCH_HOME moves."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def downloaded_path(weights: PublishedWeights) -> Path | None:
    """The file on this machine, in :func:`weights_folder` or the hub's cache; None if it is not here."""
    if weights.hub_id:
        found = try_to_load_from_cache(weights.hub_id, weights.file, revision=weights.revision)
        return Path(found) if isinstance(found, str) else None
    path = weights_folder() / weights.file
    return path if path.exists() else None


def published_path(name: str, *, accept_license: bool = False) -> Path:
    """The file of a name of :data:`PUBLISHED`, downloaded if it is missing.

    Args:
        accept_license: Whether the user accepts a license with conditions; asked for before the download only.

    Raises:
        ModelError: The license is not accepted, or the file can't be downloaded.
    """
    weights = PUBLISHED[name]
    if path := downloaded_path(weights):
        return path
    if weights.terms and not accept_license:
        raise ModelError(
            f"the license of {name} has conditions",
            expected="that you read and accept it",
            got=f"{weights.license}, {weights.terms}",
            hint=f"if you accept it: `inflate3d weights get {name} --accept-license`",
        )
    if weights.hub_id:
        return _from_hub(name, weights, weights.hub_id)
    path = weights_folder() / weights.file
    if weights.url is None:
        raise ModelError(
            f"{name} has to be downloaded by hand",
            expected=path,
            got="no such file; its authors only link to it from a web page",
            hint=f"download it from {weights.source} and put it there",
        )
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


def _from_hub(name: str, weights: PublishedWeights, hub_id: str) -> Path:
    try:
        return Path(hf_hub_download(hub_id, weights.file, revision=weights.revision))
    except (OSError, ValueError) as error:  # the hub's errors are either
        raise ModelError(
            f"{weights.file} can't be downloaded",
            expected=weights.place,
            got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            hint=f"try again, or download it elsewhere and give its path: --encoder {weights.encoder} --weights FILE",
        ) from error
