"""Checkpoints of the paper's code (github.com/yuhui-zh15/TransSeg), as our networks of the very same logits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from inflate3d.config import Inflation
from inflate3d.errors import ModelError
from inflate3d.models.architecture import Architecture
from inflate3d.models.encoders import create_encoder
from inflate3d.models.lightning_file import LightningFile, read_lightning_file
from inflate3d.models.original_decoders import OriginalDecoder, decoder_kind, read_decoder
from inflate3d.models.original_encoders import OriginalEncoder, encoder_kind, read_encoder
from inflate3d.models.renaming import rename
from inflate3d.models.segmenter import Segmenter

PAPER_LEVELS = (3, 5, 7, 11)
"""Blocks whose outputs the original's UPerNet reads behind a plain transformer, counted from 0."""

_PAIRS = {
    ("BEiT", "UPerNet"), ("BEiT", "SETR-PUP"), ("BEiT", "ConvTrans"),
    ("DINO", "UPerNet"), ("DINO", "SETR-PUP"), ("DINO", "ConvTrans"),
    ("Swin", "UPerNet for Swin"),
    ("Video Swin", "UPerNet for Swin"),
}  # fmt: skip


@dataclass(frozen=True)
class ImportedModel:
    """A network of the paper's code.

    Attributes:
        model: Ours, with its weights, in eval mode.
        encoder: What its encoder was recognized as.
        decoder: What its decoder was recognized as.
        unused: Tensors of the checkpoint that compute nothing in the original.
    """

    model: Segmenter
    encoder: str
    decoder: str
    unused: tuple[str, ...]


def import_original(path: str | Path) -> ImportedModel:
    """Builds our network of a checkpoint that the paper's code saved through Lightning.

    Kinds, widths, heads, blocks, modalities and slices are read from the tensors; the image size, and the slices of
    a Video Swin, from the hyper-parameters, which the paper's code always saves. Windows are ours,
    ``(B, C, D, H, W)``; the original orders them B, C, H, W, D. Intensities are taken as they are, from 0 to 1.

    The paper's code has a DINO encoder that can't run as published. Its tensors are taken as those of a plain
    transformer whose maps are the outputs of blocks without the final norm, as with BEiT.

    Args:
        path: The ``.ckpt`` file.

    Raises:
        ModelError: The file can't be read, or it is of another layout; what was recognized of it is told.
        ConfigError: Its windows have an even number of slices, which have no center, or its image size does not fit.
    """
    file = read_lightning_file(Path(path))
    encoder_is, decoder_is = encoder_kind(file.tensors), decoder_kind(file.tensors)
    if encoder_is is None or decoder_is is None or (encoder_is, decoder_is) not in _PAIRS:
        raise _unknown_layout(file, encoder_is, decoder_is)
    encoder = read_encoder(encoder_is, file.tensors, file.settings)
    decoder = read_decoder(decoder_is, file.tensors)
    model = _build(file, encoder, decoder)
    unused = _fill(model, file, encoder, decoder)
    return ImportedModel(model.eval(), encoder_is, decoder_is, unused)


def _build(file: LightningFile, encoder: OriginalEncoder, decoder: OriginalDecoder) -> Segmenter:
    rows, columns, slices = _window(file)
    network = create_encoder(
        encoder.name,
        depth=slices if encoder.depth is None else encoder.depth,
        in_channels=encoder.in_channels,
        image_size=(rows, columns),
        inflation=_inflation(file.settings),
        weights="none",
        levels=_levels(file, encoder, decoder),
        stage_norms=encoder.is_swin,
        arguments=encoder.arguments,
    )
    architecture = Architecture(
        encoder=network.name,
        depth=network.depth,
        in_channels=network.in_channels,
        image_size=network.image_size,
        inflation=network.inflation,
        levels=network.levels,
        decoder=decoder.name,
        decoder_channels=decoder.width,
        detail_channels=0,
        num_classes=decoder.num_classes,
        input_mean=0,
        input_deviation=1,
        stage_norms=network.stage_norms,
        pad_then_shift=encoder.is_swin,
        encoder_arguments=network.arguments,
    )
    return Segmenter(network, architecture)


def _levels(file: LightningFile, encoder: OriginalEncoder, decoder: OriginalDecoder) -> tuple[int, ...] | None:
    if encoder.blocks is None:
        return None
    if decoder.name != "upernet":
        return (encoder.blocks - 1,)  # these read the last map alone
    if encoder.blocks <= PAPER_LEVELS[-1]:
        raise ModelError(
            "this layout is not one of the paper's code",
            expected=f"{PAPER_LEVELS[-1] + 1} blocks or more before UPerNet",
            got=f"{encoder.blocks} blocks",
            file=file.path,
        )
    return PAPER_LEVELS


def _window(file: LightningFile) -> tuple[int, int, int]:
    """Rows, columns and slices of what the network sees, from the hyper-parameters."""
    size = file.settings.get("img_size")
    if not (isinstance(size, (list, tuple)) and len(size) == 3 and all(isinstance(side, int) for side in size)):
        raise ModelError(
            "checkpoint doesn't tell its image size",
            expected="img_size among its hyper_parameters: rows, columns and slices",
            got=size,
            file=file.path,
        )
    rows, columns, slices = size
    return rows, columns, 1 if file.settings.get("force_2d") else slices


def _inflation(settings: dict[str, Any]) -> Inflation:
    return "average" if settings.get("bootstrap_method") == "inflation" else "center"


def _fill(model: Segmenter, file: LightningFile, encoder: OriginalEncoder, decoder: OriginalDecoder) -> tuple[str, ...]:
    """Puts tensors in by our names; gives the original names of those that have no place and need none."""
    places = {f"encoder.{name}": f"encoder.{rename(name, encoder.renaming)}" for name in encoder.tensors}
    places |= {f"decoder.{name}": rename(name, decoder.renaming) for name in decoder.tensors}
    values = {f"encoder.{name}": tensor for name, tensor in encoder.tensors.items()}
    values |= {f"decoder.{name}": tensor for name, tensor in decoder.tensors.items()}
    own, network = model.state_dict(), model.encoder
    unused = [
        name for name in places if places[name] not in own and _computes_nothing(name, encoder, network.levels[-1])
    ]
    filled = {places.get(name, name): values.get(name, tensor) for name, tensor in file.tensors.items()}
    filled = {name: filled[name] for name in filled.keys() - {places[name] for name in unused}}
    _check_shapes(file, own, filled)
    model.load_state_dict(filled)
    return tuple(unused)


def _computes_nothing(name: str, encoder: OriginalEncoder, last_level: int) -> bool:
    """Whether a tensor follows from sizes alone, or belongs to layers whose results the original drops."""
    block = re.match(r"encoder\.blocks\.(\d+)\.", name)
    behind = encoder.blocks is not None and block is not None and int(block[1]) > last_level
    return behind or name.startswith("encoder.norm.") or name.endswith(".relative_position_index")


def _check_shapes(file: LightningFile, own: Mapping[str, Tensor], filled: Mapping[str, Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in filled.items()}
    differing = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    if differing:
        raise ModelError(
            "this layout is not one of the paper's code",
            expected=f"{differing[0]} {wanted.get(differing[0], 'absent')}",
            got=f"{found.get(differing[0], 'absent')}, and {len(differing) - 1} more differ",
            file=file.path,
        )


def _unknown_layout(file: LightningFile, encoder: str | None, decoder: str | None) -> ModelError:
    def told(kind: str | None, prefix: str) -> str:
        names = [name for name in file.tensors if name.startswith(prefix)]
        return kind or (f"unknown ({names[0]}, ...)" if names else "absent")

    return ModelError(
        "this layout is not one of the paper's code that can be imported",
        expected="BEiT or DINO with UPerNet, SETR-PUP or ConvTrans, or Swin or Video Swin with UPerNet",
        got=f"encoder: {told(encoder, 'encoder.')}; decoder: {told(decoder, 'decoder.')}",
        file=file.path,
    )
