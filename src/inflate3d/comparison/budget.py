"""Budgets of a comparison: how long a training may take, and the steps that fill this time."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from inflate3d.atomic import write_text
from inflate3d.config import RunConfig
from inflate3d.errors import ConfigError, DataError
from inflate3d.run_folder import RunFolder
from inflate3d.settings import read_json

USED = 0.97
"""Fraction of the budget to plan for: the timed steps only estimate the duration of all steps."""

TIMING = "timing.json"
"""In a run's folder: the timing from which the number of steps was computed."""

_UNITS = {"h": 3600, "min": 60, "s": 1}


@dataclass(frozen=True)
class Timing:
    """The measured time of a training step, and the number of steps that fits the budget.

    Attributes:
        budget_seconds: Duration of the training.
    """

    budget_seconds: float
    seconds_per_step: float
    steps: int

    @classmethod
    def fit(cls, budget_seconds: float, seconds_per_step: float) -> Timing:
        """The number of steps that fits a budget, at least one."""
        return cls(budget_seconds, seconds_per_step, max(1, int(USED * budget_seconds / seconds_per_step)))

    def write(self, folder: RunFolder) -> None:
        """Writes the timing into the run's folder."""
        write_text(folder.root / TIMING, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: RunFolder) -> Timing | None:
        """Reads a run's timing; None if its steps have not been timed yet."""
        file = folder.root / TIMING
        if not file.exists():
            return None
        values = read_json(file)
        try:
            return cls(float(values["budget_seconds"]), float(values["seconds_per_step"]), int(values["steps"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            hint = "remove the run's folder to train it from the beginning"
            raise DataError("cannot read the timing of the run", got=repr(error)[:200], hint=hint, file=file) from error

    def applied_to(self, config: RunConfig) -> RunConfig:
        """The run's settings with this number of steps."""
        return config.model_copy(update={"training": config.training.model_copy(update={"steps": self.steps})})


def read_budgets(text: str) -> tuple[float, ...]:
    """Reads times such as ``90s,3min,1h`` as seconds, in ascending order."""
    budgets = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(s|min|h)", part.strip())
        seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
        if not seconds:
            raise ConfigError("invalid budget", expected="times such as 90s,3min,1h", got=f"--budget {text}")
        budgets.add(seconds)
    return tuple(sorted(budgets))


def budget_name(seconds: float) -> str:
    """A budget as it is written on the command line, such as ``3min``."""
    unit = next((unit for unit, length in _UNITS.items() if not seconds % length), "s")
    return f"{seconds / _UNITS[unit]:g}{unit}"


def check_budget(config: RunConfig) -> None:
    """Checks that the training runs in a single process, whose time can be measured."""
    training = config.training
    if training.devices * training.nodes > 1 or training.workers:
        raise ConfigError(
            "a budget counts the time of one process",
            expected="one device and --workers 0",
            got=f"--devices {training.devices} --nodes {training.nodes} --workers {training.workers}",
        )
