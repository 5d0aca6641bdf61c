"""Networks to predict with: where they are, whether each has a sound plan, and whether several match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inflate3d.errors import ModelError, truncate
from inflate3d.models.checkpoint import find_model_folder
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import RunFolder


def find_models(folder: Path) -> list[Path]:
    """The models in a folder.

    Args:
        folder: A run's folder, a model folder, or a folder of such folders (folds), sorted by name.
    """
    if folder.is_file():
        run = next((parent for parent in folder.parents if RunFolder(parent).config.exists()), None)
        raise ModelError(
            "not a model folder",
            expected="a run's folder, a model folder, or a folder of them",
            got="a file",
            hint=f"give the run's folder: {run}" if run else "give the folder of the run that wrote it",
            file=folder,
        )
    if find_model_folder(folder) or not folder.is_dir():
        return [folder]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    unfinished = [path for path in inside if RunFolder(path).config.exists() and not find_model_folder(path)]
    if unfinished:
        raise ModelError(
            "run is not finished, so it has no model",
            expected="finished runs in the folder",
            got=", ".join(path.name for path in unfinished),
            hint="finish it with `inflate3d train --resume`, or name the models one by one: "
            "predict MODEL ... --ensemble MODEL",
            file=folder,
        )
    return [path for path in inside if find_model_folder(path)] or [folder]  # reading it explains best what is missing


def check_agreement(plans: Sequence[Plan], folders: Sequence[Path] | None = None) -> None:
    """Checks that the logits of networks with these plans can be averaged.

    Encoders, image sizes, depths and pixel spacings may differ.
    """
    first = _agreed(plans[0])
    for number, plan in enumerate(plans[1:], start=1):
        for what, value in _agreed(plan).items():
            if value != first[what]:
                raise ModelError(
                    f"models can't be averaged: their {what} differ",
                    expected=first[what],
                    got=value,
                    hint="predict with one of them, or train them with the same plan",
                    file=folders[number] if folders else None,
                )


def _agreed(plan: Plan) -> dict[str, str]:
    """What has to be the same, in words."""
    spacing = "each scan's own" if plan.slice_spacing is None else f"{plan.slice_spacing} mm"
    return {
        "classes": ", ".join(f"{value} ({name})" for value, name in plan.classes.items()),
        "regions": ", ".join(f"{name} {list(held)}" for name, held in plan.targets.items())
        + (f", in the order {list(plan.regions.order)}" if plan.regions.order else "")
        if plan.regions
        else "none",
        "modalities": ", ".join(plan.modalities),
        "units": ", ".join(unit or "not known" for unit in plan.units) or "not known",
        "depth axes": plan.depth_axis,
        "slice spacings": spacing,
        "planes": plan.planes,
    }


def plan_of(model: Segmenter | VolumetricSegmenter) -> Plan:
    """The model's plan.

    Raises:
        ModelError: It has none, or one of another network.
    """
    if model.plan is None:
        raise ModelError("model has no plan", hint="train it with inflate3d, or set model.plan")
    plan, network = model.plan, model.architecture
    if plan.outputs != network.num_classes or min(plan.classes) < 0:
        got = plan.regions.values if plan.regions else plan.classes
        raise ModelError(
            "the plan's classes don't match the network's", expected=f"{network.num_classes} classes", got=got
        )
    if plan.regions and (wrong := plan.regions.mistake(plan.classes, plan.ignore)):
        raise ModelError("invalid regions in the model's plan", got=wrong)
    if not len(plan.modalities) == len(plan.normalization) == network.in_channels:
        raise ModelError(
            "the plan's modalities don't match the network's",
            expected=f"{network.in_channels} modalities, each with a normalization",
            got=f"{truncate(plan.modalities)}, with {len(plan.normalization)}",
        )
    return plan
