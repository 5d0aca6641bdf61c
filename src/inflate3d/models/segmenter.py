"""The whole network: from windows to class scores of their center slices, or from slabs to those of all slices."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inflate3d.config import DecoderName, DepthMixing, InflatedConfig
from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.architecture import Architecture, VolumetricArchitecture
from inflate3d.models.card import write_model_card
from inflate3d.models.checkpoint import ModelFolder, find_model_folder, read_model_folder, write_model_folder
from inflate3d.models.decoders import build_decoder, default_widths
from inflate3d.models.decoders.decoder import ConvNormAct, resize, use_batch_norms
from inflate3d.models.default_type import float32_by_default
from inflate3d.models.depth_mixing import DepthMixer
from inflate3d.models.encoders import Encoder, create_encoder
from inflate3d.models.hub import local_model
from inflate3d.models.volumetric import VolumetricSegmenter

if TYPE_CHECKING:
    from inflate3d.preparation.plan import Plan

logger = logging.getLogger(__name__)

_CLASSIFIERS = ("classifier.", "correct.")
"""Names of the layers that score the classes."""


class Segmenter(nn.Module):
    """A segmentation network: from windows to logits of their center slices, at input resolution.

    With depth mixing, its input is slabs of neighboring slices, of any length, and it returns the logits of every
    slice: each slice is encoded separately, then the decoder's features are mixed along the depth.

    Args:
        encoder: Computes the feature maps of a window.
        architecture: The settings of everything else.

    Attributes:
        architecture: The settings that it is built from.
        plan: How scans become its windows; None until training or a model folder sets it.

    Examples:
        >>> encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
        >>> model = create_model(encoder=encoder, num_classes=4)
        >>> model(torch.zeros(2, 1, 3, 64, 64)).shape  # (batch, classes, rows, columns)
        torch.Size([2, 4, 64, 64])
        >>> encoder = create_encoder("resnet10t", depth=1, image_size=64, weights="none")
        >>> model = create_model(encoder=encoder, num_classes=4, depth_mixing="decoder")
        >>> model(torch.zeros(2, 1, 8, 64, 64)).shape  # (batch, classes, slices, rows, columns)
        torch.Size([2, 4, 8, 64, 64])
    """

    def __init__(self, encoder: Encoder, architecture: Architecture) -> None:
        super().__init__()
        if architecture.depth_mixing != "none" and architecture.depth != 1:
            raise ConfigError(
                "depth mixing needs a network that sees single slices",
                expected="depth 1",
                got=f"depth {architecture.depth}",
                hint="give --depth 1: with depth mixing, neighbors are mixed in through the features",
            )
        self.architecture = architecture
        self.plan: Plan | None = None
        self.encoder = encoder
        detail = architecture.detail_channels
        self.decoder = build_decoder(
            architecture.decoder,
            encoder.channels,
            encoder.strides,
            in_channels=encoder.in_channels,
            width=architecture.decoder_channels,
        )
        if architecture.pooling_norm == "batch":
            use_batch_norms(self.decoder)
        self._check_image_size()
        self.mixer = DepthMixer(self.decoder.channels) if architecture.depth_mixing == "decoder" else None
        self.classifier = self.decoder.classifier(architecture.num_classes)
        if detail:
            # Strides of 4 and more lose what is a few pixels small; these layers see every pixel of every slice. They
            # correct the wide decoder's logits: as the only way to them they are so narrow that learning takes long.
            self.detail = nn.Sequential(
                ConvNormAct(encoder.depth * encoder.in_channels, detail), ConvNormAct(detail, detail)
            )
            self.narrow = ConvNormAct(self.decoder.channels, detail, kernel_size=1)
            self.join = nn.Sequential(ConvNormAct(2 * detail, detail), ConvNormAct(detail, detail))
            self.correct = nn.Conv2d(detail, architecture.num_classes, 1)

    def forward(self, windows: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k *t h w"]:
        """Scores every pixel of the center slices, or of all slices of slabs.

        Args:
            windows: ``(B, C, D, H, W)``, intensities from 0 to 1; with depth mixing slabs ``(B, C, T, H, W)``.

        Returns:
            Logits ``(B, K, H, W)``, background first; of slabs ``(B, K, T, H, W)``.

        Raises:
            ModelError: Depth, modalities or size do not match the network.
        """
        self._check(windows)
        scaled = (windows - self.architecture.input_mean) / self.architecture.input_std
        if self.mixer is None:
            return self.decode(self.encoder(scaled), scaled)
        slices = scaled.shape[2]
        scaled = scaled.movedim(2, 1).flatten(0, 1)[:, :, None]  # (B * T, C, 1, H, W)
        return self.decode(self.encoder(scaled), scaled, slices).unflatten(0, (-1, slices)).movedim(1, 2)

    def decode(
        self, features: list[Tensor], scaled: Float[Tensor, "b c d h w"], slices: int | torch.SymInt = 1
    ) -> Float[Tensor, "b o h w"]:
        """Decoder and classifier, corrected by the full-resolution path.

        Args:
            features: The encoder's maps.
            scaled: The encoder's input.
            slices: Number of consecutive slices that form a slab; a symbol while the network is exported.
        """
        size = (scaled.shape[-2], scaled.shape[-1])
        decoded = self.decoder(features, scaled)
        if self.mixer is not None:
            decoded = self.mixer(decoded, slices)
        logits = resize(self.classifier(decoded), size)
        if not self.architecture.detail_channels:
            return logits
        coarse = resize(self.narrow(decoded), size)
        return logits + self.correct(self.join(torch.cat([coarse, self.detail(scaled.flatten(1, 2))], dim=1)))

    def save(self, folder: str | Path) -> None:
        """Writes ``model.safetensors`` and ``model.json``, from which :func:`load_model` restores it.

        Raises:
            OutputError: A file can't be written.
        """
        write_model_folder(Path(folder), self.architecture, self.plan, self.state_dict())
        write_model_card(Path(folder), self.architecture, self.plan)

    def _check_image_size(self) -> None:
        """Rejects images whose coarsest map is too small for the decoder.

        Raises:
            ConfigError: It is.
        """
        stride, smallest = self.encoder.strides[-1], self.decoder.smallest_map
        height, width = self.architecture.image_size
        if (height // stride) * (width // stride) < smallest:
            raise ConfigError(
                f"the image size is too small for the decoder {self.architecture.decoder}",
                expected=f"a coarsest feature map, at a stride of {stride}, of {smallest} pixels or more",
                got=f"{height} x {width}",
                hint="use a larger image size, or another decoder",
            )

    def _check(self, windows: Tensor) -> None:
        depth = self.architecture.depth
        if self.architecture.depth_mixing != "none" and windows.ndim == 5:
            depth = max(1, windows.shape[2])  # slabs have any length
        wanted = (self.architecture.in_channels, depth, *self.architecture.image_size)
        if windows.ndim != 5 or tuple(windows.shape[1:]) != wanted:
            raise ModelError(
                "windows do not fit the network",
                expected="(batch, modalities, slices, rows, columns) = (B, " + ", ".join(map(str, wanted)) + ")",
                got=tuple(windows.shape),
            )


@float32_by_default()
def create_model(
    *,
    encoder: Encoder,
    num_classes: int,
    decoder: DecoderName = "fpn-lite",
    decoder_channels: int | None = None,
    detail_channels: int | None = None,
    depth_mixing: DepthMixing = "none",
    input_scaling: Literal["pretrained", "unit"] = "pretrained",
) -> Segmenter:
    """Combines an encoder with a decoder.

    Args:
        encoder: From :func:`inflate3d.create_encoder`.
        num_classes: Number of classes, background included.
        decoder: Its kind; all work with plain and hierarchical encoders. ``"fpn-lite"`` is a narrow UPerNet with an
            additional full-resolution path for small structures; ``"upernet"`` is the paper's decoder, ``"setr-pup"``
            and ``"conv-transpose"`` are those it is compared with; ``"unetr"`` is UNETR's head.
        decoder_channels: Its width. None: 128; for the paper's decoders, the width of a plain transformer (768 for the
            base size), or 512 with a hierarchical encoder.
        detail_channels: Width of the full-resolution path; 0 disables it. None: 16 for ``"fpn-lite"``, 0 for the
            others.
        depth_mixing: ``"decoder"`` mixes the decoder's features of neighboring slices, see :class:`Segmenter`; the
            encoder needs ``depth=1``.
        input_scaling: ``"pretrained"`` normalizes intensities to the mean and deviation that the 2D weights were
            trained with; ``"unit"`` leaves them from 0 to 1, as in the paper.

    Raises:
        ConfigError: The image is too small for the decoder, the decoder does not fit the encoder's maps, or
            depth mixing is combined with windows of several slices.

    Examples:
        >>> encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
        >>> model = create_model(encoder=encoder, num_classes=4, decoder="setr-pup", decoder_channels=16)
        >>> model.architecture.decoder
        'setr-pup'
    """
    width, detail = default_widths(decoder, encoder.channels, encoder.strides)
    pretrained = input_scaling == "pretrained"
    architecture = Architecture(
        encoder=encoder.name,
        depth=encoder.depth,
        in_channels=encoder.in_channels,
        image_size=encoder.image_size,
        inflation=encoder.inflation,
        levels=encoder.levels,
        decoder=decoder,
        decoder_channels=width if decoder_channels is None else decoder_channels,
        detail_channels=detail if detail_channels is None else detail_channels,
        num_classes=num_classes,
        depth_mixing=depth_mixing,
        input_mean=encoder.mean if pretrained else 0.0,
        input_std=encoder.std if pretrained else 1.0,
        stage_norms=encoder.stage_norms,
        encoder_arguments=encoder.arguments,
    )
    return Segmenter(encoder, architecture)


def model_from_config(
    config: InflatedConfig,
    *,
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    class_names: Sequence[str] | None = None,
) -> Segmenter:
    """Builds the network of a run's configuration, with 2D weights or those of an earlier run.

    Args:
        image_size: ``(H, W)`` in pixels.
        num_classes: Number of classes, background included.
        class_names: Their names, which decide whether the classifier of another run is used.
    """
    encoder = create_encoder(
        config.encoder,
        depth=config.depth,
        in_channels=in_channels,
        image_size=image_size,
        inflation=config.inflation,
        weights=config.weights,
    )
    model = create_model(
        encoder=encoder,
        num_classes=num_classes,
        decoder=config.decoder,
        decoder_channels=config.decoder_channels,
        detail_channels=config.detail_channels,
        depth_mixing=config.depth_mixing,
        input_scaling=config.input_scaling,
    )
    if config.is_2d_network_at_start:
        _freeze_statistics(encoder.network)
    is_trained = find_model_folder(local_model(config.weights)) is not None
    taken = load_decoder(model, config.weights, class_names) if is_trained else ()
    if is_trained:
        anew = sorted(_parts(model.state_dict()) - _parts(taken) - {"encoder"})
        logger.info("the trained model's decoder is used, too%s", f", but for {', '.join(anew)}" if anew else "")
    if taken and model.mixer is not None:
        _freeze_statistics(model)
    return model


def _parts(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _freeze_statistics(model: nn.Module) -> None:
    """Keeps the means and variances of batch norms; their weights still learn.

    A batch has few slices, which are alike, and measures them worse: short trainings lost 0.01 Dice (docs/results.md).
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.eval()


def load_decoder(model: Segmenter, folder: str | Path, class_names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Loads the decoder of a trained model as far as it matches; the rest stays as it is.

    Together with ``create_encoder(..., weights=folder)`` for the encoder, training starts from your own run.

    Args:
        class_names: Names of the model's classes, background first. The classifier is used if the trained model has the
            same; None compares only their number.

    Returns:
        Names of the tensors that were loaded.
    """
    saved = read_model_folder(local_model(folder))
    if saved.plan is not None and class_names is not None:
        same_classes = tuple(saved.plan.class_names) == tuple(class_names)
    else:
        same_classes = saved.architecture.num_classes == model.architecture.num_classes
    own = model.state_dict()
    taken = {
        name: tensor
        for name, tensor in saved.tensors.items()
        if not name.startswith("encoder.")
        and (same_classes or not name.startswith(_CLASSIFIERS))
        and name in own
        and own[name].shape == tensor.shape
    }
    if getattr(saved.architecture, "decoder", None) != model.architecture.decoder:
        return ()
    model.load_state_dict(taken, strict=False)
    return tuple(taken)


@float32_by_default()
def load_model(folder: str | Path) -> Segmenter | VolumetricSegmenter:
    """Loads an inflated or 3D network from a model folder, in eval mode on the CPU.

    Args:
        folder: A model folder, or a run's folder, which contains one as ``model/``.

    Raises:
        ModelError: There is no model, a file is damaged, or another version wrote it.

    Examples:
        >>> model = load_model("runs/Liver")
        >>> model.plan.class_names
        ('background', 'liver', 'tumor')
    """
    saved = read_model_folder(local_model(folder))
    if getattr(saved.architecture, "network", None) != "swin-unetr":  # MONAI's can't be built without numbers
        with torch.device("meta"):  # so that a description of another network, or an absurd one, allocates nothing
            _check_shapes(build_network(saved.architecture), saved)
    model = build_network(saved.architecture)
    _check_shapes(model, saved)
    model.load_state_dict(saved.tensors)
    model.plan = saved.plan
    return model.eval()


def build_network(architecture: Architecture | VolumetricArchitecture) -> Segmenter | VolumetricSegmenter:
    """Builds a described network with random weights, to be filled from a file."""
    if isinstance(architecture, VolumetricArchitecture):
        return VolumetricSegmenter(architecture)
    encoder = create_encoder(
        architecture.encoder,
        depth=architecture.depth,
        in_channels=architecture.in_channels,
        image_size=architecture.image_size,
        inflation=architecture.inflation,
        weights="none",
        levels=architecture.levels,
        stage_norms=architecture.stage_norms,
        arguments=architecture.encoder_arguments,
    )
    return Segmenter(encoder, architecture)


def _check_shapes(model: nn.Module, saved: ModelFolder) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in saved.tensors.items()}
    if expected != found:
        differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        raise ModelError(
            "weights do not fit the model's description",
            expected=f"{differing[0]} {expected.get(differing[0], 'absent')}",
            got=f"{found.get(differing[0], 'absent')}, and {len(differing) - 1} more differ",
            file=saved.weights,
        )


def preferred_memory_format(device: torch.device, *, reduced_precision: bool) -> torch.memory_format:
    """The faster memory layout: channels last on a GPU, and on a CPU in 16 bits.

    On a CPU in float32, wide convolutions, above all transposed ones, take up to twice as long with channels last.

    Args:
        reduced_precision: Whether it computes in 16 bits.
    """
    return torch.channels_last if device.type == "cuda" or reduced_precision else torch.contiguous_format
