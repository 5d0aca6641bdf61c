"""Exporting a trained model into a folder: the network's file, its description and its card."""

from __future__ import annotations

from pathlib import Path

from inflate3d.atomic import atomic_folder
from inflate3d.datasets.writing import check_empty
from inflate3d.errors import ConfigError, ModelError
from inflate3d.evaluation.postprocessing.steps import read_postprocessing
from inflate3d.export.card import write_card
from inflate3d.export.description import FILES, Check, ExportedModel, Format
from inflate3d.export.files import PACKAGES, write_network
from inflate3d.export.int8 import quantize
from inflate3d.export.network import load_single
from inflate3d.export.runtimes import TOLERANCE, OpenVino, check_equal, largest_difference, require_packages
from inflate3d.models.segmenter import Segmenter
from inflate3d.preparation.plan import Plan
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

    Examples:
        >>> exported = export_model(Path("runs/Liver"), Path("exported"), format="torch-export")
        >>> exported.file, exported.input.shape
        ('model.pt2', (None, 1, 3, 64, 64))
    """
    require_packages(*PACKAGES[format], asked=f"--format {format}")
    if int8:
        _check_int8(source, format, half=half)
    check_empty(out)
    model, plan, folder = _load(source)
    with atomic_folder(out) as temporary:
        scored = None
        if int8:
            scored = quantize(model, RunFolder(source), temporary / FILES[format], progress=progress)
            difference = largest_difference(model, OpenVino(temporary / FILES[format]))
        else:
            difference = largest_difference(model, write_network(model, temporary, format, half=half))
            check_equal(difference, HALF_TOLERANCE if half else TOLERANCE, _PROGRAMS[format])
        exported = ExportedModel.of(
            model.architecture,
            plan,
            format=format,
            weights="int8" if int8 else "float16" if half else "float32",
            postprocessing=read_postprocessing((source,), plan.classes, plan.regions),
            check=Check(program=_PROGRAMS[format], largest_difference=difference),
            int8=scored,
        )
        exported.write(temporary)
        write_card(temporary, exported, folder)
    return exported


def _check_int8(source: Path, format: Format, *, half: bool) -> None:  # noqa: A002
    if format != "openvino" or half:
        raise ConfigError(
            "8-bit models are written in OpenVINO's format only",
            expected="--format openvino, without --half",
            got=f"--format {format}" + " --half" * half,
        )
    require_packages("nncf", asked="--int8")
    if not RunFolder(source).config.exists():
        raise ConfigError(
            "8-bit export is calibrated on a run's training cases",
            expected="a run's folder",
            got="a model folder",
            file=source,
        )


def _load(source: Path) -> tuple[Segmenter, Plan, Path]:
    """The model in a folder, its plan, and where it is."""
    model, plan, folder = load_single(source)
    if not isinstance(model, Segmenter):
        raise ModelError(
            "a 3D network can't be exported in this format",
            expected="an inflated network",
            got=model.architecture.network,
            hint="--format bundle supports any network",
            file=folder,
        )
    return model, plan, folder
