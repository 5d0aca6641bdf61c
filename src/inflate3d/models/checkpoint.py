"""Model folders: ``model.safetensors`` (weights) and ``model.json`` (everything else that prediction needs)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from inflate3d.atomic import atomic_path, write_text
from inflate3d.documents import DAMAGED_JSON, parse_json, read_text
from inflate3d.errors import ModelError
from inflate3d.models.architecture import Architecture, VolumetricArchitecture
from inflate3d.preparation.plan import Plan
from inflate3d.settings import FrozenModel, parse_settings
from inflate3d.version import __version__

MODEL_VERSION = 3


class _Description(FrozenModel):
    version: Literal[3] = MODEL_VERSION
    inflate3d: str
    architecture: Architecture | VolumetricArchitecture
    plan: Plan | None


@dataclass(frozen=True)
class ModelFolder:
    """The contents of a model folder."""

    architecture: Architecture | VolumetricArchitecture
    plan: Plan | None
    tensors: dict[str, Tensor]
    weights: Path


def write_model_folder(
    folder: Path,
    architecture: Architecture | VolumetricArchitecture,
    plan: Plan | None,
    tensors: Mapping[str, Tensor],
) -> None:
    """Writes a model folder, each file atomically, the description last."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(folder / "model.safetensors", refusals=(SafetensorError,)) as temporary:
        save_file(plain, temporary)
    write_description(folder, architecture, plan)


def write_description(folder: Path, architecture: Architecture | VolumetricArchitecture, plan: Plan | None) -> None:
    """Writes the architecture and the plan of a model, without its weights."""
    description = _Description(inflate3d=__version__, architecture=architecture, plan=plan)
    write_text(folder / "model.json", description.model_dump_json(indent=2) + "\n")


def find_model_folder(path: Path) -> Path | None:
    """The model folder at a path, or the one in the run's folder there; None if there is none."""
    return next((folder for folder in (path, path / "model") if (folder / "model.json").is_file()), None)


def read_model_folder(folder: Path) -> ModelFolder:
    """Reads a model folder, or the one in a run's folder."""
    from safetensors import SafetensorError

    from inflate3d.models.torch_file import DAMAGED, load_safetensors

    if folder.is_file():
        raise ModelError(
            "a file was given instead of a model folder",
            expected="a run's folder, or a folder with model.json and model.safetensors",
            hint="a training checkpoint belongs to a run: give the run's folder",
            file=folder,
        )
    folder = find_model_folder(folder) or folder
    architecture, plan = read_description(folder)
    weights = folder / "model.safetensors"
    try:
        tensors = load_safetensors(weights)
    except (*DAMAGED, SafetensorError) as error:
        raise ModelError("weights can't be read", file=weights, got=error) from error
    return ModelFolder(architecture, plan, tensors, weights)


def read_description(folder: Path) -> tuple[Architecture | VolumetricArchitecture, Plan | None]:
    """Reads the architecture and the plan of a model folder, without its weights."""
    description = parse_settings(_Description, _read_description(folder), file=folder / "model.json")
    return description.architecture, description.plan


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    try:
        values = parse_json(read_text(path))
    except FileNotFoundError as error:
        raise ModelError(
            "no model here",
            expected="model.json and model.safetensors, or a run's folder with model/ in it",
            file=folder,
        ) from error
    except (OSError, *DAMAGED_JSON) as error:
        raise ModelError("model description can't be read", file=path, got=error) from error
    if isinstance(values, dict) and "format" in values and "check" in values:
        raise ModelError(
            "an exported model is for other programs",
            expected="a run's folder, or a model folder",
            hint="give the run that it was exported from, with --runtime onnxruntime or openvino",
            file=path,
        )
    version = values.get("version") if isinstance(values, dict) else None
    if version != MODEL_VERSION:
        written_by = values.get("inflate3d", "unknown") if isinstance(values, dict) else "unknown"
        raise ModelError(
            "model was written by another version of inflate3d",
            expected=f"model version {MODEL_VERSION}",
            got=f"model version {version}, written by inflate3d {written_by}",
            hint=f"install inflate3d {written_by}, or train again",
            file=path,
        )
    return values
