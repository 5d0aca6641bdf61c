"""The whole way of one training and of a comparison, with networks of two steps."""

import json
import shutil
import sys

import pytest

from inflate3d.cli import main as command_line
from inflate3d.comparison.budget import Timing
from inflate3d.comparison.runs import COST, LOG, ComparisonRun
from inflate3d.comparison.worker import SETTINGS, main, train_and_score
from inflate3d.config import RunConfig
from inflate3d.evaluation.scores import Scores
from inflate3d.run_folder import RunFolder

pytestmark = pytest.mark.slow


def test_run_is_trained_scored_and_its_cost_written(tiny_config, phantom_store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    tiny_config.write(folder.root / SETTINGS)
    assert main([str(folder.root), "0"]) == 0
    scores = Scores.read(folder.evaluation)
    assert "hd95" in scores.measured and scores.seconds is not None and (scores.seconds > 0).all()
    cost = json.loads((folder.root / COST).read_text(encoding="utf-8"))
    assert cost["training_seconds"] > 0 < cost["other_seconds"]
    assert (cost["device"], cost["peak_memory_bytes"]) == ("CPU", None)
    before = (folder.model / "model.safetensors").stat().st_mtime_ns
    train_and_score(ComparisonRun("it", None, 0, tiny_config, folder), phantom_store)  # scores anew, and does not train
    assert (folder.model / "model.safetensors").stat().st_mtime_ns == before


def test_user_error(tiny_config, tmp_path, capsys):
    tiny_config.model_copy(update={"store": tmp_path / "nowhere"}).write(tmp_path / SETTINGS)
    assert main([str(tmp_path), "0"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.fixture
def compare(tiny_config, tmp_path, capsys):
    """Runs the command on the phantoms, and gives its JSON document, or its exit code and what it printed."""
    arms = tmp_path / "arms.yaml"
    arms.write_text("three: {}\none: {model: {depth: 1}}\n", encoding="utf-8")
    words = f"compare {tiny_config.dataset} --store {tiny_config.store} --arms {arms} --out {tmp_path / 'out'} --json"
    words += " --encoder resnet10t --weights none --depth 3 --image-size 64 64 --decoder-channels 8 --detail-channels 4"
    words += " --steps 2 --batch-size 2 --validate-every 2 --validation-cases 1 --accelerator cpu --workers 0"

    def run(*more, without=""):
        code = command_line([*words.replace(without, "").split(), *more])
        printed = capsys.readouterr()
        return json.loads(printed.out) if code == 0 else (code, printed.out)

    return run


def test_comparison_by_the_command(compare, tmp_path):
    found = compare()
    assert [row["arm"] for row in found["rows"]] == ["three", "one"]
    assert found["rows"][1]["differs"] == "depth 1 in place of 3"
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "three", "one", "report.html", "cases.png", "cases.svg", "scores.csv",
        *(f"comparison.{suffix}" for suffix in ("json", "png", "svg")),
    }  # fmt: skip
    trained = [(out / arm / "model/model.safetensors").stat().st_mtime_ns for arm in ("three", "one")]
    shutil.rmtree(out / "one" / "evaluation")  # as if stopped between training and evaluation
    again = compare("--cases", "2,all")
    assert [(row["arm"], row["training_cases"]) for row in again["rows"]] == [
        ("three", 2), ("one", 2), ("three", 4), ("one", 4),
    ]  # fmt: skip
    assert again["rows"][3]["dice"] == found["rows"][1]["dice"]
    assert trained == [(out / arm / "model/model.safetensors").stat().st_mtime_ns for arm in ("three", "one")]
    split = json.loads((out / "one-2-cases/split.json").read_text(encoding="utf-8"))
    assert len(split["train"]) == 2 and "2 of its 4 training cases" in split["source"]
    assert (out / "training_cases.svg").exists()


def test_comparison_goes_on_by_one_plan_alone(compare, tmp_path):
    compare()
    shutil.rmtree(tmp_path / "out/three/evaluation")
    path = tmp_path / "out/one/plan.json"
    plan = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(plan | {"flips": [not flip for flip in plan["flips"]]}), encoding="utf-8")
    code, printed = compare()
    error = json.loads(printed)["error"]
    assert (code, error["file"]) == (2, str(path))
    assert "plan has changed" in error["what"]
    assert not (tmp_path / "out/three/evaluation").exists()


def test_problems_of_later_arms_are_reported_before_the_first_starts(compare, tmp_path):
    (tmp_path / "arms.yaml").write_text("three: {}\ndeep: {model: {depth: 99}}\n", encoding="utf-8")
    code, printed = compare()
    assert (code, json.loads(printed)["error"]["what"]) == (2, "scan has fewer slices than the window")
    assert not (tmp_path / "out").exists()
    (tmp_path / "arms.yaml").write_text("three: {}\nwide: {plan: {stride: 50}}\n", encoding="utf-8")
    code, printed = compare()
    assert (code, json.loads(printed)["error"]["what"]) == (2, "scan has fewer slices than the window")
    code, printed = compare("--cases", "50")
    assert code == 2


PROGRAM = """
import pathlib, shutil, sys

data, out, seconds = sys.argv[1:]
assert seconds == "60"
for scan in pathlib.Path(data, "imagesTs").iterdir():
    shutil.copy(pathlib.Path(LABELS, scan.name.replace("_0000", "")), out)
"""


def test_race_of_a_network_and_programs(compare, tiny_config, tmp_path):
    program = PROGRAM.replace("LABELS", repr(str(tiny_config.dataset / "labelsTr")))
    scripts = {"perfect": program, "broken": "raise SystemExit('no license')", "again": program}
    arms = {
        name: {"command": [sys.executable, "-c", text, "{data}", "{out}", "{seconds}"]}
        for name, text in scripts.items()
    }
    (tmp_path / "arms.yaml").write_text(json.dumps({"three": {}, **arms}), encoding="utf-8")
    code, said = compare()
    assert (code, json.loads(said)["error"]["what"]) == (2, "a program needs a budget")
    code, said = compare("--budget", "1min")  # and --steps, by the fixture
    assert (code, json.loads(said)["error"]["what"]) == (2, "number of steps given twice")
    Timing(60.0, 25.0, 2).write(RunFolder(tmp_path / "out" / "three-1min"))
    code, said = compare("--budget", "1min", without="--steps 2 ")
    assert code == 2 and "no license" in json.loads(said)["error"]["got"]
    del arms["broken"]
    (tmp_path / "arms.yaml").write_text(json.dumps({"three": {}, **arms}), encoding="utf-8")
    log = tmp_path / "out/again-1min" / LOG
    before = log.stat().st_mtime_ns  # the arm after the broken one is finished
    found = compare("--budget", "1min", without="--steps 2 ")
    assert [(row["arm"], row["budget"]) for row in found["rows"]] == [("three", 60), ("perfect", 60), ("again", 60)]
    assert [row["dice"]["value"] for row in found["rows"]][1:] == [1, 1]
    assert log.stat().st_mtime_ns == before
    config = RunConfig.read(tmp_path / "out/three-1min/config.yaml")
    assert config.training.steps == 2
