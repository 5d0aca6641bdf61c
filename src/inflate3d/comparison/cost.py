"""What an arm costs: parameters, time and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inflate3d.comparison.runs import COST
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import mean_over_defined
from inflate3d.run_folder import RunFolder
from inflate3d.settings import read_json


@dataclass(frozen=True)
class NetworkSize:
    """The size of a network, counted as `inflate3d flops` does.

    Attributes:
        flops: Floating-point operations per window or patch.
        encoder_flops: The encoder's part, the only one that the paper counts; None for a 3D network.
        seen: Its input: a ``window``, for one slice of labels, or a ``patch``.
    """

    parameters: int
    flops: int
    encoder_flops: int | None
    seen: str


@dataclass(frozen=True)
class Cost:
    """What an arm costs; NaN where unknown.

    Attributes:
        network: Its network's size; None for a program's.
        training_seconds: Duration of a training's steps, mean over the seeds; process time on a CPU. For programs that
            do not report it, their total time.
        other_seconds: The same for validations; for a program, everything besides its training.
        prediction_seconds: Time from a held-out scan in memory to its label map, mean over cases and seeds.
        peak_memory_bytes: Peak GPU memory of a training; NaN without a GPU.
    """

    network: NetworkSize | None
    training_seconds: float
    other_seconds: float
    prediction_seconds: float
    peak_memory_bytes: float
    device: str


def measure_costs(folders: Sequence[RunFolder], scores: Sequence[Scores]) -> Cost:
    """The cost of an arm, over its runs."""
    predictions = [each.seconds for each in scores if each.seconds is not None]
    known = [_read_cost(folder.root / COST) for folder in folders if (folder.root / COST).exists()]
    _, training, other, peaks = zip(*known, strict=True) if known else ((), (), (), ())
    return Cost(
        network=measure_network(folders[0]) if folders[0].model.exists() else None,
        training_seconds=_mean(np.array(training)),
        other_seconds=_mean(np.array(other)),
        prediction_seconds=_mean(np.concatenate(predictions)) if predictions else math.nan,
        peak_memory_bytes=max((peak for peak in peaks if not math.isnan(peak)), default=math.nan),
        device=known[-1][0] if known else "unknown",
    )


def _read_cost(file: Path) -> tuple[str, float, float, float]:
    """Device, seconds of training and of all else, and peak GPU memory of a run; NaN where unknown."""
    values = read_json(file)
    try:
        peak = values["peak_memory_bytes"]
        seconds = float(values["training_seconds"]), float(values["other_seconds"])
        return str(values["device"]), *seconds, math.nan if peak is None else float(peak)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError("cannot read the cost of the run", got=repr(error)[:200], file=file) from error


def measure_network(folder: RunFolder) -> NetworkSize:
    """Counts the parameters and operations of a trained network."""
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
