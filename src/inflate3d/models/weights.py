"""2D weights into a backbone: from timm's hub or a file, whole or not at all."""

from __future__ import annotations

import argparse
import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import clean_state_dict, load_state_dict_from_hf
from torch import Tensor, nn
from torch.hub import load_state_dict_from_url

from inflate3d.errors import ModelError
from inflate3d.models.backbones import RGB, TIMM_ERRORS, Backbone, published_settings, stem_names

_NESTED_UNDER = (
    "state_dict_ema", "model_ema", "state_dict", "model", "model_state", "module", "teacher", "encoder"
)  # fmt: skip
"""Where published checkpoints keep their tensors; averaged weights before the last step's, as timm does."""

_WRAPPERS = ("model.", "body.")
"""What timm's feature extractors put before a backbone's own names."""

_NAMES_TOLD = 5
_REMEDY = "give the backbone that the weights were made for, or other weights"


@dataclass(frozen=True)
class WeightsReport:
    """What became of a checkpoint's tensors.

    Names are the encoder network's, in ``unused`` the checkpoint's. A checkpoint that doesn't fill the whole
    backbone is an error, so none is missing.

    Attributes:
        source: Where the checkpoint came from: a file, a hub id or an address.
        loaded: Tensors that the network took.
        inflated: Those of them that were inflated: the stem's.
        resampled: Those that came in another shape, such as position embeddings of another image size.
        unused: Tensors that the network has no place for, such as a classifier's. Not told of a checkpoint
            whose names timm translates from another layout.
    """

    source: str
    loaded: tuple[str, ...]
    inflated: tuple[str, ...]
    resampled: tuple[str, ...]
    unused: tuple[str, ...]

    def summary(self) -> str:
        """What became of the tensors, as a few lines."""
        told = {"inflated": self.inflated, "resampled": self.resampled, "not used": self.unused}
        lines = [f"2D weights: all {len(self.loaded)} tensors of the backbone from {self.source}"]
        lines += [f"  {what}: {_first(list(names))}" for what, names in told.items() if names]
        return "\n".join(lines)


def load_backbone(backbone: Backbone, weights: str | Path) -> tuple[nn.Module, WeightsReport]:
    """Builds a backbone for RGB images and fills it from a checkpoint.

    timm itself puts the tensors in, so every layout is understood that it knows, its own or the authors', and
    position embeddings are resampled to the image size.

    Args:
        backbone: What to build.
        weights: ``"timm"`` for those that timm publishes, from its cache or its hub, or the path of a
            ``.safetensors`` or torch file. Half precision becomes float32.

    Raises:
        ModelError: The checkpoint can't be had or read, or doesn't fill the whole backbone.
    """
    if weights == "timm":
        source, tensors = _download(backbone.name)
    else:
        source, tensors = str(weights), _read(Path(weights))
    missing = _missing(backbone, tensors, source)
    if missing:
        raise ModelError(
            f"weights do not fit {backbone.name}",
            expected="every tensor of the backbone",
            got=f"{len(missing)} missing: {_first(missing)}",
            remedy=_REMEDY,
            file=source,
        )
    network = _build_filled(backbone, tensors, source)
    return network, _report(network, backbone.name, tensors, source)


def _missing(backbone: Backbone, tensors: dict[str, Tensor], source: str) -> list[str]:
    """Names of the backbone's tensors that a checkpoint doesn't fill.

    timm translates names and tells nobody how. So the checkpoint is loaded once with every number NaN: what
    is not NaN afterwards didn't come from it.
    """
    dyed = {name: torch.full_like(t, torch.nan) if t.is_floating_point() else t for name, t in tensors.items()}
    filled = _build_filled(backbone, dyed, source).state_dict()
    return [name for name, t in filled.items() if t.is_floating_point() and not t.isnan().any()]


def _build_filled(backbone: Backbone, tensors: dict[str, Tensor], source: str) -> nn.Module:
    # timm drops the classifier, whatever its size, where there is one and its number of classes is not the
    # checkpoint's: -1 is nobody's.
    classifier = published_settings(backbone.name).classifier or "head"
    overlay = {"state_dict": dict(tensors), "num_classes": -1, "classifier": classifier}
    try:
        with _quiet_timm():
            return backbone.build(RGB, pretrained=True, pretrained_cfg_overlay=overlay)
    except TIMM_ERRORS as error:
        problems = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        raise ModelError(
            f"weights do not fit {backbone.name}",
            expected="the backbone's tensors, in timm's layout or the one they were published in",
            got=f"tensors such as {_first(list(tensors))}: {' '.join(problems[:_NAMES_TOLD])}",
            remedy=_REMEDY,
            file=source,
        ) from error


@contextmanager
def _quiet_timm() -> Iterator[None]:
    """Keeps timm from logging tensors that it has no place for; :class:`WeightsReport` tells them."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _report(network: nn.Module, name: str, tensors: dict[str, Tensor], source: str) -> WeightsReport:
    loaded = network.state_dict()
    loaded_by_own_name = {_own_name(name): name for name in loaded}
    places = {name: loaded_by_own_name.get(_own_name(name)) for name in tensors}
    translated = not set(loaded) <= set(places.values())
    return WeightsReport(
        source=source,
        loaded=tuple(loaded),
        inflated=tuple(f"{stem}.weight" for stem in stem_names(network, name)),
        resampled=tuple(
            place for name, place in places.items() if place and tensors[name].shape != loaded[place].shape
        ),
        unused=() if translated else tuple(name for name, place in places.items() if place is None),
    )


def _own_name(name: str) -> str:
    """A tensor's name without what timm's feature extractors change: a prefix, and dots to underscores."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name.replace(".", "_")


def _download(name: str) -> tuple[str, dict[str, Tensor]]:
    """The weights that timm publishes, and where."""
    published = published_settings(name)
    hub_id, url = published.hf_hub_id, published.url
    if not (hub_id or url):
        raise ModelError(f"timm publishes no weights of {name}", remedy="give a file, or none for random weights")
    source = f"hf-hub:{hub_id}" if hub_id else str(url)
    try:
        if hub_id:
            file = {"filename": published.hf_hub_filename} if published.hf_hub_filename else {}
            return source, _tensors(load_state_dict_from_hf(hub_id, weights_only=True, **file))
        return source, _tensors(load_state_dict_from_url(source, map_location="cpu", weights_only=True))
    except OSError as error:
        raise ModelError(
            f"weights of {name} are not on this machine and can't be fetched",
            expected=f"{source} in the cache, or a network that reaches it",
            got=f"{type(error).__name__}: {error}",
            remedy="give a checkpoint file (`--weights FILE`) or take random weights (`--weights none`)",
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file; nothing in it is run."""
    try:
        if path.suffix == ".safetensors":
            return _tensors(load_file(path))
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain flags, in many published files
            return _tensors(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ModelError("there is no such weight file", expected="a path, timm or none", file=path) from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            "weight file is refused",
            expected="a .safetensors or torch file of tensors alone",
            got="no torch file, or a pickle that would run code as it is read",
            remedy="where you trust it, load it and save its state dict with `safetensors.torch.save_file`",
            file=path,
        ) from error
    except (OSError, EOFError, RuntimeError, SafetensorError) as error:
        raise ModelError("weight file can't be read", got=error, file=path) from error


def _tensors(checkpoint: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of what they are nested in, in float32."""
    for key in _NESTED_UNDER:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping):
        raise RuntimeError(f"it holds a {type(checkpoint).__name__}, not tensors by name")
    named = clean_state_dict({name: value for name, value in checkpoint.items() if isinstance(value, Tensor)})
    if not named:
        raise RuntimeError("it holds no tensors")
    return {
        name.removeprefix("backbone."): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in named.items()
    }


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_TOLD]) + (", ..." if len(names) > _NAMES_TOLD else "")
