"""Lightning checkpoints of any age as plain values: nothing in them is run, and no class of theirs is needed."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from inflate3d.errors import ModelError
from inflate3d.models.torch_file import DAMAGED, load_plain

_KNOWN_MODULES = (
    "pytorch_lightning.", "lightning.", "lightning_fabric.", "torchmetrics.", "argparse.", "pathlib.", "omegaconf.",
)  # fmt: skip
"""Where the classes are from that Lightning's own records name: callbacks, settings, paths."""


@dataclass(frozen=True)
class LightningFile:
    """What is of use in a checkpoint.

    Attributes:
        path: The file.
        tensors: The weights, by the names of the module that was trained.
        settings: Its hyper-parameters; empty where none were saved.
    """

    path: Path
    tensors: dict[str, Tensor]
    settings: dict[str, Any]


class _Blank:
    """Stands for every class that a checkpoint names: what would be one of its objects is a plain dictionary."""

    def __new__(cls, *parts: Any, **named: Any) -> OrderedDict[str, Any]:  # type: ignore[misc]
        return OrderedDict()


def read_lightning_file(path: Path) -> LightningFile:
    """Reads a checkpoint of Lightning's by torch's safe loader, with blanks in place of the classes that it names.

    Raises:
        ModelError: There is no such file, it is no checkpoint of Lightning's, or it names code that has no place in
            one.
    """
    checkpoint = _load(path)
    tensors = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        keys = ", ".join(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ModelError(
            "this is no Lightning checkpoint", expected="tensors under `state_dict`", got=keys[:80], file=path
        )
    settings = checkpoint.get("hyper_parameters")
    return LightningFile(path, dict(tensors), dict(settings) if isinstance(settings, dict) else {})


def _load(path: Path) -> Any:
    try:
        named = get_unsafe_globals_in_checkpoint(path)
        strange = [name for name in named if not name.startswith(_KNOWN_MODULES)]
        if strange:
            raise ModelError(
                "checkpoint is refused",
                expected="weights, and records of Lightning's own",
                got=f"a pickle that names {strange[0]}",
                hint="where you trust it, load it and save its `state_dict` and `hyper_parameters` alone",
                file=path,
            )
        with safe_globals([(_Blank, name) for name in named]):
            return load_plain(path)
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError("there is no such checkpoint", file=path) from error
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise ModelError("checkpoint can't be read", expected="a torch file", got=error, file=path) from error
