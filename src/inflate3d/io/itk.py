"""NRRD and MetaImage files, through SimpleITK."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK
from jaxtyping import Float, Shaped

from inflate3d.atomic import atomic_path
from inflate3d.errors import DataError
from inflate3d.grid import check_affine, spacing_of
from inflate3d.io.damage import unreadable
from inflate3d.io.grid import FileGrid, affine_from_lps, lps_of
from inflate3d.io.itk_header import TextHeader, read_header
from inflate3d.io.simpleitk import pixel_type, reason_of
from inflate3d.io.voxels import as_label_dtype, as_storage_dtype, check_real, storage_dtype
from inflate3d.volume import Volume

_ENGINES = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}

_DATA_SUFFIXES = {".nhdr": ".raw.gz", ".mhd": ".zraw"}
"""SimpleITK's suffix of the data file beside a detached header."""

_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
}
"""NRRD spaces with anatomical directions, and the signs of their axes in LPS."""

_MILLIMETERS = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "???"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), 10.0),
    **dict.fromkeys(("m", "meter", "meters"), 1000.0),
    **dict.fromkeys(("um", "µm", "\u03bcm", "micron", "microns", "micrometer", "micrometers"), 0.001),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1e-6),
}
"""NRRD's space units in millimeters; no unit means millimeters."""

_NOT_MODALITIES = ("color", "complex", "quaternion", "matrix")
"""Words in NRRD's axis kinds that mean that an axis is not a list of values."""

_MOST_SHEAR = 1e-3
"""Largest cosine between two axes that still count as orthogonal; headers are rounded."""


def read(path: Path, *, case: str | None = None) -> Volume:
    """Reads a 3D or 4D NRRD or MetaImage.

    Args:
        path: The file; the header if the voxels are in another.

    Returns:
        The scan on its own grid; the components of vectors, or otherwise the fourth axis, are the modalities. Integers
        keep their type; all else is float32.
    """
    reader, header, affine = _open(path, case)
    try:
        voxels = SimpleITK.GetArrayFromImage(reader.Execute())  # axes from the slowest, components last
    except RuntimeError as error:
        raise unreadable(path, case, expected="a whole NRRD or MetaImage file", got=reason_of(error)) from error
    check_real(voxels.dtype, path, case)
    is_vector = reader.GetNumberOfComponents() > 1
    if voxels.ndim == 3:
        array = voxels.transpose(2, 1, 0)[np.newaxis]
    else:
        array = voxels.transpose(3, 2, 1, 0) if is_vector else voxels.transpose(0, 3, 2, 1)
    scale = header.intensity_scale
    if scale is not None:
        array = array.astype(np.float64) * scale[0] + scale[1]
    return Volume(as_storage_dtype(array), affine, _notes(header))


def read_grid(path: Path, *, case: str | None = None) -> FileGrid:
    """Reads shape, affine, type and number of modalities from the header alone, see `read`."""
    reader, header, affine = _open(path, case)
    i, j, k, *modalities = reader.GetSize()
    components = modalities[0] if modalities else reader.GetNumberOfComponents()
    dtype = pixel_type(reader)
    check_real(dtype, path, case)
    dtype = storage_dtype(dtype) if header.intensity_scale is None else np.dtype(np.float32)
    return FileGrid((i, j, k), affine, components, dtype)


def check_writable(path: Path, affine: Float[np.ndarray, "4 4"]) -> None:
    """Checks that a file can express where voxels lie.

    Args:
        affine: ``(4, 4)``, from voxel index to millimeters in RAS+.
    """
    direction = affine[:3, :3] / spacing_of(affine)
    if np.abs(direction.T @ direction - np.eye(3)).max() > _MOST_SHEAR:
        raise DataError(
            "the grid is sheared, which most programs can't read from this format",
            expected="voxel axes at right angles",
            got=f"the affine {affine.round(4).tolist()}",
            hint="write it as .nii.gz",
            file=path,
        )


def write(path: Path, volume: Volume) -> None:
    """Writes a volume; several modalities become a vector's components.

    Args:
        path: The file to write; for ``.nhdr`` and ``.mhd``, also a data file beside it.
        volume: Integers keep their type; all else becomes float32.
    """
    check_writable(path, volume.affine)
    axes, origin = lps_of(volume.affine)
    spacing = np.array(spacing_of(volume.affine))
    _save(as_storage_dtype(volume.array), path, axes, axes / spacing, spacing, origin)


def write_like(path: Path, labels: Shaped[np.ndarray, "..."], like: Path) -> None:
    """Writes a label map exactly where a scan lies: origin, spacing and direction are copied bit by bit.

    An NRRD label map of an NRRD scan has the scan's unit, so that programs that ignore units place both alike. Other
    formats use millimeters.

    Args:
        path: The file to write; for ``.nhdr`` and ``.mhd``, also a data file beside it.
        labels: ``(I, J, K)`` on the scan's own grid, not negative.
    """
    scan, header, affine = _open(like, None)
    labels = as_label_dtype(labels, tuple(scan.GetSize()[:3]), path)
    if header.is_nrrd and _is_nrrd(path):
        axes, origin = _place(scan, header, None)
        _save(labels[np.newaxis], path, axes, np.eye(3), np.ones(3), origin, units=_units(header))
        return
    axes, origin = lps_of(affine)
    direction, spacing = _direction(scan), np.array(scan.GetSpacing()[:3])
    if _unit_scale(header) not in ((1, 1, 1), None):
        spacing = np.array(spacing_of(affine))
        direction = axes / spacing
    _save(labels[np.newaxis], path, axes, direction, spacing, origin)


def _open(path: Path, case: str | None) -> tuple[SimpleITK.ImageFileReader, TextHeader, Float[np.ndarray, "4 4"]]:
    """A reader that has read a checked header, the header, and the affine in RAS+."""
    header = read_header(path, case)
    reader = _reader(header, case)
    _check_understood_alike(reader, header, case)
    _check_is_volume(reader, header, case)
    affine = _affine(reader, header, case)
    check_affine(affine)
    return reader, header, affine


def _reader(header: TextHeader, case: str | None) -> SimpleITK.ImageFileReader:
    """A reader that has read the header."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_ENGINES[header.path.suffix.lower()])
    reader.SetFileName(str(header.path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if kinds := _missing_kinds(header):
            raise DataError(
                "an NRRD header of 4 axes has no kinds",
                expected=f"the line {kinds!r}",
                got=f"space directions: {header.fields['space directions']}",
                hint="add that line to the header, or convert the file to .nii.gz",
                case=case,
                file=header.path,
            ) from error
        raise unreadable(header.path, case, expected="a whole NRRD or MetaImage file", got=reason_of(error)) from error
    return reader


def _missing_kinds(header: TextHeader) -> str:
    """The line that ITK needs to read more than three axes, if an NRRD header lacks it; else empty."""
    directions = re.findall(r"none|\([^)]*\)", header.fields.get("space directions", "").lower())
    if "kinds" in header.fields or len(directions) != 4:
        return ""
    return "kinds: " + " ".join("domain" if re.search("[1-9]", step) else "list" for step in directions)


def _check_understood_alike(reader: SimpleITK.ImageFileReader, header: TextHeader, case: str | None) -> None:
    """Rejects a header that ITK reads as more voxels than were checked to be there."""
    bits = re.search(r"([0-9]+)-bit", SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))
    each = int(bits[1]) // 8 * reader.GetNumberOfComponents() if bits else 0
    made = each * math.prod(reader.GetSize())
    if not 0 < made <= header.claimed_bytes:
        raise unreadable(
            header.path, case, expected=f"{header.claimed_bytes} bytes of voxels", got=f"{made} bytes, as ITK reads it"
        )


def _check_is_volume(reader: SimpleITK.ImageFileReader, header: TextHeader, case: str | None) -> None:
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) not in (3, 4) or (len(size) == 4 and components > 1):
        raise DataError(
            "the image is not a volume",
            expected="3 axes, or 4 where one is the modality",
            got=f"{len(size)} axes, {size}" + (f", with {components} values per voxel" if components > 1 else ""),
            case=case,
            file=header.path,
        )
    kinds = header.fields.get("kinds", "").lower() if header.is_nrrd else ""
    if any(kind in kinds for kind in _NOT_MODALITIES):
        raise DataError(
            "the voxels are not single real numbers",
            expected="integers or floats",
            got=f"the kinds {kinds}",
            case=case,
            file=header.path,
        )


def _direction(reader: SimpleITK.ImageFileReader) -> Float[np.ndarray, "3 3"]:
    dimension = reader.GetDimension()
    return np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]


def _affine(reader: SimpleITK.ImageFileReader, header: TextHeader, case: str | None) -> Float[np.ndarray, "4 4"]:
    axes, origin = _place(reader, header, case)
    scale = np.array(_unit_scale(header) or (1, 1, 1), float)
    return affine_from_lps(axes * scale[:, np.newaxis], origin * scale)


def _place(
    reader: SimpleITK.ImageFileReader, header: TextHeader, case: str | None
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """The steps along the voxel axes (columns) and the first voxel's center, in LPS+ and the header's own unit."""
    axes = _nrrd_axes(header, case) if header.is_nrrd else None
    if axes is None:
        axes = _direction(reader) * np.array(reader.GetSpacing()[:3])
    return axes, np.array(reader.GetOrigin()[:3])


def _units(header: TextHeader) -> list[str]:
    """The units of NRRD's three space axes; empty if it names none."""
    return re.findall(r'"([^"]*)"', header.fields.get("space units", ""))[:3] if header.is_nrrd else []


def _unit_scale(header: TextHeader) -> tuple[float, ...] | None:
    """Millimeters per unit of NRRD's three space axes; None if one is unknown."""
    if not (units := _units(header)):
        return (1.0, 1.0, 1.0)
    known = tuple(_MILLIMETERS.get(unit.strip().lower(), 0.0) for unit in units)
    return known if len(known) == 3 and all(known) else None


def _nrrd_axes(header: TextHeader, case: str | None) -> Float[np.ndarray, "3 3"] | None:
    """The steps along the voxel axes as spelled in the header; ITK normalizes them, which rounds."""
    texts = re.findall(r"\(([^)]*)\)", header.fields.get("space directions", ""))
    try:
        vectors = [[float(number) for number in text.split(",")] for text in texts]
    except ValueError as error:
        raise unreadable(header.path, case, expected="space directions of numbers", got=error) from error
    if [len(vector) for vector in vectors] != [3, 3, 3]:
        return None
    signs = _TO_LPS.get(header.fields.get("space", "").lower(), (1, 1, 1))
    return np.array(vectors).T * np.array(signs)[:, np.newaxis]


def _notes(header: TextHeader) -> tuple[str, ...]:
    return (*_unit_notes(header), *_direction_notes(header))


def _unit_notes(header: TextHeader) -> tuple[str, ...]:
    units = header.fields.get("space units", "")
    scale = _unit_scale(header)
    if scale == (1, 1, 1):
        return ()
    if scale is None:
        return (f"the header's space units {units[:80]} are unknown, so millimeters are assumed",)
    return (f"the header measures in {units[:80]}; its affine is converted to millimeters",)


def _direction_notes(header: TextHeader) -> tuple[str, ...]:
    if header.is_nrrd:
        if "space directions" not in header.fields:
            return ("the header has no space directions, so its axes are taken to run left, posterior and superior",)
        if header.fields.get("space", "").lower().removesuffix("-time") not in _TO_LPS:
            return ("the header doesn't say which way its space runs; left, posterior, superior is assumed",)
    elif not {"transformmatrix", "orientation", "rotation"} & set(header.fields):
        return ("the header has no TransformMatrix, so its axes are taken to run left, posterior and superior",)
    return ()


def _save(
    array: Shaped[np.ndarray, "c i j k"],
    path: Path,
    axes: Float[np.ndarray, "3 3"],
    direction: Float[np.ndarray, "3 3"],
    spacing: Float[np.ndarray, "3"],
    origin: Float[np.ndarray, "3"],
    units: Sequence[str] = (),
) -> None:
    """Writes voxels whose axes are ``direction * spacing``, given separately to lose no digits; LPS+, in ``units``."""
    if len(array) == 1:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[0].transpose(2, 1, 0)))
    else:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(3, 2, 1, 0)), isVector=True)
    is_nrrd = _is_nrrd(path)  # its header holds the axes whole, so they go in whole
    image.SetDirection((axes if is_nrrd else direction).ravel().tolist())
    image.SetSpacing([1.0, 1.0, 1.0] if is_nrrd else spacing.tolist())
    image.SetOrigin(origin.tolist())
    _write_image(image, path, units)


def _is_nrrd(path: Path) -> bool:
    return _ENGINES.get(path.suffix.lower()) == "NrrdImageIO"


def _write_image(image: SimpleITK.Image, path: Path, units: Sequence[str]) -> None:
    suffix = path.suffix.lower()
    files = {path: path.stem + suffix}  # to what SimpleITK calls it
    if data_suffix := _DATA_SUFFIXES.get(suffix):
        files[path.with_suffix(data_suffix)] = path.stem + data_suffix
    with ExitStack() as stack:
        # left in reverse: the voxels come into their place first, and no header ever points at nothing
        temporaries = {file: stack.enter_context(atomic_path(file, refusals=(RuntimeError,))) for file in files}
        # a header names its data file, so both are written under their own names, in a folder of their own
        folder = Path(stack.enter_context(TemporaryDirectory(dir=path.parent, prefix=".")))
        SimpleITK.WriteImage(image, str(folder / files[path]), useCompression=True)
        if len(units) == 3:
            _add_units(folder / files[path], units)
        for file, name in files.items():
            copyfile(folder / name, temporaries[file])  # into the very file that is locked against other writers


def _add_units(file: Path, units: Sequence[str]) -> None:
    """Adds the unit of each space axis to an NRRD header, which ITK does not do."""
    start, space, rest = file.read_bytes().partition(b"\nspace: left-posterior-superior\n")
    named = " ".join(f'"{unit}"' for unit in units)
    file.write_bytes(start + space + f"space units: {named}\n".encode("latin-1") + rest)
