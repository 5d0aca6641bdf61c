import json
import math
from dataclasses import replace

import pytest

from inflate3d.comparison.results import Comparison, summarize_runs
from inflate3d.errors import ConfigError, DataError


@pytest.fixture
def values(comparison_folder):
    return json.loads((comparison_folder / "comparison.json").read_text(encoding="utf-8"))


def test_what_is_written_is_read_back(comparison_folder, values):
    found = Comparison.read(comparison_folder)
    assert found.to_dict() == {name: value for name, value in values.items() if name != "notes"}
    assert (found.arms, found.sizes, found.seeds) == (["ours", "one-slice"], [2, 4], (0, 1))
    assert math.isnan(found.rows[0].dice_of_cases[3])


def test_what_a_comparison_finds_is_what_is_read(made_up, tmp_path):
    dice = {("ours", None, 0): [[0.5, 0.6], [0.7, 0.8]], ("one-slice", None, 0): [[0.4, 0.6], [0.7, 0.7]]}
    comparison = summarize_runs("Task04_Hippocampus", made_up(dice), whole=4)
    (tmp_path / "comparison.json").write_text(json.dumps(comparison.to_dict()), encoding="utf-8")
    for found, row in zip(Comparison.read(tmp_path).rows, comparison.rows, strict=True):
        cost = replace(row.cost, peak_memory_bytes=0.0)  # NaN is not equal to itself
        assert replace(found, cost=replace(found.cost, peak_memory_bytes=0.0)) == replace(row, cost=cost)


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values.pop("seeds"),
        lambda values: values.update(rows=[]),
        lambda values: values.update(rows={"a": 1}),
        lambda values: values["rows"][0].pop("dice_of_cases"),
        lambda values: values["rows"][0]["dice_of_cases"].pop(),
        lambda values: values["rows"][1].update(dice_of_classes={"other": 0.5}),
        lambda values: values["rows"][1]["cost"]["network"].update(flops="many"),
        lambda values: values["rows"][1].update(dice_of_seeds={}),
        lambda values: values["rows"][1].update(dice=0.5),
        lambda values: values["rows"][1].update(cost="many"),
        lambda values: values["held_out"].append("one more"),
    ],
)
def test_damaged_documents_are_refused_with_a_hint(values, tmp_path, damage):
    damage(values)
    (tmp_path / "comparison.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Comparison.read(tmp_path)
    assert caught.value.hint
    assert caught.value.file == str(tmp_path / "comparison.json")


def test_missing_and_unreadable_documents(tmp_path):
    with pytest.raises(ConfigError):
        Comparison.read(tmp_path)
    (tmp_path / "comparison.json").write_text("[1", encoding="utf-8")
    with pytest.raises(ConfigError):
        Comparison.read(tmp_path)
    (tmp_path / "comparison.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError):
        Comparison.read(tmp_path)
