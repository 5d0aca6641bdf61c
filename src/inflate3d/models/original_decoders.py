"""Decoders in checkpoints of the paper's code: which one, of what width, and its tensors by our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from inflate3d.config import DecoderName
from inflate3d.models.renaming import Renaming

WHOLE = "decoder."
"""What the original's decoder tensors begin with."""

_UPERNET_NAMES: Renaming = (
    (r"^conv_seg\.", "classifier."),
    (r"^fpn(\d)\.", lambda match: f"decoder.pyramid.{int(match[1]) - 1}."),
    (r"^psp_modules\.(\d)\.1\.", r"decoder.pooling.branches.\1."),
    (r"^bottleneck\.", "decoder.pooling.join."),
    (r"^lateral_convs\.", "decoder.laterals."),
    (r"^fpn_convs\.", "decoder.smooth."),
    (r"^fpn_bottleneck\.", "decoder.fuse."),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
)
_SETR_NAMES: Renaming = ((r"^decoder4\.", "classifier."), (r"^decoder(\d)\.", r"decoder.stages.\1.0."))
_TRANSPOSE_NAMES: Renaming = (
    (r"^decoder4\.", "classifier."),
    (r"^decoder(\d)\.", lambda match: f"decoder.stages.{int(match[1]) - 1}."),
)


@dataclass(frozen=True)
class OriginalDecoder:
    """A decoder of the paper's code.

    Attributes:
        name: Our name of it.
        width: Its channels.
        num_classes: Classes, background counted.
        tensors: Its weights and the classifier's, by the original's names without ``decoder.``.
        renaming: Brings their names to those of :class:`inflate3d.models.segmenter.Segmenter`.
    """

    name: DecoderName
    width: int
    num_classes: int
    tensors: dict[str, Tensor]
    renaming: Renaming


def decoder_kind(tensors: Mapping[str, Tensor]) -> str | None:
    """What the decoder of a checkpoint is; none where its names are not known."""
    names = {name.removeprefix(WHOLE) for name in tensors if name.startswith(WHOLE)}
    if {"conv_seg.weight", "fpn_bottleneck.conv.weight"} <= names:
        return "UPerNet" if "fpn1.0.weight" in names else "UPerNet for Swin"
    if {"decoder0.weight", "decoder4.weight"} <= names:
        return "SETR-PUP"
    if {"decoder1.weight", "decoder4.weight"} <= names:
        return "ConvTrans"
    if any(name.startswith("encoder1.") for name in names):
        return "UNETR"
    return None


def read_decoder(kind: str, tensors: Mapping[str, Tensor]) -> OriginalDecoder:
    """Reads sizes and weights of a decoder that :func:`decoder_kind` knows."""
    own = {name.removeprefix(WHOLE): tensor for name, tensor in tensors.items() if name.startswith(WHOLE)}
    if kind == "SETR-PUP":
        width, num_classes = own["decoder0.weight"].shape[0], own["decoder4.weight"].shape[0]
        return OriginalDecoder("setr-pup", width, num_classes, own, _SETR_NAMES)
    if kind == "ConvTrans":  # transposed kernels begin with the channels that they read
        width, num_classes = own["decoder4.weight"].shape[:2]
        return OriginalDecoder("conv-transpose", width, num_classes, own, _TRANSPOSE_NAMES)
    num_classes, width = own["conv_seg.weight"].shape[:2]
    return OriginalDecoder("upernet", width, num_classes, own, _UPERNET_NAMES)
