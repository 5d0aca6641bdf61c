"""A model's card, ``README.md`` in its folder: what it is, what it is for, and what it is not (Mitchell et al. 2019).

The header is that of the Hugging Face hub, so that the folder can be uploaded as it is. The ids of cases, which may be
those of patients, and paths, which may hold names of users, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import inflate3d
from inflate3d.atomic import write_text
from inflate3d.models.architecture import Architecture
from inflate3d.models.volumetric_architecture import VolumetricArchitecture
from inflate3d.preparation.plan import Plan

if TYPE_CHECKING:
    from jinja2 import Environment

CARD = "README.md"
"""In a model folder; the hub shows a file of this name."""

KEPT = "<!-- inflate3d writes all above anew; what stands below is yours and is kept -->"
"""Ends what is written by us. A file without it is somebody else's and is left alone."""

FOLDER = "model"
"""What the card's commands call the folder that it lies in."""

_HERE = Path(__file__).parent
_OF_THE_SCANS = ("depth_axis", "spacing", "image_size", "normalization", "flips", "stride")
"""The plan's choices that are told; the others are of its training."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A part of the card.

    Attributes:
        title: Its heading.
        text: What stands first in it; Markdown.
        rows: A table, its columns' heads first; none without.
    """

    title: str
    text: str = ""
    rows: Sequence[Row] = ()


@dataclass(frozen=True)
class Card:
    """What a card says besides what the model's own description tells.

    Attributes:
        header: More for the header.
        sections: Data, training, scores and so on.
        limits: More of what it can't do, a sentence each.
        weights_license: Of the 2D weights, in words; empty where there are none, or none is known.
    """

    header: dict[str, Any] = field(default_factory=dict)
    sections: Sequence[Section] = ()
    limits: Sequence[str] = ()
    weights_license: str = ""


def write_model_card(
    folder: Path,
    architecture: Architecture | VolumetricArchitecture,
    plan: Plan | None,
    card: Card = Card(),
) -> Path:
    """Writes the card of a model folder; what its user wrote below the mark is kept.

    Args:
        folder: The model folder.
        architecture: What the network is built from.
        plan: How scans become its windows; without one it is not ready to predict.
        card: What is known besides.

    Raises:
        OutputError: It can't be written.
    """
    path = folder / CARD
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else KEPT + "\n"
    if KEPT not in before:
        return path  # somebody else's
    text = _environment().get_template("card.md.jinja").render(_words(architecture, plan, card))
    write_text(path, text.rstrip().removesuffix(KEPT) + KEPT + before.partition(KEPT)[2])
    return path


def _words(architecture: Architecture | VolumetricArchitecture, plan: Plan | None, card: Card) -> dict[str, Any]:
    """What the template fills in."""
    names = [plain(name) for name in plan.class_names[1:]] if plan else []
    targets = _listed(names) if names else f"{architecture.num_classes - 1} classes that are not recorded"
    dataset = plain(plan.dataset) if plan else ""
    modalities = [plain(name) for name in plan.modalities] if plan else []
    return {
        "header": yaml.safe_dump(_header(modalities) | card.header, sort_keys=False, allow_unicode=True),
        "title": f"{dataset}: segmentation of {targets}" if plan else "A 3D segmentation network",
        "summary": network_in_words(architecture),
        "folder": FOLDER,
        "outputs": _outputs(plan),
        "targets": targets,
        "inputs": f"{_listed(modalities)} of the dataset {dataset}" if plan else "its data are not recorded",
        "limits": card.limits,
        "sections": [*card.sections, *_preparation(plan)],
        "weights_license": card.weights_license,
        "mark": KEPT,
    }


def _header(modalities: Sequence[str]) -> dict[str, Any]:
    """The hub's fields that every card has; the hub's list of licenses has none for data and weights together."""
    return {
        "library_name": "inflate3d",
        "pipeline_tag": "image-segmentation",
        "license": "other",
        "license_name": "data-and-2d-weights",
        "license_link": CARD,
        "tags": ["medical-imaging", "3d", "segmentation", "inflate3d", *(name.lower() for name in modalities)],
    }


def network_in_words(architecture: Architecture | VolumetricArchitecture) -> str:
    """What the network is, in two or three sentences."""
    rows, columns = architecture.image_size
    made = f"Made by inflate3d {inflate3d.__version__}."
    if isinstance(architecture, VolumetricArchitecture):
        depth = architecture.patch_size[0]
        return f"{architecture.network}, a 3D network of MONAI's, on patches of {depth} × {rows} × {columns}. {made}"
    seen = f"windows of {architecture.depth} slices" if architecture.depth > 1 else "single slices"
    return (
        f"The 2D backbone `{architecture.encoder}`, its first convolution inflated to {seen} "
        f"({architecture.inflation}), with a decoder of the kind {architecture.decoder}, on images of "
        f"{rows} × {columns}; it predicts the center slice "
        f"([Zhang et al. 2022](https://proceedings.mlr.press/v193/zhang22a.html)). {made}"
    )


def _outputs(plan: Plan | None) -> list[Row]:
    if plan is None:
        return []
    return [("label value", "class"), *((str(value), name) for value, name in plan.classes.items())]


def _preparation(plan: Plan | None) -> list[Section]:
    if plan is None:
        return []
    size = "×".join(map(str, plan.image_size))
    told = {name: plan.reasons[name] for name in _OF_THE_SCANS if name in plan.reasons}
    if not told.get("image_size", "").startswith(f"{size}:"):  # the run's own choice
        told["image_size"] = size
    rows = [(name.replace("_", " "), told[name]) for name in _OF_THE_SCANS if name in told]
    return [Section("How scans are prepared", rows=[("choice", "what and why"), *rows])]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "none"


def plain(text: object) -> str:
    """Text of others that stands in Markdown as it is: one line, no tag, no end of a table's cell."""
    one_line = " ".join(str(text).split())
    return one_line.replace("\\", "\\\\").replace("<", "&lt;").replace("|", "\\|").replace("`", "\\`")


def _table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, a line each; nothing without any."""
    if not rows:
        return ""
    head, *others = ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *others]) + "\n"


def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=False,  # Markdown, whose cells `plain` escapes  # noqa: S701
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["tables"] = _table
    return environment
