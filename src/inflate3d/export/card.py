"""The card of an exported model: what the files are, and how another program uses them."""

from __future__ import annotations

import shutil
from pathlib import Path

from inflate3d.atomic import write_text
from inflate3d.export.description import ExportedModel
from inflate3d.models.card import CARD, network_in_words, plain, render_card

MODEL_CARD = "model-card.md"
"""The card that the model's own folder holds, beside ours."""


def write_card(folder: Path, exported: ExportedModel, source: Path) -> None:
    """Writes ``README.md`` and copies the model's own card, if there is one.

    Args:
        folder: The exported model's.
        exported: What is in it.
        source: The model's own folder.

    Raises:
        OutputError: It can't be written.
    """
    has_card = copy_model_card(source, folder)
    text = render_card(
        Path(__file__).parent,
        model=exported,
        summary=network_in_words(exported.architecture),
        modalities=", ".join(map(plain, exported.plan.modalities)),
        channels=[(plain(name), ", ".join(map(str, values))) for name, values in _channels(exported)],
        dataset=plain(exported.plan.dataset),
        card=MODEL_CARD if has_card else None,
    )
    write_text(folder / CARD, text)


def _channels(exported: ExportedModel) -> list[tuple[str, tuple[int, ...]]]:
    """Name and label values of each channel of the logits."""
    if regions := exported.plan.regions:
        return list(regions.values.items())
    return [(each.name, (each.value,)) for each in exported.classes]


def copy_model_card(source: Path, folder: Path) -> bool:
    """Copies the model's own card into the exported model's folder, if there is one; returns whether there is."""
    own = next((path for path in (source / CARD, source / "model" / CARD) if path.is_file()), None)
    if own is not None:
        shutil.copyfile(own, folder / MODEL_CARD)
    return own is not None
