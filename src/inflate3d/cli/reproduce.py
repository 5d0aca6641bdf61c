"""Train a run again from its own record, and tell whether the same model comes out.

What it learned from and the 2D weights are held against the run's `provenance.json` before anything is trained. Exit
code 0: the same bits, or within the tolerance where the same bits can't be promised; 1: another model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split, choose_split
from inflate3d.errors import ConfigError, DataError, ModelError
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder, open_folder
from inflate3d.stopping import Interrupted

if TYPE_CHECKING:
    from inflate3d.provenance.record import Provenance

DIFFERENT = 1
"""Exit code where another model came out."""


class Options(CommandOptions):
    """Options of ``reproduce``."""

    run: Positional[Path]
    """The run's folder."""
    out: Path | None = None
    """Folder of the new run; reproduced/ in the run's folder if not given. One that was stopped is gone on with."""
    dataset: Path | None = None
    """Where the dataset lies now, if it has moved."""
    store: Path | None = None
    """Where its prepared cases lie now, if they have moved."""
    weights: Path | None = None
    """Where the file of 2D weights lies now, if it has moved."""
    tolerance: float = Field(default=0.02, ge=0)
    """How far the mean Dice may be off where the same bits can't be promised: on a GPU, or another machine."""


def run(options: Options, terminal: Terminal) -> dict[str, Any] | None:
    """Trains the run again and compares."""
    from inflate3d.provenance.record import Provenance, record_path
    from inflate3d.provenance.reproduction import compare_runs
    from inflate3d.provenance.surroundings import other_surroundings

    folder = _finished_run(options.run)
    again = RunFolder(options.out or folder.root / "reproduced")
    config = _moved(RunConfig.read(folder.config), options)
    store = Store(config.store)
    record = Provenance.read(folder) if record_path(folder).exists() else None
    if record is None:
        terminal.log("the run has no provenance.json: what it learned from can't be checked")
        others = ["the run was made by a version of inflate3d that noted nothing of it"]
    else:
        _check_origin(record, folder, config, store)
        _take_threads(record)
        others = other_surroundings(record, config.training)
    for each in others:
        terminal.log(f"other surroundings: {each}")
    if not _train(config, again, store, terminal):
        return None
    _evaluate_alike(folder, again, terminal)
    found = compare_runs(folder, again, resumed=record is None or len(record.sessions) > 1)
    promised = not others and (config.training.deterministic or _on_cpu(Provenance.read(again)))
    verdict = found.verdict(promised=promised, tolerance=options.tolerance)
    terminal.table(f"{folder.root} and {again.root}", ["compared", "found"], found.rows())
    terminal.print(f"{verdict}; the same bits are {'' if promised else 'not '}promised here")
    terminal.exit_code = DIFFERENT if verdict == "different" else 0
    return {
        "run": str(folder.root),
        "reproduced": str(again.root),
        "verdict": verdict,
        "bits_promised": promised,
        "tolerance": options.tolerance,
        "other_surroundings": others,
        **found.to_dict(),
    }


def _finished_run(root: Path) -> RunFolder:
    folder = open_folder(root)
    if not isinstance(folder, RunFolder):
        first = folder.runs[0].root
        raise ConfigError("this is a folder of several runs", hint=f"name one of them, such as {first}", file=root)
    if not folder.finished:
        raise ConfigError(
            "the run is not finished", hint="go on with it by `inflate3d train ... --resume`", file=folder.root
        )
    return folder


def _moved(config: RunConfig, options: Options) -> RunConfig:
    """The run's settings, with the places of things as they are now; nobody else's board is written to again."""
    model, training = config.model, config.training.model_copy(update={"logger": "none"})
    if options.weights is not None:
        model = model.model_copy(update={"weights": str(options.weights.resolve())})
    return config.model_copy(
        update={
            "dataset": (options.dataset or config.dataset).resolve(),
            "store": (options.store or config.store).resolve(),
            "model": model,
            "training": training,
        }
    )


def _check_origin(record: Provenance, folder: RunFolder, config: RunConfig, store: Store) -> None:
    """Makes sure that the run's model is its own, and that all it was made from is there unchanged."""
    from inflate3d.models.download import sha256_of
    from inflate3d.provenance.data import check_data, data_origin
    from inflate3d.provenance.weights import check_weights, weights_origin
    from inflate3d.training.build import check_plan, plan_run

    weights = folder.model / "model.safetensors"
    if record.model_sha256 is not None and (found := sha256_of(weights)) != record.model_sha256:
        raise ModelError(
            "the run's model is not the one that its training wrote",
            expected=f"the SHA-256 checksum {record.model_sha256}",
            got=found,
            hint="bring the file back; the reproduction is compared with it",
            file=weights,
        )
    before, now = Split.read(folder.split), choose_split(config.data, store.groups, store.splits)
    if not before.has_cases_of(now):
        raise DataError(
            "the split is not the one that the run was trained by",
            expected=before.source,
            got=f"{now.source}, with other cases",
            hint="give the dataset its old split back",
            file=folder.split,
        )
    check_plan(folder, config, plan_run(config, store))
    check_data(record.data, data_origin(store, record.data.cases), store)
    check_weights(record.weights, weights_origin(config.model))


def _take_threads(record: Provenance) -> None:
    """Computes with as many threads as the run: on a CPU another number rounds sums differently."""
    import torch

    machine = record.sessions[-1].machine
    if machine.on_cpu:
        torch.set_num_threads(machine.threads)


def _train(config: RunConfig, again: RunFolder, store: Store, terminal: Terminal) -> bool:
    """Trains, or goes on with it; tells whether this process is the first of those that train."""
    from inflate3d.training.run import train

    try:
        return train(config, again, store, resume=True, console=terminal.status)
    except Interrupted as stop:
        raise stop.with_hint("repeat the command to resume") from stop


def _evaluate_alike(folder: RunFolder, again: RunFolder, terminal: Terminal) -> None:
    """Evaluates the new run where the run was evaluated."""
    from inflate3d.inference.held_out import evaluate_run

    wanted, done = ((each.evaluation / "scores.json").exists() for each in (folder, again))
    if wanted and not done:
        evaluate_run(again, progress=terminal.progress)


def _on_cpu(record: Provenance) -> bool:
    return all(session.machine.on_cpu for session in record.sessions)
