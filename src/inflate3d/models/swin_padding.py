"""Swin as the paper's code computes it where a map is no multiple of the attention window."""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.nn import functional as F


class PadThenShift(SwinTransformerBlock):
    """Pads a map to whole windows and then shifts it, as Swin's authors do for segmentation.

    timm shifts first, so that values near the border differ. On maps of whole windows the two are one.
    """

    def _attn(self, x: Tensor) -> Tensor:
        """Attends within windows; ``(B, H, W, C)`` in and out."""
        rows, columns = x.shape[1:3]
        padding = (0, 0, 0, -columns % self.window_size[1], 0, -rows % self.window_size[0])
        return super()._attn(F.pad(x, padding))[:, :rows, :columns]


def pad_then_shift(network: nn.Module) -> None:
    """Lets every Swin block of a network pad before it shifts; the weights stay as they are."""
    for block in network.modules():
        if type(block) is SwinTransformerBlock:
            block.__class__ = PadThenShift
