"""NIfTI files, the format of most public datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError

from inflate3d.atomic import atomic_path
from inflate3d.errors import DataError
from inflate3d.grid import SAME_PLACE, check_affine, spacing_of
from inflate3d.io.damage import check_claim, unreadable
from inflate3d.io.formats import pair_of
from inflate3d.io.grid import FileGrid, distance_between
from inflate3d.io.nifti_files import NiftiImage, is_compressed, kind_of, open_image, stored_header
from inflate3d.io.voxels import as_label_dtype, as_storage_dtype, check_real, storage_dtype
from inflate3d.volume import Volume

_LONGEST_AXIS = 2**15 - 1
"""Largest axis of NIfTI-1."""

_MOST_BEHIND = 64 << 20
"""Bytes that are decompressed after the voxels: a small file can contain any number of them."""

_UNIT_BITS = 0b111
_UNITS = {1: ("meters", 1000.0), 3: ("micrometers", 0.001)}
"""The header's codes for units of length other than millimeters: name and size in millimeters. Other codes mean no
unit."""


def read(path: Path, *, case: str | None = None) -> Volume:
    """Reads a 3D or 4D NIfTI image, compressed or not, and checks it to the last byte.

    Args:
        path: The file, NIfTI-1 or NIfTI-2; for a pair of header and image, either one.

    Returns:
        The scan on its own grid; a 4D file's last axis is the modality. Integers without scaling keep their type; all
        else is float32. The affine is the sform, or otherwise the qform, in millimeters, which is also assumed if the
        header has no unit.
    """
    with open_image(path, case) as image:
        shape = _volume_shape(image, path, case)
        name, millimeters = _unit(image)
        affine = _affine(image)
        voxels = _voxels(image, path, case).reshape(shape)
        notes = (*_size_notes(image, path, millimeters), *_form_notes(image, affine, shape, millimeters))
        if name:
            sizes = ", ".join(f"{size:g}" for size in spacing_of(affine))
            notes += (f"the header measures in {name}; its voxels are taken to be {sizes} mm",)
    array = voxels[np.newaxis] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0)
    return Volume(array, affine, notes)


def read_grid(path: Path, *, case: str | None = None) -> FileGrid:
    """Reads shape, affine, type and number of modalities from the header alone, see `read`."""
    with open_image(path, case) as image:
        i, j, k, *modalities = _volume_shape(image, path, case)
        affine = _affine(image)
        proxy = _proxy(image, path, case)
        _check_size(proxy, path, case)
        dtype = storage_dtype(proxy.dtype) if _keeps_integers(proxy) else np.dtype(np.float32)
    return FileGrid((i, j, k), affine, modalities[0] if modalities else 1, dtype)


def step_between_values(path: Path) -> float:
    """The step between neighboring voxel values that integers with the header's slope can express; else 0."""
    with open_image(path, None) as image:
        proxy = _proxy(image, path, None)
        return abs(float(proxy.slope)) if proxy.dtype.kind in "iu" and not _keeps_integers(proxy) else 0.0


def check_writable(path: Path, affine: Float[np.ndarray, "4 4"]) -> None:
    """Accepts any geometry: the header's sform can express it."""


def write(path: Path, volume: Volume, *, slope: float = 1.0) -> None:
    """Writes a volume; modalities become the fourth axis.

    The affine is stored as sform, and also as qform if a quaternion can express it (no shear), both as scanner
    coordinates. Integers keep their type; all else is float32.

    Args:
        path: The file to write.
    """
    array = as_storage_dtype(volume.array)
    array = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    kind = kind_of(is_pair=False, is_second=max(array.shape) > _LONGEST_AXIS)
    header = kind.header_class()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    _set_affine(header, volume)
    header["descrip"] = b"inflate3d"
    image = kind(np.asarray(array, order="F"), None, header)
    if slope != 1:
        image.header.set_slope_inter(slope, 0)  # a new image drops its header's slope
    with atomic_path(path) as temporary:
        image.to_filename(temporary)


def write_like(path: Path, labels: Shaped[np.ndarray, "..."], like: Path, *, slope: float = 1.0) -> None:
    """Writes a label map, or a map of fractions, exactly where a scan lies.

    Both affines of the scan, their codes and the units are copied bit for bit; equal labels give equal bytes. The
    scan's header extensions, which may contain patient data, are left out.

    Args:
        path: The file to write.
        labels: ``(I, J, K)`` on the scan's own grid, not negative.
        slope: Factor by which readers multiply the stored values; if it is not 1, these are not labels.
    """
    with open_image(like, None) as scan:
        shape = _volume_shape(scan, like, None)[:3]
        kind = kind_of(is_pair=False, is_second=isinstance(scan.header, nibabel.Nifti2Header))
        header = kind.header_class(scan.header.binaryblock, scan.header.endianness, check=False)
    labels = as_label_dtype(labels, shape, path)
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(shape)
    header.set_intent("label" if slope == 1 else "none")
    for name in (
        *("cal_min", "cal_max", "toffset", "slice_code", "slice_start", "slice_end", "slice_duration"),
        "vox_offset",
    ):
        header[name] = 0
    header["descrip"] = b"inflate3d"
    header["aux_file"] = b""
    # without an affine of its own, the image leaves the header's two as they are
    image = kind(np.asarray(labels, order="F"), None, header)
    image.header.set_slope_inter(slope, 0)
    with atomic_path(path) as temporary:
        image.to_filename(temporary)


def _set_affine(header: nibabel.Nifti1Header, volume: Volume) -> None:
    header.set_xyzt_units("mm")
    header.set_sform(volume.affine, code="scanner")
    header.set_qform(volume.affine, code="scanner")
    apart = distance_between(np.asarray(header.get_qform()), volume.affine, volume.shape)
    if apart > SAME_PLACE * min(volume.spacing):
        header.set_qform(None)  # a quaternion can't express a shear
        header["pixdim"][1:4] = volume.spacing


def _volume_shape(image: NiftiImage, path: Path, case: str | None) -> tuple[int, ...]:
    """``(I, J, K)`` or ``(I, J, K, C)``, singleton axes behind the third dropped.

    By the standard the fourth axis is time, so modalities may be on the fifth, as SimpleITK writes them.
    """
    sizes = [int(size) for size in image.shape]
    shape = (*sizes[:3], *(size for size in sizes[3:] if size != 1))
    if len(shape) not in (3, 4):
        raise DataError(
            "the image is not a volume",
            expected="3 axes, or 4 where the last one is the modality",
            got=f"{len(shape)} axes, {shape}",
            case=case,
            file=path,
        )
    if 0 in shape:
        raise DataError("the image has no voxels", got=f"shape {shape}", case=case, file=path)
    return shape


def _unit(image: NiftiImage) -> tuple[str, float]:
    """The header's unit of length if it is not millimeters, and its length in millimeters."""
    return _UNITS.get(int(image.header["xyzt_units"]) & _UNIT_BITS, ("", 1.0))


def _affine(image: NiftiImage) -> Float[np.ndarray, "4 4"]:
    affine = _scaled(np.asarray(image.affine, np.float64), _unit(image)[1])
    check_affine(affine)
    return affine


def _proxy(image: NiftiImage, path: Path, case: str | None) -> ArrayProxy:
    """The voxels, not read yet."""
    proxy = image.dataobj
    assert isinstance(proxy, ArrayProxy)
    check_real(proxy.dtype, path, case)
    return proxy


def _check_size(proxy: ArrayProxy, path: Path, case: str | None) -> None:
    voxel_file = (pair_of(path) or (path, path))[1]
    compressed = is_compressed(voxel_file)
    check_claim(
        int(np.prod(proxy.shape, dtype=object)) * proxy.dtype.itemsize,
        voxel_file.stat().st_size - (0 if compressed else proxy.offset),
        deflated=compressed,
        path=path,
        case=case,
    )


def _keeps_integers(proxy: ArrayProxy) -> bool:
    return proxy.dtype.kind in "iu" and (proxy.slope, proxy.inter) == (1, 0)


def _voxels(image: NiftiImage, path: Path, case: str | None) -> Shaped[np.ndarray, "..."]:
    proxy = _proxy(image, path, case)
    _check_size(proxy, path, case)
    if _keeps_integers(proxy):
        voxels = as_storage_dtype(proxy.get_unscaled())
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects infinite voxels
            voxels = np.asarray(proxy, dtype=np.float32)
    if is_compressed((pair_of(path) or (path, path))[1]):
        _read_to_end(proxy.file_like, path, case)  # where gzip checks its sum
    return voxels


def _read_to_end(stream: Any, path: Path, case: str | None) -> None:
    behind = 0
    while read := len(stream.read(1 << 20)):
        behind += read
        if behind > _MOST_BEHIND:
            raise unreadable(path, case, expected="an end behind the voxels", got=f"more than {_MOST_BEHIND} bytes")


def _scaled(affine: Float[np.ndarray, "4 4"], millimeters: float) -> Float[np.ndarray, "4 4"]:
    """An affine in a unit of ``millimeters``, converted to millimeters."""
    return affine * [[millimeters], [millimeters], [millimeters], [1.0]]


def _size_notes(image: NiftiImage, path: Path, millimeters: float) -> tuple[str, ...]:
    sizes = np.asarray(stored_header(path)["pixdim"], np.float64)[1:4]
    if (sizes > 0).all() or int(image.header["sform_code"]) > 0:
        return ()
    read = [f"{size * millimeters:g}" for size in image.header["pixdim"][1:4]]
    return (f"the header's voxel sizes are {', '.join(f'{size:g}' for size in sizes)}, read as {', '.join(read)} mm",)


def _form_notes(
    image: NiftiImage, affine: Float[np.ndarray, "4 4"], shape: tuple[int, ...], millimeters: float
) -> tuple[str, ...]:
    sform = image.header.get_sform(coded=True)[0]
    has_qform = int(image.header["qform_code"]) > 0
    if sform is None and not has_qform:
        return (
            "the header sets neither sform nor qform, so position and orientation are guessed from the voxel sizes",
        )
    if sform is None:
        return ()
    if not has_qform:
        sizes = np.asarray(image.header["pixdim"], np.float64)[1:4] * millimeters
        if np.allclose(sizes, spacing_of(affine), rtol=0.01):
            return ()
        said, used = (" × ".join(f"{size:.4g}" for size in each) for each in (sizes, spacing_of(affine)))
        return (f"the header's voxel sizes are {said} mm, its sform's {used} mm, and sform is used",)
    try:
        qform = _scaled(np.asarray(image.header.get_qform()), millimeters)
    except (HeaderDataError, ValueError):
        return ("the header's qform is not a rotation, so only its sform is used",)
    apart = distance_between(qform, affine, shape)
    if not apart <= SAME_PLACE * min(spacing_of(affine)):
        return (f"the header's sform and qform disagree by up to {apart:.3g} mm, and sform is used",)
    return ()
