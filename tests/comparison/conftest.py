import json
import shutil

import numpy as np
import pytest

from inflate3d.comparison.results import read_scores, score_table, summarize_runs
from inflate3d.comparison.runs import COST, plan_runs
from inflate3d.comparison.tables import write_tables
from inflate3d.evaluation.scores import Scores
from inflate3d.report.comparison import write_comparison_page


def make_up_runs(tiny_run, tiny_config, dice, sizes, seeds, root, budgets=(None,)):
    """Finished runs of two arms: the tiny run's network, and made-up scores.

    ``dice``: for each (arm, size, seed) the Dice of cases and classes.
    A training took a second less than its budget (of 100 s if it has none), and its validations 2 s.
    """
    smaller = tiny_config.model_copy(update={"model": tiny_config.model.model_copy(update={"depth": 1})})
    runs = plan_runs({"ours": tiny_config, "one-slice": smaller}, seeds, sizes, root, budgets)
    for run in runs:
        shutil.copytree(tiny_run.root, run.folder.root)
        run.config.write(run.folder.config)
        values = np.array(dice[run.arm, run.cases, run.seed])
        names = tuple(f"case{number}" for number in range(len(values)))
        measured = {"dice": values, "hd95": 10 * (1 - values), "nsd": values**2}
        classes = tuple(f"class{number}" for number in range(values.shape[1]))
        known = names, classes, measured, np.nanmean(values, axis=0)
        scores = Scores(*known, tolerance=2.0, seconds=np.full(len(names), 0.25))
        scores.write(run.folder.evaluation)
        seconds = {"training_seconds": (run.budget or 100) - 1, "other_seconds": 2}
        cost = {"device": "CPU", "peak_memory_bytes": None, **seconds}
        (run.folder.root / COST).write_text(json.dumps(cost), encoding="utf-8")
    return runs


@pytest.fixture
def made_up(tiny_run, tiny_config, tmp_path):
    """Makes finished runs of two arms, see `make_up_runs`."""

    def make(dice, sizes=(None,), seeds=(0,), root=tmp_path, budgets=(None,)):
        return make_up_runs(tiny_run, tiny_config, dice, sizes, seeds, root, budgets)

    return make


@pytest.fixture(scope="session")
def compared(tiny_run, tiny_config, tmp_path_factory):
    """A comparison and its folder, with its tables and its page; not to be changed."""
    root, random = tmp_path_factory.mktemp("comparison"), np.random.default_rng(0)
    dice = {
        (arm, size, seed): random.uniform(0.5, 0.9, (12, 2)) - (0.1 if size else 0)
        for arm in ("ours", "one-slice")
        for size in (2, None)
        for seed in (0, 1)
    }
    for values in dice.values():
        values[3] = np.nan  # a case without a score
    runs = make_up_runs(tiny_run, tiny_config, dice, (2, None), (0, 1), root)
    comparison = summarize_runs("Toys", runs, whole=4)
    write_tables(comparison, score_table(runs, read_scores(runs)), root)
    write_comparison_page(comparison, root)
    return comparison, root
