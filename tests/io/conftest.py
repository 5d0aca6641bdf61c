"""DICOM series, written without this package's help."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

STORAGE_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
ORIGIN = (-30.0, -20.0, 12.5)
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

WriteSeries = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def write_series() -> WriteSeries:
    """Writes values ``(slices, rows, columns)`` as one DICOM file a slice."""
    return _write_series


def _write_series(
    folder: Path,
    values: np.ndarray,
    *,
    directions: Sequence[Sequence[float]] = AXIAL,
    spacing: tuple[float, float] = (0.7, 0.8),
    step: Sequence[float] | None = None,
    origin: Sequence[float] = ORIGIN,
    uid: str = "1.2.3.4",
    modality: str = "MR",
    names: Sequence[str] | None = None,
    rescale: Sequence[tuple[float, float]] | None = None,
    compressor: str | None = None,
    tags: dict[str, str] | None = None,
    tags_of: Callable[[int], dict[str, str]] = lambda index: {},
    inverted: bool = False,
) -> list[Path]:
    """Writes a series.

    Args:
        folder: Made if it isn't there.
        values: After slope and intercept.
        directions: Unit vectors along a row (to the next column) and along a column (to the next row), LPS+.
        spacing: Millimetres between columns, and between rows.
        step: From slice to slice; 2.5 mm along the normal if not given.
        origin: Position of the first slice.
        uid: Series Instance UID.
        modality: CT, MR or PT.
        names: Of the files; ``IM000.dcm`` and so on if not given.
        rescale: Slope and intercept of each slice; none if not given.
        compressor: Such as JPEG2000.
        tags: Of every slice.
        tags_of: More tags, by the slice's index.
        inverted: Whether the photometric interpretation is MONOCHROME1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.array(directions, float)
    normal = np.cross(row, column)
    between = 2.5 * normal if step is None else np.array(step)
    written = []
    for index, plane in enumerate(values):
        position = np.array(origin) + index * between
        image = SimpleITK.GetImageFromArray(plane[np.newaxis])
        image.SetSpacing([*spacing, 1.0])
        image.SetDirection(np.stack([row, column, normal], 1).ravel().tolist())
        image.SetOrigin(position.tolist())
        for tag, text in {
            "0008|0016": STORAGE_CLASSES[modality],
            "0008|0060": modality,
            "0008|103e": f"series {uid}",
            "0010|0020": "patient 7",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0013": str(len(values) - index),  # against the positions
            "0020|0032": "\\".join(f"{number:.10g}" for number in position),
            "0020|0037": "\\".join(f"{number:.10g}" for number in (*row, *column)),
            "0028|0030": f"{spacing[1]}\\{spacing[0]}",
            **(_rescale_tags(*rescale[index]) if rescale else {}),
            **(tags or {}),
            **tags_of(index),
        }.items():
            image.SetMetaData(tag, text)
        path = folder / (names[index] if names else f"IM{index:03d}.dcm")
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        if compressor:
            writer.UseCompressionOn()
            writer.SetCompressor(compressor)
        writer.SetFileName(str(path))
        writer.Execute(image)
        if inverted:
            path.write_bytes(path.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
        written.append(path)
    return written


def _rescale_tags(slope: float, intercept: float) -> dict[str, str]:
    stored = {"0028|0100": "16", "0028|0101": "16", "0028|0102": "15", "0028|0103": "1"}
    return {"0028|1053": f"{slope:g}", "0028|1052": f"{intercept:g}", **stored}
