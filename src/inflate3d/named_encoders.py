"""Encoders with names of their own: the paper's, and the medical weights that radiologists ask for."""

from __future__ import annotations

from dataclasses import dataclass

_PLAIN_LEVELS = (3, 5, 7, 11)
"""The blocks of a plain transformer whose outputs the paper uses; elsewhere 3, 6, 9 and 12 are usual."""

VIDEO_SWIN = "videoswint"
"""The only encoder that timm does not have: Video Swin-B."""


@dataclass(frozen=True)
class NamedEncoder:
    """What a name stands for.

    Attributes:
        backbone: Name of the backbone; timm's if timm has it.
        weights: The weights that the name stands for: ``"timm"`` for those that timm publishes under the
            backbone's name, a name of :data:`inflate3d.models.published.PUBLISHED`, or ``"none"``.
        levels: The feature maps that the paper uses; None: the usual ones.
        intensities: Mean and standard deviation of gray intensities (0 to 1) that the weights were trained with.
            None: those that timm records for the backbone.
    """

    about: str
    backbone: str
    weights: str
    levels: tuple[int, ...] | None = None
    intensities: tuple[float, float] | None = None


PAPER_ENCODERS = {
    "beit": NamedEncoder(
        "BEiT-B/16, trained and fine-tuned on ImageNet-22k",
        "beit_base_patch16_224.in22k_ft_in22k",
        "timm",
        _PLAIN_LEVELS,
    ),
    "beit-ssl": NamedEncoder(
        "BEiT-B/16, self-supervised on ImageNet-22k",
        "beit_base_patch16_224",
        "beit_base_patch16_224_pt22k",
        _PLAIN_LEVELS,
    ),
    "swint": NamedEncoder("Swin-B, ImageNet-22k", "swin_base_patch4_window7_224.ms_in22k", "timm"),
    "dino": NamedEncoder("DINO ViT-B/16, ImageNet-1k", "vit_base_patch16_224.dino", "timm", _PLAIN_LEVELS),
    "vit": NamedEncoder("ViT-B/16, random weights", "vit_base_patch16_224", "none", _PLAIN_LEVELS),
    VIDEO_SWIN: NamedEncoder(
        "Video Swin-B, ImageNet-22k and Kinetics-600",
        VIDEO_SWIN,
        "swin_base_patch244_window877_kinetics600_22k",
    ),
}
"""The paper's names."""

MEDICAL_ENCODERS = {
    "rad-dino": NamedEncoder(
        "RAD-DINO: DINOv2 ViT-B/14, chest radiographs",
        "vit_base_patch14_dinov2",
        "rad-dino",
        intensities=(0.5307, 0.2583),
    ),
    "biomedclip": NamedEncoder(
        "BiomedCLIP: ViT-B/16, figures of PubMed Central and their captions",
        "vit_base_patch16_224",
        "biomedclip",
        intensities=(0.4491, 0.2686),
    ),
    "pubmedclip": NamedEncoder(
        "PubMedCLIP: CLIP ViT-B/32, radiology figures and their captions",
        "vit_base_patch32_clip_quickgelu_224",
        "pubmedclip",
    ),
    "medsam": NamedEncoder(
        "MedSAM: SAM ViT-B/16, images and masks of eleven modalities",
        "samvit_base_patch16",
        "medsam",
    ),
    "meddinov3": NamedEncoder("MedDINOv3: DINOv3 ViT-B/16, slices of CT", "vit_base_patch16_dinov3", "meddinov3"),
    "radimagenet-resnet50": NamedEncoder(
        "RadImageNet: ResNet-50, labeled CT, MR and ultrasound images",
        "resnet50",
        "radimagenet-resnet50",
        intensities=(0.5, 0.5),  # -1 to 1, as in github.com/BMEII-AI/RadImageNet/blob/main/pytorch_example.ipynb
    ),
}
"""Names of weights that were trained on medical images."""

NAMED_ENCODERS = {**PAPER_ENCODERS, **MEDICAL_ENCODERS}
"""All names that are accepted beside timm's."""


def resolved_weights(encoder: str, weights: str) -> str:
    """The 2D weights that an encoder starts from: some names imply their own.

    Args:
        encoder: A name of :data:`NAMED_ENCODERS`, or any other.
        weights: The user's setting; the default ``"timm"`` means the weights of the encoder's name.
    """
    named = NAMED_ENCODERS.get(encoder)
    return named.weights if named and weights == "timm" else weights
