"""Networks that another program than torch computes, for the predictor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inflate3d.config import Precision, Runtime
from inflate3d.errors import ConfigError, ModelError
from inflate3d.export.files import onnx_bytes
from inflate3d.export.network import example_windows
from inflate3d.export.runtimes import (
    RUNTIMES,
    TOLERANCE,
    RuntimeName,
    check_equal,
    is_installed,
    largest_difference,
    require_packages,
)
from inflate3d.inference.memory import LiveTensors
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter

logger = logging.getLogger(__name__)

Network = Callable[[Float[Tensor, "b c d h w"]], Float[Tensor, "b k *t h w"]]


class ForeignSegmenter(Segmenter):
    """An inflated network that another program computes.

    Args:
        model: The network.
        network: What computes it.
    """

    def __init__(self, model: Segmenter, network: Network) -> None:
        nn.Module.__init__(self)
        self.architecture, self.plan = model.architecture, model.plan
        self._network = network
        self._slice_bytes = _bytes_per_slice(model)

    def forward(self, windows: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k *t h w"]:
        """Scores every pixel of the center slices, or of all slices of slabs, see `Segmenter`."""
        self._check(windows)
        # The predictor plans by the tensors that it sees: this one stands for those of the other program, which needs
        # about as much as torch. Nobody writes to it, so that the system gives it no memory.
        torch.empty(len(windows) * windows.shape[2] * self._slice_bytes, dtype=torch.uint8)
        return self._network(windows)


def with_runtime(
    models: Sequence[Segmenter | VolumetricSegmenter], runtime: Runtime, device: torch.device, precision: Precision
) -> list[Segmenter | VolumetricSegmenter]:
    """Networks as a runtime computes them.

    Args:
        models: On the CPU, in eval mode.
        runtime: ``"auto"`` takes the fastest of those that are installed and give torch's logits.
        device: Where to compute; only the CPU has other runtimes than torch.
        precision: Other runtimes compute in 32 bits.

    Raises:
        ConfigError: The runtime is not installed, or can't compute what is asked.
        ModelError: It can't compute a network, or gives other logits.
    """
    if runtime == "torch":
        return list(models)
    reason = _obstacle(models, device, precision)
    if runtime == "auto":
        return list(models) if reason else [_fastest(each) for each in models if isinstance(each, Segmenter)]
    if reason:
        raise ConfigError(f"--runtime {runtime} can't compute this", got=reason, hint="leave out --runtime")
    require_packages("onnx", "onnxscript", runtime, asked=f"--runtime {runtime}")
    return [_computed_by(runtime, each, onnx_bytes(each)) for each in models if isinstance(each, Segmenter)]


def _obstacle(
    models: Sequence[Segmenter | VolumetricSegmenter], device: torch.device, precision: Precision
) -> str | None:
    """Why only torch can compute the networks."""
    if device.type != "cpu":
        return f"the device {device}, where only torch computes"
    if precision != "32":
        return f"--precision {precision}; other runtimes compute in 32 bits"
    return None if all(isinstance(each, Segmenter) for each in models) else "a 3D network"


def _computed_by(runtime: RuntimeName, model: Segmenter, file: bytes) -> ForeignSegmenter:
    network = RUNTIMES[runtime](file)
    check_equal(largest_difference(model, network), TOLERANCE, runtime)
    return ForeignSegmenter(model, network)


def _fastest(model: Segmenter) -> Segmenter:
    """The network by the fastest program that gives its logits."""
    candidates: dict[str, Segmenter] = {"torch": model}
    installed: list[RuntimeName] = [runtime for runtime in RUNTIMES if is_installed(runtime)]
    if installed:
        try:
            file = onnx_bytes(model)
            for name in installed:
                candidates[name] = _computed_by(name, model, file)
        except ModelError as error:
            logger.warning("%s", error)
    windows = example_windows(model, 2)
    seconds = {name: _seconds(each, windows) for name, each in candidates.items()}
    fastest = min(seconds, key=lambda name: seconds[name])
    logger.info("runtime: %s (%.2f times as fast as torch)", fastest, seconds["torch"] / seconds[fastest])
    return candidates[fastest]


@torch.inference_mode()
def _seconds(network: Network, windows: Float[Tensor, "b c d h w"]) -> float:
    """The shortest time of three."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        network(windows)
        times.append(time.perf_counter() - started)
    return min(times)


@torch.inference_mode()
def _bytes_per_slice(model: Segmenter) -> int:
    windows = example_windows(model, 1)
    with LiveTensors() as live:
        model(windows)
    return live.peak // windows.shape[2]
