"""Arms under one protocol: same data, split, steps and seed, one difference each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inflate3d.config import ModelConfig, RunConfig, parse_settings
from inflate3d.evaluation.scores import Scores
from inflate3d.run_folder import RunFolder


@dataclass(frozen=True)
class Arm:
    """One method in a comparison.

    Attributes:
        name: Names its run's folder and its row.
        model: What its network has different.
    """

    name: str
    model: dict[str, Any] = field(default_factory=dict)

    def config(self, base: RunConfig) -> RunConfig:
        """The arm's own configuration."""
        model = parse_settings(ModelConfig, {**base.model.model_dump(), **self.model})
        return base.model_copy(update={"model": model})


OURS = Arm("ours")
WITHOUT_DEPTH = Arm("without-depth", {"depth": 1})

ARM_SETS: dict[str, tuple[Arm, ...]] = {
    "depth": (OURS, WITHOUT_DEPTH),
    "paper": (
        OURS,
        WITHOUT_DEPTH,
        Arm("without-transfer", {"weights": "none"}),
        Arm("without-both", {"weights": "none", "depth": 1}),
    ),
}
"""Built-in comparisons. ``paper`` has the four arms of the paper's own network."""


def compare(
    base: RunConfig,
    arms: Sequence[Arm],
    root: Path,
    run_arm: Callable[[RunConfig, RunFolder], Scores],
) -> dict[str, Scores]:
    """Runs every arm that is not finished, each in its own folder.

    Args:
        base: The configuration that arms differ from.
        arms: The methods.
        root: Folder of the comparison; an arm's run lies in it under the arm's name.
        run_arm: Trains and scores one arm.

    Returns:
        Scores by arm, in the order given.

    Raises:
        ConfigError: An arm was finished with other settings.
    """
    results: dict[str, Scores] = {}
    for arm in arms:
        folder = RunFolder(root / arm.name)
        config = arm.config(base)
        if (folder.evaluation / "scores.json").exists():
            config.check_unchanged(folder.config)
            results[arm.name] = Scores.read(folder.evaluation)
        else:
            results[arm.name] = run_arm(config, folder)
    return results
