"""What an arm costs: parameters, time, memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inflate3d.comparison.worker import COST
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import Figure, mean_over_defined
from inflate3d.run_folder import RunFolder, TrainingLog
from inflate3d.settings import read_json


@dataclass(frozen=True)
class NetworkSize:
    """The size of a network, by the rules of `inflate3d flops`.

    Attributes:
        parameters: Its weights.
        flops: Floating-point operations for what it sees at a time.
        encoder_flops: Of these, the encoder's, which is all that the paper counts; None for a 3D network.
        seen: What it sees at a time: ``window``, which gives one slice of labels, or ``patch``.
    """

    parameters: int
    flops: int
    encoder_flops: int | None
    seen: str


@dataclass(frozen=True)
class Cost:
    """What an arm costs; NaN where it is not known.

    Attributes:
        network: Its network's size.
        training_seconds: Time of a training, validations counted in, mean over the seeds.
        prediction_seconds: Time from a held-out scan in memory to its label map, mean over cases and seeds.
        peak_memory_bytes: Most GPU memory that a training held; NaN without a GPU.
        device: What it was trained on.
    """

    network: NetworkSize
    training_seconds: Figure
    prediction_seconds: Figure
    peak_memory_bytes: Figure
    device: str


def measure_costs(folders: Sequence[RunFolder], scores: Sequence[Scores]) -> Cost:
    """What an arm's runs cost.

    Args:
        folders: Its runs.
        scores: Their scores.

    Raises:
        ConfigError: A run's cost is not JSON.
        DataError: A run's log can't be read.
        ModelError: A run's model can't be loaded.
    """
    seconds = [TrainingLog.read(folder.metrics).seconds for folder in folders]
    predictions = [each.seconds for each in scores if each.seconds is not None]
    device, peaks = "unknown", []
    for folder in folders:
        if (folder.root / COST).exists():
            device, peak = _read_cost(folder.root / COST)
            peaks += [] if peak is None else [peak]
    return Cost(
        network=measure_network(folders[0]),
        training_seconds=_mean(np.array(seconds)),
        prediction_seconds=_mean(np.concatenate(predictions)) if predictions else math.nan,
        peak_memory_bytes=max(peaks, default=math.nan),
        device=device,
    )


def _read_cost(file: Path) -> tuple[str, float | None]:
    """The device of a run, and the most memory that it took there if that is known."""
    values = read_json(file)
    try:
        peak = values["peak_memory_bytes"]
        return str(values["device"]), None if peak is None else float(peak)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError("cannot read the cost of the run", got=repr(error)[:200], file=file) from error


def measure_network(folder: RunFolder) -> NetworkSize:
    """Counts a trained network's weights and operations.

    Raises:
        ModelError: The run's model can't be loaded.
    """
    import torch

    from inflate3d.models.flops import count_flops, count_parameters, measure_model
    from inflate3d.models.segmenter import Segmenter, load_model

    model = load_model(folder.model).to("meta")
    if isinstance(model, Segmenter):
        cost = measure_model(model)
        return NetworkSize(cost.parameters, cost.model, cost.encoder, "window")
    patch = torch.empty(1, model.architecture.in_channels, *model.architecture.patch_size, device="meta")
    return NetworkSize(count_parameters(model), count_flops(model, patch), None, "patch")


def _mean(values: np.ndarray) -> float:
    return float(mean_over_defined(values.astype(np.float64)))
