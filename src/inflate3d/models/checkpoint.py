"""A model folder: ``model.safetensors`` (weights) and ``model.json`` (all else that prediction needs)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

import inflate3d
from inflate3d.config import FrozenModel, parse_settings
from inflate3d.errors import ModelError
from inflate3d.io.atomic import atomic_path, write_text
from inflate3d.models.segmenter import Architecture, Segmenter, rebuild
from inflate3d.preparation.plan import Plan

MODEL_VERSION = 1


class _Description(FrozenModel):
    version: Literal[1] = MODEL_VERSION
    inflate3d: str
    architecture: Architecture
    plan: Plan | None


def save_model(model: Segmenter, folder: Path) -> None:
    """Writes a model folder; each file whole or not at all, the description last.

    Raises:
        OutputError: A file can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / "model.safetensors", refusals=(SafetensorError,)) as temporary:
        save_file(tensors, temporary)
    description = _Description(inflate3d=inflate3d.__version__, architecture=model.architecture, plan=model.plan)
    write_text(folder / "model.json", description.model_dump_json(indent=2) + "\n")


def load_model(folder: str | Path) -> Segmenter:
    """Reads a model folder, ready to predict (in eval mode, on the CPU).

    Args:
        folder: A model folder, or a run's folder that holds one as ``model/``.

    Raises:
        ModelError: There is none, a file is damaged, or another version wrote it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / "model.json").exists() and (folder / "model" / "model.json").exists():
        folder = folder / "model"
    description = parse_settings(_Description, _read_description(folder), file=folder / "model.json")
    model = rebuild(description.architecture)
    weights = folder / "model.safetensors"
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ModelError("weights can't be read", file=weights, got=error) from error
    _fill(model, tensors, weights)
    model.plan = description.plan
    return model.eval()


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            "no model here",
            expected="model.json and model.safetensors, or a run's folder with model/ in it",
            file=folder,
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError("model description can't be read", file=path, got=error) from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != MODEL_VERSION:
        written_by = values.get("inflate3d", "unknown") if isinstance(values, dict) else "unknown"
        raise ModelError(
            "model was written by another version of inflate3d",
            expected=f"model version {MODEL_VERSION}",
            got=f"model version {version}, written by inflate3d {written_by}",
            remedy=f"install inflate3d {written_by}, or train again",
            file=path,
        )
    return values


def _fill(model: Segmenter, tensors: dict[str, torch.Tensor], file: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        differing = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise ModelError(
            "weights do not fit the model's description",
            expected=f"{differing[0]} {wanted.get(differing[0], 'absent')}",
            got=f"{found.get(differing[0], 'absent')}, and {len(differing) - 1} more differ",
            file=file,
        )
    model.load_state_dict(tensors)
