"""2D weights into a backbone: from timm's hub or a file, whole or not at all."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from inflate3d.errors import ModelError
from inflate3d.models.backbone import Backbone
from inflate3d.models.layouts import layout_of, to_timm
from inflate3d.models.published import PUBLISHED, published_path
from inflate3d.models.timm_backbones import BUILD_ERRORS
from inflate3d.models.weight_files import download_timm, read_tensors

_WRAPPERS = ("model.", "body.")
"""What timm's feature extractors put before a backbone's own names."""

_QUIET_NAN = 0x7FC00000
_NAN_PAYLOAD = 0x3FFFFF
"""Bits of a float32: those that make a NaN, and those that it has to spare."""

_COUNTER_DYE = 1 << 40
"""What counters of batches are dyed with; no counter comes so far."""

_NAMES_TOLD = 5
_REMEDY = "give the backbone that the weights were made for, or other weights"


@dataclass(frozen=True)
class WeightsReport:
    """What became of a checkpoint's tensors.

    ``loaded``, ``inflated`` and ``resampled`` are names of the encoder network, ``used`` and ``unused`` names of
    the checkpoint, each of which is in one of the two. A checkpoint that doesn't fill the whole backbone is an
    error, so none is missing.

    Attributes:
        source: Where the checkpoint came from: a file, a hub id or an address.
        layout: The layout it was published in, where its names tell it.
        loaded: Tensors that the network took.
        inflated: Those of them that were inflated: the stem's.
        resampled: Those that came in another size, such as position embeddings of another image size.
        used: Tensors of the checkpoint that the network's were made of.
        unused: Tensors that the network has no place for, such as a classifier's.
    """

    source: str
    layout: str | None
    loaded: tuple[str, ...]
    inflated: tuple[str, ...]
    resampled: tuple[str, ...]
    used: tuple[str, ...]
    unused: tuple[str, ...]

    def summary(self) -> str:
        """What became of the tensors, as a few lines."""
        told = {"inflated": self.inflated, "resampled": self.resampled, "not used": self.unused}
        layout = f" ({self.layout})" if self.layout else ""
        lines = [f"2D weights: all {len(self.loaded)} tensors of the backbone from {self.source}{layout}"]
        lines += [f"  {what}: {_first(list(names))}" for what, names in told.items() if names]
        return "\n".join(lines)


def load_backbone(backbone: Backbone, weights: str | Path) -> tuple[nn.Module, WeightsReport]:
    """Builds a backbone for RGB images and fills it from a checkpoint.

    Every layout is understood that timm knows or :mod:`inflate3d.models.layouts` does, and position embeddings
    and tables are resampled to the image size.

    Args:
        backbone: What to build.
        weights: ``"timm"`` for those that timm publishes, from its cache or its hub; a name of
            :data:`inflate3d.models.published.PUBLISHED`, fetched where it isn't here; or the path of a
            ``.safetensors`` or torch file. Half precision becomes float32.

    Raises:
        ModelError: The checkpoint can't be had or read, or doesn't fill the whole backbone.
    """
    if weights == "timm":
        source, tensors = download_timm(backbone.name)
    else:
        path = published_path(PUBLISHED[str(weights)]) if str(weights) in PUBLISHED else Path(weights)
        source, tensors = str(path), read_tensors(path)
    origins = _origins(backbone, tensors, source)
    missing = [name for name, sources in origins.items() if sources is None]
    if missing:
        raise ModelError(
            f"weights do not fit {backbone.name}",
            expected="every tensor of the backbone",
            got=f"{len(missing)} missing: {_first(missing)}{_layout_note(tensors)}",
            hint=_REMEDY,
            file=source,
        )
    network = _build_filled(backbone, tensors, source)
    return network, _report(backbone, network, tensors, origins, source)


def _origins(backbone: Backbone, tensors: Mapping[str, Tensor], source: str) -> dict[str, tuple[str, ...] | None]:
    """For each tensor of the backbone, the names of those in the checkpoint that it is made of; none: it is missing.

    Translations rename, join and resample tensors, timm's own among them, and tell nobody how. So the checkpoint is
    loaded once with every number a NaN that carries, in the bits that a NaN has to spare, the number of its tensor:
    arithmetic keeps a NaN's bits, and what is no NaN afterwards didn't come from the checkpoint. A processor that
    doesn't keep them leaves the names untold, no more.
    """
    names = list(tensors)
    dyed = {name: _dyed(tensor, number) for number, (name, tensor) in enumerate(tensors.items(), start=1)}
    origins: dict[str, tuple[str, ...] | None] = {}
    for name, tensor in _build_filled(backbone, dyed, source).state_dict().items():
        if tensor.is_floating_point() and not tensor.isnan().any():
            origins[name] = None
        else:
            origins[name] = tuple(names[dye - 1] for dye in _dyes(tensor) if 0 < dye <= len(names))
    return origins


def _dyed(tensor: Tensor, number: int) -> Tensor:
    if tensor.is_floating_point():
        return torch.full(tensor.shape, _QUIET_NAN + number, dtype=torch.int32).view(torch.float32)
    return torch.full_like(tensor, _COUNTER_DYE + number) if tensor.dtype == torch.int64 else tensor


def _dyes(tensor: Tensor) -> list[int]:
    """The numbers that a tensor of a dyed network carries, ascending."""
    if tensor.is_floating_point():
        marks = tensor.contiguous().view(torch.int32)[tensor.isnan()] & _NAN_PAYLOAD
    else:
        marks = tensor.flatten() - _COUNTER_DYE
    lowest, highest = int(marks.min()), int(marks.max())
    return [lowest] if lowest == highest else marks.unique().tolist()


def _build_filled(backbone: Backbone, tensors: Mapping[str, Tensor], source: str) -> nn.Module:
    shapes = {_plain_name(name): tensor.shape for name, tensor in backbone.build_weightless().state_dict().items()}
    try:
        with _quiet_timm():
            return backbone.build_filled(to_timm(tensors, shapes))
    except BUILD_ERRORS as error:
        problems = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        raise ModelError(
            f"weights do not fit {backbone.name}",
            expected="the backbone's tensors, in timm's layout or the one they were published in",
            got=f"tensors such as {_first(list(tensors))}: {' '.join(problems[:_NAMES_TOLD])}{_layout_note(tensors)}",
            hint=_REMEDY,
            file=source,
        ) from error


@contextmanager
def _quiet_timm() -> Iterator[None]:
    """Keeps timm from logging tensors that it has no place for; :class:`WeightsReport` tells them.

    So it does with torch's advice to timm's developers on how they resample position tables.
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


def _report(
    backbone: Backbone,
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    origins: Mapping[str, tuple[str, ...] | None],
    source: str,
) -> WeightsReport:
    loaded = network.state_dict()
    used = {name for sources in origins.values() for name in sources or ()}
    all_traced = all(origins.values())
    return WeightsReport(
        source=source,
        layout=layout_of(tensors),
        loaded=tuple(loaded),
        inflated=tuple(f"{stem}.weight" for stem in backbone.stem_names(network)),
        resampled=tuple(
            name
            for name, sources in origins.items()
            if sources and len(sources) == 1 and tensors[sources[0]].numel() != loaded[name].numel()
        ),
        used=tuple(name for name in tensors if name in used),
        unused=tuple(name for name in tensors if name not in used) if all_traced else (),
    )


def _layout_note(tensors: Mapping[str, Tensor]) -> str:
    layout = layout_of(tensors)
    return f"; by its names the file is of this kind: {layout}" if layout else ""


def _plain_name(name: str) -> str:
    """A tensor's name without the prefix of timm's feature extractors."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _own_name(name: str) -> str:
    """A tensor's name without all that timm's feature extractors change: a prefix, and dots to underscores."""
    return _plain_name(name).replace(".", "_")


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_TOLD]) + (", ..." if len(names) > _NAMES_TOLD else "")
