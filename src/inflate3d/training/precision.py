"""The number format for training: the device's fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inflate3d.config import Precision, RunConfig, TrainingConfig, TrainingPrecision, VolumetricConfig
from inflate3d.resources import is_faster_in_bfloat16, warn_of_slow_precision
from inflate3d.run_folder import RunFolder


def choose_precision(config: RunConfig, folder: RunFolder) -> RunConfig:
    """Resolves automatic precision: what the run was started with, or what is fast on the device."""
    if config.training.precision == "auto":
        chosen = _choose(config, folder)
        config = config.model_copy(update={"training": config.training.model_copy(update={"precision": chosen})})
    warn_of_slow_precision(config.training.precision, training_device(config.training))
    return config


def _choose(config: RunConfig, folder: RunFolder) -> TrainingPrecision:
    if folder.config.exists():
        return RunConfig.read(folder.config).training.precision
    if isinstance(config.model, VolumetricConfig) and training_device(config.training).type == "cpu":
        return "32"  # 3D convolutions in bfloat16 gave NaN at times (torch 2.15, SegResNet and SwinUNETR)
    return fast_precision(config.training)


def fast_precision(training: TrainingConfig) -> Precision:
    """Mixed bfloat16 if the device computes faster in it, otherwise float32."""
    return "bf16-mixed" if is_faster_in_bfloat16(training_device(training)) else "32"


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
