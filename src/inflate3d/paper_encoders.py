"""The paper's encoders, by its names."""

from __future__ import annotations

from dataclasses import dataclass

_PLAIN_LEVELS = (3, 5, 7, 11)
"""The blocks of a plain transformer whose outputs the paper uses; elsewhere 3, 6, 9 and 12 are usual."""

VIDEO_SWIN = "videoswint"
"""The only encoder that timm does not have: Video Swin-B."""


@dataclass(frozen=True)
class PaperEncoder:
    """What one of the paper's names stands for.

    Attributes:
        backbone: Name of the backbone; timm's if timm has it.
        levels: The feature maps that the paper uses; None: the usual ones.
        weights: The weights that the name stands for: ``"timm"`` for those that timm publishes under the
            backbone's name, a name of :data:`inflate3d.models.published.PUBLISHED`, or ``"none"``.
    """

    about: str
    backbone: str
    levels: tuple[int, ...] | None
    weights: str


PAPER_ENCODERS = {
    "beit": PaperEncoder(
        "BEiT-B/16, trained and fine-tuned on ImageNet-22k",
        "beit_base_patch16_224.in22k_ft_in22k",
        _PLAIN_LEVELS,
        "timm",
    ),
    "beit-ssl": PaperEncoder(
        "BEiT-B/16, self-supervised on ImageNet-22k",
        "beit_base_patch16_224",
        _PLAIN_LEVELS,
        "beit_base_patch16_224_pt22k",
    ),
    "swint": PaperEncoder("Swin-B, ImageNet-22k", "swin_base_patch4_window7_224.ms_in22k", None, "timm"),
    "dino": PaperEncoder("DINO ViT-B/16, ImageNet-1k", "vit_base_patch16_224.dino", _PLAIN_LEVELS, "timm"),
    "vit": PaperEncoder("ViT-B/16, random weights", "vit_base_patch16_224", _PLAIN_LEVELS, "none"),
    VIDEO_SWIN: PaperEncoder(
        "Video Swin-B, ImageNet-22k and Kinetics-600",
        VIDEO_SWIN,
        None,
        "swin_base_patch244_window877_kinetics600_22k",
    ),
}
"""All of the paper's names, accepted beside timm's."""


def resolved_weights(encoder: str, weights: str) -> str:
    """The 2D weights that an encoder starts from: some of the paper's names imply their own.

    Args:
        encoder: A name of the paper's, or any other.
        weights: The user's setting; the default ``"timm"`` means the weights of the paper's name.
    """
    paper = PAPER_ENCODERS.get(encoder)
    return paper.weights if paper and weights == "timm" else weights
