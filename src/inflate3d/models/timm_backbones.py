"""timm's backbones as feature extractors."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.format import Format
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models import PretrainedCfg
from torch import Tensor, nn
from torch.nn import functional as F

from inflate3d.config import Inflation
from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.backbone import RGB, Backbone, Filled
from inflate3d.models.inflation import flatten_depth, inflate_stem
from inflate3d.named_encoders import NAMED_ENCODERS

BUILD_ERRORS = (RuntimeError, AssertionError, TypeError, ValueError, LookupError, AttributeError)
"""Errors that timm and torch raise for impossible settings; they have no class of their own for them."""

_PLAIN_LEVELS = 4
_FINEST_STRIDE = 4
_PATCH_PROJECTION = "embeds.proj"
_STANDARDIZED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


@dataclass(frozen=True)
class TimmBackbone(Backbone):
    """One of timm's backbones, for which the slices of a window are channels of one image.

    Attributes:
        intensities: Mean and standard deviation of gray intensities (0 to 1), where its weights are not timm's.
    """

    intensities: tuple[float, float] | None = None

    @property
    def gray_mean(self) -> float:
        if self.intensities is not None:
            return self.intensities[0]
        mean = published_settings(self.name).mean
        return sum(mean) / len(mean)

    @property
    def gray_std(self) -> float:
        if self.intensities is not None:
            return self.intensities[1]
        deviation = published_settings(self.name).std
        return sum(deviation) / len(deviation)

    def build(self, in_channels: int, depth: int = 1) -> nn.Module:
        network = self._build(in_channels * depth)
        _fold_standardized(network, in_channels * depth)
        return network

    def _build(self, channels: int, **arguments: Any) -> nn.Module:
        return _create(
            self.name,
            self.image_size,
            in_chans=channels,
            features_only=True,
            out_indices=self.levels,
            **self.arguments,
            **arguments,
        )

    def build_filled(self, tensors: Mapping[str, Tensor]) -> Filled:
        """Builds the network for RGB; timm loads the tensors, in any layout that it knows."""
        # timm drops the classifier, whatever its size, where there is one and its number of classes is not the
        # checkpoint's: -1 is nobody's.
        classifier = published_settings(self.name).classifier or "head"
        overlay = {"state_dict": dict(tensors), "num_classes": -1, "classifier": classifier}
        with _observed_loading() as loadings:
            network = self._build(RGB, pretrained=True, pretrained_cfg_overlay=overlay)
        loading = loadings[-1]
        kept = {id(tensor) for tensor in network.state_dict(keep_vars=True).values()}
        missing = tuple(name for name in loading.missing if id(loading.own[name]) in kept)
        dropped = tuple(name for name in loading.loaded if id(loading.own[name]) not in kept)
        _fold_standardized(network, RGB)
        return Filled(network, missing, dropped + loading.unexpected)

    def feature_maps(self, network: nn.Module, windows: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Runs the network; channels come first, whatever its own layout is."""
        maps = network(flatten_depth(windows))
        # The extractors of EfficientNet, MobileNet and HRNet state no layout; theirs is the usual one.
        if getattr(network, "output_fmt", Format.NCHW) == Format.NHWC:
            return [features.permute(0, 3, 1, 2) for features in maps]
        return list(maps)

    def stem_names(self, network: nn.Module) -> tuple[str, ...]:
        """Names of the layers that read the image; a re-parameterized stem has several in parallel."""
        return _stem_names(network, self.name)

    def inflated_stem(self, weight: Tensor, depth: int, in_channels: int, method: Inflation) -> Tensor:
        """Inflates a convolution, ``(O, 3, h, w)`` to ``(O, C·D, h, w)``, or a linear projection of patches."""
        if weight.ndim == 4:
            return flatten_depth(inflate_stem(weight, depth, in_channels, method))
        patches = weight.unflatten(1, (-1, 1, RGB)).movedim(-1, 1)  # pixels of a patch first, their channels last
        inflated = flatten_depth(inflate_stem(patches, depth, in_channels, method))
        return inflated.movedim(1, -1).flatten(1)

    def as_original(self, windows: Float[Tensor, "1 1 d h w"]) -> Float[Tensor, "1 3 _ h w"]:
        """The center slice as a gray RGB image."""
        center = windows.shape[2] // 2
        return windows[:, :, center : center + 1].expand(-1, RGB, -1, -1, -1)

    def takes_stage_norms(self, network: nn.Module) -> bool:
        """Whether it is a hierarchical transformer, and not a hybrid that batch-normalizes its maps."""
        modules = list(network.modules())
        return (
            len(set(self.strides)) > 1
            and any(_is_attention(module) for module in modules)
            and any(isinstance(module, nn.LayerNorm) for module in modules)
            and not any(isinstance(module, nn.BatchNorm2d) for module in modules)
        )


@dataclass(frozen=True)
class _Loading:
    """The result of loading a state dict.

    Attributes:
        loaded: Names of the loaded tensors.
    """

    own: dict[str, Tensor]
    missing: tuple[str, ...]
    loaded: tuple[str, ...]
    unexpected: tuple[str, ...]


@contextmanager
def _observed_loading() -> Iterator[list[_Loading]]:
    """Collects what `load_state_dict` reports in this context: timm's builder only logs it."""
    found: list[_Loading] = []
    load = nn.Module.load_state_dict

    def observed(module: nn.Module, state_dict: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        result = load(module, state_dict, *arguments, **options)
        own = module.state_dict(keep_vars=True)
        loaded = tuple(name for name in own if name in state_dict)
        found.append(_Loading(own, tuple(result.missing_keys), loaded, tuple(result.unexpected_keys)))
        return result

    nn.Module.load_state_dict = observed  # type: ignore[method-assign]
    try:
        yield found
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]


def look_up_timm(
    name: str, image_size: int | tuple[int, int] | None, levels: Sequence[int] | None, arguments: Mapping[str, Any]
) -> TimmBackbone:
    """Looks up a backbone without checking the image size."""
    _check_name(name)
    _, *trained_at = published_settings(name).input_size
    maps = _all_feature_maps(name, (trained_at[0], trained_at[1]), arguments)
    strides = [entry["reduction"] for entry in maps]
    chosen = _default_levels(strides) if levels is None else check_levels(name, levels, len(maps))
    step = strides[chosen[-1]]
    if image_size is None:
        height, width = (-(-side // step) * step for side in trained_at)
    else:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return TimmBackbone(
        name,
        image_size=(height, width),
        levels=chosen,
        channels=tuple(maps[level]["num_chs"] for level in chosen),
        strides=tuple(strides[level] for level in chosen),
        trained_at=(trained_at[0], trained_at[1]),
        arguments=arguments,
    )


def check_levels(name: str, levels: Sequence[int], count: int) -> tuple[int, ...]:
    """Checks that a backbone has the requested feature maps."""
    chosen = tuple(levels)
    if not chosen or list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(range(count)):
        raise ConfigError(
            f"invalid levels of {name}",
            expected=f"ascending numbers from 0 to {count - 1}",
            got=chosen,
        )
    return chosen


def published_settings(name: str) -> PretrainedCfg:
    """The record that timm has of a backbone's published weights: location, input size, mean and deviation."""
    settings = timm.get_pretrained_cfg(name)
    assert settings is not None, f"{name} is a name that timm knows"
    return settings


def _check_name(name: str) -> None:
    architectures = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in architectures:
        similar = difflib.get_close_matches(architecture, [*NAMED_ENCODERS, *architectures], n=5, cutoff=0.5)
        raise ModelError(
            f"no backbone is named {name}",
            expected="a name of the paper's or of timm's" + (f", such as {', '.join(similar)}" if similar else ""),
            hint="`inflate3d encoders` lists all names",
        )
    tagged = timm.list_models(f"{architecture}.*", include_tags=True)
    if tag and name not in tagged:
        raise ModelError(f"no weights of {architecture} are named {tag}", expected=", ".join(tagged))


def _all_feature_maps(name: str, image_size: tuple[int, int], arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The description by timm of every feature map that it can extract, coarsest last."""
    try:
        with torch.device("meta"):
            network = _create(name, image_size, in_chans=RGB, **arguments)
    except BUILD_ERRORS as error:
        raise ModelError(f"timm can't build {name}", got=error) from error
    maps = getattr(network, "feature_info", None)
    if not maps:
        raise ModelError(f"{name} can't be an encoder", expected="feature maps", got="timm extracts none from it")
    _stem_names(network, name)
    return list(maps)


def _create(name: str, image_size: tuple[int, int], **arguments: Any) -> nn.Module:
    if published_settings(name).fixed_input_size:
        arguments["img_size"] = image_size
    return timm.create_model(name, **arguments)


def _default_levels(strides: list[int]) -> tuple[int, ...]:
    if len(set(strides)) == 1:
        count = min(_PLAIN_LEVELS, len(strides))
        return tuple((part + 1) * len(strides) // count - 1 for part in range(count))
    last_of_stride = {stride: level for level, stride in enumerate(strides) if stride >= _FINEST_STRIDE}
    return tuple(last_of_stride.values())


def _stem_names(network: nn.Module, name: str) -> tuple[str, ...]:
    stems = tuple(path for path, module in network.named_modules() if _reads_image(path, module))
    if not stems:
        raise ModelError(
            f"{name} can't be inflated",
            expected="a convolution or a patch projection that reads the RGB image",
            got="no such layer",
        )
    return stems


def _reads_image(path: str, module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):  # NaFlexViT cuts the image into patches itself and projects each
        return path.endswith(_PATCH_PROJECTION)
    return isinstance(module, nn.Conv2d) and module.in_channels == RGB


def _fold_standardized(network: nn.Module, channels: int) -> None:
    """Replaces weight-standardized convolutions of the image by equivalent plain ones.

    Standardization would undo inflation: it divides by the deviation of all weights of a kernel, other slices included.
    The other layers keep their standardization.
    """
    for path, module in list(network.named_modules()):
        if isinstance(module, _STANDARDIZED) and module.in_channels == channels:
            network.set_submodule(path, _plain_convolution(module))


def _plain_convolution(standardized: Any) -> nn.Conv2d:
    kind = Conv2dSame if getattr(standardized, "same_pad", False) else nn.Conv2d
    plain: Any = kind(
        standardized.in_channels,
        standardized.out_channels,
        standardized.kernel_size,
        stride=standardized.stride,
        padding=standardized.padding,
        dilation=standardized.dilation,
        bias=standardized.bias is not None,
        device=standardized.weight.device,
    )
    weight: Tensor = standardized.weight
    scale = (standardized.gain * standardized.scale).flatten() if hasattr(standardized, "gain") else None
    kernels = F.batch_norm(weight.flatten(1)[None], None, None, scale, training=True, eps=standardized.eps)
    plain.weight = nn.Parameter(kernels.detach().reshape_as(weight))
    plain.bias = standardized.bias
    return plain


def _is_attention(module: nn.Module) -> bool:
    # timm's attention layers share no base class, but their names do.
    return any(part in type(module).__name__ for part in ("Attention", "Attn"))
