"""The interface of all backbones: build, load weights, inflate, extract feature maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inflate3d.config import Inflation

RGB = 3
"""Number of channels of the images that the backbones were made for."""


@dataclass(frozen=True)
class Filled:
    """A network for RGB filled from a checkpoint.

    Attributes:
        unused: The checkpoint's tensors that it does not use.
    """

    network: nn.Module
    missing: tuple[str, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class Backbone(ABC):
    """A backbone at one image size.

    Attributes:
        name: Its name; timm's if timm has it, with or without a tag (``"resnet50"``, ``"resnet50.a1_in1k"``).
        image_size: ``(H, W)`` in pixels.
        levels: Numbers of its feature maps that are used, as timm's ``out_indices``.
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
        trained_at: ``(H, W)`` that its published weights were trained at.
        arguments: Arguments that differ from the backbone of that name, such as ``{"embed_dim": 48}``.
    """

    name: str
    image_size: tuple[int, int]
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    trained_at: tuple[int, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    @abstractmethod
    def gray_mean(self) -> float:
        """Gray average of the mean that its weights were trained with, on intensities from 0 to 1."""

    @property
    @abstractmethod
    def gray_std(self) -> float:
        """The same for the standard deviation."""

    @abstractmethod
    def build(self, in_channels: int, depth: int = 1) -> nn.Module:
        """Builds the network with random weights, for windows of ``depth`` slices."""

    @abstractmethod
    def build_filled(self, tensors: Mapping[str, Tensor]) -> Filled:
        """Builds the network for RGB and loads a checkpoint's tensors; missing ones stay random."""

    @abstractmethod
    def feature_maps(self, network: nn.Module, windows: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Runs a network from :meth:`build` on windows of its own depth.

        Returns:
            One map ``(B, channels[i], H / strides[i], W / strides[i])`` of the center slices per level.
        """

    @abstractmethod
    def stem_names(self, network: nn.Module) -> tuple[str, ...]:
        """Names of the layers that read the image, in a network for RGB."""

    @abstractmethod
    def inflated_stem(self, weight: Tensor, depth: int, in_channels: int, method: Inflation) -> Tensor:
        """The stem's weight for windows, from the one for RGB."""

    @abstractmethod
    def as_original(self, windows: Float[Tensor, "1 1 d h w"]) -> Float[Tensor, "1 3 _ h w"]:
        """The input for which the RGB network gives the same features as the inflated one for gray windows."""

    @abstractmethod
    def takes_stage_norms(self, network: nn.Module) -> bool:
        """Whether its maps are unnormalized sums of a hierarchical transformer's stages."""

    def build_weightless(self) -> nn.Module:
        """Builds the network for RGB on torch's meta device: names and shapes without values."""
        with torch.device("meta"):
            return self.build(RGB)

    def inflate(
        self, network: nn.Module, rgb: nn.Module, *, depth: int, in_channels: int, inflation: Inflation
    ) -> None:
        """Copies all weights of ``rgb``, the network for RGB, to the one for windows, and inflates its stem."""
        weights = rgb.state_dict()
        for stem in self.stem_names(rgb):
            name = f"{stem}.weight"
            weights[name] = self.inflated_stem(weights[name], depth, in_channels, inflation)
        network.load_state_dict(weights)
