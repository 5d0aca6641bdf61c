"""Segment scans with a trained model or an ensemble; each label map is on its scan's own grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.engine_options import EngineOptions
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.config import Precision, Runtime, Schedule
from inflate3d.errors import ConfigError, DatasetProblems, Inflate3dError, truncate
from inflate3d.settings import FrozenModel

if TYPE_CHECKING:
    from inflate3d.evaluation.calibration import Calibration
    from inflate3d.evaluation.postprocessing.steps import Postprocessing
    from inflate3d.inference.predictor import PredictorSettings
    from inflate3d.inference.scan_result import ScanResult
    from inflate3d.inference.uncertainty import Confidence


class PredictionOptions(FrozenModel):
    """How ``predict`` and ``evaluate`` predict."""

    tta: bool = False
    """Average over the flips that the plan allows (test-time augmentation): up to eight times the time."""
    slice_step: int = Field(default=1, ge=1)
    """Predict every n-th slice and interpolate the others."""
    schedule: Schedule = "full"
    """Predict all slices, or (adaptive) some first, then those between where a structure is near."""
    precision: Precision = "32"
    """Number format of the network: 32 is exact, mixed formats are faster if the device supports them."""
    runtime: Runtime = "torch"
    """Program that computes the network: torch; on a CPU also onnxruntime or openvino, which take half a minute to
    start; or auto, the fastest that is installed."""
    batch_size: int = Field(default=16, ge=1)
    """Maximum number of windows at a time; fewer if memory is short."""
    max_memory: Annotated[float | None, Field(gt=0)] = None
    """Memory in gigabytes for prediction, in addition to the weights and the scan. None: 1.5, or less if less is free;
    on a GPU, what is free there."""
    device: str | None = None
    """Device, such as cpu or cuda:1. None: the GPU if there is one."""

    def settings(self) -> PredictorSettings:
        """As keyword arguments of `Predictor`."""
        return {
            "device": self.device,
            "batch_size": self.batch_size,
            "memory": self.max_memory,
            "flips": self.tta,
            "slice_step": self.slice_step,
            "schedule": self.schedule,
            "precision": self.precision,
            "runtime": self.runtime,
        }


class Options(CommandOptions):
    """Options of ``predict``."""

    model: Positional[str]
    """A run's folder, a model folder, or a folder of these (folds), whose networks are averaged; or a model on the
    Hugging Face hub, hf://user/name@revision."""
    scans: Positional[str]
    """A scan (a file, a DICOM series' folder, or FOLDER/SERIES-UID), or a folder of scans, with its subfolders; a file
    or a folder of files may be at s3://, gs:// or https://, a series at dicomweb+https://HOST/PATH/studies/UID/series/UID."""
    out: Positional[str | None] = None
    """Folder for the label maps, which are named as the scans are, or the file of a single one; it may be at s3:// or
    gs://. For several scans, summary.json lists the result of each. Optional with --store."""
    store: bool = False
    """Store the DICOM object on the DICOMweb server that the series came from; a SEG by default (see --format)."""
    series: str | None = None
    """Which DICOM series below the folder to predict, by UID or description, such as "T1*"; one per study."""
    volume: Annotated[int | None, Field(ge=1)] = None
    """Which volume of a DICOM series that holds several, such as time points, echoes or b-values: 1 for the first."""
    ensemble: tuple[str, ...] = ()
    """More models to average with; encoders, depths and image sizes may differ."""
    prediction: PredictionOptions = PredictionOptions()
    no_postprocessing: bool = False
    """Do not apply the post-processing (depth filter included) that `inflate3d evaluate` chose for the model."""
    confidence: bool = False
    """Report a confidence score for each scan: how much the averaged networks agree, or the flips of a single one with
    --tta, or else the soft Dice of its own probabilities. If `inflate3d evaluate` has scored at least ten held-out
    cases of the model, also the expected Dice, with a lower bound that nine in ten scans reach."""
    uncertainty_maps: bool = False
    """Also write the uncertainty of each voxel: uncertainty/NAME.nii.gz in the output folder has the normalized entropy
    of the mean probabilities, from 0 to 1."""
    masks: bool = False
    """Also write a mask of each class or region: masks/NAME/CLASS.nii.gz in the output folder, 1 inside and 0
    outside."""
    skip_existing: bool = False
    """Skip scans that already have a newer label map, whichever model wrote it."""
    overwrite: bool = False
    """Replace files that inflate3d did not write, or that have changed since."""
    suffix: str | None = None
    """Format of the label maps, such as .nrrd; by default that of the scan, .nii.gz for DICOM and .hdr/.img."""
    format: Literal["dicom-seg", "dicom-labelmap", "dicom-rtstruct"] | None = None
    """Write DICOM objects that refer to the series: a segmentation (dicom-seg: one bit per voxel and class, which most
    programs read; dicom-labelmap: the newer type, one value per voxel), or a structure set (dicom-rtstruct)."""
    distributed: EngineOptions = EngineOptions()

    def label_suffix(self) -> str | None:
        """The suffix of the label maps, by either option."""
        if self.store and self.format is None and self.suffix is None:
            return ".seg.dcm"
        if self.format is None:
            return self.suffix
        if self.suffix is not None:
            raise ConfigError("--format and --suffix both name a format", got=f"{self.format} and {self.suffix}")
        return {"dicom-seg": ".seg.dcm", "dicom-labelmap": ".labelmap.dcm", "dicom-rtstruct": ".rtstruct.dcm"}[
            self.format
        ]


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.io.dicom.web import is_dicomweb

    if is_dicomweb(options.scans):
        return _run_on_server(options, terminal)
    if options.store:
        raise ConfigError(
            "--store needs a series on a DICOMweb server",
            expected="dicomweb+https://HOST/PATH/studies/UID/series/UID",
            got=options.scans,
        )
    if options.out is None:
        raise ConfigError("no place for the label maps", expected="a folder after the scans, or a file")
    return _run_on_files(options, options.scans, options.out, terminal)


def _run_on_server(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Fetches a series, predicts it, and stores the result if asked to; no copy of the series stays behind."""
    from tempfile import TemporaryDirectory

    from inflate3d.io.dicom.web import WebSeries
    from inflate3d.io.formats import dicom_suffix

    series = WebSeries.parse(options.scans)
    suffix = options.label_suffix()
    if options.store and not dicom_suffix(f"x{suffix}"):
        raise ConfigError("only DICOM objects can be stored", expected="--format dicom-seg", got=f"--suffix {suffix}")
    if options.out is None and not options.store:
        raise ConfigError("no place for the label map", expected="a folder after the series, or --store")
    if options.distributed.engine != "local":
        raise ConfigError(
            "a series on a DICOMweb server can only be predicted on this machine", expected="--engine local"
        )
    with TemporaryDirectory(prefix="inflate3d-") as own:
        scan = series.fetch(Path(own))
        terminal.log(f"fetched {len(list(scan.iterdir()))} images")
        document = _run_on_files(options, str(scan), options.out or str(Path(own, "out")), terminal)
        if not options.store:
            return document
        (file,) = document["written"] or [None]
        if file is None:
            raise ConfigError("nothing was predicted, so nothing is stored", hint="omit --skip-existing")
        uid = series.store(Path(file))
    terminal.print(f"stored {uid}")
    return {**document, "stored": uid, "written": document["written"] if options.out else []}


def _run_on_files(options: Options, scans: str, out: str, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.evaluation.calibration import find_calibration
    from inflate3d.evaluation.postprocessing.steps import read_postprocessing
    from inflate3d.inference.batch import PredictorRecipe
    from inflate3d.inference.scan_result import PredictionSummary
    from inflate3d.inference.scans import find_scans
    from inflate3d.models.hub import local_model

    shard = options.distributed.chosen_shard()
    local = options.distributed.engine == "local"
    settings = options.prediction.settings()
    model, *others = (local_model(each) for each in (options.model, *options.ensemble))
    recipe = PredictorRecipe.of(model, others, settings)
    on_cpu = PredictorRecipe.of(model, others, {**settings, "device": "cpu"})
    predictor = (recipe if local else on_cpu).load()  # with a cluster only its plan is needed here
    postprocessing = None
    if not options.no_postprocessing:
        plan = predictor.plan
        postprocessing = read_postprocessing((model, *others), plan.classes, plan.regions)
    if postprocessing and postprocessing.in_words() != "nothing":
        terminal.log(f"post-processing: {postprocessing.in_words()} (--no-postprocessing disables it)")
    found = find_scans(_absolute(scans, local), predictor.plan, series=options.series, volume=options.volume)
    several = len(found.cases) > 1
    if shard:
        found = replace(found, cases=shard.share(found.cases))
    summary = PredictionSummary(found.cases, out, shard) if several else None
    calibration = find_calibration(model) if options.confidence and not others else None
    with summary.kept() if summary else nullcontext():
        chosen = predictor if local else recipe
        return _predict(options, chosen, found, out, postprocessing, calibration, summary, terminal)


def _absolute(path: str, local: bool) -> str:
    """Other machines work in other folders, so they need absolute paths."""
    from inflate3d.distributed.remote import is_remote

    return path if local or is_remote(path) else str(Path(path).absolute())


def _predict(
    options: Options,
    predictor: Any,
    found: Any,
    out: str,
    postprocessing: Postprocessing | None,
    calibration: Calibration | None,
    summary: Any,
    terminal: Terminal,
) -> dict[str, Any]:
    from inflate3d.inference.batch import predict_files

    results: list[ScanResult] = []
    warnings: list[Inflate3dError] = list(found.warnings)

    def report(result: ScanResult) -> None:
        results.append(result)
        warnings.extend(result.warnings)
        if summary:
            summary.report(result)

    with options.distributed.open(gpus=options.prediction.device != "cpu") as engine:
        try:
            predict_files(
                predictor,
                found,
                _absolute(out, engine is None),
                suffix=options.label_suffix(),
                skip_existing=options.skip_existing,
                overwrite=options.overwrite,
                postprocessing=postprocessing,
                confidence=options.confidence,
                uncertainty_maps=options.uncertainty_maps,
                masks=options.masks,
                calibration=calibration,
                engine=engine,
                progress=terminal.progress,
                report=report,
            )
        except DatasetProblems as problems:
            problems.warnings.extend(warnings)
            _show(results, warnings, terminal)
            raise
    _show(results, warnings, terminal, files=options.out is not None)
    done = [result for result in results if result.state == "done"]
    return {
        "written": [result.file for result in done],
        "scans": [result.to_dict() for result in done],
        "postprocessing": postprocessing.model_dump(mode="json") if postprocessing else None,
        "skipped": [result.case for result in results if result.state == "skipped"],
        "warnings": [warning.to_dict() for warning in warnings],
    }


def _show(
    results: Sequence[ScanResult], warnings: Sequence[Inflate3dError], terminal: Terminal, *, files: bool = True
) -> None:
    show_warnings(list(warnings), terminal)
    if skipped := [result.case for result in results if result.state == "skipped"]:
        terminal.print(f"{len(skipped)} scan(s) skipped, whose label maps exist: {truncate(skipped)}")
    for result in results:
        if result.file and files:
            terminal.print(result.file)
    _show_confidence(results, terminal)


def _show_confidence(results: Sequence[ScanResult], terminal: Terminal) -> None:
    """Prints a row per scan, lowest confidence first."""
    from inflate3d.evaluation.calibration import LEVEL
    from inflate3d.inference.uncertainty import KINDS

    known = [result for result in results if result.confidence]
    known.sort(key=lambda each: _sortable(each.confidence))
    if not known:
        return
    calibrated = any(result.expected for result in known)
    rows = [_confidence_row(result, result.confidence, calibrated) for result in known if result.confidence]
    columns = ["scan", "confidence", "lowest class", "its confidence", *(["expected Dice"] if calibrated else [])]
    terminal.table("Confidence, lowest first", columns, rows)
    kinds = [KINDS[result.confidence.kind] for result in known if result.confidence]
    terminal.print(f"* {kinds[0]}, mean over the predicted classes; before label maps are post-processed")
    if calibrated:
        terminal.print(
            f"* expected Dice: mean over the predicted classes, with the bound that {LEVEL:.0%} of scans like the "
            "held-out ones reach"
        )


def _sortable(confidence: Confidence | None) -> float:
    return -1.0 if confidence is None or math.isnan(confidence.value) else confidence.value


def _confidence_row(result: ScanResult, found: Confidence, calibrated: bool) -> list[str]:
    from inflate3d.evaluation.calibration import MEAN
    from inflate3d.evaluation.tables import NOT_DEFINED, show

    least = found.least or "only background"
    expected = result.expected.get(MEAN)
    words = f"{show(expected.value, 2)}, at least {show(expected.low, 2)}" if expected else NOT_DEFINED
    row = [result.case, show(found.value), least, show(found.classes.get(least, math.nan))]
    return [*row, words] if calibrated else row
