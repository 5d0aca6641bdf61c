"""Folds from the command line to a label map: trained, scored as one table, post-processed, predicted."""

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.config import RunConfig
from inflate3d.datasets import Split, read_dataset
from inflate3d.errors import ConfigError, DataError, ModelError
from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing
from inflate3d.evaluation.scores import Scores
from inflate3d.inference.runs import evaluate_run, read_held_out
from inflate3d.run_folder import FoldsFolder, RunFolder, open_folder
from inflate3d.stopping import Interrupted
from inflate3d.training.folds import plan_folds

QUICK = [
    *("--encoder", "resnet10t", "--weights", "none", "--decoder-channels", "8", "--detail-channels", "4"),
    *("--image-size", "32", "32", "--steps", "2", "--batch-size", "2", "--accumulate", "1", "--workers", "0"),
    *("--accelerator", "cpu", "--validation-cases", "1", "--validate-every", "2", "--depth", "3"),
]


def command(capsys, *words, code=0):
    assert main([*map(str, words), "--json"]) == code, words
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_toys):
    return write_toys(tmp_path_factory.mktemp("data"), 6).root


@pytest.fixture(scope="module", autouse=True)
def quick_pages():
    """Drawing is slow: a training's page is left out, and few slices are shown."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("inflate3d.cli.train.write_page", lambda folder: folder.report)
        patched.setattr("inflate3d.report.cases.SLICES_SHOWN", 1)
        yield


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Three folds, two of them trained by one command, the third by its going on; not to be changed."""
    root = tmp_path_factory.mktemp("runs") / "folds"
    words = ["train", str(data), "--store", str(root.parent / "store"), "--run", str(root), *QUICK]
    assert main([*words, "--num-folds", "3", "--folds", "0", "1"]) == 0
    before = (root / "fold-0" / "model" / "model.safetensors").stat()
    assert main([*words, "--num-folds", "3", "--folds", "all", "--resume"]) == 0
    assert (root / "fold-0" / "model" / "model.safetensors").stat() == before, "a finished fold was trained again"
    return FoldsFolder(root)


@pytest.fixture
def folds(trained, tmp_path):
    return FoldsFolder(Path(shutil.copytree(trained.root, tmp_path / "folds")))


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """The folds with their evaluation; not to be changed."""
    folder = FoldsFolder(Path(shutil.copytree(trained.root, tmp_path_factory.mktemp("evaluated") / "folds")))
    assert main(["evaluate", str(folder.root)]) == 0
    return folder


def test_each_fold_is_an_ordinary_run_that_holds_out_other_cases(trained, data):
    assert [run.root.name for run in trained.runs] == ["fold-0", "fold-1", "fold-2"]
    assert [RunConfig.read(run.config).data.fold for run in trained.runs] == [0, 1, 2]
    held_out = read_held_out(trained)
    assert sorted(sum(held_out.values(), ())) == [case.id for case in read_dataset(data).cases]


@pytest.mark.slow
def test_fold_is_the_one_that_a_command_of_its_own_trains(trained, data, tmp_path):
    store = trained.root.parent / "store"
    alone = ["train", str(data), "--store", str(store), "--run", str(tmp_path / "one"), *QUICK]
    assert main([*alone, "--num-folds", "3", "--fold", "1"]) == 0
    weights = [run.model / "model.safetensors" for run in (RunFolder(tmp_path / "one"), trained.fold(1))]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_stop_in_the_middle_is_gone_on_with_at_that_fold(trained, data, tmp_path, capsys, monkeypatch):
    """Trainings are made up: a stop in fold 1, then the same command with --resume."""
    begun = []

    def train(config, folder, store, *, resume, console):
        begun.append((config.data.fold, resume))
        config.write(folder.config)
        if (config.data.fold, resume) == (1, False):
            raise Interrupted
        folder.model.mkdir(exist_ok=True)
        for name in ("model.json", "README.md"):
            (folder.model / name).touch()
        folder.report.touch()
        return True

    monkeypatch.setattr("inflate3d.training.run.train", train)
    store = RunConfig.read(trained.fold(0).config).store
    words = ["train", str(data), "--store", str(store), "--run", str(tmp_path), *QUICK, "--num-folds", "3"]
    assert main([*words, "--folds", "all"]) == 130
    assert "--resume" in capsys.readouterr().err
    assert begun == [(0, False), (1, False)]
    assert main([*words, "--folds", "all"]) == 2
    assert "runs of these folds already exist" in capsys.readouterr().err
    assert main([*words, "--folds", "all", "--resume"]) == 0
    assert begun[2:] == [(0, True), (1, True), (2, True)]
    assert "already finished" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--folds", "0", "0"], "invalid folds"),
        (["--folds", "5"], "fold not found"),
        (["--folds", "all", "--fold", "2"], "a fold is named twice"),
        (["--folds", "all", "--devices", "2"], "folds are trained one after another by one process"),
        (["--folds", "all", "--num-folds", "7"], "there are fewer cases than folds"),
    ],
)
def test_nonsense_is_refused_before_anything_is_done(words, what, data, tmp_path, capsys):
    printed = command(capsys, "train", data, "--run", tmp_path / "run", "--store", tmp_path / "store", *words, code=2)
    assert printed["error"]["what"] == what
    assert list(tmp_path.iterdir()) == []


def test_split_of_one_fold_has_none_to_go_through(data, tmp_path, capsys):
    ids = [case.id for case in read_dataset(data).cases]
    Split(tuple(ids[1:]), tuple(ids[:1])).write(tmp_path / "mine.json")
    words = ["--split", tmp_path / "mine.json", "--folds", "all", "--store", tmp_path / "store"]
    printed = command(capsys, "train", data, "--run", tmp_path / "run", *words, code=2)["error"]
    assert printed["what"] == "the split has no folds"
    assert printed["hint"] == "leave --folds out"


def test_folds_that_are_there_need_resume_and_the_same_settings(trained, tmp_path):
    config = RunConfig.read(trained.fold(0).config)
    with pytest.raises(ConfigError, match="already exist") as caught:
        plan_folds(config, (1, 2, 3), trained)
    assert caught.value.got == "fold-1, fold-2"
    other = config.model_copy(update={"training": config.training.model_copy(update={"seed": 7})})
    with pytest.raises(ConfigError, match="settings differ"):
        plan_folds(other, (0, 1), trained, resume=True)
    with pytest.raises(ConfigError, match="folds holds a single run"):
        plan_folds(config, (0, 1), FoldsFolder(trained.fold(0).root), resume=True)
    assert [fold.root.name for _, fold in plan_folds(config, (0, 2), trained, resume=True)] == ["fold-0", "fold-2"]


@pytest.mark.slow
def test_scores_are_those_of_each_fold_by_itself(evaluated, trained, tmp_path):
    whole = Scores.read(evaluated.evaluation)
    assert len(whole.cases) == 6
    for run in trained.runs:
        alone = evaluate_run(RunFolder(Path(shutil.copytree(run.root, tmp_path / run.root.name))))
        part = whole.in_groups("fold")[run.root.name]
        assert part.cases == alone.cases
        for measure in alone.measures:
            np.testing.assert_array_equal(part.values(measure), alone.values(measure))
        for case in alone.cases:
            files = (RunFolder(tmp_path / run.root.name).prediction(case), evaluated.prediction(case))
            first, second = (np.asarray(nibabel.Nifti1Image.load(file).dataobj) for file in files)
            assert np.array_equal(first, second)
    assert np.isfinite(whole.micro_values()).all()


def test_each_folds_card_has_its_own_scores(evaluated):
    scores = Scores.read(evaluated.evaluation).in_groups("fold")
    for run in evaluated.runs:
        card = (run.model / "README.md").read_text(encoding="utf-8")
        assert "has not been evaluated" not in card
        assert f"| mean of all classes | {scores[run.root.name].mean():.4f}" in card


def test_everything_lies_in_the_folder_of_the_folds(evaluated):
    names = {path.name for path in evaluated.root.iterdir()}
    assert names >= {"evaluation", "predictions", "postprocessing.json", "report.html", "report", "fold-0"}
    assert {path.name for path in evaluated.evaluation.iterdir()} >= {
        *("scores.json", "scores.csv", "summary.csv", "groups.csv", "postprocessing.csv", "postprocessed")
    }
    with (evaluated.evaluation / "groups.csv").open(newline="", encoding="utf-8") as lines:
        assert {row["group"] for row in csv.DictReader(lines) if row["groups"] == "fold"} == {
            *("fold-0", "fold-1", "fold-2")
        }
    assert not evaluated.fold(0).evaluation.exists()


def test_page_shows_all_folds(evaluated, capsys):
    page = " ".join(evaluated.report.read_text(encoding="utf-8").split())
    assert "was trained 3 times for 2 steps" in page
    assert "Every one of the 6 cases here is scored by the network that was not trained on it" in page
    assert "dashed: the folds after the first" in page
    before = evaluated.report.read_bytes()
    assert command(capsys, "report", evaluated.root)["report"] == str(evaluated.report)
    assert evaluated.report.read_bytes() == before


def test_folds_without_scores_get_a_page_of_their_training(folds, capsys):
    command(capsys, "report", folds.root)
    assert "They have not been evaluated yet" in folds.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_prediction_averages_the_folds_and_applies_what_is_stored(evaluated, data, tmp_path, capsys):
    folder = FoldsFolder(Path(shutil.copytree(evaluated.root, tmp_path / "folds")))
    dataset = read_dataset(data)
    case = dataset.cases[0]

    def predicted(out, *words):
        document = command(capsys, "predict", folder.root, case.scan, tmp_path / out, *words)
        return document, np.asarray(nibabel.Nifti1Image.load(document["written"][0]).dataobj)

    plain, as_is = predicted("plain", "--no-postprocessing")
    assert plain["postprocessing"] is None
    value = int(as_is.max())
    assert value, "the network is to predict some class, or the test shows nothing"
    steps = ClassSteps(value=value, name=dataset.classes[value], minimum_volume=1e9)
    Postprocessing(classes=(steps,)).write(folder.root / "postprocessing.json")
    printed, cleaned = predicted("cleaned")
    assert printed["postprocessing"]["classes"][0]["minimum_volume"] == 1e9
    assert np.array_equal(cleaned, np.where(as_is == value, 0, as_is))


def test_a_fold_alone_predicts_without_what_was_chosen_for_all(evaluated, data, tmp_path, capsys):
    scan = read_dataset(data).cases[0].scan
    assert command(capsys, "predict", evaluated.fold(0).root, scan, tmp_path)["postprocessing"] is None


@pytest.mark.slow
def test_models_that_are_averaged_must_agree_in_their_post_processing(evaluated, data, tmp_path, capsys):
    scan = read_dataset(data).cases[0].scan
    words = ["predict", evaluated.root, scan, tmp_path / "out", "--ensemble", evaluated.fold(0).root]
    error = command(capsys, *words, code=2)["error"]
    assert "post-processing" in error["what"]
    assert command(capsys, *words, "--no-postprocessing")["written"]


@pytest.mark.slow
def test_single_run_chooses_by_parts_of_its_cases_when_asked_to(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("inflate3d.report.page.write_report", lambda folder, *_: folder.report)
    run = RunFolder(Path(shutil.copytree(trained.fold(0).root, tmp_path / "run")))
    assert "postprocessing" not in command(capsys, "evaluate", run.root)
    document = command(capsys, "evaluate", run.root, "--choose-postprocessing")
    assert document["postprocessing"]["chosen"]["classes"] == []  # two cases say too little
    assert set(document["postprocessing"]["chosen_without"]) == {"part-0", "part-1"}
    assert Postprocessing.read(run.model / "postprocessing.json") == Postprocessing()
    assert "unless `--no-postprocessing` is given: nothing." in (run.model / "README.md").read_text(encoding="utf-8")


def test_choosing_goes_with_a_run(tmp_path, capsys):
    words = ["evaluate", "--predictions", tmp_path, "--labels", tmp_path, "--choose-postprocessing"]
    assert command(capsys, *words, code=2)["error"]["what"] == "--choose-postprocessing requires a run"


def test_unfinished_fold_is_an_error(folds):
    shutil.rmtree(folds.fold(1).model)
    with pytest.raises(ModelError) as caught:
        evaluate_run(folds)
    assert caught.value.file == str(folds.fold(1).model)


def test_case_that_two_runs_held_out_is_an_error(folds):
    shutil.copytree(folds.fold(0).root, folds.root / "again")
    with pytest.raises(DataError, match="several held out the same case"):
        evaluate_run(folds)


def test_runs_of_two_datasets_are_no_folds(folds, tmp_path):
    config = RunConfig.read(folds.fold(1).config)
    config.model_copy(update={"dataset": tmp_path / "other"}).write(folds.fold(1).config)
    with pytest.raises(ConfigError, match="different datasets"):
        evaluate_run(folds)


def test_which_folder_is_one_of_folds(trained, tmp_path):
    assert open_folder(trained.root) == trained
    assert open_folder(trained.fold(0).root) == trained.fold(0)
    assert open_folder(tmp_path / "nothing") == RunFolder(tmp_path / "nothing")
    for name in ("fold-10", "fold-9", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "evaluation").mkdir()
    assert [run.root.name for run in FoldsFolder(tmp_path).runs] == ["fold-9", "fold-10"]
