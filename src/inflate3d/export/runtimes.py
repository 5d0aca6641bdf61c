"""Programs other than torch that compute a network on the CPU."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inflate3d.errors import ConfigError, ModelError
from inflate3d.export.network import INPUT, example_windows
from inflate3d.models.segmenter import Segmenter

RuntimeName = Literal["onnxruntime", "openvino"]

TOLERANCE = 1e-4
"""Largest difference of logits, as a fraction of the largest logit or of 1, for two programs to count as equal."""


class Runtime(ABC):
    """A network that another program computes.

    Args:
        file: An ONNX file's path or its bytes; openvino takes its own files, too.
    """

    @abstractmethod
    def __init__(self, file: Path | bytes) -> None: ...

    @abstractmethod
    def __call__(self, windows: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k *t h w"]:
        """The logits of windows, or of slabs, on the CPU."""


class OnnxRuntime(Runtime):
    """Microsoft's onnxruntime."""

    def __init__(self, file: Path | bytes) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        source = file if isinstance(file, bytes) else str(file)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def __call__(self, windows: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k *t h w"]:
        """The logits of windows."""
        (logits,) = self._session.run(None, {INPUT: windows.numpy()})
        return torch.from_numpy(logits)


class OpenVino(Runtime):
    """Intel's OpenVINO, in 32 bits, which is not its default on every processor."""

    def __init__(self, file: Path | bytes) -> None:
        with without_statistics():
            import openvino

        core = openvino.Core()
        model = core.read_model(file if isinstance(file, bytes) else str(file))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._compiled = core.compile_model(model, "CPU", settings)

    def __call__(self, windows: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k *t h w"]:
        """The logits of windows."""
        return torch.from_numpy(self._compiled(windows.numpy())[0])


@contextmanager
def without_statistics() -> Iterator[None]:
    """Lets openvino and nncf be imported without the package that reports their use to their maker."""
    package = "openvino_telemetry"
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # they do without what can't be imported
    try:
        yield
    finally:
        del sys.modules[package]


RUNTIMES: dict[RuntimeName, type[Runtime]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


def is_installed(name: RuntimeName) -> bool:
    """Whether the runtime, and what writes the files that it reads, are installed."""
    return all(find_spec(package) is not None for package in (name, "onnx", "onnxscript"))


def require_packages(*packages: str, asked: str) -> None:
    """Makes sure that packages of the extra ``export`` are installed.

    Args:
        packages: Their names.
        asked: The option that needs them.

    Raises:
        ConfigError: One is not.
    """
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(f"{missing[0]} is not installed", got=asked, hint="pip install 'inflate3d[export]'")


@torch.inference_mode()
def largest_difference(model: Segmenter, runtime: Runtime) -> float:
    """How far a runtime's logits of random windows are off, as a fraction of the largest logit or of 1."""
    windows = example_windows(model, 3)
    expected, got = model(windows), runtime(windows)
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1))


def check_equal(difference: float, limit: float, name: str) -> None:
    """Makes sure that another program gives the network's logits.

    Args:
        difference: See `largest_difference`.
        limit: What is allowed.
        name: What computed them.

    Raises:
        ModelError: It does not.
    """
    if not difference <= limit:  # NaN is not, either
        raise ModelError(
            f"{name} does not reproduce torch's logits",
            expected=f"a difference of at most {limit:g} of the largest logit",
            got=f"{difference:.2g}",
            hint="predict with --runtime torch; please report the backbone and the versions",
        )
