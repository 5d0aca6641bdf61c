"""Reads files of 2D weights, local or timm's, as tensors by name; runs no code in them."""

from __future__ import annotations

import argparse
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from timm.models import clean_state_dict, load_state_dict_from_hf
from torch import Tensor
from torch.hub import load_state_dict_from_url

from inflate3d.errors import ModelError, truncate
from inflate3d.models.timm_backbones import published_settings
from inflate3d.models.torch_file import DAMAGED, is_safetensors, load_plain, load_safetensors

logger = logging.getLogger(__name__)

_NESTED_UNDER = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model", "model_state", "module", "teacher",
    "encoder",
)  # fmt: skip
"""Keys under which published checkpoints keep their tensors; averaged weights first, as in timm."""


def download_timm(name: str) -> tuple[str, dict[str, Tensor]]:
    """The weights that timm publishes for a backbone, from its cache or its hub, and their source."""
    published = published_settings(name)
    hub_id, url = published.hf_hub_id, published.url
    if not (hub_id or url):
        raise ModelError(f"timm publishes no weights of {name}", hint="give a file, or none for random weights")
    source = f"hf-hub:{hub_id}" if hub_id else str(url)
    try:
        if hub_id:
            file = {"filename": published.hf_hub_filename} if published.hf_hub_filename else {}
            return source, _tensors(load_state_dict_from_hf(hub_id, weights_only=True, **file))
        return source, _tensors(load_state_dict_from_url(source, map_location="cpu", weights_only=True))
    except OSError as error:
        raise ModelError(
            f"weights of {name} can't be downloaded",
            expected=f"{source} in the cache, or a network that reaches it",
            got=f"{type(error).__name__}: {error}",
            hint="give a checkpoint file (`--weights FILE`) or use random weights (`--weights none`)",
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, in float32, unwrapped."""
    try:
        if is_safetensors(path) or path.suffix == ".safetensors":
            return _tensors(load_safetensors(path))
        # Plain flags are in many published files. That a file is a program is an error here, no warning.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TorchScript archive", category=UserWarning)
            return _tensors(load_plain(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        is_folder = isinstance(error, IsADirectoryError)
        raise ModelError(
            "the folder holds no trained model" if is_folder else "weight file not found",
            expected="a file, a run's folder, timm, none, or a name that `inflate3d weights` lists",
            file=path,
        ) from error
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> ModelError:
    expected = "a safetensors or torch file of nothing but tensors"
    if "TorchScript" in str(error):
        hint = "if you trust it, save `torch.jit.load(FILE).state_dict()` with `torch.save`"
        got = "a TorchScript program, as OpenAI publishes CLIP"
    elif isinstance(error, pickle.UnpicklingError) and "names" in str(error):
        hint = "if you trust it, load it and save its state dict with `safetensors.torch.save_file`"
        got = f"code: {error}"
    else:
        return ModelError("unreadable weight file", expected=expected, got=error, file=path)
    return ModelError("weight file refused", expected=expected, got=got, hint=hint, file=path)


def _tensors(checkpoint: object) -> dict[str, Tensor]:
    for key in _NESTED_UNDER:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            if others := [str(each) for each in checkpoint if each != key and _is_state(checkpoint[each])]:
                logger.info("2D weights: %s of the file, which also holds %s", key, truncate(others))
            checkpoint = checkpoint[key]
            break
    if (
        isinstance(checkpoint, Mapping)
        and len(within := [key for key in checkpoint if _is_state(checkpoint[key])]) == 1
    ):
        checkpoint = checkpoint[within[0]]
    if not isinstance(checkpoint, Mapping):
        raise RuntimeError(f"it holds a {type(checkpoint).__name__}, not tensors by name")
    named = clean_state_dict({name: value for name, value in checkpoint.items() if isinstance(value, Tensor)})
    if not named:
        raise RuntimeError(f"it holds no tensors by name, but {truncate(list(map(str, checkpoint))) or 'nothing'}")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in named.items()}


def _is_state(value: object) -> bool:
    """Whether a part of a checkpoint is a network's tensors by name."""
    return isinstance(value, Mapping) and any(isinstance(each, Tensor) for each in value.values())
