"""A model's card agrees with the run's folder, contains no id of a case, and its code examples work."""

import re
import shutil
from contextlib import chdir
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from inflate3d.cli import main
from inflate3d.datasets.splits import Split
from inflate3d.evaluation.scores import Scores
from inflate3d.io import read_volume
from inflate3d.models.card import CARD, MARK, TrainedRun, plain, write_model_card
from inflate3d.models.checkpoint import read_description
from inflate3d.models.segmenter import load_model
from inflate3d.preparation.plan import Plan
from inflate3d.provenance import Provenance, WeightsOrigin

BLOCKS = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def card_of(folder):
    return (folder.model / CARD).read_text(encoding="utf-8")


def header_of(text):
    opening, header, _ = text.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(header)


def write_card(folder, **changes):
    """Writes the card as `evaluate` does; returns it."""
    architecture, plan = read_description(folder.model)
    given = {"plan": plan, "run": TrainedRun.read(folder), "scores": Scores.read(folder.evaluation), **changes}
    return write_model_card(folder.model, architecture, **given).read_text(encoding="utf-8")


def test_a_training_leaves_a_card(tiny_run):
    text = card_of(tiny_run)
    plan, split, record = Plan.read(tiny_run.plan), Split.read(tiny_run.split), Provenance.read(tiny_run)
    assert "# PhantomCT: segmentation of organ, gland, vessel and lesion" in text
    for fact in (
        "| modalities | CT |",
        f"| training cases | {len(split.train)} |",
        f"| validation cases | {len(split.validation)} |",
        f"| split | {split.source} |",
        record.data.sha256,
        f"| {plan.reasons['depth_axis']} |",
        "| image size | 64×64 |",
        "`resnet10t`, its first convolution inflated to windows of 3 slices (center)",
        "| steps | 2 |",
        "| seed | 0 |",
        f"| torch | {record.sessions[-1].environment.versions['torch']} |",
        "**Not a medical device.**",
        "It has not been evaluated",
        "The license of that dataset applies",
    ):
        assert fact in text, fact
    assert text.rstrip().endswith(MARK)


def test_header_is_the_hubs(evaluated_run):
    data: Any = ModelCard(write_card(evaluated_run)).data
    assert data.library_name == "inflate3d"
    assert (data.license, data.license_name) == ("other", "data-and-2d-weights")
    assert data.pipeline_tag == "image-segmentation"
    scores = Scores.read(evaluated_run.evaluation)
    results = {each.metric_name: each.metric_value for each in data.eval_results}
    assert results["Dice"] == pytest.approx(scores.mean(), abs=5e-5)
    assert {each.dataset_name for each in data.eval_results} == {"PhantomCT"}


def test_scores_stand_in_the_card_once_it_is_evaluated(evaluated_run):
    text, scores = write_card(evaluated_run), Scores.read(evaluated_run.evaluation)
    assert "## Scores" in text and "has not been evaluated" not in text
    assert "Means over the 1 held-out cases, each on its own grid." in text
    assert "| weights | of the last step |" in text
    means = dict(zip(scores.classes, scores.class_means(), strict=True))
    for name, mean in means.items():
        assert re.search(rf"\| {name} \| {mean:.4f}", text) or mean != mean


def test_no_case_no_patient_and_no_path_is_named(evaluated_run, phantom_store):
    text = write_card(evaluated_run)
    assert not [case for case in phantom_store.cases if case in text]
    assert str(evaluated_run.root) not in text and str(phantom_store.folder) not in text


def test_weights_of_others_are_named_with_their_license(own_run):
    record = Provenance.read(own_run)
    weights = WeightsOrigin(
        source="timm, hf-hub:timm/x", hub_id="timm/x", file="model.safetensors", sha256="ab" * 32, license="mit",
        page="https://huggingface.co/timm/x",
    )  # fmt: skip
    record.model_copy(update={"weights": weights}).write(own_run)
    text = write_card(own_run)
    assert header_of(text)["base_model"] == "timm/x"
    assert "that of the 2D weights, mit (https://huggingface.co/timm/x)" in text
    assert "ab" * 32 in text


@pytest.mark.slow
def test_lines_of_code_in_the_card_work(evaluated_run, phantoms, tmp_path):
    write_card(evaluated_run)
    shutil.copytree(evaluated_run.model, tmp_path / "model")
    scan = phantoms.cases[0].scan
    shutil.copy(scan, tmp_path / "scan.nii.gz")
    blocks = dict(BLOCKS.findall(card_of(evaluated_run)))
    with chdir(tmp_path):
        program, *words = blocks["bash"].split()
        assert program == "inflate3d"
        assert main(words) == 0
        exec(blocks["python"], {})
    shape = read_volume(scan).shape
    assert read_volume(tmp_path / "out" / "scan.nii.gz").shape == read_volume(tmp_path / "labels.nii.gz").shape == shape


def test_what_its_user_wrote_is_kept(own_run):
    path = own_run.model / CARD
    path.write_text(path.read_text(encoding="utf-8") + "\n## Notes\n\nOurs.\n", encoding="utf-8")
    text = write_card(own_run)
    assert text.endswith("\n## Notes\n\nOurs.\n") and "## Scores" in text and text.count(MARK) == 1
    path.write_text("# Somebody else's\n", encoding="utf-8")
    write_card(own_run)
    assert card_of(own_run) == "# Somebody else's\n"


def test_a_model_saved_without_a_run_has_a_card(tiny_run, tmp_path):
    model = load_model(tiny_run.root)
    model.save(tmp_path)
    text = (tmp_path / CARD).read_text(encoding="utf-8")
    assert header_of(text)["tags"][-1] == "ct"
    assert "## Data" not in text and "**Not a medical device.**" in text
    model.plan = None
    model.save(tmp_path / "other")
    assert "its data are not recorded" in (tmp_path / "other" / CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["a: [b\n---\n| <script>", "'x': {", "- &a *a", '\ud83e\udec0 "heart" # 1', "!!python/name:os.system"]
)
def test_names_can_break_neither_the_header_nor_a_table(own_run, name):
    name = name.encode("utf-16", "surrogatepass").decode("utf-16")
    _, plan = read_description(own_run.model)
    assert plan is not None
    plan = plan.model_copy(update={"dataset": name, "modalities": ("C|T",)})
    text = write_card(own_run, plan=plan)
    dataset = header_of(text)["model-index"][0]["results"][0]["dataset"]
    assert dataset["name"] == plain(name)
    assert set(dataset["type"]) <= {*"abcdefghijklmnopqrstuvwxyz1234567890-"}
    assert "<script>" not in text.split("---\n", 2)[2]
    assert "| modalities | C\\|T |" in text
