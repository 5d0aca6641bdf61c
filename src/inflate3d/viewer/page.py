"""The viewer's page: volumes as NIfTI files in memory, and all files that the page loads, by name."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Float, Integer, Shaped

from inflate3d.report.drawing import class_color
from inflate3d.report.pages import environment
from inflate3d.report.sheet import ClassEntry

MOST_MAPS = 2
"""Most label maps shown side by side."""

_HERE = Path(__file__).parent
_ASSETS = {
    "niivue.umd.js": (_HERE / "niivue" / "niivue.umd.js", "text/javascript"),
    "viewer.js": (_HERE / "viewer.js", "text/javascript"),
    "start.js": (_HERE / "start.js", "text/javascript"),
    "viewer.css": (_HERE / "viewer.css", "text/css"),
    "page.css": (_HERE / "page.css", "text/css"),
}

Files = Mapping[str, tuple[bytes, str]]
"""Content and media type by name; the page itself has the name ``""``."""


def nifti(array: Shaped[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]) -> bytes:
    """A gzipped NIfTI file.

    Args:
        array: Voxel values; types that NIfTI lacks become float32.
        affine: Voxel index to millimeters in RAS+ world space.
    """
    kept = array.dtype in (np.uint8, np.int16, np.int32, np.float32)
    image = nibabel.Nifti1Image(array if kept else array.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def label_nifti(
    array: Integer[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"], classes: Sequence[ClassEntry]
) -> bytes:
    """A label map with the classes' positions in the list, from 1 on, as values: 255 classes fit into bytes."""
    numbers = np.zeros(array.shape, np.uint8 if len(classes) < 256 else np.int16)
    for place, entry in enumerate(classes, start=1):
        numbers[array == entry.value] = place
    return nifti(numbers, affine)


def setup(
    scan: str, maps: Sequence[str], classes: Sequence[ClassEntry], values: tuple[float, float]
) -> dict[str, object]:
    """The settings that the viewer's script reads.

    Args:
        maps: Names of the label maps, at most two.
        classes: The classes, in the order of the label maps' values.
        values: The voxel values drawn black and white.
    """
    return {
        "scan": scan,
        "maps": list(maps),
        "classes": [{"name": f"{entry.value} {entry.name}", "color": class_color(entry.number)} for entry in classes],
        "range": list(values),
    }


def page_files(setup: Mapping[str, object], scan: bytes, maps: Sequence[bytes]) -> Files:
    """All files of the page.

    Args:
        setup: See `setup`.
        maps: Label maps, likewise; at most two.
    """
    page = environment(_HERE).get_template("page.html.jinja").render(setup=setup)
    return {
        "": (page.encode(), "text/html"),
        **{name: (path.read_bytes(), kind) for name, (path, kind) in _ASSETS.items()},
        "scan": (scan, "application/octet-stream"),
        **{f"map{number}": (each, "application/octet-stream") for number, each in enumerate(maps)},
    }
