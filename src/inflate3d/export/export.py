"""Exporting a trained model into a folder: the network's file, its description and its card."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inflate3d.datasets.writing import check_empty
from inflate3d.errors import ConfigError, ModelError, OutputError
from inflate3d.evaluation.postprocessing.steps import read_postprocessing
from inflate3d.export.card import write_card
from inflate3d.export.description import FILES, Check, ExportedModel, Format
from inflate3d.export.files import PACKAGES, write_network
from inflate3d.export.int8 import quantize
from inflate3d.export.runtimes import TOLERANCE, OpenVino, check_equal, largest_difference, require_packages
from inflate3d.inference.ensemble import find_models
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import RunFolder

HALF_TOLERANCE = 0.02
"""The same as `TOLERANCE` for weights in 16 bits, which have 11 significant ones."""

_PROGRAMS: dict[Format, str] = {"onnx": "onnxruntime", "openvino": "OpenVINO", "torch-export": "torch"}


def export_model(
    source: Path,
    out: Path,
    *,
    format: Format = "onnx",  # noqa: A002 - the option's name
    half: bool = False,
    int8: bool = False,
    progress: Progress = silent,
) -> ExportedModel:
    """Exports a trained model for programs without inflate3d.

    The folder gets the network's file, ``model.json`` (see `ExportedModel`) and ``README.md``. The file is opened by
    the program that it is for, and its logits are compared with torch's, before anything is in the folder.

    Args:
        source: A run's folder, or a model folder.
        out: The new folder; it must be empty or not exist.
        format: ``"onnx"``, ``"openvino"`` or ``"torch-export"``.
        half: Whether to keep the weights in 16 bits, in half the space; the arithmetic stays in 32.
        int8: Whether to calculate in 8 bits, see `inflate3d.export.int8`; of a run, in OpenVINO's format.
        progress: Shows the progress.

    Raises:
        ModelError: There is no model, it is a 3D network, it can't be exported, the file gives other logits, or 8 bits
            cost too much Dice.
        ConfigError: A package is not installed, the folder holds several models, or options contradict each other.
        DataError: The run's store can't be read, which 8 bits are calibrated by.
        OutputError: The folder is not empty, or can't be written.

    Example:
        >>> exported = export_model(Path("runs/Liver"), Path("exported"), format="torch-export")
        >>> exported.file, exported.input.shape
        ('model.pt2', (None, 1, 3, 64, 64))
    """
    require_packages(*PACKAGES[format], asked=f"--format {format}")
    if int8:
        _check_int8(source, format, half=half)
    check_empty(out)
    model, folder = _load(source)
    assert model.plan is not None
    with _whole_folder(out) as temporary:
        scored = None
        if int8:
            scored = quantize(model, RunFolder(source), temporary / FILES[format], progress=progress)
            difference = largest_difference(model, OpenVino(temporary / FILES[format]))
        else:
            difference = largest_difference(model, write_network(model, temporary, format, half=half))
            check_equal(difference, HALF_TOLERANCE if half else TOLERANCE, _PROGRAMS[format])
        exported = ExportedModel.of(
            model.architecture,
            model.plan,
            format=format,
            weights="int8" if int8 else "float16" if half else "float32",
            postprocessing=read_postprocessing((source,), model.plan.classes, model.plan.regions),
            check=Check(program=_PROGRAMS[format], largest_difference=difference),
            int8=scored,
        )
        exported.write(temporary)
        write_card(temporary, exported, folder)
    return exported


def _check_int8(source: Path, format: Format, *, half: bool) -> None:  # noqa: A002
    if format != "openvino" or half:
        raise ConfigError(
            "8 bits are written in OpenVINO's format",
            expected="--format openvino, without --half",
            got=f"--format {format}" + " --half" * half,
        )
    require_packages("nncf", asked="--int8")
    if not RunFolder(source).config.exists():
        raise ConfigError(
            "8 bits are calibrated by a run's training cases",
            expected="a run's folder",
            got="a model folder",
            file=source,
        )


def _load(source: Path) -> tuple[Segmenter, Path]:
    """The model in a folder, and where it is."""
    folder, *others = find_models(source)
    if others:
        raise ConfigError(
            "the folder holds several models",
            expected="one",
            got=len(others) + 1,
            hint="export each by itself; the other program averages their logits",
            file=source,
        )
    model = load_model(folder)
    if not isinstance(model, Segmenter) or model.architecture.depth_mixing != "none":
        raise ModelError(
            "this kind of network can't be exported",
            expected="an inflated network without depth mixing",
            got="depth mixing" if isinstance(model, Segmenter) else model.architecture.network,
            file=folder,
        )
    if model.plan is None:
        raise ModelError("model has no plan", hint="train it with inflate3d, or set model.plan", file=folder)
    if model.plan.regions:
        raise ModelError(
            "a model of regions can't be exported",
            expected="a model of exclusive classes, whose largest logit is the class",
            got=f"the regions {', '.join(model.plan.regions.names)}",
            hint="predict with inflate3d",
            file=folder,
        )
    return model, folder


@contextmanager
def _whole_folder(final: Path) -> Iterator[Path]:
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
