"""Where an exported model is read from, and the folder that it is written to."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inflate3d.errors import ConfigError, ModelError, OutputError
from inflate3d.inference.ensemble import find_models
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan


def load_single(source: Path) -> tuple[Segmenter | VolumetricSegmenter, Plan, Path]:
    """The only model in a folder, its plan, and where it is.

    Raises:
        ConfigError: There are several.
        ModelError: There is none, it can't be loaded, or it has no plan.
    """
    folder, *others = find_models(source)
    if others:
        raise ConfigError(
            "the folder holds several models",
            expected="one",
            got=len(others) + 1,
            hint="export each by itself, and average their logits",
            file=source,
        )
    model = load_model(folder)
    if model.plan is None:
        raise ModelError("model has no plan", hint="train it with inflate3d, or set model.plan", file=folder)
    return model, model.plan, folder


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Gives a temporary folder, which becomes ``final`` when the block ends well and is removed otherwise.

    Raises:
        OutputError: The system refuses to write.
    """
    temporary = final.with_name(f".{secrets.token_hex(4)}-{final.name}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if final.exists():  # and is empty
            final.rmdir()
        temporary.replace(final)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError("the folder can't be written", got=error.strerror or error, file=final) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
