"""The number format of a training: the fast one of its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inflate3d.config import Precision, RunConfig, TrainingConfig, VolumetricConfig
from inflate3d.run_folder import RunFolder

_AMPERE = (8, 0)
"""Compute capability of the first NVIDIA GPUs that have bfloat16."""


def choose_precision(config: RunConfig, folder: RunFolder) -> RunConfig:
    """Resolves automatic precision: what the run was started with, or what is fast on the device."""
    if config.training.precision != "auto":
        return config
    if folder.config.exists():
        chosen = RunConfig.read(folder.config).training.precision
    elif isinstance(config.model, VolumetricConfig) and training_device(config.training).type == "cpu":
        chosen = "32"  # 3D convolutions in bfloat16 gave NaN at times (torch 2.15, SegResNet and SwinUNETR)
    else:
        chosen = fast_precision(config.training)
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": chosen})})


def fast_precision(training: TrainingConfig) -> Precision:
    """Mixed bfloat16 if the device computes in it, otherwise float32.

    A GPU does from compute capability 8 on, a CPU with AVX-512 BF16 or AMX.
    """
    device = training_device(training)
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.get_device_capability() >= _AMPERE
    elif device.type == "cpu":
        abilities = getattr(torch.cpu, "get_capabilities", dict)()  # which torch 2.8 does not have yet
        has_bfloat16 = abilities.get("avx512_bf16", False) or abilities.get("amx_bf16", False)
    else:
        has_bfloat16 = False
    return "bf16-mixed" if has_bfloat16 else "32"


def training_device(training: TrainingConfig) -> torch.device:
    """The type of device that a training uses here."""
    if training.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if training.accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Allows TF32 for float32 matrix products on CUDA, as in convolutions by default."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
