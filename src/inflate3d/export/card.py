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
    own = next((path for path in (source / CARD, source / "model" / CARD) if path.is_file()), None)
    if own is not None:
        shutil.copyfile(own, folder / MODEL_CARD)
    text = render_card(
        Path(__file__).parent,
        model=exported,
        summary=network_in_words(exported.architecture),
        modalities=", ".join(map(plain, exported.plan.modalities)),
        classes=[(each.value, plain(each.name)) for each in exported.classes],
        dataset=plain(exported.plan.dataset),
        card=MODEL_CARD if own is not None else None,
    )
    write_text(folder / CARD, text)
