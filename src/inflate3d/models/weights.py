"""Loads 2D weights into a backbone, from timm's hub or a file: all of them or none."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from inflate3d.errors import ModelError, truncate
from inflate3d.models.backbone import Backbone, Filled
from inflate3d.models.layouts import embedding_mismatch, fitted, layout_of, not_of_the_encoder, with_timm_names
from inflate3d.models.published import PUBLISHED, published_path
from inflate3d.models.timm_backbones import BUILD_ERRORS
from inflate3d.models.weight_files import download_timm, read_tensors

_WRAPPERS = ("model.", "body.")
"""Prefixes that timm's feature extractors add to a backbone's names."""

_PREFIXES = ("module.", "backbone.", "model.", "encoder.")
"""Prefixes that training code adds to a backbone's names."""

_HINT = "give the backbone that the weights were made for, or other weights"


@dataclass(frozen=True, repr=False)
class WeightsReport:
    """The result of loading a checkpoint; one that does not fill the whole backbone is an error.

    Attributes:
        source: Origin of the checkpoint: a file, a hub id or an address.
        layout: Its published layout, if recognized by its names.
        inflated: Loaded tensors that were inflated: the stem's.
        resampled: Loaded tensors that were resampled, such as position embeddings of another image size.
        unused: Tensors of the checkpoint that the network does not use, such as a classifier's.
    """

    source: str
    layout: str | None
    loaded: tuple[str, ...]
    inflated: tuple[str, ...]
    resampled: tuple[str, ...]
    unused: tuple[str, ...]

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={len(getattr(self, name))}" for name in ("loaded", "resampled", "unused"))
        return f"WeightsReport({self.source!r}, {counts} tensors)"

    def summary(self) -> str:
        """A few lines for the user."""
        groups = {"inflated": self.inflated, "resampled": self.resampled, "unused": self.unused}
        layout = f" ({self.layout})" if self.layout else ""
        lines = [f"2D weights: all {len(self.loaded)} tensors of the backbone from {self.source}{layout}"]
        lines += [f"  {group}: {truncate(names)}" for group, names in groups.items() if names]
        return "\n".join(lines)


def load_backbone(backbone: Backbone, weights: str | Path) -> tuple[nn.Module, WeightsReport]:
    """Builds a backbone for RGB images and fills it from a checkpoint.

    Accepts all layouts of timm and of :mod:`inflate3d.models.layouts`; position embeddings and tables are resampled to
    the image size.

    Args:
        weights: ``"timm"`` for those that timm publishes, from its cache or hub; a name of
            :data:`inflate3d.models.published.PUBLISHED`, downloaded if missing; or the path of a
            ``.safetensors`` or torch file. Half precision becomes float32.
    """
    if weights == "timm":
        source, tensors = download_timm(backbone.name)
    else:
        path = published_path(str(weights)) if str(weights) in PUBLISHED else Path(weights)
        source, tensors = str(path), read_tensors(path)
    wanted = {_flat_name(name): tensor for name, tensor in backbone.build_weightless().state_dict().items()}
    tensors = _without_prefixes(tensors, wanted)
    if layout_of(tensors) is None:
        tensors = _of_one_network(tensors, wanted, source)
    named = with_timm_names(tensors)
    _check_types(named, wanted, source)
    filled = _fill(backbone, tensors, named, {name: tensor.shape for name, tensor in wanted.items()}, source)
    if filled.missing:
        raise ModelError(
            f"weights do not fit {backbone.name}",
            expected="every tensor of the backbone",
            got=f"{len(filled.missing)} missing: {truncate(filled.missing)}{_layout_note(tensors)}",
            hint=_HINT,
            file=source,
        )
    loaded = filled.network.state_dict()
    for name, tensor in loaded.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                "weights hold NaN or infinity", got=_plain_name(name), hint="use other weights", file=source
            )
        if name.endswith("running_var") and (tensor < 0).any():
            raise ModelError(
                "weights hold a negative variance",
                got=f"{_plain_name(name)}: {tensor.min().item():g}",
                hint="use other weights",
                file=source,
            )
    for stem in backbone.stem_names(filled.network):
        if not loaded[f"{stem}.weight"].any():
            raise ModelError("weights are all zero", got=f"{_plain_name(stem)}.weight", hint=_HINT, file=source)
    sizes = {_flat_name(name): tensor.numel() for name, tensor in named.items()}
    report = WeightsReport(
        source=source,
        layout=layout_of(tensors),
        loaded=tuple(loaded),
        inflated=tuple(f"{stem}.weight" for stem in backbone.stem_names(filled.network)),
        resampled=tuple(
            name for name, tensor in loaded.items() if sizes.get(_flat_name(name), tensor.numel()) != tensor.numel()
        ),
        unused=tuple(dict.fromkeys(filled.unused + not_of_the_encoder(tensors))),
    )
    return filled.network, report


def _without_prefixes(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes prefixes that training code adds to most names, unless the backbone's own names start with them."""
    for prefix in (prefix for _ in _PREFIXES for prefix in _PREFIXES):
        own = any(name.startswith(prefix.replace(".", "_")) for name in wanted)
        if not own and 2 * sum(name.startswith(prefix) for name in tensors) > len(tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _of_one_network(tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors below the one prefix under which most of the backbone's names are found, such as ``net.``."""
    found: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            if "_".join(parts[start:]) in wanted:
                found["".join(f"{part}." for part in parts[:start])] += 1
    prefixes = [prefix for prefix, count in found.items() if 10 * count > 9 * len(wanted)]
    if not prefixes or "" in prefixes:
        return tensors
    if len(prefixes) > 1:
        raise ModelError(
            "the weight file holds several networks",
            expected="the tensors of one",
            got=f"names that begin with {truncate(prefixes)}",
            hint="save those of one network in a separate file",
            file=source,
        )
    return {name.removeprefix(prefixes[0]): tensor for name, tensor in tensors.items()}


def _check_types(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
    """Refuses quantized and complex weights, which torch would cast without a word."""
    for name, tensor in tensors.items():
        own = wanted.get(_flat_name(name))
        if own is not None and own.is_floating_point() and not tensor.is_floating_point():
            raise ModelError(
                "weights are not floating-point numbers",
                expected="the weights of a network that is neither quantized nor complex",
                got=f"{name} of type {str(tensor.dtype).removeprefix('torch.')}",
                hint="use the weights from before quantization",
                file=source,
            )


def _fill(
    backbone: Backbone,
    tensors: Mapping[str, Tensor],
    named: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size],
    source: str,
) -> Filled:
    try:
        with _quiet_timm():
            return backbone.build_filled(fitted(named, shapes, backbone.image_size))
    except BUILD_ERRORS as error:
        words = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        entries = embedding_mismatch(named, shapes, backbone.image_size)
        problems = [entries] if entries else words[:5]
        raise ModelError(
            f"weights do not fit {backbone.name}",
            expected="the backbone's tensors, in timm's layout or the one they were published in",
            got=f"tensors such as {truncate(list(tensors))}: {' '.join(problems)}{_layout_note(tensors)}",
            hint=_HINT,
            file=source,
        ) from error


@contextmanager
def _quiet_timm() -> Iterator[None]:
    """Silences timm's log of tensors it has no place for, which :class:`WeightsReport` lists.

    Also silences torch's advice to timm's developers on resampling position tables.
    """
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"timm\.layers\.interpolate")
            yield
    finally:
        logger.setLevel(level)


def _layout_note(tensors: Mapping[str, Tensor]) -> str:
    layout = layout_of(tensors)
    return f"; by its names the file is of this kind: {layout}" if layout else ""


def _plain_name(name: str) -> str:
    """A tensor's name without the prefix of timm's feature extractors."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _flat_name(name: str) -> str:
    """The same with underscores for dots, as some of timm's feature extractors have it."""
    return _plain_name(name).replace(".", "_")
