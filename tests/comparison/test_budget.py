import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from inflate3d.comparison.budget import TIMING, Timing, budget_name, check_budget, read_budgets
from inflate3d.comparison.figures import draw_seconds
from inflate3d.comparison.results import read_scores, score_table, summarize_runs
from inflate3d.comparison.runs import plan_runs
from inflate3d.comparison.tables import cost_cells, quality_cells, write_tables
from inflate3d.comparison.timing import StepClock, decide_steps
from inflate3d.errors import ConfigError, DataError
from inflate3d.report.comparison import list_runs, write_comparison_page
from inflate3d.run_folder import RunFolder


def ticking():
    """A clock on which a second passes with each look."""
    return map(float, itertools.count()).__next__


@pytest.mark.parametrize(
    ("text", "seconds"), [("1min,3min", (60, 180)), ("2h, 90s", (90, 7200)), ("0.5h,30min", (1800,))]
)
def test_budgets(text, seconds):
    assert read_budgets(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "0min", "-1min", "1 min", "1min,", "1d", "infmin", "nanh"])
def test_budgets_that_can_not_be(text):
    with pytest.raises(ConfigError):
        read_budgets(text)


@pytest.mark.parametrize("name", ["1h", "90s", "3min", "0.5s"])
def test_name_of_a_budget_is_read_back(name):
    assert budget_name(*read_budgets(name)) == name


def test_steps_fill_97_percent_of_the_budget():
    assert Timing.fit(60.0, 0.5).steps == 116
    assert Timing.fit(60.0, 100.0).steps == 1


def test_time_of_several_processes_is_not_budgeted(tiny_config):
    check_budget(tiny_config)
    for changes in ({"devices": 2}, {"nodes": 2}, {"workers": 1}):
        training = tiny_config.training.model_copy(update=changes)
        with pytest.raises(ConfigError):
            check_budget(tiny_config.model_copy(update={"training": training}))


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_are_timed_once(accumulate, tiny_config, phantom_store, tmp_path, monkeypatch):
    training = tiny_config.training.model_copy(update={"accumulate": accumulate})
    tiny_config = tiny_config.model_copy(update={"training": training})
    monkeypatch.setattr("inflate3d.comparison.timing.WARM_UP", 1)
    monkeypatch.setattr("inflate3d.comparison.timing.TIMED", 2)
    folder = RunFolder(tmp_path / "run")
    config = decide_steps(tiny_config, 50.0, folder, phantom_store, ticking())
    timing = Timing(50.0, float(accumulate), 48 // accumulate)  # a look after each batch
    assert config == timing.applied_to(tiny_config)
    assert [path.name for path in folder.root.iterdir()] == [TIMING]

    def broken():
        raise AssertionError("timed again")

    assert decide_steps(tiny_config, 50.0, folder, phantom_store, broken) == config


def test_planned_runs_keep_their_steps(tiny_config, tmp_path):
    (run,) = plan_runs({"ours": tiny_config}, (1,), (2,), tmp_path, budgets=(180.0,))
    assert (run.name, run.budget) == ("ours-2-cases-3min-seed-1", 180)
    Timing(180.0, 2.0, 87).write(run.folder)
    (again,) = plan_runs({"ours": tiny_config}, (1,), (2,), tmp_path, budgets=(180.0,))
    assert again == replace(run, config=Timing(180.0, 2.0, 87).applied_to(run.config))


@pytest.mark.parametrize("text", ["[]", "{}", '{"budget_seconds": 1, "seconds_per_step": [], "steps": 1}'])
def test_damaged_timing(text, tmp_path):
    (tmp_path / TIMING).write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Timing.read(RunFolder(tmp_path))
    assert caught.value.file == str(tmp_path / TIMING)


@pytest.mark.slow
def test_validations_are_not_time_of_steps(tiny_config, phantom_store, tmp_path):
    from inflate3d.training.run import train

    clock = StepClock(ticking())
    training = tiny_config.training.model_copy(update={"steps": 2, "validate_every": 1})
    config = tiny_config.model_copy(update={"training": training})
    train(config, RunFolder(tmp_path / "run"), phantom_store, callbacks=[clock])
    assert clock.state_dict() == {"seconds": 2, "validation_seconds": 2}
    again = StepClock(ticking())
    again.load_state_dict(json.loads(json.dumps(clock.state_dict())))
    assert (again.seconds, again.validation_seconds) == (2, 2)


@pytest.fixture
def race(made_up):
    dice = {(arm, size, 0): np.full((6, 2), 0.8) for arm in ("ours", "one-slice") for size in (1, None)}
    runs = made_up(dice, sizes=(1, None), budgets=(60.0, 180.0))
    program = replace(runs[-1], command=("other", "{seconds}"))
    shutil.rmtree(program.folder.model)  # a program leaves none
    return [*runs[:-1], program]


@pytest.mark.slow
def test_rows_of_a_comparison_by_budget(race):
    comparison = summarize_runs("Toys", race, whole=4)
    assert [(row.training_cases, row.budget, row.arm) for row in comparison.rows] == [
        (size, budget, arm) for size in (1, 4) for budget in (60, 180) for arm in ("ours", "one-slice")
    ]
    assert [row.cost.training_seconds for row in comparison.rows] == [59, 59, 179, 179] * 2
    assert [(row.arm, row.budget) for row in comparison.largest] == [("ours", 180), ("one-slice", 180)]
    assert comparison.rows[-1].differs == "the program other '{seconds}'"
    assert comparison.rows[-1].cost.network is None
    document = json.loads((write(comparison, race) / "comparison.json").read_text(encoding="utf-8"))
    assert {row["budget"] for row in document["rows"]} == {60, 180}


def write(comparison, runs):
    root = runs[0].folder.root.parent
    write_tables(comparison, score_table(runs, read_scores(runs)), root)
    return root


@pytest.mark.slow
def test_tables_distinguish_budgets(race):
    comparison = summarize_runs("Toys", race, whole=4)
    columns, rows = quality_cells(comparison)
    assert columns[:3] == ["arm", "training cases", "budget"]
    assert [row[2].text for row in rows] == ["1min", "1min", "3min", "3min"] * 2
    columns, rows = cost_cells(comparison)
    assert (columns[:2], len(rows)) == (["arm", "budget"], 4)
    assert [row[columns.index("training")].text for row in rows] == ["59 s", "59 s", "3.0 min", "3.0 min"]
    assert {row[columns.index("validation, other")].text for row in rows} == {"2.00 s"}
    assert rows[-1][columns.index("parameters")].text == "–"


@pytest.mark.slow
def test_plot_over_training_seconds(race):
    comparison = summarize_runs("Toys", race, whole=4)
    (axes,) = draw_seconds(comparison).axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1min", "3min"]
    for line in axes.lines:
        assert line.get_xdata() == pytest.approx([59, 179])
        assert line.get_ydata() == pytest.approx([0.8, 0.8])


@pytest.mark.slow
def test_page_of_a_race(race):
    comparison = summarize_runs("Toys", race, whole=4)
    page = write_comparison_page(comparison, race[0].folder.root.parent).read_text(encoding="utf-8")
    assert "with the same budget" in page and "over the time of the training" in page
    assert [run.name for run in list_runs(comparison, race[0].folder.root.parent)] == [run.name for run in race]
