"""The paper's network and optimizer, as its code has them: BEiT-base and UPerNet-768, float32, nothing fused.

Its decoder's layers are those of our ``upernet`` (a test holds both against the original's logits); attention is done
one operation at a time, memory is laid out channels first, and AdamW goes from weight to weight.
"""

from __future__ import annotations

from monai.losses.dice import DiceFocalLoss
from timm.layers.config import set_fused_attn
from torch import nn
from torch.optim import AdamW

from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model


def recipe_model(image_size: int, num_classes: int) -> Segmenter:
    """BEiT-base with random weights, five slices deep, and the paper's decoder."""
    set_fused_attn(False)
    try:
        encoder = create_encoder("beit", depth=5, image_size=image_size, weights="none")
    finally:
        set_fused_attn(True)
    return create_model(encoder=encoder, num_classes=num_classes, decoder="upernet", input_scaling="unit")


def recipe_optimizer(model: nn.Module) -> AdamW:
    """AdamW as it was before torch fused it or took weights together."""
    return AdamW(model.parameters(), lr=3e-5, weight_decay=0.05, foreach=False, fused=False)


def recipe_loss() -> nn.Module:
    """Dice and focal loss, MONAI's."""
    return DiceFocalLoss(to_onehot_y=True, softmax=True, batch=True, include_background=False, gamma=2.0)
