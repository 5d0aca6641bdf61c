"""Voxel grids in space: whether one can be used, and whether two are the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float

from inflate3d.errors import DataError
from inflate3d.grid import SAME_PLACE, Grid
from inflate3d.units import Unit
from inflate3d.volume import Volume

_CROPPED = (
    "save the segmentation again on the scan's grid: in 3D Slicer, without 'Crop to minimum extent', or as a label map"
)
_LPS_TO_RAS = np.array([[-1.0], [-1.0], [1.0]])


@dataclass(frozen=True, eq=False)
class FileGrid(Grid):
    """A scan's grid as its headers give it, see `read_grid`.

    Attributes:
        modalities: Number of values per voxel: ``C`` of the volume's ``(C, I, J, K)``.
        dtype: Type of the voxels when read.
        units: The unit of each modality; empty if the file states none.
    """

    modalities: int
    dtype: np.dtype
    units: tuple[Unit, ...] = ()


def affine_from_lps(axes: Float[np.ndarray, "3 3"], origin: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The RAS+ affine of a grid given in LPS+, as ITK and DICOM do; only signs change, no digit.

    Args:
        axes: Column ``n`` is the step along voxel axis ``n``, in millimeters.
        origin: The first voxel's center, in millimeters.
    """
    affine = np.eye(4)
    affine[:3, :3] = axes * _LPS_TO_RAS + 0.0  # no negative zeros
    affine[:3, 3] = origin * _LPS_TO_RAS[:, 0] + 0.0
    return affine


def lps_of(affine: Float[np.ndarray, "4 4"]) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """The steps (columns) and the first voxel's center in LPS+ millimeters: the inverse of `affine_from_lps`."""
    return affine[:3, :3] * _LPS_TO_RAS + 0.0, affine[:3, 3] * _LPS_TO_RAS[:, 0] + 0.0


def distance_between(
    affine: Float[np.ndarray, "4 4"], other: Float[np.ndarray, "4 4"], shape: tuple[int, ...]
) -> float:
    """The largest distance in millimeters between the positions that two affines give any voxel.

    Args:
        affine: From voxel index to millimeters.
        other: Another such map.
        shape: ``(I, J, K)``, the number of voxels.
    """
    # the distance between two affine maps is largest at a corner
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in shape[:3]))])
    return float(np.linalg.norm((affine - other)[:3] @ corners.T, axis=0).max())


def check_same_grid(
    volume: Volume, reference: Volume, *, case: str | None = None, file: str | Path | None = None
) -> None:
    """Rejects a volume that does not lie where the reference does.

    Grids are the same if they have the same shape and corresponding voxels are at most a hundredth of the smallest
    spacing apart.

    Args:
        file: The volume's file, for the error message.
    """
    if volume.shape != reference.shape:
        raise DataError(
            "images of a case differ in shape",
            expected=reference.shape,
            got=volume.shape,
            hint=_CROPPED if str(file).lower().endswith(".seg.nrrd") else "resample one to the grid of the other",
            case=case,
            file=file,
        )
    apart = distance_between(volume.affine, reference.affine, volume.shape)
    if apart > SAME_PLACE * min(reference.spacing):
        raise DataError(
            "images of a case differ in position",
            expected=f"the affine {reference.affine.round(4).tolist()}",
            got=f"the affine {volume.affine.round(4).tolist()}, up to {apart:.3g} mm away",
            hint="resample one to the grid of the other, or correct the wrong header",
            case=case,
            file=file,
        )


def lay_on(volume: Volume, reference: Volume, *, case: str | None = None, file: str | Path | None = None) -> Volume:
    """Brings a volume with the reference's voxels, possibly along other axes, onto the reference's own grid.

    Programs store the same scan with different orders of axes. The axes are transposed and flipped; nothing is ever
    resampled.

    Args:
        file: The volume's file, for the error message.

    Returns:
        The volume, or a reoriented copy with a note about it if its axes differ from the reference's.
    """
    try:
        check_same_grid(volume, reference, case=case, file=file)
    except DataError:
        if not reference.grid.has_same_voxels(volume.grid):
            raise
        axes, own = (_axes_of(each.affine) for each in (volume, reference))
        note = f"its voxels are the scan's, but are stored along the axes {axes} in place of {own}; they are turned"
        return replace(volume.match_geometry(reference), notes=(*volume.notes, note))
    return volume


def _axes_of(affine: Float[np.ndarray, "4 4"]) -> str:
    """Directions of the voxel axes, such as ``"LPS"``."""
    from nibabel.orientations import aff2axcodes

    return "".join(map(str, aff2axcodes(affine)))
