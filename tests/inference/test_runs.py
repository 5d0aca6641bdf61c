"""Evaluating a run is predicting with it and scoring the label maps, for every option, reading each file once."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

import json
import shutil
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from inflate3d.cli import main
from inflate3d.config import RunConfig
from inflate3d.datasets import Split, read_dataset
from inflate3d.errors import DataError, OutputError
from inflate3d.evaluation.calibration import Calibration
from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing
from inflate3d.evaluation.scores import Scores
from inflate3d.inference.runs import evaluate, evaluate_run
from inflate3d.io import formats, read_labels
from inflate3d.models.segmenter import load_model
from inflate3d.run_folder import FoldsFolder, RunFolder


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("inflate3d.report.page.write_report", lambda folder, *_: folder.report)
    run = RunFolder(Path(shutil.copytree(tiny_run.root, tmp_path / "run")))
    model = load_model(run.model)
    torch.manual_seed(0)  # weights so that every class is predicted somewhere
    for bias in (model.classifier.bias, model.correct.bias):
        torch.nn.init.zeros_(bias)
    torch.nn.init.normal_(model.correct.weight, std=3.0)
    model.save(run.model)
    return run


def held_out(run):
    dataset, split = read_dataset(RunConfig.read(run.config).dataset), Split.read(run.split)
    return [case for case in dataset.cases if case.id in split.held_out]


def command(*words):
    assert main([*map(str, words)]) == 0


OPTIONS = {
    "as it is": [],
    "flips": ["--tta"],
    "slice step": ["--slice-step", "3"],
    "precision": ["--precision", "bf16-mixed"],
    "memory": ["--max-memory", "0.05", "--batch-size", "3"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPTIONS, "post-processing", "depth filter"])
def test_evaluating_is_predicting_and_scoring(run, tmp_path, name):
    words, plain = OPTIONS.get(name, []), ["--no-postprocessing"]
    if name == "depth filter":
        Postprocessing(depth_filter=8.0).write(run.model / "postprocessing.json")
        words, plain = ["--postprocessing", "--slice-step", "3"], []
    if name == "post-processing":
        classes = read_dataset(RunConfig.read(run.config).dataset).classes
        steps = [
            ClassSteps(value=value, name=known, largest_component=True) for value, known in classes.items() if value
        ]
        Postprocessing(classes=tuple(steps)).write(run.model / "postprocessing.json")
        words, plain = ["--postprocessing"], []
    command("evaluate", run.root, "--device", "cpu", *words)
    words = [word for word in words if word != "--postprocessing"]
    (tmp_path / "labels").mkdir()
    for case in held_out(run):
        shutil.copy(case.label, tmp_path / f"labels/{case.id}.nii.gz")
        out = tmp_path / f"predicted/{case.id}.nii.gz"
        command("predict", run.root, case.scan, out, "--device", "cpu", *words, *plain)
        assert np.array_equal(read_labels(out).array, read_labels(run.prediction(case.id)).array)
    named = [f"{known}={value}" for value, known in read_dataset(RunConfig.read(run.config).dataset).classes.items()]
    folders = ["--predictions", tmp_path / "predicted", "--labels", tmp_path / "labels", "--classes", *named[1:]]
    command("evaluate", *folders, "--out", tmp_path / "scores")
    whole, parts = Scores.read(run.evaluation), Scores.read(tmp_path / "scores")
    assert whole.cases == parts.cases
    for measure in parts.measures:
        np.testing.assert_array_equal(whole.values(measure), parts.values(measure))


@pytest.mark.slow
def test_options_change_the_prediction(run):
    """Or the test above would hold whatever the options do."""
    scores = evaluate_run(run, device="cpu")
    plain = scores.values()
    pairs = Calibration.of(scores.classes, scores.confidence, scores.dice, scores.patients)
    assert Calibration.read(run.model / "calibration.json") == pairs
    assert not np.array_equal(evaluate_run(run, device="cpu", slice_step=9).values(), plain, equal_nan=True)
    Postprocessing(depth_filter=8.0).write(run.model / "postprocessing.json")
    assert not np.array_equal(evaluate(run, device="cpu", postprocess=True).scores.values(), plain, equal_nan=True)
    np.testing.assert_array_equal(evaluate_run(run, device="cpu").values(), plain)


@pytest.mark.slow
def test_each_scan_and_label_is_read_once(run, monkeypatch):
    """Choosing the post-processing included: it is counted while the arrays are in memory."""
    reads = Counter()
    real = formats.reader_of

    def reader_of(path, case):
        reader = real(path, case)

        class Counting:
            @staticmethod
            def read(path, *, case=None):
                reads[Path(path)] += 1
                return reader.read(path, case=case)

            def __getattr__(self, name):
                return getattr(reader, name)

        return Counting()

    monkeypatch.setattr("inflate3d.io.scan.reader_of", reader_of)
    command("evaluate", run.root, "--choose-postprocessing")
    assert reads == {path: 1 for case in held_out(run) for path in (case.scan, case.label)}


@pytest.mark.slow
def test_dataset_that_has_moved(run, tmp_path):
    dataset = RunConfig.read(run.config).dataset
    expected = evaluate_run(run, device="cpu").values()
    moved = Path(shutil.copytree(dataset, tmp_path / "moved"))
    config = RunConfig.read(run.config)
    config.model_copy(update={"dataset": tmp_path / "gone"}).write(run.config)
    assert main(["evaluate", str(run.root)]) == 2
    command("evaluate", run.root, "--dataset", moved, "--device", "cpu")
    np.testing.assert_array_equal(Scores.read(run.evaluation).values(), expected)


def test_moved_dataset_with_another_content_is_refused(run, tmp_path):
    (case, *_) = held_out(run)
    moved = Path(shutil.copytree(RunConfig.read(run.config).dataset, tmp_path / "moved"))
    assert case.label is not None
    label = moved / case.label.relative_to(RunConfig.read(run.config).dataset)
    image = nibabel.load(label)
    labels = np.asarray(image.dataobj).copy()
    labels[0, 0, 0] = 1 - min(labels[0, 0, 0], 1)
    nibabel.Nifti1Image(labels, None, image.header).to_filename(label)
    with pytest.raises(DataError) as caught:
        evaluate_run(run, dataset=read_dataset(moved), device="cpu")
    assert caught.value.case == case.id
    assert not run.evaluation.exists()


def test_two_evaluations_of_the_same_folds_are_refused(run, tmp_path):
    folds = FoldsFolder(tmp_path / "folds")
    shutil.copytree(run.root, folds.root / "fold-0")
    with folds.locked(), pytest.raises(OutputError):
        evaluate_run(folds)
    assert not folds.evaluation.exists()


def test_choosing_and_applying_the_post_processing_exclude_each_other(run, capsys):
    assert main(["evaluate", str(run.root), "--choose-postprocessing", "--postprocessing", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["what"].startswith("--choose-postprocessing")
