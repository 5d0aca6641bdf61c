"""The files that an exported network is written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from inflate3d.errors import ModelError
from inflate3d.export.description import FILES, Format
from inflate3d.export.network import to_onnx, trace
from inflate3d.export.runtimes import OnnxRuntime, OpenVino, Runtime, without_statistics
from inflate3d.models.segmenter import Segmenter

MOST_BYTES = 2**31 - 2**20
"""An ONNX file with its weights in it is a protobuf message, which can't be larger."""

PACKAGES: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch-export": (),
}
"""What writing a format and checking it needs."""


class TorchProgram(Runtime):
    """A file of torch's own, read back."""

    def __init__(self, file: Path | bytes) -> None:
        assert isinstance(file, Path)
        self._network = torch.export.load(file).module()

    def __call__(self, windows: Tensor) -> Tensor:
        """The logits of windows."""
        return self._network(windows)


def write_network(model: Segmenter, folder: Path, format: Format, *, half: bool) -> Runtime:  # noqa: A002
    """Writes a network in a format.

    Args:
        model: On the CPU, in eval mode.
        folder: An existing folder.
        format: The format.
        half: Whether to keep its matrices in 16 bits.

    Returns:
        The file, opened by the program that it is for.

    Raises:
        ModelError: torch can't export it, or it is too large for the format.
    """
    _check_size(model, format, half=half)
    path = folder / FILES[format]
    _WRITERS[format](model, path, half)
    return _READERS[format](path)


def onnx_bytes(model: Segmenter, *, half: bool = False) -> bytes:
    """An ONNX file with its weights in it.

    Raises:
        ModelError: torch can't export it, or it is too large.
    """
    _check_size(model, "onnx", half=half)
    return to_onnx(trace(model, half=half), model).model_proto.SerializeToString()


def _write_onnx(model: Segmenter, path: Path, half: bool) -> None:
    path.write_bytes(onnx_bytes(model, half=half))


def _write_openvino(model: Segmenter, path: Path, half: bool) -> None:
    with without_statistics():
        import openvino

    network = openvino.Core().read_model(onnx_bytes(model))
    openvino.save_model(network, str(path), compress_to_fp16=half)


def _write_torch(model: Segmenter, path: Path, half: bool) -> None:
    torch.export.save(trace(model, half=half), path)


_WRITERS: dict[Format, Callable[[Segmenter, Path, bool], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torch-export": _write_torch,
}
_READERS: dict[Format, type[Runtime]] = {"onnx": OnnxRuntime, "openvino": OpenVino, "torch-export": TorchProgram}


def _check_size(model: Segmenter, format: Format, *, half: bool) -> None:  # noqa: A002
    size = sum(tensor.nbytes for tensor in model.state_dict().values()) // (2 if half and format == "onnx" else 1)
    if format != "torch-export" and size > MOST_BYTES:
        raise ModelError(
            f"the network is too large for {format}",
            expected=f"weights of at most {MOST_BYTES / 1e9:.1f} gigabytes",
            got=f"{size / 1e9:.1f}",
            hint="export it with --format torch-export" + (", or with --half" if format == "onnx" and not half else ""),
        )
