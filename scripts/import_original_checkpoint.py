"""Turns a Lightning checkpoint of the paper's code (github.com/yuhui-zh15/TransSeg) into a model folder.

    python scripts/import_original_checkpoint.py last.ckpt models/bcv --plan prepared/BCV

The model folder gives the original's logits, to 1e-4 (``tests/models/test_import_original.py``). Nothing in the
checkpoint is run. ``--plan`` names the prepared dataset that the checkpoint was trained on: it says how scans become
the network's windows, which ``inflate3d predict`` needs.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from inflate3d.config import DecoderName, Inflation
from inflate3d.errors import ConfigError, Inflate3dError, ModelError, OutputError
from inflate3d.models.architecture import Architecture
from inflate3d.models.encoders import create_encoder
from inflate3d.models.inflation import flatten_depth
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.torch_file import DAMAGED, check_torch_file, load_plain
from inflate3d.named_encoders import PAPER_ENCODERS, VIDEO_SWIN
from inflate3d.preparation.plan import Plan

Tensors = dict[str, Tensor]
Renaming = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns and their replacements, applied one after the other."""

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
        is_exact: Whether the logits are the original's everywhere; near the border of images that Swin's windows do
            not divide they are not.
    """

    model: Segmenter
    encoder: str
    decoder: str
    unused: tuple[str, ...]
    is_exact: bool = True


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
        ModelError: The file can't be read, or it is of another layout; the message says what was recognized.
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
    return ImportedModel(model.eval(), encoder_is, decoder_is, unused, not encoder.is_swin or _fits_windows(model))


def _fits_windows(model: Segmenter) -> bool:
    """Whether attention windows divide every map, so that Swin needs no padding."""
    encoder = model.encoder
    window = int(encoder.arguments["window_size"])
    return all(side // stride % window == 0 for side in encoder.image_size for stride in encoder.strides)


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
        input_std=1,
        stage_norms=network.stage_norms,
        encoder_arguments=network.arguments,
        pooling_norm="batch",
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
            "the checkpoint does not record its image size",
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
    def described(kind: str | None, prefix: str) -> str:
        names = [name for name in file.tensors if name.startswith(prefix)]
        return kind or (f"unknown ({names[0]}, ...)" if names else "absent")

    return ModelError(
        "this layout is not one of the paper's code that can be imported",
        expected="BEiT or DINO with UPerNet, SETR-PUP or ConvTrans, or Swin or Video Swin with UPerNet",
        got=f"encoder: {described(encoder, 'encoder.')}; decoder: {described(decoder, 'decoder.')}",
        file=file.path,
    )


def read_plan(path: str | Path, architecture: Architecture) -> Plan:
    """Reads the plan of a prepared dataset of a checkpoint's modalities and classes.

    Their numbers are checked. Their order can't be: a checkpoint names neither.

    Args:
        path: A prepared store, a run's folder, or a ``plan.json``.
        architecture: Of the checkpoint's network.

    Returns:
        The plan, with the network's own image size.

    Raises:
        ConfigError: There is none, or it has other numbers of modalities or classes than the network.
    """
    file = Path(path) / "plan.json" if Path(path).is_dir() else Path(path)
    plan = Plan.read(file)
    pairs = {
        "modalities": (architecture.in_channels, plan.modalities),
        "classes, background counted": (architecture.num_classes, plan.class_names),
    }
    differing = {what: pair for what, pair in pairs.items() if pair[0] != len(pair[1])}
    if differing:
        raise ConfigError(
            "the plan is not that of the checkpoint's data",
            expected=", ".join(f"{count} {what}" for what, (count, _) in differing.items()),
            got=", ".join(f"{len(names)} {what} ({', '.join(names)})" for what, (_, names) in differing.items()),
            hint="prepare a dataset with the modalities and classes that it was trained on, in their order",
            file=file,
        )
    return plan.model_copy(update={"image_size": architecture.image_size})


def rename(name: str, renaming: Renaming) -> str:
    """Applies every pattern."""
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name


ENCODER = "encoder."
"""What the original's encoder tensors begin with."""

_STEM = "patch_embed.proj.weight"
_TABLE = "attn.relative_position_bias_table"

_SWIN_NAMES: Renaming = (
    (r"^norm(\d)\.", r"norms.\1."),
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"network.layers_{int(match[1]) + 1}.downsample."),
    (r"^layers\.(\d+)\.", r"network.layers_\1."),
    (r"^patch_embed\.", "network.patch_embed."),
)
_VIDEO_NAMES: Renaming = (
    (r"^layers\.(\d+)\.blocks\.", lambda match: f"network.features.{2 * int(match[1])}."),
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"network.features.{2 * int(match[1]) + 1}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^patch_embed\.", "network.patch_embed."),
)
_PLAIN_NAMES: Renaming = ((r"^", "network.model."),)


@dataclass(frozen=True)
class OriginalEncoder:
    """An encoder of the paper's code.

    Attributes:
        name: Our name of its backbone.
        arguments: What differs from that.
        depth: Slices of a window; none where its kernels don't tell.
        in_channels: Modalities.
        blocks: Blocks of a plain transformer; none of a hierarchical one.
        stride: Pixels per pixel of its finest map.
        tensors: Its weights, by the original's names without ``encoder.``, the stem's in the shape of ours.
        renaming: Brings their names to those of :class:`inflate3d.models.encoders.Encoder`.
    """

    name: str
    arguments: dict[str, Any]
    depth: int | None
    in_channels: int
    blocks: int | None
    stride: int
    tensors: Tensors
    renaming: Renaming

    @property
    def is_swin(self) -> bool:
        """Whether it is Swin, whose maps the original normalizes after each stage."""
        return self.name == PAPER_ENCODERS["swint"].backbone


def encoder_kind(tensors: Mapping[str, Tensor]) -> str | None:
    """What the encoder of a checkpoint is; none where its names are not known."""
    names = {name.removeprefix(ENCODER) for name in tensors if name.startswith(ENCODER)}
    if "patch_embedding.cls_token" in names or any(name.startswith("patch_embedding.") for name in names):
        return "MONAI's ViT"
    if _STEM not in names or tensors[ENCODER + _STEM].ndim != 5:
        return None
    if f"blocks.0.{_TABLE}" in names:
        return "BEiT"
    if {"pos_embed", "blocks.0.attn.qkv.weight"} <= names:
        return "DINO"
    if f"layers.0.blocks.0.{_TABLE}" in names:
        return "Swin" if "norm0.weight" in names else "Video Swin"
    return None


def read_encoder(kind: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> OriginalEncoder:
    """Reads sizes and weights of an encoder that :func:`encoder_kind` knows.

    Args:
        kind: What it is.
        tensors: Of the whole checkpoint, by the original's names.
        settings: Its hyper-parameters.
    """
    own = {name.removeprefix(ENCODER): tensor for name, tensor in tensors.items() if name.startswith(ENCODER)}
    return _READERS[kind](own, settings)


def _read_beit(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    return _read_plain("beit", own, own[_STEM], heads=own[f"blocks.0.{_TABLE}"].shape[1])


def _read_dino(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    # No tensor tells the number of heads; the paper's code has 12 at its one width.
    width = own["cls_token"].shape[-1]
    stem = own[_STEM].movedim(-1, 2)  # its kernels end in the depth
    return _read_plain("dino", own, stem, heads=12 if width == 768 else int(settings.get("num_heads", 12)))


def _read_plain(alias: str, own: Tensors, stem: Tensor, *, heads: int) -> OriginalEncoder:
    width, in_channels, depth, patch, _ = stem.shape
    blocks = 1 + max(int(match[1]) for match in (re.match(r"blocks\.(\d+)\.", name) for name in own) if match)
    found = {
        "embed_dim": width,
        "num_heads": heads,
        "depth": blocks,
        "mlp_ratio": _mlp_ratio(own["blocks.0.mlp.fc1.weight"]),
        "patch_size": patch,
    }
    usual = {"embed_dim": 768, "num_heads": 12, "depth": 12, "mlp_ratio": 4, "patch_size": 16}
    return OriginalEncoder(
        name=PAPER_ENCODERS[alias].backbone,
        arguments=_differing(found, usual),
        depth=depth,
        in_channels=in_channels,
        blocks=blocks,
        stride=patch,
        tensors={**own, _STEM: flatten_depth(stem)},
        renaming=_PLAIN_NAMES,
    )


def _read_swin(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    width, in_channels, depth, patch, _ = own[_STEM].shape
    window = (round(own[f"layers.0.blocks.0.{_TABLE}"].shape[0] ** 0.5) + 1) // 2
    usual = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "patch_size": 4, "mlp_ratio": 4}
    found = {"embed_dim": width, **_stages(own), "patch_size": patch, "mlp_ratio": _stage_mlp_ratio(own)}
    return OriginalEncoder(
        name=PAPER_ENCODERS["swint"].backbone,
        arguments={**_differing(found, usual), "window_size": window, "always_partition": True},
        depth=depth,
        in_channels=in_channels,
        blocks=None,
        stride=patch,
        tensors={**own, _STEM: flatten_depth(own[_STEM])},
        renaming=_SWIN_NAMES,
    )


def _read_video_swin(own: Tensors, settings: Mapping[str, Any]) -> OriginalEncoder:
    width, in_channels, *patch = own[_STEM].shape
    usual = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "patch_size": (2, 4, 4)}
    found = {"embed_dim": width, **_stages(own), "patch_size": tuple(patch)}
    return OriginalEncoder(
        name=VIDEO_SWIN,
        arguments=_differing(found, usual),
        depth=None,
        in_channels=in_channels,
        blocks=None,
        stride=patch[-1],
        tensors=own,
        renaming=_VIDEO_NAMES,
    )


def _stages(own: Tensors) -> dict[str, tuple[int, ...]]:
    """Blocks and heads of each of Swin's stages."""
    depths: dict[int, int] = {}
    heads: dict[int, int] = {}
    for name, tensor in own.items():
        if match := re.fullmatch(rf"layers\.(\d+)\.blocks\.(\d+)\.{re.escape(_TABLE)}", name):
            stage = int(match[1])
            depths[stage] = max(depths.get(stage, 0), int(match[2]) + 1)
            heads[stage] = tensor.shape[1]
    stages = sorted(depths)
    return {"depths": tuple(depths[s] for s in stages), "num_heads": tuple(heads[s] for s in stages)}


def _stage_mlp_ratio(own: Tensors) -> float:
    return _mlp_ratio(own["layers.0.blocks.0.mlp.fc1.weight"])


def _mlp_ratio(weight: Tensor) -> float:
    return weight.shape[0] / weight.shape[1]


def _differing(found: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value != usual[name]}


_READERS: dict[str, Callable[[Tensors, Mapping[str, Any]], OriginalEncoder]] = {
    "BEiT": _read_beit,
    "DINO": _read_dino,
    "Swin": _read_swin,
    "Video Swin": _read_video_swin,
}


DECODER = "decoder."
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
    names = {name.removeprefix(DECODER) for name in tensors if name.startswith(DECODER)}
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
    own = {name.removeprefix(DECODER): tensor for name, tensor in tensors.items() if name.startswith(DECODER)}
    if kind == "SETR-PUP":
        width, num_classes = own["decoder0.weight"].shape[0], own["decoder4.weight"].shape[0]
        return OriginalDecoder("setr-pup", width, num_classes, own, _SETR_NAMES)
    if kind == "ConvTrans":  # transposed kernels begin with the channels that they read
        width, num_classes = own["decoder4.weight"].shape[:2]
        return OriginalDecoder("conv-transpose", width, num_classes, own, _TRANSPOSE_NAMES)
    num_classes, width = own["conv_seg.weight"].shape[:2]
    return OriginalDecoder("upernet", width, num_classes, own, _UPERNET_NAMES)


_KNOWN_MODULES = (
    "pytorch_lightning.", "lightning.", "lightning_fabric.", "torchmetrics.", "argparse.", "pathlib.", "omegaconf.",
)  # fmt: skip
"""Where the classes are from that Lightning's own records name: callbacks, settings, paths."""


@dataclass(frozen=True)
class LightningFile:
    """What is of use in a checkpoint.

    Attributes:
        path: The file.
        tensors: The weights, by the names of the module that was trained.
        settings: Its hyper-parameters; empty where none were saved.
    """

    path: Path
    tensors: dict[str, Tensor]
    settings: dict[str, Any]


class _Blank:
    """Stands for every class that a checkpoint names: what would be one of its objects is a plain dictionary."""

    def __new__(cls, *parts: Any, **named: Any) -> OrderedDict[str, Any]:  # type: ignore[misc]
        return OrderedDict()


def read_lightning_file(path: Path) -> LightningFile:
    """Reads a checkpoint of Lightning's by torch's safe loader, with blanks in place of the classes that it names.

    Raises:
        ModelError: There is no such file, it is no checkpoint of Lightning's, or it names code that has no place in
            one.
    """
    checkpoint = _load(path)
    tensors = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        keys = ", ".join(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ModelError("not a Lightning checkpoint", expected="tensors under `state_dict`", got=keys[:80], file=path)
    settings = checkpoint.get("hyper_parameters")
    return LightningFile(path, dict(tensors), dict(settings) if isinstance(settings, dict) else {})


def _load(path: Path) -> Any:
    try:
        check_torch_file(path, None)
        named = get_unsafe_globals_in_checkpoint(path)
        strange = [name for name in named if not name.startswith(_KNOWN_MODULES)]
        if strange:
            raise ModelError(
                "checkpoint is refused",
                expected="weights, and records of Lightning's own",
                got=f"a pickle that names {strange[0]}",
                hint="where you trust it, load it and save its `state_dict` and `hyper_parameters` alone",
                file=path,
            )
        with safe_globals([(_Blank, name) for name in named]):
            return load_plain(path, [" ".join(name.rsplit(".", 1)) for name in named])
    except FileNotFoundError as error:
        raise ModelError("checkpoint not found", file=path) from error
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise ModelError("unreadable checkpoint", expected="a torch file", got=error, file=path) from error


def main(arguments: list[str] | None = None) -> int:
    """Imports a checkpoint; 0 on success, 2 on a user's mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="the .ckpt file")
    parser.add_argument("out", type=Path, help="the model folder to write; must be empty or absent")
    parser.add_argument("--plan", type=Path, help="the prepared dataset that it was trained on, or its plan.json")
    options = parser.parse_args(arguments)
    try:
        imported = _import_to(options.checkpoint, options.out, options.plan)
    except Inflate3dError as error:
        print(error, file=sys.stderr)
        return 2
    _describe(imported, options.out)
    return 0


def _import_to(checkpoint: Path, out: Path, plan: Path | None) -> ImportedModel:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError("the model folder is not empty", file=out, hint="choose another, or empty it")
    imported = import_original(checkpoint)
    if plan is not None:
        imported.model.plan = read_plan(plan, imported.model.architecture)
    imported.model.save(out)
    return imported


def _describe(imported: ImportedModel, out: Path) -> None:
    about, plan = imported.model.architecture, imported.model.plan
    size = " × ".join(map(str, about.image_size))
    print(f"{imported.encoder} with {imported.decoder}, {about.num_classes} classes")
    print(f"windows: {about.in_channels} modalities, {about.depth} slices, {size} pixels, intensities from 0 to 1")
    print(f"unused tensors that compute nothing: {len(imported.unused)}")
    if not imported.is_exact:
        print("warning: at this image size the paper's Swin pads maps before it shifts windows, and timm's after;")
        print("logits near the border differ from the original's. Score the model on labeled cases first.")
    if plan is None:
        print(f"written to {out} without a plan: load it with inflate3d.load_model, or import it again with --plan")
        return
    classes = ", ".join(f"{value} {name}" for value, name in plan.classes.items())
    print(f"assumed order: {', '.join(plan.modalities)}; {classes}")
    print("Scans are reoriented to RAS+, while the paper's code reads slices as files store them: if the training")
    print("files were stored otherwise, the network sees flipped slices. Score it on labeled cases first.")
    print(f"next:  inflate3d predict {out} SCAN OUT")


if __name__ == "__main__":
    sys.exit(main())
