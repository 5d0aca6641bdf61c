"""Check, measure and plan a data set, and write its store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets import read_dataset
from inflate3d.preparation.planning import PlanOptions
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
    store = prepare(
        read_dataset(options.dataset),
        options.store or default_store(options.dataset),
        options=options.plan,
        workers=options.jobs,
        progress=terminal.progress,
    )
    show_plan(store, terminal)
    return {"store": str(store.folder), "cases": len(store.cases), "plan": store.plan.model_dump(mode="json")}


def show_plan(store: Store, terminal: Terminal) -> None:
    """Tells what was decided, and why."""
    terminal.say(f"{len(store.cases)} cases of {store.plan.dataset} are in {store.folder}")
    for choice, reason in store.plan.reasons.items():
        terminal.say(f"  {choice}: {reason}")
