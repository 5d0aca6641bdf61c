"""Segment scans with a trained model, or several; each label map lies on its scan's own grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.engine_options import EngineOptions
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.config import Precision
from inflate3d.errors import DataError, DatasetProblems, truncate

if TYPE_CHECKING:
    from inflate3d.datasets.case import Case
    from inflate3d.evaluation.postprocessing.steps import Postprocessing
    from inflate3d.inference.files import PredictedScan
    from inflate3d.inference.predictor import Predictor
    from inflate3d.inference.spread import PredictorRecipe
    from inflate3d.inference.summary import PredictionSummary
    from inflate3d.inference.transfer import Transfer


class Options(CommandOptions):
    """Options of ``predict``."""

    model: Positional[Path]
    """A run's folder, a model folder, or a folder of such (folds), whose networks are averaged."""
    scans: Positional[str]
    """A scan (a file, a DICOM series' folder, or FOLDER/SERIES-UID), or a folder of scans; a file or folder of files
    may lie at s3://, gs:// or https://."""
    out: Positional[str]
    """Folder for the label maps, which are named as the scans are; it may lie at s3:// or gs://. Beside those of
    several scans, summary.json tells what became of each."""
    also: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """More models to average with; encoders, depths and image sizes may differ."""
    tta: bool = False
    """Average over the mirror images that the plan allows: up to eight times the time."""
    no_postprocess: bool = False
    """Leave out the post-processing that `inflate3d evaluate` chose for the model, if it did."""
    every: int = Field(default=1, ge=1)
    """Predict every n-th slice, and interpolate those between."""
    precision: Precision = "32"
    """Number format of the network's arithmetic; mixed ones are faster where the device has them."""
    batch_size: int = Field(default=16, ge=1)
    """The most windows predicted at a time; fewer where memory demands it."""
    max_memory: Annotated[float | None, Field(gt=0)] = None
    """Gigabytes to predict with, above the weights and the scan: 1.5, or what is free, if not given; on a GPU what is
    free there."""
    uncertainty: bool = False
    """Tell how far each label map can be trusted: how much the averaged networks agree, or the mirror images of a
    single one with --tta, or else the soft Dice of its own probabilities."""
    uncertainty_maps: bool = False
    """Tell it for every voxel, too: uncertainty/NAME.nii.gz in the folder of the label maps has the entropy of the mean
    probabilities, from 0 to 1."""
    skip_existing: bool = False
    """Leave out scans whose label map is there and newer than they are, whichever model it is from."""
    suffix: str | None = None
    """Format of the label maps, such as .nrrd; that of the scan if not given, .nii.gz for DICOM."""
    device: str | None = None
    """Where to compute, such as cpu or cuda:1; the GPU if there is one, if not given."""
    spread: EngineOptions = EngineOptions()

    def postprocessing(self, classes: Mapping[int, str]) -> Postprocessing | None:
        """What goes with the models.

        Raises:
            ConfigError: It is for other classes, can't be read, or models come with different ones.
        """
        from inflate3d.evaluation.postprocessing.steps import read_postprocessing

        return None if self.no_postprocess else read_postprocessing((self.model, *self.also), classes)

    def recipe(self) -> PredictorRecipe:
        """How a process loads the networks."""
        from inflate3d.inference.spread import PredictorRecipe

        return PredictorRecipe(
            self.model.absolute(),  # other machines work in folders of their own
            also=tuple(model.absolute() for model in self.also),
            device=self.device,
            batch_size=self.batch_size,
            memory=self.max_memory,
            mirror=self.tta,
            every=self.every,
            precision=self.precision,
        )


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Predicts."""
    from inflate3d.inference.summary import PredictionSummary
    from inflate3d.inference.transfer import Transfer, open_labels, open_scans

    shard = options.spread.chosen_shard()
    spread = options.spread.engine != "local"
    recipe = options.recipe()
    predictor = (replace(recipe, device="cpu") if spread else recipe).load()  # then only its plan is asked for here
    postprocessing = options.postprocessing(predictor.plan.classes)
    if postprocessing and postprocessing.classes:
        terminal.log(f"post-processing: {postprocessing.in_words()} (--no-postprocess leaves it out)")
    warnings: list[DataError] = []
    with TemporaryDirectory(prefix="inflate3d-") as temporary:
        mirror = Path(temporary).resolve()
        found, come_from = open_scans(
            options.scans, predictor.plan, mirror / "scans", absolute=spread, warn=warnings.append
        )
        out, go_to = open_labels(options.out, mirror / "labels", absolute=spread)
        work = _Work(
            scans=shard.share(found) if shard else found,
            out=out,
            transfer=Transfer(come_from, go_to),
            postprocessing=postprocessing,
            warnings=warnings,
        )
        summary = PredictionSummary(work.scans, out, work.transfer, shard)
        with summary.kept() if len(found) > 1 else nullcontext():
            return _predict(options, predictor, work, summary, terminal)


@dataclass
class _Work:
    """What is to be predicted, and what has become of it."""

    scans: list[Case]
    out: Path
    transfer: Transfer
    postprocessing: Postprocessing | None
    warnings: list[DataError]
    predicted: list[PredictedScan] = field(default_factory=list)
    skipped: list[Case] = field(default_factory=list)


def _predict(
    options: Options, predictor: Predictor, work: _Work, summary: PredictionSummary, terminal: Terminal
) -> dict[str, Any]:
    from inflate3d.inference.files import predict_files
    from inflate3d.inference.spread import predict_spread

    def skip(scan: Case) -> None:
        work.skipped.append(scan)
        summary.skip(scan)

    def report(scan: PredictedScan) -> None:
        work.predicted.append(scan)
        summary.report(scan)

    with options.spread.open(gpus=options.device != "cpu") as engine:
        predict = partial(predict_spread, options.recipe(), engine) if engine else partial(predict_files, predictor)
        try:
            written = predict(
                work.scans,
                work.out,
                suffix=options.suffix,
                skip=skip if options.skip_existing else None,
                progress=terminal.progress,
                warn=work.warnings.append,
                report=report,
                fail=summary.fail,
                transfer=work.transfer,
                postprocessing=work.postprocessing,
                with_confidence=options.uncertainty,
                with_maps=options.uncertainty_maps,
            )
        except DatasetProblems as problems:
            problems.warnings.extend(work.warnings)
            problems.written = [work.transfer.address(file) for file in problems.written or []]
            _show(problems.written, work, terminal)
            raise
    addresses = [work.transfer.address(file) for file in written]
    _show(addresses, work, terminal)
    return {
        "written": addresses,
        "scans": [scan.to_dict() | {"file": work.transfer.address(scan.file)} for scan in work.predicted],
        "postprocessing": work.postprocessing.model_dump(mode="json") if work.postprocessing else None,
        "skipped": [scan.id for scan in work.skipped],
        "warnings": [warning.to_dict() for warning in work.warnings],
    }


def _show(written: Sequence[Path | str], work: _Work, terminal: Terminal) -> None:
    show_warnings(work.warnings, terminal)
    if work.skipped:
        names = truncate([scan.id for scan in work.skipped])
        terminal.print(f"{len(work.skipped)} scan(s) left out, whose label maps are there: {names}")
    for file in written:
        terminal.print(str(file))
    _show_confidence(work.predicted, terminal)


def _show_confidence(predicted: Sequence[PredictedScan], terminal: Terminal) -> None:
    """A row a scan, the one to look at first on top."""
    from inflate3d.evaluation.tables import show
    from inflate3d.inference.confidence import KINDS

    known = [(scan.case, scan.confidence) for scan in predicted if scan.confidence]
    if not known:
        return
    known.sort(key=lambda each: -1.0 if math.isnan(each[1].value) else each[1].value)
    rows = [
        [
            case,
            show(found.value),
            found.least or "nothing is predicted",
            show(found.classes.get(found.least or "", math.nan)),
        ]
        for case, found in known
    ]
    terminal.table("How far each can be trusted, the least first", ["scan", "confidence", "least of", "its own"], rows)
    terminal.print(f"* {KINDS[known[0][1].kind]}, mean over the predicted classes; before post-processing")
