"""Label maps to DICOM Segmentation objects, by highdicom."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt
from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from inflate3d.atomic import atomic_path
from inflate3d.errors import DataError, truncate
from inflate3d.io.dicom.source import Source, quiet, read_source, require_highdicom
from inflate3d.io.segments import COLORS, Segments, dicom_code
from inflate3d.io.voxels import as_label_dtype, find_values
from inflate3d.version import __version__

logger = logging.getLogger(__name__)

_MANUFACTURER = "inflate3d"
_LARGEST_LABELMAP = 2**16 - 1


def write_seg(
    path: Path, labels: Shaped[np.ndarray, "i j k"], scan: Path, segments: Segments, *, labelmap: bool
) -> None:
    """Writes a label map of a DICOM series as a SEG object that refers to it; whole or not at all.

    Args:
        path: The file to write.
        labels: ``(columns, rows, slices)``, as `inflate3d.io.read_volume` gives the series.
        scan: The series.
        segments: What the values stand for.
        labelmap: Whether to write the newer type LABELMAP, which stores a value for each voxel, and whose segment
            numbers are the label values. Otherwise BINARY: a bit for each voxel and class or region, numbered from 1
            on.

    Raises:
        DataError: The labels do not fit the series, the series can't be read, or a LABELMAP is wanted of regions.
        ConfigError: highdicom is not installed.
        OutputError: The file can't be written.
    """
    require_highdicom()
    source = read_source(scan)
    labels = as_label_dtype(labels, source.shape, path)
    structures = segments.structures_in(labels)
    values = sorted(value for _, held in structures for value in held)
    if not values or (labelmap and values[-1] > _LARGEST_LABELMAP):
        raise DataError(
            "the label map can't be a DICOM segmentation",
            expected=f"one class or more, with values up to {_LARGEST_LABELMAP}",
            got=truncate(list(map(str, values))) or "no class but the background",
            file=path,
        )
    if not labelmap and not segments.names and not segments.regions and values != list(range(1, len(values) + 1)):
        logger.warning(
            "%s: the label values %s become the segments 1 to %d; a LABELMAP (.labelmap.dcm) keeps them",
            path.name,
            truncate(list(map(str, values))),
            len(values),
        )
    with quiet():
        segmentation = _segmentation(labels.transpose(2, 1, 0), structures, source, segments, labelmap=labelmap)
        with atomic_path(path) as temporary:
            segmentation.save_as(temporary, enforce_file_format=True)


def _segmentation(
    frames: UInt[np.ndarray, "k j i"],
    structures: list[tuple[str, tuple[int, ...]]],
    source: Source,
    segments: Segments,
    *,
    labelmap: bool,
) -> Dataset:
    highdicom = require_highdicom()
    numbers = [held[0] if labelmap else number for number, (_, held) in enumerate(structures, start=1)]
    images, further = source.images, source.further
    if not frames.any() and not source.frames:  # a frame is needed, but not one for each class and slice
        images, further, frames = images[:1], images[1:], frames[:1]
    segmentation = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=_overlapping(frames, structures) if segments.regions else _exclusive(frames, structures, numbers),
        segmentation_type="LABELMAP" if labelmap else "BINARY",
        segment_descriptions=[
            _description(number, name, segments) for number, (name, _) in zip(numbers, structures, strict=True)
        ],
        series_instance_uid=generate_uid(),
        series_number=source.series_number(1),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_MANUFACTURER,
        manufacturer_model_name=_MANUFACTURER,
        software_versions=__version__,
        device_serial_number="1",
        content_label="SEGMENTATION",
        content_description=f"Segmentation by inflate3d {__version__}",
        further_source_images=further or None,
        series_description=source.description("Segmentation"),
    )
    if source.frames:
        _refer_to_frames(segmentation, source)
    return segmentation


def _exclusive(
    frames: UInt[np.ndarray, "k j i"], structures: list[tuple[str, tuple[int, ...]]], numbers: list[int]
) -> UInt[np.ndarray, "k j i"]:
    """The number of each voxel's segment."""
    values = [value for _, (value,) in structures]
    table = np.zeros(values[-1] + 1, np.min_scalar_type(max(numbers)))
    table[values] = numbers
    return table[frames]


def _overlapping(
    frames: UInt[np.ndarray, "k j i"], structures: list[tuple[str, tuple[int, ...]]]
) -> UInt[np.ndarray, "k j i segments"]:
    """Whether each voxel is in each segment."""
    return np.stack([find_values(frames, held) for _, held in structures], -1).astype(np.uint8)


def _description(number: int, structure: str, segments: Segments) -> Dataset:
    highdicom = require_highdicom()
    code, label = segments.code_of(structure), structure[:64]  # DICOM has no longer ones
    name = f"{_MANUFACTURER} {segments.dataset}".strip()[:64]
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=dicom_code(code.category),
        segmented_property_type=dicom_code(code.type),
        algorithm_type="AUTOMATIC" if segments.by_model else "MANUAL",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=name, version=__version__, family=codes.DCM.ArtificialIntelligence
        )
        if segments.by_model
        else None,
        tracking_uid=generate_uid(),
        tracking_id=label,
        display_color=highdicom.color.CIELabColor.from_string(COLORS[(number - 1) % len(COLORS)]),
    )
    if code.modifier:
        modifier = highdicom.sr.CodedConcept.from_code(dicom_code(code.modifier))
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = Items([modifier])
    return description


def _refer_to_frames(segmentation: Dataset, source: Source) -> None:
    """Lets each frame refer to its own in the files of the series, in place of its place in the merged object."""
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence", []):
            for image in derivation.SourceImageSequence:
                index = int(image.ReferencedFrameNumber) - 1
                image.ReferencedSOPInstanceUID, image.ReferencedFrameNumber = source.frames[index]
