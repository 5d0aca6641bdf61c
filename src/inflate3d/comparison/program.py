"""Arms that are other programs: each gets the same split as nnU-Net raw data and writes label maps, which we score."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inflate3d.atomic import write_text
from inflate3d.comparison.runs import COMMAND, COST, LOG, ComparisonRun, RunError, last_lines
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.datasets.nnunet import nnunet_values
from inflate3d.datasets.splits import choose_split
from inflate3d.datasets.writing import write_dataset
from inflate3d.errors import ConfigError, DataError, truncate
from inflate3d.evaluation.label_maps import score_label_maps
from inflate3d.evaluation.scores import Scores
from inflate3d.io import scan_files, stem_of
from inflate3d.preparation.store import Store
from inflate3d.progress import Progress, silent
from inflate3d.settings import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = "training.json"
"""Optional file beside a program's label maps: ``{"seconds": 58.2}``, the process time of its training alone."""

_GRACE = 10
"""Seconds in which a stopped program may end by itself."""


def run_program(run: ComparisonRun, store: Store, *, threads: int, progress: Progress = silent) -> Scores:
    """Lets a program train and predict, records its process time, and scores its label maps.

    The program gets the training cases, and only the scans of the held-out cases, as nnU-Net raw data.

    Args:
        run: The run, with the program's command and a budget.
        threads: Number of threads that the program may use.
    """
    assert run.budget is not None
    root = run.folder.root.resolve()
    dataset = store.plan.apply_to(read_dataset(run.config.dataset))
    split = choose_split(run.config.data, store.groups, store.splits)
    data, out = root / "data" / f"Dataset001_{re.sub(r'[^A-Za-z0-9]', '', dataset.name)}", run.folder.predictions
    for folder in (data.parent, out):
        shutil.rmtree(folder, ignore_errors=True)  # what a failure has left
    root.mkdir(parents=True, exist_ok=True)
    split.write(run.folder.split)
    write_text(root / COMMAND, json.dumps(run.command, indent=1) + "\n")
    _write_split(dataset, split.train, split.held_out, data)
    out.mkdir()
    places = {"data": data, "out": out.resolve(), "seconds": f"{run.budget:g}"}
    values = {**places, "seed": run.config.training.seed, "threads": threads}
    words = [_filled(word, {name: str(value) for name, value in values.items()}) for word in run.command]
    seconds = _execute(words, run, threads)
    _check_cases(out, split.held_out)
    scores = _score(dataset, split.held_out, out, store, root / "truth", progress)
    training = _reported_seconds(out / REPORT, seconds)
    cost = {"device": "CPU", "peak_memory_bytes": None, "training_seconds": training}
    write_text(root / COST, json.dumps({**cost, "other_seconds": seconds - training}, indent=1) + "\n")
    shutil.rmtree(data.parent)
    scores.write(run.folder.evaluation)  # last: it is what makes the run a finished one
    return scores


def _write_split(dataset: Dataset, train: Sequence[str], held_out: Sequence[str], data: Path) -> None:
    """Writes the training cases with labels, and the held-out cases without."""
    write_dataset(_part(dataset, train), data, "nnunet")
    with _written(_part(dataset, held_out), data.parent / "held-out") as other:
        shutil.move(other / "imagesTr", data / "imagesTs")


@contextmanager
def _written(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Writes a dataset as nnU-Net's raw data, and removes it at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        write_dataset(dataset, folder, "nnunet")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _part(dataset: Dataset, cases: Sequence[str]) -> Dataset:
    return replace(dataset, cases=tuple(case for case in dataset.cases if case.id in set(cases)), splits={})


def _filled(word: str, values: dict[str, str]) -> str:
    return re.sub("|".join(rf"\{{{name}\}}" for name in values), lambda match: values[match[0][1:-1]], word)


def _execute(words: Sequence[str], run: ComparisonRun, threads: int) -> float:
    """Runs the program to its end; returns the process time of it and of all child processes it waited for."""
    log = run.folder.root / LOG
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **limits},
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"cannot start the program of arm {run.arm}", got=f"{words[0]}: {error}") from error
    try:
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        _end(process)
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RunError(
            f"the program failed: {run.name}",
            got=f"exit code {process.returncode}\n{last_lines(log)}",
            hint="fix it and repeat the command: finished runs are not repeated",
            file=log,
        )
    return used.ru_utime + used.ru_stime


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the program and all its child processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(_GRACE)
            return


def _check_cases(out: Path, held_out: Sequence[str]) -> None:
    """Checks that there is exactly one label map for each held-out case."""
    found = [stem_of(file) for file in scan_files(out)]
    missing, more = sorted(set(held_out) - set(found)), sorted(set(found) - set(held_out))
    if missing or more or len(found) > len(held_out):
        raise DataError(
            "the program's label maps do not match the held-out cases",
            expected=f"one label map for each of {len(held_out)} cases",
            got=f"missing: {truncate(missing) or 'none'}; unexpected: {truncate(more) or 'none'}; {len(found)} in all",
            case=missing[0] if missing else None,
            file=out,
        )


def _score(
    dataset: Dataset, held_out: Sequence[str], out: Path, store: Store, truth: Path, progress: Progress
) -> Scores:
    """Scores as `inflate3d evaluate --predictions` does, by the label values that the program was given."""
    values, _ = nnunet_values(dataset)
    groups = {case: group for case, group in store.groups.items() if group is not None and case in held_out}
    with _written(_part(dataset, held_out), truth) as folder:
        return score_label_maps(
            out,
            folder / "labelsTr",
            classes={values[value]: name for value, name in sorted(dataset.classes.items()) if value},
            regions=dataset.regions and dataset.regions.renumber(values),
            ignore=None if dataset.ignore is None else len(dataset.classes),
            groups={"group": groups} if groups else None,
            progress=progress,
        )


def _reported_seconds(file: Path, spent: float) -> float:
    """The training time that the program reports, or else all of its process time."""
    if not file.exists():
        return spent
    values = read_json(file)
    seconds = values.get("seconds") if isinstance(values, dict) else None
    if not isinstance(seconds, int | float) or not 0 <= seconds <= spent:
        raise DataError(
            "invalid report of training seconds",
            expected=f'{{"seconds": 58.2}}, at most the {spent:.1f} s that the program took',
            got=repr(values)[:200],
            file=file,
        )
    return float(seconds)
