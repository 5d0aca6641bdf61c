"""Bitwise reproducible training on a GPU: operations that add in a fixed order, or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inflate3d.config import TrainingConfig
from inflate3d.errors import ConfigError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""The environment variable with cuBLAS's workspace settings; two values make it deterministic."""

WORKSPACES = (":4096:8", ":16:8")

_NO_KERNEL = "does not have a deterministic implementation"


@contextmanager
def determinism(training: TrainingConfig) -> Iterator[None]:
    """Trains deterministically if asked to; restores the previous settings afterwards.

    Operations without a deterministic form raise an error instead of a warning, so that the guarantee holds for all.
    CPUs need none of this, see docs/protocol.md.
    """
    if not training.deterministic:
        yield
        return
    if training.compile:
        raise ConfigError(
            "a compiled network is not deterministic: its kernels are chosen by timing",
            got="--deterministic --compile",
            hint="leave out one of them",
        )
    _set_workspace()
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if _NO_KERNEL in str(error):
            raise _not_deterministic(error) from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def _set_workspace() -> None:
    """Sets cuBLAS's variable, which is read when CUDA starts."""
    if torch.cuda.is_initialized() and os.environ.get(WORKSPACE) not in WORKSPACES:
        raise ConfigError(
            "CUDA was started in a nondeterministic way",
            expected=f"{WORKSPACE} to be one of {', '.join(WORKSPACES)} from the start",
            got=os.environ.get(WORKSPACE, "not set"),
            hint=f"set {WORKSPACE}={WORKSPACES[0]} before Python, or train from the command line",
        )
    os.environ.setdefault(WORKSPACE, WORKSPACES[0])


def _not_deterministic(error: RuntimeError) -> ConfigError:
    operation = str(error).partition(_NO_KERNEL)[0].strip()
    return ConfigError(
        "an operation of this network has no deterministic version on this device",
        got=f"{operation} with --deterministic",
        hint="use --decoder fpn-lite, another encoder or --accelerator cpu, or leave out --deterministic",
    )
