"""Upload a run's model to the Hugging Face hub: weights, description and card, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal


class Options(CommandOptions):
    """Options of ``push``."""

    run: Positional[Path]
    """A run's folder, or a model folder; or a folder of them (folds), whose predictions are averaged."""
    name: Positional[str]
    """The model's name on the hub: user/name."""
    public: bool = False
    """Let everybody see the model; by default its repository is private."""
    license: str | None = None
    """License of the 2D weights, such as apache-2.0, if their origin does not state one; the model inherits it."""
    accept_license: bool = False
    """The license of the 2D weights has conditions; you have read it, and it lets you share the model."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.inference.ensemble import find_models
    from inflate3d.models.hub import push_model

    models = find_models(options.run)
    pushed, *others = push_model(
        options.run,
        options.name,
        folds=[] if models == [options.run] else models,
        public=options.public,
        license_name=options.license,
        accept_license=options.accept_license,
    )
    address = f"hf://{pushed.hub_id}@{pushed.revision}"
    terminal.print(f"{address}\n  predict with: inflate3d predict {address} SCAN OUT")
    document = {"address": address, **pushed.model_dump(mode="json")}
    return {**document, "folds": [each.sha256 for each in (pushed, *others)]} if others else document
