"""Check, measure and plan a data set, and write its store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.errors import DataError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store, default_store


class Options(CommandOptions):
    """Options of ``prepare``."""

    dataset: Positional[Path]
    """The data set's folder."""
    preset: str = "auto"
    """Choices made beforehand, which other options override; see `inflate3d train --help`."""
    store: Path | None = None
    """Where the prepared cases go; prepared/NAME-OF-THE-FOLDER if not given."""
    plan: PlanOptions = PlanOptions()
    jobs: int | None = None
    """Processes; as many as cores if not given."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Prepares the data set."""
    folder = options.store or default_store(options.dataset)
    store = prepare_shown(read_dataset(options.dataset), folder, options.plan, terminal, jobs=options.jobs)
    return {"store": str(store.folder), "cases": len(store.cases), "plan": store.plan.model_dump(mode="json")}


def prepare_shown(
    dataset: Dataset, folder: Path, options: PlanOptions, terminal: Terminal, *, jobs: int | None = None
) -> Store:
    """Prepares the data set; tells what is odd about it, what was decided, and why."""
    warnings: list[DataError] = []
    store = prepare(dataset, folder, options=options, workers=jobs, progress=terminal.progress, warn=warnings.append)
    show_warnings(warnings, terminal)
    terminal.say(f"{len(store.cases)} cases of {store.plan.dataset} are in {store.folder}")
    for choice, reason in store.plan.reasons.items():
        terminal.say(f"  {choice}: {reason}")
    return store
