"""How the server divides memory between predictions and training, which runs in a separate process.

On a GPU, predictions may use a fifth and the training seven tenths; the rest is for the drivers. In main memory, the
training plans its batches for half of what the machine or the container has, and a prediction uses 1.5 gigabytes, or
less if less is free.
"""

from __future__ import annotations

import math
from typing import Any

from inflate3d.config import TrainingDefaults

PREDICTING, TRAINING = 0.2, 0.7
"""Shares of a GPU's memory."""


def prediction_memory(device: str | None, given: float | None) -> float | None:
    """Gigabytes for a prediction.

    Args:
        device: The device to predict on; None: the GPU if there is one.
        given: What the user gave; None for the server's choice.

    Returns:
        As given; otherwise the share of the GPU, or None in main memory, where `Predictor` has a limit of its own.
    """
    import torch

    if given is not None or not torch.cuda.is_available() or torch.device(device or "cuda").type != "cuda":
        return given
    return PREDICTING * torch.cuda.get_device_properties(device or "cuda").total_memory / 1e9


def limit_training() -> None:
    """Keeps this process within the training's share of the GPU; at its limit, batches are divided into parts."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(TRAINING)


def planned_batches(settings: dict[str, Any], planned: TrainingDefaults) -> dict[str, int]:
    """Settings of smaller batches where those of a run are planned for a larger machine; the sum of a step is kept.

    Args:
        settings: The section ``training`` of the settings.
        planned: What this machine's memory allows.

    Examples:
        >>> allowed = TrainingDefaults(depth=5, batch_size=4, accumulate=4, foreground_fraction=0.5, steps=1000)
        >>> planned_batches({"batch_size": 16, "accumulate": 1}, allowed)
        {'batch_size': 4, 'accumulate': 4}
        >>> planned_batches({"batch_size": 2}, allowed)
        {}
    """
    batch = settings.get("batch_size") or 0
    if batch <= planned.batch_size:
        return {}
    return {
        "batch_size": planned.batch_size,
        "accumulate": math.ceil(batch * (settings.get("accumulate") or 1) / planned.batch_size),
    }
