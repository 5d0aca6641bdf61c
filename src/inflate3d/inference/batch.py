"""Predicts many scans into files, on this machine or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

from inflate3d.datasets.case import Case
from inflate3d.distributed.ray_cluster import Engine, LostError
from inflate3d.errors import DatasetProblems
from inflate3d.evaluation.calibration import Calibration
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.inference.manifest import record_written
from inflate3d.inference.pipeline import How, Pipeline
from inflate3d.inference.predictor import Predictor, PredictorSettings
from inflate3d.inference.scan_result import ScanResult
from inflate3d.inference.scans import FoundScans, find_scans
from inflate3d.inference.targets import Destination, Job, find_jobs
from inflate3d.progress import Progress, silent


@dataclass(frozen=True)
class PredictorRecipe:
    """How a worker process loads its predictor: the arguments of `Predictor.load`.

    Attributes:
        settings: Names and values of `PredictorSettings`.
    """

    folder: Path
    ensemble: tuple[Path, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, folder: Path, ensemble: Sequence[Path], settings: PredictorSettings) -> PredictorRecipe:
        """A recipe with absolute paths, because other machines work in other folders."""
        return cls(folder.absolute(), tuple(each.absolute() for each in ensemble), tuple(sorted(settings.items())))

    def load(self) -> Predictor:
        return Predictor.load(self.folder, ensemble=self.ensemble, **cast(PredictorSettings, dict(self.settings)))


def predict_files(
    predictor: Predictor | PredictorRecipe,
    scans: str | Path | Sequence[Case] | FoundScans,
    out: str | Path,
    *,
    suffix: str | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    postprocessing: Postprocessing | None = None,
    confidence: bool = False,
    uncertainty_maps: bool = False,
    masks: bool = False,
    calibration: Calibration | None = None,
    engine: Engine | None = None,
    progress: Progress = silent,
    report: Callable[[ScanResult], object] = lambda result: None,
) -> list[ScanResult]:
    """Segments scans and writes their label maps under the scans' names.

    A scan that fails does not stop the others. While one is predicted, the next one is read and the previous one is
    written; at most these three are in memory. Ctrl-C only waits for the label map that is being written.

    Args:
        predictor: The model; with an engine, how to load it.
        scans: A scan or a folder of scans, see `inflate3d.inference.scans.find_scans`; or its result.
        out: Folder for the label maps, or the file for a single one (``seg.nii.gz``); may be at s3:// or gs://.
        suffix: Format of the label maps, such as ``.nrrd``; by default the scan's, NIfTI for DICOM.
        skip_existing: Whether to skip scans whose label map exists and is newer, whichever model made it.
        overwrite: Whether to replace files that inflate3d did not write.
        postprocessing: Applied to each prediction before it is written.
        confidence: Whether to report the confidence of each label map.
        uncertainty_maps: Whether to also write each voxel's uncertainty to ``uncertainty/NAME.nii.gz``: the normalized
            entropy of the mean probabilities, from 0 to 1.
        masks: Whether to also write a mask of each class or region, ``masks/NAME/CLASS.nii.gz``: 1 inside, 0 outside.
        calibration: Of the model, to also report the expected Dice of each label map.
        engine: Runs the work on other machines (`inflate3d.distributed`), which must see the same paths. Each process
            loads the model once. If one dies, its scan is restarted elsewhere unless its label map has been written.
        progress: Shows the progress.
        report: Called with each result, in the order of the scans.

    Returns:
        The results, in the order of the scans.

    Raises:
        DataError: The only scan can't be read or does not fit the model, or the format can't express its geometry.
        DatasetProblems: The same for some of several scans; the label maps of all others are written.
        ConfigError: The format is not supported, the memory budget is too small for the only scan, or uncertainty maps
            are requested for a bucket.
        OutputError: A label map can't be written (no part of it is left), or would replace a file that inflate3d did
            not write.

    Examples:
        >>> import inflate3d as i3d
        >>> predictor = i3d.Predictor.load("runs/Liver", device="cpu")
        >>> [result.case for result in predict_files(predictor, "folder_of_scans", "labels")]
        ['a', 'b']
    """
    if isinstance(scans, str | Path):
        scans = find_scans(scans, _loaded(predictor).plan)
    found = scans if isinstance(scans, FoundScans) else FoundScans(list(scans))
    destination = Destination.of(out, found.cases, suffix)
    how = How(postprocessing or Postprocessing(), confidence or uncertainty_maps, uncertainty_maps, calibration)
    jobs = find_jobs(
        found,
        destination,
        skip_existing=skip_existing,
        overwrite=overwrite,
        uncertainty_maps=uncertainty_maps,
        masks=tuple(_loaded(predictor).plan.targets) if masks else (),
    )
    results = {job.target: ScanResult(job.case.id, "skipped") for job in jobs}
    todo = [job for job in jobs if not job.is_done]
    for job in jobs:
        if job.is_done:
            report(results[job.target])
    if engine is None:
        outcomes = Pipeline(_loaded(predictor), how).run(todo, progress)
    else:
        outcomes = _map(predictor, how, engine, todo, progress)
    for job, result in outcomes:
        if result.state == "done" and destination.remote is None:
            record_written(*filter(None, (job.target, result.uncertainty, *job.mask_files.values())))
        results[job.target] = result
        report(result)
    _raise_problems(list(results.values()))
    return list(results.values())


def _raise_problems(results: Sequence[ScanResult]) -> None:
    """Raises the errors of all scans together, if there are any."""
    problems = [result.error for result in results if result.error]
    if len(results) == 1 and problems:
        raise problems[0]
    if problems:
        what = f"{len(problems)} of {len(results)} scans could not be predicted"
        written = [Path(result.file) if "://" not in result.file else result.file for result in results if result.file]
        raise DatasetProblems(problems, what=what, written=written)


def _map(
    predictor: Predictor | PredictorRecipe, how: How, engine: Engine, jobs: list[Job], progress: Progress
) -> Iterator[tuple[Job, ScanResult]]:
    """Predicts scans on the machines of an engine with the same pipeline, one scan at a time."""
    results = engine(partial(_predict_job, predictor, how), jobs)
    for job, result in zip(jobs, progress(results, len(jobs), "predicting"), strict=True):
        if isinstance(result, LostError):
            result = ScanResult(job.case.id, "failed", error=result.with_context(case=job.case.id, file=job.address))
        yield job, result


def _predict_job(predictor: Predictor | PredictorRecipe, how: How, job: Job) -> ScanResult:
    """Predicts one scan, in any worker process."""
    if job.changed() != job.before:  # by a process that died before it could return
        return ScanResult(job.case.id, "done", job.target_address)
    (outcome,) = Pipeline(_loaded(predictor), how).run([job], silent)
    return outcome[1]


def _loaded(predictor: Predictor | PredictorRecipe) -> Predictor:
    return _load(predictor) if isinstance(predictor, PredictorRecipe) else predictor


@lru_cache(maxsize=1)
def _load(recipe: PredictorRecipe) -> Predictor:
    """Keeps the predictor in the memory of this process."""
    return recipe.load()
