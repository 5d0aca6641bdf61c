import csv
import json
import math

import numpy as np
import pytest

from inflate3d.comparison.paper import paper_figure
from inflate3d.comparison.results import find_difference, read_scores, score_table, summarize_runs
from inflate3d.comparison.tables import notes, quality_cells, short_table, write_tables
from inflate3d.errors import DataError
from inflate3d.evaluation.statistics import sign_flip, wilcoxon

RANDOM = np.random.default_rng(0)
OURS = RANDOM.uniform(0.7, 0.9, (2, 12, 2))
OTHER = OURS - RANDOM.uniform(-0.01, 0.06, OURS.shape)


@pytest.fixture
def two_seeds(made_up):
    dice = {("ours", None, 0): OURS[0], ("ours", None, 1): OURS[1]}
    dice |= {("one-slice", None, 0): OTHER[0], ("one-slice", None, 1): OTHER[1]}
    return made_up(dice, seeds=(0, 1))


def test_figures_by_hand(two_seeds):
    ours, other = summarize_runs("Toys", two_seeds, whole=4).rows
    assert (ours.arm, ours.differs, ours.difference) == ("ours", "", None)
    assert (other.differs, other.training_cases, other.all_training_cases) == ("depth 1 in place of 3", 4, True)
    assert ours.dice.value == pytest.approx(OURS.mean())
    assert ours.dice.low < ours.dice.value < ours.dice.high
    assert ours.dice_of_seeds == pytest.approx({0: OURS[0].mean(), 1: OURS[1].mean()})
    assert ours.seed_deviation == pytest.approx(abs(OURS[0].mean() - OURS[1].mean()) / math.sqrt(2))
    assert (ours.hd95, ours.nsd) == pytest.approx((10 * (1 - OURS.mean()), (OURS**2).mean()))
    assert ours.dice_of_classes["class1"] == pytest.approx(OURS[..., 1].mean())
    assert ours.dice_of_cases == pytest.approx(tuple(OURS.mean(axis=(0, 2))))
    by_case = (OTHER - OURS).mean(axis=(0, 2))
    found = other.difference
    assert found is not None
    assert found.dice.value == pytest.approx(by_case.mean())
    assert found.dice.low < found.dice.value < found.dice.high
    assert (found.better, found.cases) == (int((by_case > 0).sum()), 12)
    assert (found.sign_flip_p, found.wilcoxon_p) == pytest.approx((sign_flip(by_case), wilcoxon(by_case)))
    assert found.p == found.p_holm > found.sign_flip_p  # two seeds say little of the method


def test_costs(two_seeds):
    ours, _ = summarize_runs("Toys", two_seeds, whole=4).rows
    assert ours.cost.network is not None and ours.cost.network.parameters > 1000
    assert 0 < (ours.cost.network.encoder_flops or 0) < ours.cost.network.flops
    assert (ours.cost.training_seconds, ours.cost.other_seconds) == (99, 2)
    assert ours.cost.prediction_seconds == 0.25
    assert math.isnan(ours.cost.peak_memory_bytes)


def test_same_figures_differ_by_nothing(made_up):
    same = {(arm, None, 0): OURS[0] for arm in ("ours", "one-slice")}
    found = summarize_runs("Toys", made_up(same), whole=4).rows[1].difference
    assert found is not None
    assert (found.dice.value, found.dice.low, found.dice.high, found.p, found.better) == (0, 0, 0, 1, 0)


def test_with_one_seed_p_is_that_of_the_networks(made_up):
    dice = {("ours", None, 0): OURS[0], ("one-slice", None, 0): OTHER[0]}
    comparison = summarize_runs("Toys", made_up(dice), whole=4)
    found = comparison.rows[1].difference
    assert found is not None
    assert found.p == found.sign_flip_p == sign_flip((OTHER[0] - OURS[0]).mean(axis=1))
    assert any("one seed: no interval for the method" in note for note in notes(comparison))


def test_scans_of_a_patient_are_resampled_together():
    first, random = np.full((1, 20, 1), 0.8), np.random.default_rng(0)
    other = first + np.repeat(random.normal(0.01, 0.02, 10), 2)[None, :, None]
    alone, together = (find_difference(first, other, who) for who in (None, [str(n // 2) for n in range(20)]))
    assert together.dice.value == pytest.approx(alone.dice.value)
    assert together.dice.low < alone.dice.low and together.sign_flip_p > alone.sign_flip_p


def test_single_held_out_case_has_no_interval(made_up):
    rows = summarize_runs("Toys", made_up({(arm, None, 0): OURS[0, :1] for arm in ("ours", "one-slice")}), whole=4).rows
    assert rows[1].difference is not None
    assert np.isnan([rows[0].dice.low, rows[1].difference.dice.high]).all()


@pytest.mark.slow
def test_each_size_is_held_against_its_own_first_arm(made_up):
    dice = {("ours", 2, 0): OURS[0] - 0.2, ("one-slice", 2, 0): OURS[0] - 0.3}
    dice |= {("ours", None, 0): OURS[0], ("one-slice", None, 0): OURS[0] - 0.01}
    comparison = summarize_runs("Toys", made_up(dice, sizes=(None, 2)), whole=4)
    assert [(row.arm, row.training_cases) for row in comparison.rows] == [
        ("ours", 2), ("one-slice", 2), ("ours", 4), ("one-slice", 4),
    ]  # fmt: skip
    differences = [row.difference for row in comparison.rows if row.difference]
    assert [found.dice.value for found in differences] == pytest.approx([-0.1, -0.01])
    assert [found.p_holm for found in differences] == pytest.approx([min(1, 2 * found.p) for found in differences])
    assert comparison.sizes == [2, 4]


def test_runs_scored_on_other_cases(made_up):
    with pytest.raises(DataError):
        summarize_runs("Toys", made_up({("ours", None, 0): OURS[0], ("one-slice", None, 0): OURS[0, :5]}), whole=4)


@pytest.mark.slow
def test_tables(two_seeds, tmp_path):
    comparison = summarize_runs("Task04_Hippocampus", two_seeds, whole=4)
    write_tables(comparison, score_table(two_seeds, read_scores(two_seeds)), tmp_path)
    values = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    first, second = values["rows"]
    assert (first["arm"], first["difference"], first["paper"]) == ("ours", None, 86.83)
    assert second["difference"]["dice"]["value"] == pytest.approx((OTHER - OURS).mean())
    assert second["differs"] == "depth 1 in place of 3"
    assert any(note.startswith("95 % intervals are over cases and seeds (n = 12 cases)") for note in values["notes"])
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        long = [row for row in csv.DictReader(file) if row["measure"] == "dice" and row["arm"] == "one-slice"]
    assert np.mean([float(row["value"]) for row in long]) == pytest.approx(OTHER.mean(), abs=1e-6)
    assert {row["seed"] for row in long} == {"0", "1"}


@pytest.mark.slow
def test_columns_that_say_nothing_are_left_out(made_up):
    comparison = summarize_runs("Toys", made_up({(arm, None, 0): OURS[0] for arm in ("ours", "one-slice")}), whole=4)
    assert {len(row) for row in short_table(comparison)[1]} == {6}
    columns, rows = quality_cells(comparison)
    assert not {"± seeds", "training cases", "the paper's"} & set(columns)
    assert {len(row) for row in rows} == {len(columns)}


@pytest.mark.parametrize(
    ("dataset", "arm", "expected"),
    [
        ("Task04_Hippocampus", "ours", 86.83),
        ("Task10_Colon", "without-depth", 46.28),
        ("BCV", "unetr", 80.07),
        ("btcv-abdomen", "average", 76.33),
        ("ACDC", "ours", 92.69),
        ("Task04_Hippocampus", "average", None),
        ("Task11_Other", "ours", None),
        ("sarcoma_mr", "ours", None),
    ],
)
def test_papers_figures(dataset, arm, expected):
    assert paper_figure(dataset, arm) == expected
