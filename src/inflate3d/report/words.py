"""Settings and figures in words."""

from __future__ import annotations

import math

from inflate3d.config import InflatedConfig, ModelConfig
from inflate3d.evaluation.scores import Scores, show


def plural(count: int, word: str) -> str:
    """Such as ``1 case`` and ``2 cases``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def network_in_words(model: ModelConfig) -> str:
    """What was trained, as a sentence's subject that ends in a comma where it has to."""
    if not isinstance(model, InflatedConfig):
        return f"{model.network}, a 3D network of MONAI's,"
    windows = f"windows of {model.depth} slices" if model.depth > 1 else "single slices"
    named = model.resolved_weights
    if named == "none":
        return f"{model.encoder} with random weights, on {windows},"
    weights = "2D weights that timm publishes" if named == "timm" else f"2D weights from {named}"
    return f"{model.encoder} with {weights}, inflated to {windows} ({model.inflation}),"


def method_name(model: ModelConfig) -> str:
    """What tells a method from one of another depth."""
    return plural(model.depth, "slice") if isinstance(model, InflatedConfig) else model.network


def time_in_words(seconds: float) -> str:
    """Such as ``1 h 5 min``."""
    if math.isnan(seconds):
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def interval_in_words(scores: Scores) -> str:
    """The interval of the mean Dice; empty where there is none."""
    found = scores.summaries["dice"].mean
    return "" if math.isnan(found.low) else f"95 % interval {show(found.low, 3)} to {show(found.high, 3)}"
