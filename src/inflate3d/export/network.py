"""The network to export, and its graph: what every format is written from."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inflate3d.errors import ConfigError, ModelError, truncate
from inflate3d.inference.ensemble import find_models
from inflate3d.models.depth_mixing import REACH
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan

INPUT, OUTPUT = "windows", "logits"
"""Names of the network's input and output in files."""

EXAMPLE_SLICES = REACH + 2
"""Of a slab; more than a slice reaches."""

_EXPORT_ERRORS = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, LookupError)
"""What torch raises for a network that it can't export; its own classes derive from these."""


def load_single(source: Path) -> tuple[Segmenter | VolumetricSegmenter, Plan, Path]:
    """The only model in a folder, its plan, and where it is.

    Raises:
        ConfigError: There are several.
        ModelError: There is none, it can't be loaded, or it has no plan.
    """
    folder, *others = find_models(source)
    if others:
        raise ConfigError(
            "the folder holds several models",
            expected="one",
            got=len(others) + 1,
            hint="export each separately, and average their logits",
            file=source,
        )
    model = load_model(folder)
    if model.plan is None:
        raise ModelError("model has no plan", hint="train it with inflate3d, or set model.plan", file=folder)
    return model, model.plan, folder


class HalfWeights(nn.Module):
    """A network that keeps its matrices in 16 bits and computes in 32.

    Args:
        model: The network; it stays as it is. Norms and biases, which are small, stay in 32 bits.
    """

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.network = copy.deepcopy(model)
        for weight in self.network.parameters():
            weight.requires_grad_(False)
            if weight.ndim > 1 and float(weight.abs().max()) < torch.finfo(torch.float16).max:
                weight.data = weight.data.half()

    def forward(self, windows: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k *t h w"]:
        """Scores windows, as the network itself does."""
        weights = {name: weight.float() for name, weight in self.network.named_parameters()}
        return torch.func.functional_call(self.network, weights, (windows,))


def trace(model: Segmenter, *, half: bool = False) -> torch.export.ExportedProgram:
    """The network as a graph for any number of windows, or of slabs of any length.

    Args:
        model: On the CPU, in eval mode.
        half: Whether the graph keeps its matrices in 16 bits.

    Raises:
        ModelError: torch can't export it.
    """
    free = {0: torch.export.Dim("batch", min=1, max=2**16)}
    if model.architecture.depth_mixing != "none":
        free[2] = torch.export.Dim("slices", min=1, max=2**16)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            return torch.export.export(
                HalfWeights(model) if half else model, (example_windows(model, 2),), dynamic_shapes=(free,)
            )
    except _EXPORT_ERRORS as error:
        raise _refused(model, error) from error


def to_onnx(program: torch.export.ExportedProgram, model: Segmenter) -> Any:
    """The graph as torch's ``ONNXProgram``.

    Raises:
        ModelError: torch has no ONNX operator for a part of it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT]
            )
    except _EXPORT_ERRORS as error:
        raise _refused(model, error) from error
    assert written is not None
    return written


def example_windows(model: Segmenter, count: int) -> Float[Tensor, "b c d h w"]:
    """Random windows, or slabs, the same every time."""
    architecture = model.architecture
    slices = architecture.depth if architecture.depth_mixing == "none" else EXAMPLE_SLICES
    shape = (count, architecture.in_channels, slices, *architecture.image_size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _refused(model: Segmenter, error: Exception) -> ModelError:
    reason = truncate(str(error).strip().splitlines() or [type(error).__name__], 2)
    return ModelError(f"torch can't export {model.architecture.encoder} with {model.architecture.decoder}", got=reason)
