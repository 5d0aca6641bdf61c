"""Label maps to DICOM RT Structure Sets and back: closed planar contours on the slices of a series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from inflate3d.atomic import atomic_path
from inflate3d.errors import DataError, truncate
from inflate3d.grid import Grid
from inflate3d.io.damage import unreadable
from inflate3d.io.dicom.contours import fill_contours, trace_contours
from inflate3d.io.dicom.file import read_elements
from inflate3d.io.dicom.source import Source, quiet, read_source
from inflate3d.io.dicom.structures import StructureLabels
from inflate3d.io.segments import COLORS, Segments, Wanted, dicom_code
from inflate3d.io.voxels import as_label_dtype, find_values
from inflate3d.version import __version__

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")

_OFF_PLANE = 0.1
"""Distance of a contour from a slice, in slice steps, that rounding explains."""

_FARTHEST = 1e6
"""Voxels from the first one at which no point of a contour lies."""

_FROM_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_FROM_STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")


@dataclass(frozen=True)
class _Structure:
    """A structure's name, and its contours in LPS+ millimeters."""

    name: str
    contours: list[Float[np.ndarray, "_ 3"]]


def read_rtstruct(path: Path, on: Grid, *, values: Wanted = None, case: str | None = None) -> StructureLabels:
    """Rasterizes the structures of an RTSTRUCT on the grid of the series that they were drawn on.

    A voxel belongs to a structure if its center lies inside its contours, by the even-odd rule.

    Args:
        path: The file.
        on: The grid of the series, slices along its last axis.
        values: What each structure that is wanted stands for, by its plain name: a label value, or the values of a
            region that may overlap with others. None: all structures that have contours, numbered from 1 on in the
            order of the file.
        case: Id of the case, for error messages.

    Raises:
        DataError: The file is damaged, contours are not on the series' slices, or structures overlap that
                are no regions.
    """
    try:
        elements = _elements(path)
        structures, passed_over = _structures(elements)
        labels = StructureLabels.empty(on, [each.name for each in structures], values)
        for number, structure in enumerate(structures, start=1):
            if value := labels.values[number]:
                for index, mask in _masks(structure, on):
                    labels.add(np.s_[:, :, index], mask, value, f"slice {index + 1}")
    except DataError as error:
        raise error.with_context(case=case, file=path) from error
    notes = (f"contours that enclose nothing are skipped: {truncate(passed_over)}",) if passed_over else ()
    return labels.finished(_series(elements), notes)


def describe_rtstruct(path: Path) -> tuple[str, tuple[str, ...]]:
    """The UID of the series that structures were drawn on, and the names of those with contours.

    Raises:
        DataError: The file is damaged.
    """
    try:
        elements = _elements(path)
        return _series(elements), tuple(each.name for each in _structures(elements)[0])
    except DataError as error:
        raise error.with_context(file=path) from error


def _elements(path: Path) -> Dataset:
    try:
        elements, _ = read_elements(path)  # lengths and nesting
        if str(elements.get("Modality", "")) != "RTSTRUCT":
            raise ValueError(f"modality {elements.get('Modality') or 'none'}")
        return dcmread(path, force=True)
    except Exception as error:  # pydicom has many, see `read_elements`
        raise unreadable(path, None, expected="a DICOM RTSTRUCT", got=error) from error


def _series(elements: Dataset) -> str:
    """UID of the series that contours refer to; empty if they do not say."""
    for frame in elements.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                return str(series.get("SeriesInstanceUID", ""))
    return ""


def _structures(elements: Dataset) -> tuple[list[_Structure], list[str]]:
    """The structures that have closed contours, and the names of those that have others."""
    try:
        names = {
            int(item.ROINumber): str(item.get("ROIName", "")).strip() or f"ROI {item.ROINumber}"
            for item in elements.get("StructureSetROISequence") or []
        }
        found: list[_Structure] = []
        passed_over: list[str] = []
        for roi in elements.get("ROIContourSequence") or []:
            name = names.get(int(roi.ReferencedROINumber), f"ROI {roi.ReferencedROINumber}")
            items = list(roi.get("ContourSequence") or [])
            closed = [item for item in items if str(item.get("ContourGeometricType", "")) in _CLOSED]
            if closed:
                found.append(_Structure(name, [_points(item, name) for item in closed]))
            if len(closed) < len(items):
                passed_over.append(name)
    except DataError:
        raise
    except Exception as error:  # what pydicom raises for values of a wrong type
        raise DataError("the contours can't be read", expected="an RTSTRUCT's contours", got=error) from error
    return found, passed_over


def _points(item: Dataset, name: str) -> Float[np.ndarray, "_ 3"]:
    numbers = np.array([float(number) for number in item.get("ContourData") or []])
    if len(numbers) % 3 or not np.isfinite(numbers).all():
        raise DataError(
            "a contour is damaged",
            expected="three finite coordinates for each point",
            got=f"{len(numbers)} numbers in a contour of {name}",
            hint="export the structures again",
        )
    return numbers.reshape(-1, 3)


def _masks(structure: _Structure, grid: Grid) -> Iterator[tuple[int, Shaped[np.ndarray, "i j"]]]:
    """The mask of each slice on which a structure has contours."""
    slices: dict[int, list[Float[np.ndarray, "_ 2"]]] = {}
    to_index = np.linalg.inv(grid.affine)
    for points in structure.contours:
        if len(points) < 3:
            continue
        ras = points * (-1, -1, 1)
        indices = ras @ to_index[:3, :3].T + to_index[:3, 3]
        if not np.isfinite(indices).all() or np.abs(indices).max() > _FARTHEST:
            raise DataError(
                "a contour is damaged", expected="points near the scan", got=f"{points[0]} in {structure.name}"
            )
        index = round(float(indices[:, 2].mean()))
        nearest = min(max(index, 0), grid.shape[2] - 1)
        apart = float(np.abs(indices[:, 2] - nearest).max())
        if apart > _OFF_PLANE:
            raise DataError(
                "a contour does not lie on a slice of the series",
                expected=f"contours within {_OFF_PLANE} slice steps of one of {grid.shape[2]} slices",
                got=f"a contour of {structure.name} at {', '.join(f'{each:g}' for each in points[0])} mm, "
                f"{apart:.2g} slice steps away from slice {nearest + 1}",
                hint="give the series that the structures were drawn on, or export them on its slices",
            )
        slices.setdefault(index, []).append(indices[:, :2])
    for index, contours in sorted(slices.items()):
        yield index, fill_contours(contours, grid.shape[:2])


# --- writing ----------------------------------------------------------------------------------------------


def write_rtstruct(path: Path, labels: Shaped[np.ndarray, "i j k"], scan: Path, segments: Segments) -> None:
    """Writes a label map of a DICOM series as an RTSTRUCT, from which `read_rtstruct` gives the same labels.

    Args:
        path: The file to write, whole or not at all.
        labels: ``(columns, rows, slices)``, as `inflate3d.io.read_volume` gives the series.
        scan: The series.
        segments: What the values stand for.

    Raises:
        DataError: The labels do not fit the series, or the series can't be read.
        OutputError: The file can't be written.
    """
    source = read_source(scan)
    labels = as_label_dtype(labels, source.shape, path)
    with quiet():
        structures = _structure_set(source)
        for number, (name, held) in enumerate(segments.structures_in(labels), start=1):
            _add_structure(structures, number, name, segments, source)
            structures.ROIContourSequence[-1].ContourSequence = Items(_contours(find_values(labels, held), source))
            if not structures.ROIContourSequence[-1].ContourSequence:
                del structures.ROIContourSequence[-1].ContourSequence  # a sequence must not be empty
        with atomic_path(path) as temporary:
            structures.save_as(temporary, enforce_file_format=True)


def _structure_set(source: Source) -> Dataset:
    image, now = source.images[0], datetime.now().astimezone()
    result = Dataset()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = result.SOPClassUID = RTStructureSetStorage
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID = generate_uid()
    if image.get("SpecificCharacterSet"):
        result.SpecificCharacterSet = image.SpecificCharacterSet
    for keyword in (*_FROM_PATIENT, *_FROM_STUDY):
        setattr(result, keyword, image.get(keyword, ""))
    result.Modality, result.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    result.SeriesNumber, result.InstanceNumber = source.series_number(2), 1
    result.SeriesDescription = source.description("Structures")
    result.OperatorsName = ""
    result.Manufacturer = result.ManufacturerModelName = "inflate3d"
    result.SoftwareVersions = __version__
    result.FrameOfReferenceUID, result.PositionReferenceIndicator = image.FrameOfReferenceUID, ""
    result.StructureSetLabel = "inflate3d"
    result.StructureSetDate, result.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    result.ReferencedFrameOfReferenceSequence = Items([_reference(source)])
    result.StructureSetROISequence, result.ROIContourSequence = Items(), Items()
    result.RTROIObservationsSequence = Items()
    result.ApprovalStatus = "UNAPPROVED"
    return result


def _reference(source: Source) -> Dataset:
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.images[0].SeriesInstanceUID
    series.ContourImageSequence = Items([_image(source, index) for index in range(len(source.stack.slices))])
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # retired, but required
    study.ReferencedSOPInstanceUID = source.images[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = Items([series])
    frame.FrameOfReferenceUID = source.images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = Items([study])
    return frame


def _image(source: Source, index: int) -> Dataset:
    result = Dataset()
    result.ReferencedSOPClassUID, result.ReferencedSOPInstanceUID, frame = source.references[index]
    if frame is not None:
        result.ReferencedFrameNumber = frame
    return result


def _add_structure(structures: Dataset, number: int, name: str, segments: Segments, source: Source) -> None:
    roi, contours, observation, identity = Dataset(), Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = number, name[:64]
    roi.ROIGenerationAlgorithm = "AUTOMATIC" if segments.by_model else "MANUAL"
    roi.ReferencedFrameOfReferenceUID = source.images[0].FrameOfReferenceUID
    contours.ROIDisplayColor = [int(COLORS[(number - 1) % len(COLORS)][at : at + 2], 16) for at in (1, 3, 5)]
    contours.ReferencedROINumber = number
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
    kind = dicom_code(segments.code_of(name).type)
    identity.CodeValue, identity.CodingSchemeDesignator, identity.CodeMeaning = (
        kind.value,
        kind.scheme_designator,
        kind.meaning,
    )
    observation.RTROIIdentificationCodeSequence = Items([identity])
    structures.StructureSetROISequence.append(roi)
    structures.ROIContourSequence.append(contours)
    structures.RTROIObservationsSequence.append(observation)


def _contours(mask: Shaped[np.ndarray, "i j k"], source: Source) -> list[Dataset]:
    affine, found = source.stack.affine, []
    for index in np.flatnonzero(mask.any(axis=(0, 1))).tolist():
        for corners in trace_contours(mask[:, :, index]):
            places = np.column_stack([corners, np.full(len(corners), index)])
            points = (places @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1) + 0.0
            contour = Dataset()
            contour.ContourImageSequence = Items([_image(source, index)])
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{number:.6f}".rstrip("0").rstrip(".") for number in points.ravel()]
            found.append(contour)
    return found
