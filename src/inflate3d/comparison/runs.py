"""The runs of a comparison: every arm with every seed, number of training cases and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inflate3d.comparison.budget import Timing, budget_name
from inflate3d.config import RunConfig
from inflate3d.datasets.splits import choose_split
from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder
from inflate3d.settings import read_json

ALL_CASES = "all"

COST = "cost.json"
"""In a run's folder: the cost of its training."""

COMMAND = "command.json"
"""In the folder of a program's run: its command."""

LOG = "log.txt"
"""In a run's folder: the output of its process."""

LOG_LINES = 12
"""Last lines of a failed process's log that the error shows."""


class RunError(Inflate3dError):
    """A run of a comparison failed; the others are finished or can be resumed."""


def last_lines(log: Path) -> str:
    """The end of a log, for an error message."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:])


@dataclass(frozen=True)
class ComparisonRun:
    """One run of a comparison.

    Attributes:
        cases: Number of training cases; None for all of the split.
        seed: Seed of its weights and windows; added to ``--training-cases-seed``, that of its choice of cases.
        budget: Seconds of its training; None if its steps are given.
        command: Command of the program that trains and predicts; empty for our networks.
    """

    arm: str
    cases: int | None
    seed: int
    config: RunConfig
    folder: RunFolder
    budget: float | None = None
    command: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.root.name

    @property
    def finished(self) -> bool:
        """Whether it is trained and scored."""
        return (self.folder.evaluation / "scores.json").exists()


def plan_runs(
    configs: Mapping[str, RunConfig],
    seeds: Sequence[int],
    sizes: Sequence[int | None],
    root: Path,
    budgets: Sequence[float | None] = (None,),
    commands: Mapping[str, tuple[str, ...]] | None = None,
) -> list[ComparisonRun]:
    """Lists the runs: for each seed all sizes, for each size all budgets, for each budget all arms.

    A run's folder is named after its arm, its number of cases (unless all), its budget (if any), and its seed (unless
    0).

    Args:
        configs: The configuration of each arm.
        seeds: The seeds.
        sizes: Numbers of training cases; None for all.
        budgets: Seconds per training; None for the steps of the configuration.
        commands: Commands of arms that are other programs.
    """
    commands = commands or {}
    _check_different({arm: config for arm, config in configs.items() if arm not in commands})
    runs = [
        _plan_run(arm, size, seed, config, root, budget, commands.get(arm, ()))
        for seed in seeds
        for size in sizes
        for budget in budgets
        for arm, config in configs.items()
    ]
    folders = [run.folder.root for run in runs]
    if twice := [folder.name for folder in folders if folders.count(folder) > 1]:
        raise ConfigError("duplicate run name in the comparison", got=twice[0], hint="rename the arm")
    for run in runs:
        if run.folder.config.exists():
            run.config.check_unchanged(run.folder.config)
        if (file := run.folder.root / COMMAND).exists() and (before := read_json(file)) != list(run.command):
            raise ConfigError(
                f"the command of arm {run.arm} has changed",
                expected=before,
                got=list(run.command),
                hint="give the same command again, or choose another folder with --out",
                file=file,
            )
    return runs


def _plan_run(
    arm: str,
    size: int | None,
    seed: int,
    config: RunConfig,
    root: Path,
    budget: float | None,
    command: tuple[str, ...],
) -> ComparisonRun:
    folder, config = RunFolder(root / run_name(arm, size, seed, budget)), _with(config, seed, size)
    timing = Timing.read(folder) if budget else None
    return ComparisonRun(
        arm, size, seed, timing.applied_to(config) if timing else config, folder, budget=budget, command=command
    )


def read_sizes(text: str, config: RunConfig, store: Store) -> tuple[int | None, ...]:
    """Parses numbers of training cases, such as ``5,10,all``; the number of all cases becomes None."""
    if config.data.training_cases is not None:
        raise ConfigError(
            "number of training cases given twice",
            got=f"--training-cases {config.data.training_cases} --cases {text}",
            hint="remove --training-cases",
        )
    whole = len(choose_split(config.data, store.groups, store.splits).train)
    sizes: list[int | None] = []
    for part in text.split(","):
        word = part.strip()
        if word != ALL_CASES and not (word.isdecimal() and 0 < int(word) <= whole):
            raise ConfigError(
                "more training cases requested than available",
                expected=f"numbers from 1 to {whole} and {ALL_CASES}, such as 5,10,{ALL_CASES}",
                got=f"--cases {text}",
            )
        size = None if word == ALL_CASES or int(word) == whole else int(word)
        if size not in sizes:
            sizes.append(size)
    return tuple(sizes)


def _check_different(configs: Mapping[str, RunConfig]) -> None:
    seen: dict[str, RunConfig] = {}
    for arm, config in configs.items():
        same = [other for other, before in seen.items() if before == config]
        if same:
            raise ConfigError(
                "duplicate arms: two arms have the same settings",
                got=f"{same[0]} and {arm}",
                hint="remove the option that makes them equal, or choose other arms",
            )
        seen[arm] = config


def _with(config: RunConfig, seed: int, size: int | None) -> RunConfig:
    drawn = {"training_cases_seed": config.data.training_cases_seed + seed} if size else {}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"training_cases": size, **drawn}),
            "training": config.training.model_copy(update={"seed": seed}),
        }
    )


def run_name(arm: str, size: int | None, seed: int, budget: float | None = None) -> str:
    """Name of a run's folder.

    Args:
        size: Number of training cases; None for all of the split.
        seed: Its seed.
        budget: Seconds of its training.
    """
    parts = [f"{size}-cases" if size else "", budget_name(budget) if budget else "", f"seed-{seed}" if seed else ""]
    return "-".join([arm, *filter(None, parts)])
