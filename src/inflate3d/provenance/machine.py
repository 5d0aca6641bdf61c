"""What a run was computed by: versions, processor, devices. Neither the machine's name nor its user's is kept."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from inflate3d.settings import FrozenModel

PACKAGES = ("torch", "timm", "monai", "pytorch-lightning", "numpy", "blosc2", "nibabel", "SimpleITK", "safetensors")
"""Those that a result may depend on."""

_DRIVER_VERSION = re.compile(r"\s(\d+\.\d[\d.]*)\s")


class Machine(FrozenModel):
    """What a session ran on.

    Attributes:
        system: Operating system and architecture.
        processor: The CPU's name.
        cores: How many the system counts.
        threads: How many torch computed with; on a CPU sums are rounded differently by another number.
        device: What trained: ``cpu``, or the name of the GPU.
        driver: The GPU's driver; none on a CPU, or where it isn't told.
        versions: Of Python, the packages of `PACKAGES`, CUDA and cuDNN.
    """

    system: str
    processor: str
    cores: int
    threads: int
    device: str
    driver: str | None
    versions: dict[str, str]

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU trained."""
        return self.device == "cpu"


def this_machine(device: torch.device) -> Machine:
    """The machine that this process runs on.

    Args:
        device: What it trains on.
    """
    on_gpu = device.type == "cuda"
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
        driver=_driver() if on_gpu else None,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # which names the build besides
    if torch.version.cuda and torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def _processor() -> str:
    """The CPU's name as Linux tells it, or what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _driver() -> str | None:
    """NVIDIA's driver, as Linux tells it."""
    try:
        told = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _DRIVER_VERSION.search(told)
    return found[1] if found else None
