"""Files of 2D weights, local or timm's, as tensors by name; nothing in them is run."""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from timm.models import clean_state_dict, load_state_dict_from_hf
from torch import Tensor
from torch.hub import load_state_dict_from_url

from inflate3d.errors import ModelError
from inflate3d.models.timm_backbones import published_settings
from inflate3d.models.torch_file import DAMAGED, load_plain, load_safetensors

_NESTED_UNDER = (
    "state_dict_ema", "model_ema", "state_dict", "model", "model_state", "module", "teacher", "encoder"
)  # fmt: skip
"""Where published checkpoints keep their tensors; averaged weights before the last step's, as timm does."""


def download_timm(name: str) -> tuple[str, dict[str, Tensor]]:
    """The weights that timm publishes of a backbone, from its cache or its hub, and where they are.

    Raises:
        ModelError: timm publishes none, or they can't be fetched.
    """
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
            f"weights of {name} are not on this machine and can't be fetched",
            expected=f"{source} in the cache, or a network that reaches it",
            got=f"{type(error).__name__}: {error}",
            hint="give a checkpoint file (`--weights FILE`) or take random weights (`--weights none`)",
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or torch file, in float32, out of what they are nested in.

    Raises:
        ModelError: There is no such file, it is damaged, it holds no tensors, or reading it would run code.
    """
    try:
        if path.suffix == ".safetensors":
            return _tensors(load_safetensors(path))
        # Plain flags are in many published files. That a file is a program is an error here, no warning.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TorchScript archive", category=UserWarning)
            return _tensors(load_plain(path))
    except FileNotFoundError as error:
        raise ModelError(
            "there is no such weight file",
            expected="a path, timm, none, or a name that `inflate3d weights` lists",
            file=path,
        ) from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            "weight file is refused",
            expected="a .safetensors or torch file of tensors alone",
            got="no torch file, or a pickle that would run code as it is read",
            hint="where you trust it, load it and save its state dict with `safetensors.torch.save_file`",
            file=path,
        ) from error
    except (*DAMAGED, SafetensorError) as error:
        if "TorchScript" in str(error):
            raise ModelError(
                "weight file is refused",
                expected="a .safetensors or torch file of tensors alone",
                got="a TorchScript program, as OpenAI publishes CLIP",
                hint="where you trust it, save `torch.jit.load(FILE).state_dict()` with `torch.save`",
                file=path,
            ) from error
        raise ModelError("weight file can't be read", got=error, file=path) from error


def _tensors(checkpoint: object) -> dict[str, Tensor]:
    for key in _NESTED_UNDER:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping):
        raise RuntimeError(f"it holds a {type(checkpoint).__name__}, not tensors by name")
    named = clean_state_dict({name: value for name, value in checkpoint.items() if isinstance(value, Tensor)})
    if not named:
        raise RuntimeError("it holds no tensors")
    return {
        name.removeprefix("backbone."): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in named.items()
    }
