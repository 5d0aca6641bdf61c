import shutil

import numpy as np
import pytest

from inflate3d.comparison.trials import plan_trials
from inflate3d.evaluation.scores import Scores


@pytest.fixture
def made_up(tiny_run, tiny_config, tmp_path):
    """Makes finished runs of two arms: the tiny run's network, and made-up scores."""

    def make(dice, sizes=(None,), seeds=(0,), root=tmp_path):
        """``dice``: for each (arm, size, seed) the Dice of cases and classes."""
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

    return make
