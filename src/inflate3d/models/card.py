"""The model card, ``README.md`` in a model's folder: what the model is, and its intended uses (Mitchell et al. 2019).

Its header follows the Hugging Face hub, so that the folder can be uploaded as it is. Case ids, which may identify
patients, and paths, which may contain user names, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inflate3d.atomic import write_text
from inflate3d.config import InflatedConfig, RunConfig
from inflate3d.datasets.splits import Split
from inflate3d.evaluation.measures import MEASURES
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.evaluation.scores import Scores, show
from inflate3d.evaluation.statistics import Estimate
from inflate3d.models.architecture import Architecture, VolumetricArchitecture
from inflate3d.preparation.plan import Plan
from inflate3d.provenance import DataOrigin, Provenance, WeightsOrigin
from inflate3d.run_folder import RunFolder
from inflate3d.version import __version__

CARD = "README.md"
"""File name, which the Hugging Face hub expects."""

MARK = "<!-- inflate3d overwrites everything above; what is below is yours and is kept -->"
"""Ends our part of the card. A file without it is not ours and is not changed."""

_HERE = Path(__file__).parent
_MEASURES = ("dice", "hd95", "nsd")
_AXES = ("left-right", "posterior-anterior", "inferior-superior")
_PREPARATION = ("depth_axis", "planes", "spacing", "image_size", "normalization", "flips", "stride")
"""The plan's settings that concern scans; the others concern training."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class TrainedRun:
    """What a card says about the run that made the model.

    Attributes:
        provenance: Its data, 2D weights and environment.
    """

    config: RunConfig
    split: Split
    provenance: Provenance

    @classmethod
    def read(cls, folder: RunFolder) -> TrainedRun:
        return cls(RunConfig.read(folder.config), Split.read(folder.split), Provenance.read(folder))


@dataclass(frozen=True)
class _Section:
    """A section of the card: heading, Markdown text, and a table whose first row is its header."""

    title: str
    text: str = ""
    rows: Sequence[Row] = ()


def write_model_card(
    folder: Path,
    architecture: Architecture | VolumetricArchitecture,
    plan: Plan | None,
    *,
    run: TrainedRun | None = None,
    scores: Scores | None = None,
    postprocessing: Postprocessing | None = None,
) -> Path:
    """Writes the card of a model folder; what the user wrote below the mark is kept.

    Args:
        plan: How scans become its windows; None for a model that can't predict yet.

    Returns:
        The card's file; a file that is not ours is left unchanged.
    """
    path = folder / CARD
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else MARK + "\n"
    if MARK not in before:
        return path
    weights = run.provenance.weights if run else None
    names = [plain(name) for name in plan.class_names[1:]] if plan else []
    modalities = [plain(name) for name in plan.modalities] if plan else []
    targets = _listed(names) if plan else f"{architecture.num_classes - 1} classes that are not recorded"
    dataset = plain(plan.dataset) if plan else ""
    scored = scores if run and plan else None
    header = _header(modalities, weights) | (_scores_header(scored, dataset) if scored else {})
    sections = [
        *([_scores(scored)] if scored else []),
        *([_data(plan, run.split, run.provenance.data), _training(run.config)] if plan and run else []),
        *([_postprocessing(postprocessing)] if postprocessing else []),
        *([_weights(weights)] if weights else []),
        *([_versions(run.provenance)] if run else []),
        *([_preparation(plan)] if plan else []),
    ]
    text = render_card(
        _HERE,
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        title=f"{dataset}: segmentation of {targets}" if plan else "A 3D segmentation network",
        summary=network_in_words(architecture),
        outputs=_outputs(plan) if plan else [],
        targets=targets,
        inputs=f"{_listed(modalities)} of the dataset {dataset}" if plan else "its data are not recorded",
        evaluated=run is None or scored is not None,
        sections=sections,
        weights_license=plain(weights.license) + (f" ({weights.page})" if weights.page else "") if weights else "",
    )
    write_text(path, f"{text.rstrip()}\n\n{MARK}{before.partition(MARK)[2]}")
    return path


def _outputs(plan: Plan) -> list[tuple[str, ...]]:
    """Table rows: the label values and what they stand for."""
    if plan.regions is None:
        return [("label value", "class"), *((str(value), name) for value, name in plan.classes.items())]
    regions = [(name, ", ".join(map(str, held))) for name, held in plan.regions.values.items()]
    return [("region", "label values"), *regions]


def network_in_words(architecture: Architecture | VolumetricArchitecture) -> str:
    """Describes the network in two or three sentences."""
    rows, columns = architecture.image_size
    made = f"Made by inflate3d {__version__}."
    if isinstance(architecture, VolumetricArchitecture):
        depth = architecture.patch_size[0]
        return f"MONAI's 3D network {architecture.network}, on patches of {depth} × {rows} × {columns}. {made}"
    windows = f"windows of {architecture.depth} slices" if architecture.depth > 1 else "single slices"
    return (
        f"The 2D backbone `{architecture.encoder}`, its first convolution inflated to {windows} "
        f"({architecture.inflation}), with the decoder {architecture.decoder}, on images of {rows} × {columns}; "
        f"it predicts the center slice ([Zhang et al. 2022](https://proceedings.mlr.press/v193/zhang22a.html)). {made}"
    )


def plain(text: object) -> str:
    """Escapes text for Markdown: one line, no tags, no end of a table cell."""
    one_line = " ".join(str(text).split())
    return one_line.replace("\\", "\\\\").replace("<", "&lt;").replace("|", "\\|").replace("`", "\\`")


def _header(modalities: Sequence[str], weights: WeightsOrigin | None) -> dict[str, Any]:
    """The hub's fields; it has no license identifier for data and weights together."""
    header: dict[str, Any] = {
        "library_name": "inflate3d",
        "pipeline_tag": "image-segmentation",
        "license": "other",
        "license_name": "data-and-2d-weights",
        "license_link": CARD,
        "tags": ["medical-imaging", "3d", "segmentation", "inflate3d", *(name.lower() for name in modalities)],
    }
    if weights and weights.hub_id:
        header |= {"base_model": weights.hub_id, "base_model_relation": "finetune"}
    return header


def _scores_header(scores: Scores, dataset: str) -> dict[str, Any]:
    """The hub's table of results: Dice per class, and the mean."""
    classes = zip(scores.classes, scores.class_means(), strict=True)
    named = {"Dice": scores.mean(), **{f"Dice, {name}": mean for name, mean in classes}}
    metrics = [
        {"type": "dice", "name": plain(name), "value": round(value, 4)}
        for name, value in named.items()
        if not math.isnan(value)
    ]
    if not metrics:
        return {}
    kind = "".join(letter if letter.isalnum() else "-" for letter in dataset.lower()).strip("-")
    result = {
        "task": {"type": "image-segmentation"},
        "dataset": {"type": kind or "unknown", "name": dataset},
        "metrics": metrics,
    }
    return {"metrics": ["dice"], "model-index": [{"name": dataset, "results": [result]}]}


def _scores(scores: Scores) -> _Section:
    text = f"Means over the {len(scores.cases)} held-out cases, each on its own grid. In parentheses, 95 % bootstrap "
    text += "intervals over the cases."
    taken = [name for name in _MEASURES if name in scores.measures]
    summaries = {name: scores.summaries[name] for name in taken}
    rows: list[Row] = [("class", *(MEASURES[name].title for name in taken))]
    for number, name in enumerate(scores.classes):
        rows.append((name, *(_estimate(summaries[each].means[number], each) for each in taken)))
    rows.append(("mean of all classes", *(_estimate(summaries[each].mean, each) for each in taken)))
    return _Section("Scores", text, rows)


def _estimate(estimate: Estimate, measure: str) -> str:
    digits = MEASURES[measure].digits
    if math.isnan(estimate.low):
        return show(estimate.value, digits)
    return f"{show(estimate.value, digits)} ({show(estimate.low, digits)} to {show(estimate.high, digits)})"


def _data(plan: Plan, split: Split, data: DataOrigin) -> _Section:
    rows: list[Row] = [
        ("", "value"),
        ("dataset", plan.dataset),
        ("modalities", ", ".join(plan.modalities)),
        *([("units", ", ".join(unit or "not known" for unit in plan.units))] if plan.units else []),
        ("training cases", str(len(split.train))),
        ("validation cases", str(len(split.validation))),
        ("test cases", str(len(split.test))),
        ("split", split.source or "not recorded"),
    ]
    for what, spread in (("spacing in mm", data.spacing), ("voxels", data.shape)):
        for axis, low, median, high in zip(_AXES, spread.minimum, spread.median, spread.maximum, strict=True):
            rows.append((f"{what}, {axis}", f"{low:.4g} to {high:.4g}, median {median:.4g}"))
    rows.append(("SHA-256 of the prepared cases", data.sha256))
    return _Section("Data", "Case ids are left out of this file: they may identify patients.", rows)


def _training(config: RunConfig) -> _Section:
    training = config.training
    samples = "windows" if isinstance(config.model, InflatedConfig) else "patches"
    batch = training.batch_size * training.accumulate * training.devices * training.nodes
    rows: list[Row] = [
        ("setting", "value"),
        ("steps", str(training.steps)),
        (f"{samples} per step", str(batch)),
        ("loss", training.loss),
        ("optimizer", f"AdamW, weight decay {training.weight_decay:g}, gradient clipping {training.gradient_clip:g}"),
        ("learning rate", f"{training.learning_rate:g}, {training.decay} decay after a warm-up"),
        ("geometric augmentation", f"of {config.augmentation.augment_probability:.0%} of the {samples}"),
        ("precision", training.precision),
        ("seed", str(training.seed)),
        ("weights", "of the best validation" if training.keep == "best" else "of the last step"),
    ]
    if isinstance(config.model, InflatedConfig):
        rate = f"{training.encoder_learning_rate:g}, at its stem times {training.stem_rate_factor:g}"
        frozen = f"first {training.freeze_layers} layers" if training.freeze_layers else training.freeze
        rows += [("learning rate of the encoder", rate), ("frozen", frozen)]
    return _Section("Training", "All settings are in the run's `config.yaml`.", rows)


def _postprocessing(steps: Postprocessing) -> _Section:
    text = f"Applied to predictions unless `--no-postprocessing` is given: {plain(steps.in_words())}. "
    return _Section("Post-processing", text + "It was chosen on the held-out cases; the scores above are without it.")


def _weights(weights: WeightsOrigin) -> _Section:
    facts = {
        "source": weights.source,
        "license": weights.license,
        "terms": weights.page,
        "file": weights.file,
        "SHA-256": weights.sha256,
    }
    rows: list[Row] = [("", "value"), *((name, fact) for name, fact in facts.items() if fact)]
    return _Section("2D weights", "The encoder started from weights pre-trained on 2D images.", rows)


def _versions(provenance: Provenance) -> _Section:
    last = provenance.sessions[-1]
    environment = last.environment
    changes = " with uncommitted changes" if environment.modified else ""
    commit = f", commit {environment.commit}{changes}" if environment.commit else ""
    on_cpu = environment.device == "cpu"
    rows: list[Row] = [
        ("", "version"),
        ("inflate3d", f"{environment.version}{commit}"),
        *environment.versions.items(),
        ("trained on", environment.processor if on_cpu else environment.device),
        ("finished", last.ended or "not recorded"),
    ]
    return _Section("Versions", rows=rows)


def _preparation(plan: Plan) -> _Section:
    size = "×".join(map(str, plan.image_size))
    reasons = {name: plan.reasons[name] for name in _PREPARATION if name in plan.reasons}
    if not reasons.get("image_size", "").startswith(f"{size}:"):  # the run's own choice
        reasons["image_size"] = size
    rows = [(name.replace("_", " "), reasons[name]) for name in _PREPARATION if name in reasons]
    return _Section("How scans are prepared", rows=[("choice", "value and reason"), *rows])


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "none"


def _table(rows: Sequence[Row]) -> str:
    """A Markdown table; empty without rows."""
    if not rows:
        return ""
    head, *others = ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *others]) + "\n"


def render_card(folder: Path, **values: object) -> str:
    """Renders the template of a card, ``card.md.jinja`` in a folder of the package."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=False,  # Markdown: `plain` escapes names  # noqa: S701
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["table"] = _table
    return environment.get_template("card.md.jinja").render(values)
