"""NIfTI files, the format of most public data sets."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Float, Integer, Shaped
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError

from inflate3d.atomic import atomic_path
from inflate3d.errors import DataError
from inflate3d.volume import Volume

_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    OverflowError,
    MemoryError,  # a damaged header can claim any size
    ImageFileError,
    HeaderDataError,
    HeaderTypeError,
    WrapStructError,
)


def read(path: Path, *, case: str | None = None) -> Volume:
    """Reads a 3D or 4D NIfTI file, compressed or not, checked to its last byte.

    Args:
        path: The file, ``.nii`` or ``.nii.gz``, NIfTI-1 or NIfTI-2.
        case: Id of the case, for error messages.

    Returns:
        The scan on its own grid; a 4D file's last axis is the modality. Integers that the header doesn't
        scale keep their type; all else is float32. The affine is the header's best (sform, then qform).

    Raises:
        DataError: The file is missing, damaged, not a real-valued 3D or 4D image, or has no usable affine.
    """
    with _open(path, case) as image:
        shape = _volume_shape(image, path, case)
        affine = _checked_affine(image, path, case)
        voxels = _voxels(image, path, case).reshape(shape)
    array = voxels[np.newaxis] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0)
    return Volume(array, affine)


def write_like(path: Path, labels: Integer[np.ndarray, "i j k"], like: Path) -> None:
    """Writes a label map that lies exactly where a scan does.

    Both of the scan's affines, their codes and the units are copied to the bit; equal labels give equal
    bytes. The scan's header extensions, which may hold a patient's data, are left out.

    Args:
        path: The file to write, ``.nii`` or ``.nii.gz``.
        labels: ``(I, J, K)`` on the scan's own grid, none negative.
        like: The scan's NIfTI file.

    Raises:
        DataError: The scan can't be read, or the labels don't fit its grid.
        OutputError: The file can't be written.
    """
    with _open(like, None) as scan:
        shape = _volume_shape(scan, like, None)[:3]
        header = scan.header.copy()
    if labels.shape != shape:
        raise DataError("the labels don't lie on the scan's grid", expected=shape, got=labels.shape, file=like)
    if labels.min() < 0:
        raise DataError("a label is negative", expected="0 or more", got=labels.min(), file=path)
    dtype = np.min_scalar_type(labels.max())
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_slope_inter(1, 0)
    header.set_intent("label")
    for name in ("cal_min", "cal_max", "toffset", "slice_code", "slice_start", "slice_end", "slice_duration"):
        header[name] = 0
    header["descrip"] = b"inflate3d"
    header["aux_file"] = b""
    header.extensions.clear()
    # without an affine of its own, the image leaves the header's two as they are
    image = type(scan)(np.asarray(labels, dtype, order="F"), None, header)
    with atomic_path(path) as temporary:
        image.to_filename(temporary)


@contextmanager
def _open(path: Path, case: str | None) -> Iterator[nibabel.Nifti1Image]:
    """Opens an image whose voxels are read inside the block; whatever is wrong with the file becomes ours."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            header_size = stream.read(4)
            stream.seek(0)
            is_second = 540 in (int.from_bytes(header_size, "little"), int.from_bytes(header_size, "big"))
            yield (nibabel.Nifti2Image if is_second else nibabel.Nifti1Image).from_stream(stream)
    except FileNotFoundError as error:
        raise DataError("the file is missing", remedy="check the path", case=case, file=path) from error
    except _UNREADABLE as error:
        raise DataError(
            "the file can't be read",
            expected="a whole NIfTI file",
            got=f"{type(error).__name__}: {error}",
            remedy="fetch or export the file again; it is probably damaged or cut short",
            case=case,
            file=path,
        ) from error


def _volume_shape(image: nibabel.Nifti1Image, path: Path, case: str | None) -> tuple[int, ...]:
    """``(I, J, K)`` or ``(I, J, K, C)``, singleton axes behind them dropped."""
    shape = tuple(int(size) for size in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
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


def _checked_affine(image: nibabel.Nifti1Image, path: Path, case: str | None) -> Float[np.ndarray, "4 4"]:
    affine = np.asarray(image.affine, np.float64)
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    # the determinant of the unit axes is the volume of their box: 1 at right angles, 0 in one plane
    if not (np.isfinite(affine).all() and lengths.all() and abs(np.linalg.det(axes / lengths)) > 1e-6):
        raise DataError(
            "the affine can't be inverted, so the scan's place in space is unknown",
            got=affine.tolist(),
            remedy="export the scan again, or set its sform and qform",
            case=case,
            file=path,
        )
    return affine


def _voxels(image: nibabel.Nifti1Image, path: Path, case: str | None) -> Shaped[np.ndarray, "..."]:
    proxy = image.dataobj
    assert isinstance(proxy, ArrayProxy)
    kind = proxy.dtype.kind
    if kind not in "iuf":
        raise DataError(
            "the voxels are not single real numbers",
            expected="integers or floats",
            got=f"colours ({proxy.dtype})" if kind == "V" else str(proxy.dtype),
            case=case,
            file=path,
        )
    if kind in "iu" and (proxy.slope, proxy.inter) == (1, 0):
        voxels = proxy.get_unscaled().astype(proxy.dtype.newbyteorder("="), copy=False)
    else:
        with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are the caller's to refuse
            voxels = np.asarray(proxy, dtype=np.float32)
    stream = proxy.file_like
    while stream.read(1 << 20):  # to the end, where gzip checks its sum
        pass
    return voxels
