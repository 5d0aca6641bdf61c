"""What a process runs on, as far as it may affect results: versions, commit, processor, device, command line."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING

import inflate3d
from inflate3d.settings import FrozenModel
from inflate3d.version import __version__

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "timm", "monai", "pytorch-lightning", "numpy", "blosc2", "nibabel", "SimpleITK", "safetensors")
"""Packages that may affect results."""

_PACKAGE = Path(inflate3d.__file__).resolve().parent
_DRIVER_VERSION = re.compile(r"\s(\d+\.\d[\d.]*)\s")


class Environment(FrozenModel):
    """What a session ran on, without the names of the machine and the user.

    Attributes:
        version: Version of inflate3d.
        commit: Commit of its checkout, or the one that pip installed; None for a release.
        modified: Whether tracked files of the checkout were changed; None if unknown.
        threads: torch's number of threads; on a CPU, another number rounds sums differently.
        device: ``cpu``, ``mps``, or the GPU's name.
        driver: Version of NVIDIA's driver, if there is one.
        versions: Versions of Python, of `PACKAGES`, and of CUDA and cuDNN.
    """

    version: str
    commit: str | None
    modified: bool | None
    system: str
    processor: str
    cores: int
    threads: int
    device: str
    driver: str | None
    versions: dict[str, str]

    def differences(self, other: Environment) -> list[str]:
        """Differences that may change the result of a training, such as ``"torch 2.8.0, then 2.9.0"``."""
        pairs: dict[str, tuple[object, object]] = {
            "inflate3d": (self.version, other.version),
            "commit": (self.commit, other.commit),
            "uncommitted changes": (self.modified, other.modified),
            "system": (_without_release(self.system), _without_release(other.system)),
            "processor": (self.processor, other.processor),
            "device": (self.device, other.device),
            "driver": (self.driver, other.driver),
        }
        if self.device == other.device == "cpu":
            pairs["threads"] = self.threads, other.threads
        for name in sorted(self.versions.keys() | other.versions.keys()):
            pairs[name] = self.versions.get(name), other.versions.get(name)
        return [f"{name} {old}, then {new}" for name, (old, new) in pairs.items() if old != new]


def this_environment(device: torch.device) -> Environment:
    import torch

    on_gpu = device.type == "cuda"
    commit, modified = _commit()
    return Environment(
        version=__version__,
        commit=commit,
        modified=modified,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
        driver=_driver() if on_gpu else None,
        versions=_versions(),
    )


def _commit() -> tuple[str | None, bool | None]:
    """Commit of the running code, and whether tracked files were changed since."""
    root, git = _PACKAGE.parent.parent, shutil.which("git")
    if not (_PACKAGE.parent.name == "src" and (root / ".git").exists()):
        return _installed_commit(), None
    if git is None:
        return None, None
    words = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, env=environment, check=True)  # noqa: S603 - no user input
    except (OSError, subprocess.SubprocessError):
        return None, None
    commit = done.stdout.strip()
    return commit.removesuffix("-dirty"), commit.endswith("-dirty")


def _installed_commit() -> str | None:
    """Commit of the repository that pip installed from."""
    try:
        text = distribution("inflate3d").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(text).get("vcs_info", {}).get("commit_id") if text else None


def _versions() -> dict[str, str]:
    import torch

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["torch"] = torch.__version__  # names the build, too
    if torch.version.cuda and torch.cuda.is_available():
        found |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return found


def _processor() -> str:
    lines = _system_file("/proc/cpuinfo").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _driver() -> str | None:
    found = _DRIVER_VERSION.search(_system_file("/proc/driver/nvidia/version"))
    return found[1] if found else None


def _system_file(path: str) -> str:
    """Contents of one of Linux's own files; empty on other systems."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _without_release(system: str) -> str:
    """System and architecture without the kernel's release, which does not affect results."""
    name, *_, architecture = system.split()
    return f"{name} {architecture}"


def command_line(words: Sequence[str] | None = None) -> tuple[str, ...]:
    """Command line of this process, with ``~`` for the home folder; only the name if it is not our program.

    Args:
        words: The command line; by default that of the process.
    """
    program, *others = sys.argv if words is None else words
    path = Path(program)
    if path.resolve().is_relative_to(_PACKAGE):
        parts = path.resolve().relative_to(_PACKAGE.parent).with_suffix("").parts
        start: tuple[str, ...] = ("python", "-m", ".".join(parts).removesuffix(".__main__"))
    elif path.stem == "inflate3d":
        start = ("inflate3d",)
    else:
        return (path.name or "python",)
    home = str(Path.home())
    return (*start, *(word.replace(home, "~") if len(home) > 1 else word for word in others))
