"""The runs of a comparison: every arm with every seed and every number of training cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inflate3d.config import RunConfig
from inflate3d.datasets.splits import choose_split
from inflate3d.errors import ConfigError
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder

ALL_CASES = "all"


@dataclass(frozen=True)
class ComparisonRun:
    """One run of a comparison.

    Attributes:
        arm: Its arm's name.
        cases: How many cases it is trained on; None for all of the split.
        seed: Seed of its weights and windows; added to ``--training-cases-seed`` that of the choice of its cases.
        config: All of its settings.
        folder: Its run.
    """

    arm: str
    cases: int | None
    seed: int
    config: RunConfig
    folder: RunFolder

    @property
    def name(self) -> str:
        """The name of its run's folder."""
        return self.folder.root.name

    @property
    def finished(self) -> bool:
        """Whether it is trained and scored."""
        return (self.folder.evaluation / "scores.json").exists()


def plan_runs(
    configs: Mapping[str, RunConfig], seeds: Sequence[int], sizes: Sequence[int | None], root: Path
) -> list[ComparisonRun]:
    """Lists the trainings: for each seed all sizes, and for each of these all arms.

    A run's folder is named by its arm, its number of cases unless it has all, and its seed unless that is 0.

    Args:
        configs: The configuration of each arm.
        seeds: The seeds.
        sizes: Numbers of training cases; None for all.
        root: The comparison's folder.

    Raises:
        ConfigError: Two arms are the same, two runs would share a folder, or an existing run was started with
            other settings.
    """
    _check_different(configs)
    runs = [
        ComparisonRun(arm, size, seed, _with(config, seed, size), RunFolder(root / run_name(arm, size, seed)))
        for seed in seeds
        for size in sizes
        for arm, config in configs.items()
    ]
    folders = [run.folder.root for run in runs]
    if twice := [folder.name for folder in folders if folders.count(folder) > 1]:
        raise ConfigError("duplicate run name in the comparison", got=twice[0], hint="rename the arm")
    for run in runs:
        if run.folder.config.exists():
            run.config.check_unchanged(run.folder.config)
    return runs


def read_sizes(text: str, config: RunConfig, store: Store) -> tuple[int | None, ...]:
    """Reads numbers of training cases, such as ``5,10,all``; the number of all becomes None.

    Raises:
        ConfigError: A part is not a number, there are fewer training cases, or the configuration sets a number, too.
    """
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


def run_name(arm: str, size: int | None, seed: int) -> str:
    """The name of a run's folder.

    Args:
        arm: Its arm's name.
        size: How many cases it is trained on; None for all of the split.
        seed: Its seed.
    """
    return arm + (f"-{size}-cases" if size else "") + (f"-seed-{seed}" if seed else "")
