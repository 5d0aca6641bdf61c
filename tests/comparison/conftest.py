import shutil

import numpy as np
import pytest

from inflate3d.comparison.results import summarize
from inflate3d.comparison.tables import write_tables
from inflate3d.comparison.trials import plan_trials
from inflate3d.evaluation.scores import Scores
from inflate3d.report.comparison import write_comparison_page


def make_up_trials(tiny_run, tiny_config, dice, sizes, seeds, root):
    """Finished runs of two arms: the tiny run's network, and made-up scores.

    ``dice``: for each (arm, size, seed) the Dice of cases and classes.
    """
    smaller = tiny_config.model_copy(update={"model": tiny_config.model.model_copy(update={"depth": 1})})
    trials = plan_trials({"ours": tiny_config, "one-slice": smaller}, seeds, sizes, root)
    for trial in trials:
        shutil.copytree(tiny_run.root, trial.folder.root)
        trial.config.write(trial.folder.config)
        values = np.array(dice[trial.arm, trial.cases, trial.seed])
        names = tuple(f"case{number}" for number in range(len(values)))
        surfaces = {"hd95": 10 * (1 - values), "nsd": values**2}
        classes = tuple(f"class{number}" for number in range(values.shape[1]))
        known = names, classes, values, np.nanmean(values, axis=0), surfaces
        scores = Scores(*known, tolerances=np.full(len(classes), 2.0), seconds=np.full(len(names), 0.25))
        scores.write(trial.folder.evaluation)
    return trials


@pytest.fixture
def made_up(tiny_run, tiny_config, tmp_path):
    """Makes finished runs of two arms, see `make_up_trials`."""

    def make(dice, sizes=(None,), seeds=(0,), root=tmp_path):
        return make_up_trials(tiny_run, tiny_config, dice, sizes, seeds, root)

    return make


@pytest.fixture(scope="session")
def comparison_folder(tiny_run, tiny_config, tmp_path_factory):
    """The folder of a comparison with its tables and its page; not to be changed."""
    root, random = tmp_path_factory.mktemp("comparison"), np.random.default_rng(0)
    dice = {
        (arm, size, seed): random.uniform(0.5, 0.9, (12, 2)) - (0.1 if size else 0)
        for arm in ("ours", "one-slice")
        for size in (2, None)
        for seed in (0, 1)
    }
    for values in dice.values():
        values[3] = np.nan  # a case without a score
    comparison = summarize("Toys", make_up_trials(tiny_run, tiny_config, dice, (2, None), (0, 1), root), whole=4)
    write_tables(comparison, root)
    write_comparison_page(comparison, root)
    return root
