"""The card of a run's model, from what the run's folder tells: data, split, scores, training, weights, versions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split
from inflate3d.errors import ModelError
from inflate3d.evaluation.measures import MEASURES
from inflate3d.evaluation.postprocessing.steps import POSTPROCESSING_FILE, Postprocessing
from inflate3d.evaluation.scores import Scores, show
from inflate3d.evaluation.statistics import Estimate
from inflate3d.models.architecture import Architecture
from inflate3d.models.card import Card, Row, Section, plain, write_model_card
from inflate3d.models.volumetric_architecture import VolumetricArchitecture
from inflate3d.preparation.plan import Plan
from inflate3d.provenance.data import DataOrigin
from inflate3d.provenance.record import Provenance, record_path
from inflate3d.provenance.weights import WeightsOrigin
from inflate3d.run_folder import RunFolder
from inflate3d.settings import read_json

_MEASURES = ("dice", "hd95", "nsd")
"""Those that the card shows, where they were taken."""

_AXES = ("left-right", "back-front", "down-up")


def write_card(folder: RunFolder, *, scores: Scores | None = None) -> Path:
    """Writes the card of a finished run's model anew, with its scores if it is evaluated.

    What its user wrote below the mark at its end is kept; so is a ``README.md`` of somebody else's.

    Args:
        folder: The run.
        scores: Of its held-out cases; what its folder has if not given.

    Returns:
        The card's file.

    Raises:
        ModelError: The run has no model, or its description is damaged.
        ConfigError: Another of the run's files is missing or damaged.
        DataError: Its split or its scores can't be read.
        OutputError: The card can't be written.
    """
    architecture = _architecture(folder)
    config, plan, split = RunConfig.read(folder.config), Plan.read(folder.plan), Split.read(folder.split)
    record = Provenance.read(folder) if record_path(folder).exists() else None
    if scores is None and (folder.evaluation / "scores.json").exists():
        scores = Scores.read(folder.evaluation)
    weights = record.weights if record else None
    card = Card(
        header=_weights_header(weights),
        sections=[
            _data(plan, split, record.data if record else None),
            _training(config),
            *_postprocessing(folder),
            *([_weights(weights)] if weights else []),
            *([_versions(record)] if record else []),
        ],
        weights_license=_license(weights),
    )
    if scores is not None:
        header = card.header | _scores_header(scores, plan)
        card = replace(card, header=header, sections=[_scores(scores, split), *card.sections])
    else:
        card = replace(card, limits=["It has not been evaluated: `inflate3d evaluate` on its run tells its scores."])
    return write_model_card(folder.model, architecture, plan, card)


def _architecture(folder: RunFolder) -> Architecture | VolumetricArchitecture:
    path = folder.model / "model.json"
    if not path.exists():
        raise ModelError("the run has no model yet", hint="go on with it by `inflate3d train`", file=folder.root)
    try:
        return TypeAdapter(Architecture | VolumetricArchitecture).validate_python(read_json(path)["architecture"])
    except (ValidationError, KeyError, TypeError) as error:
        raise ModelError("model description can't be read", got=error, file=path) from error


def _data(plan: Plan, split: Split, data: DataOrigin | None) -> Section:
    rows: list[Row] = [
        ("", "value"),
        ("dataset", plan.dataset),
        ("modalities", ", ".join(plan.modalities)),
        ("cases that were learned from", str(len(split.train))),
        ("cases that the checkpoint was chosen on", str(len(split.validation))),
        ("cases for the test alone", str(len(split.test))),
        ("split", split.source or "not recorded"),
    ]
    if data is not None:
        for what, spread in (("millimeters between voxels", data.spacing), ("voxels", data.shape)):
            figures = zip(_AXES, spread.least, spread.median, spread.most, strict=True)
            rows += [
                (f"{what}, {axis}", f"{least:.4g} to {most:.4g}, median {mid:.4g}")
                for axis, least, mid, most in figures
            ]
        rows.append(("SHA-256 of the prepared cases", data.sha256))
    text = "Numbers of cases alone: their ids, which may tell patients, are left out of this file."
    return Section("Data", text, rows)


def _training(config: RunConfig) -> Section:
    training = config.training
    sample = "windows" if config.model.network == "inflated" else "patches"
    rows: list[Row] = [
        ("setting", "value"),
        ("steps", str(training.steps)),
        (f"{sample} in a step", str(training.batch_size * training.accumulate * training.devices * training.nodes)),
        ("loss", training.loss),
        (
            "optimizer",
            f"AdamW, weight decay {training.weight_decay:g}, gradients clipped at {training.gradient_clip:g}",
        ),
        ("learning rate", f"{training.learning_rate:g}, {training.decay} decay after a warm-up"),
        ("augmentation of geometry", f"in {config.augmentation.augment_probability:.0%} of the {sample}"),
        ("arithmetic", training.precision),
        ("seed", str(training.seed)),
    ]
    if config.model.network == "inflated":
        encoder = f"{training.encoder_learning_rate:g}, times {training.layer_decay:g} from layer to layer"
        rows.insert(6, ("learning rate of the encoder", encoder))
        rows.insert(7, ("frozen", training.freeze))
    return Section("Training", "All settings are in `config.yaml` of the run.", rows)


def _postprocessing(folder: RunFolder) -> list[Section]:
    path = folder.model / POSTPROCESSING_FILE
    if not path.exists():
        return []
    steps = Postprocessing.read(path).in_words()
    text = f"Of predicted label maps, unless `--no-postprocess` is given: {plain(steps)}. Scores here are without it."
    return [Section("Post-processing", text)]


def _weights(weights: WeightsOrigin) -> Section:
    facts = {
        "source": weights.source,
        "license": weights.license,
        "terms": weights.page,
        "file": weights.file,
        "SHA-256": weights.sha256,
    }
    rows: list[Row] = [("", "value"), *((name, fact) for name, fact in facts.items() if fact)]
    return Section("2D weights", "The encoder started from weights that others trained on 2D images.", rows)


def _versions(record: Provenance) -> Section:
    last = record.sessions[-1]
    commit = f", commit {last.code.commit}" + (" and changes" if last.code.modified else "") if last.code.commit else ""
    rows: list[Row] = [
        ("", "version"),
        ("inflate3d", f"{last.code.version}{commit}"),
        *last.machine.versions.items(),
        ("trained on", last.machine.device if not last.machine.on_cpu else last.machine.processor),
        ("ended", last.ended or "not noted"),
    ]
    return Section("Versions", rows=rows)


def _scores(scores: Scores, split: Split) -> Section:
    chosen = "nothing was chosen" if split.test else "the checkpoint was chosen, so that they are a little too good"
    text = (
        f"Means over the held-out cases ({len(scores.cases)}), on which {chosen}; each on its own grid, against "
        "its own labels. In brackets 95 % intervals by bootstrap over the cases."
    )
    taken = [name for name in _MEASURES if name in scores.measures]
    summaries = {name: scores.summaries[name] for name in taken}
    rows: list[Row] = [("class", *(MEASURES[name].title for name in taken))]
    for number, name in enumerate(scores.classes):
        rows.append((name, *(_estimate(summaries[each].means[number], each) for each in taken)))
    rows.append(("mean of all classes", *(_estimate(summaries[each].mean, each) for each in taken)))
    return Section("Scores", text, rows)


def _estimate(estimate: Estimate, measure: str) -> str:
    digits = MEASURES[measure].digits
    if math.isnan(estimate.low):
        return show(estimate.value, digits)
    return f"{show(estimate.value, digits)} ({show(estimate.low, digits)} to {show(estimate.high, digits)})"


def _scores_header(scores: Scores, plan: Plan) -> dict[str, Any]:
    """The hub's table of results: Dice of each class, and their mean."""
    named = {
        "Dice": scores.mean(),
        **{f"Dice, {name}": mean for name, mean in zip(scores.classes, scores.class_means(), strict=True)},
    }
    figures = [
        {"type": "dice", "name": plain(name), "value": round(value, 4)}
        for name, value in named.items()
        if not math.isnan(value)
    ]
    result = {
        "task": {"type": "image-segmentation"},
        "dataset": {"type": "-".join(plan.dataset.lower().split()) or "unknown", "name": plain(plan.dataset)},
        "metrics": figures,
    }
    return {"metrics": ["dice"], "model-index": [{"name": plain(plan.dataset), "results": [result]}]} if figures else {}


def _weights_header(weights: WeightsOrigin | None) -> dict[str, Any]:
    if weights is None or weights.hub_id is None:
        return {}
    return {"base_model": weights.hub_id, "base_model_relation": "finetune"}


def _license(weights: WeightsOrigin | None) -> str:
    if weights is None:
        return ""
    return plain(weights.license) + (f" ({weights.page})" if weights.page else "")
