import base64
import dataclasses
import html
import io
import re
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from inflate3d.datasets import Dataset
from inflate3d.errors import DataError, OutputError
from inflate3d.evaluation.scores import Scores
from inflate3d.report.cases import noteworthy_cases
from inflate3d.report.page import write_report

SLICES_DRAWN = 2  # of the session's pages
PLOTS = 6  # loss, Dice and distributions, each for light and dark


def embedded(page: str) -> list[bytes]:
    return [base64.b64decode(data, validate=True) for data in re.findall(r'"data:image/\w+;base64,([^"]*)"', page)]


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.split("</head>")[1])).split())


def scores_of(*means: float) -> Scores:
    return Scores(tuple(f"c{n}" for n in range(len(means))), ("liver",), {"dice": np.array(means)[:, None]})


@pytest.fixture(scope="session")
def page(written):
    return written.folder.report.read_text(encoding="utf-8")


def test_page_shows_the_settings_and_every_score(page, written):
    text, scores = words(page), written.scores
    assert "vit_small_patch16_224 with random weights, on windows of 5 slices, was trained on 1 case" in text
    assert "for 40 steps, which took 1 min 40 s" in text
    assert "the 3 cases that it was not trained on (fold 0 of 5)." in text
    assert f"{scores.mean():.4f} mean Dice" in text
    for number, name in enumerate(("organ", "gland", "vessel", "lesion")):
        mean, median, micro = scores.class_means(), scores.class_medians(), scores.micro_values()
        assert f"{name} {mean[number]:.4f} {median[number]:.4f} {micro[number]:.4f}" in text
    for case, row, mean in zip(scores.cases, scores.dice, scores.case_means(), strict=True):
        assert f"{case} {' '.join(f'{value:.4f}' for value in row)} {mean:.4f}" in text
    assert "The paper's figure" in text


def test_page_shows_the_plan_with_its_reasons(page, plan):
    assert plan.reasons
    for choice, reason in plan.reasons.items():
        assert f"{choice.replace('_', ' ')} {reason}" in words(page)


def test_best_median_and_worst_case_are_shown_in_pictures(page, held_out):
    pictures = embedded(page)
    assert len(pictures) == PLOTS + 3 * SLICES_DRAWN * len(("outlines", "errors"))
    for picture in pictures:
        assert Image.open(io.BytesIO(picture)).size[0] > 50
    standings = (("Best", held_out[0]), ("Median", held_out[1]), ("Worst", held_out[2]))
    places = [words(page).index(f"{standing} case: {case}") for standing, case in standings]
    assert places == sorted(places)


def test_page_loads_nothing_from_elsewhere(page):
    bare = re.sub(r"<script>.*?</script>|base64,[A-Za-z0-9+/=]*", "", page, flags=re.DOTALL)
    assert not re.search(r"https?:|//|@import|<script|<link|url\(", bare)
    assert set(re.findall(r'(?:src|srcset|href)="([^"]{5})', bare)) == {"data:"}
    assert "default-src 'none'" in html.unescape(bare)


def test_hostile_names_are_shown_as_text(run, phantoms, held_out):
    evil = "<script>alert(1)<!--\"'$_{&"  # without a slash, which no case's id may hold
    run.folder.prediction(held_out[0]).rename(run.folder.prediction(evil))
    cases = tuple(dataclasses.replace(case, id=evil) if case.id == held_out[0] else case for case in phantoms.cases)
    scores = dataclasses.replace(run.scores, cases=(evil, *run.scores.cases[1:]))
    hostile = Dataset(phantoms.name, phantoms.root, phantoms.modalities, phantoms.classes, cases)
    page = write_report(run.folder, hostile, scores).read_text(encoding="utf-8")
    assert evil not in page
    assert f"Best case: {evil}" in words(page)
    assert len(re.findall(r"<img [^>]*>", page)) == 3 + 3 * 5 * 2


def test_hostile_class_names_are_shown_as_text(run, phantoms, plan):
    classes = {**plan.classes, 1: "<b>$x_{1}$, left"}
    plan.model_copy(update={"classes": classes}).write(run.folder.plan)
    scores = dataclasses.replace(run.scores, classes=tuple(classes.values())[1:])
    page = write_report(run.folder, phantoms, scores).read_text(encoding="utf-8")
    assert "<b>$x" not in page
    assert "<b>$x_{1}$, left" in words(page)


def test_class_without_score_is_shown_as_such(run, phantoms):
    undefined = run.scores.dice.copy()
    undefined[:, 0] = np.nan
    scores = dataclasses.replace(run.scores, measured={**run.scores.measured, "dice": undefined})
    text = words(write_report(run.folder, phantoms, scores).read_text(encoding="utf-8"))
    assert "organ n/a n/a" in text


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.5, 0.9, 0.1, 0.7, 0.3], [("c1", "best"), ("c0", "median"), ("c2", "worst")]),
        ([0.5, 0.9], [("c1", "best"), ("c0", "worst")]),
        ([0.5], [("c0", "best")]),
        ([0.2, float("nan"), 0.4, 0.3], [("c2", "best"), ("c3", "median"), ("c0", "worst")]),
        ([float("nan")], []),
    ],
)
def test_noteworthy_cases(means, expected):
    assert noteworthy_cases(scores_of(*means)) == expected


def test_no_case_with_a_score_gives_a_page_without_pictures(run, phantoms):
    measured = {name: np.full_like(values, np.nan) for name, values in run.scores.measured.items()}
    scores = dataclasses.replace(run.scores, measured=measured)
    page = write_report(run.folder, phantoms, scores).read_text(encoding="utf-8")
    assert len(embedded(page)) == PLOTS
    assert "No held-out case has a score" in words(page)


def test_failure_leaves_the_page_before_and_no_part_of_a_new_one(run, phantoms, monkeypatch):
    run.folder.report.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OutputError):
        write_report(run.folder, phantoms, run.scores)
    assert run.folder.report.read_text(encoding="utf-8") == "before"
    assert not [path for path in run.folder.root.iterdir() if path.name.startswith(".")]


def test_missing_prediction_names_case_and_hint(run, phantoms, held_out):
    for file in run.folder.predictions.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="predicted label map") as caught:
        write_report(run.folder, phantoms, run.scores)
    assert caught.value.case == held_out[0]
    assert "inflate3d evaluate" in str(caught.value.hint)
    assert not run.folder.report.exists()


def test_prediction_on_another_grid_is_refused(run, phantoms, held_out):
    file = run.folder.predictions / f"{held_out[0]}.nii.gz"
    nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)).to_filename(file)
    with pytest.raises(DataError, match="differ in shape"):
        write_report(run.folder, phantoms, run.scores)


@pytest.mark.slow
def test_case_that_the_dataset_lacks_is_refused(run, phantoms):
    fewer = dataclasses.replace(phantoms, cases=phantoms.cases[:1])
    with pytest.raises(DataError, match="not found in the dataset"):
        write_report(run.folder, fewer, run.scores)


@pytest.mark.parametrize("log", ["step,loss\n1,nonsense\n", "loss\n1\n", None])
def test_log_that_cannot_be_read_is_refused(run, phantoms, log):
    run.folder.metrics.unlink()
    if log is not None:
        run.folder.metrics.write_text(log)
    with pytest.raises(DataError, match="log"):
        write_report(run.folder, phantoms, run.scores)


def test_importing_the_report_imports_no_drawing_library():
    look = "import sys, inflate3d.report.page; print({'matplotlib', 'jinja2'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", look], text=True).strip() == "set()"


@pytest.mark.slow
def test_every_picture_lies_beside_the_page_and_old_ones_are_gone(run, phantoms, held_out):
    old = run.folder.root / "report" / "gone-slice-001-errors.png"
    shutil.copy(old.with_name("loss.png"), old)
    write_report(run.folder, phantoms, run.scores)
    names = sorted(path.name for path in old.parent.iterdir())
    assert len(names) == 3 + 3 * 5 * 2
    assert {"loss.png", "dice.png", "distributions.png"} < set(names)
    assert any(re.fullmatch(rf"{held_out[0]}-slice-\d{{3}}-errors.png", name) for name in names)


def test_run_without_scores_gets_a_page_of_its_training(run, phantoms):
    text = words(write_report(run.folder, phantoms).read_text(encoding="utf-8"))
    assert "It has not been evaluated yet: run inflate3d evaluate" in text
    assert "Every held-out case" not in text
    assert "How scans become windows" in text


@pytest.mark.slow
def test_files_of_others_are_kept(run, phantoms):
    pictures = run.folder.root / "report"
    mine = pictures / "mine.png"
    Image.new("RGB", (2, 2)).save(mine)
    page = write_report(run.folder, phantoms, run.scores)
    assert mine.exists()
    write_report(run.folder, phantoms, run.scores)  # ours is replaced
    for file in (page, pictures / "loss.png"):
        content = file.read_bytes()
        file.write_bytes(b"mine")
        with pytest.raises(OutputError) as caught:
            write_report(run.folder, phantoms, run.scores)
        assert caught.value.file == str(file)
        assert file.read_bytes() == b"mine"
        file.write_bytes(content)
    page.write_bytes(b"mine")
    write_report(run.folder, phantoms, run.scores, overwrite=True)
    assert page.read_bytes() != b"mine"
