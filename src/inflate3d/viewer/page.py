"""The page's files, and what it loads: scans as NIfTI files, label maps as bytes, and what it knows of a case.

The page draws on voxels in RAS+ order (`Volume.reorient`): the first axis from the patient's left to the right, the
second from back to front, the third upward. It gets scans on a grid without rotation, so that its order of voxels can't
differ from ours, and the affine separately. A label map is one byte per voxel, the class's place in the list of
classes from 1 on, the first axis fastest, compressed by gzip; it is the same on the way back.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Integer, UInt8

from inflate3d.errors import DataError
from inflate3d.orientation import Orientation
from inflate3d.report.drawing import class_color
from inflate3d.report.sheet import ClassEntry, LabelMap
from inflate3d.report.slices import SOFT_TISSUE, display_range
from inflate3d.volume import Volume

MOST_CLASSES = 255
"""As many as a byte can tell from the background."""

BYTES = "application/octet-stream"

_HERE = Path(__file__).parent
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

Files = Mapping[str, tuple[bytes, str]]
"""Content and media type by name; the page itself has the name ``""``."""


def page_files() -> Files:
    """The page with its scripts and styles, by the addresses that it loads them from."""
    parts = sorted((_HERE / "page").iterdir())
    files = {f"static/{path.name}": (path.read_bytes(), _KINDS[path.suffix]) for path in parts}
    files["static/niivue.umd.js"] = ((_HERE / "niivue" / "niivue.umd.js").read_bytes(), _KINDS[".js"])
    return {"": files.pop("static/index.html"), **files}


def scan_file(scan: Volume, modality: int = 0) -> bytes:
    """One modality as a gzipped NIfTI file, in RAS+ order and without rotation.

    Types that NIfTI lacks, or the viewer, become float32.
    """
    turned = scan.reorient("RAS")
    array = turned.array[modality]
    kept = array.dtype in (np.uint8, np.int16, np.int32, np.float32)
    image = nibabel.Nifti1Image(array if kept else array.astype(np.float32), np.diag([*turned.spacing, 1.0]))
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def labels_file(numbers: UInt8[np.ndarray, "i j k"], scan: Volume) -> bytes:
    """A label map for the page.

    Args:
        numbers: On the scan's grid, the classes' places in the list of classes, from 1 on.
    """
    return gzip.compress(_orientation(scan).apply(numbers).tobytes(order="F"), compresslevel=1, mtime=0)


def labels_of_file(content: bytes, scan: Volume, classes: int) -> UInt8[np.ndarray, "i j k"]:
    """A label map that the page sends back: the inverse of `labels_file`.

    Args:
        content: The decompressed bytes.
        classes: Number of classes.

    Raises:
        DataError: The bytes are no label map of this scan.
    """
    shape = scan.reorient("RAS").shape
    if len(content) != math.prod(shape):
        raise DataError("label map does not fit the scan", expected=f"{shape} voxels", got=f"{len(content)} bytes")
    numbers = np.frombuffer(content, np.uint8).reshape(shape, order="F")
    if numbers.max() > classes:
        raise DataError("label map has unknown classes", expected=f"0 to {classes}", got=int(numbers.max()))
    return _orientation(scan).undo(numbers)


def class_entries(classes: Sequence[ClassEntry]) -> list[dict[str, object]]:
    """The classes as the page lists them.

    Raises:
        DataError: There are more than the page can show.
    """
    if len(classes) > MOST_CLASSES:
        raise DataError("too many classes for the page", expected=f"at most {MOST_CLASSES}", got=len(classes))
    return [{"name": entry.name, "value": entry.value, "color": class_color(entry.number)} for entry in classes]


def case_details(name: str, scan: Volume, modalities: Sequence[str]) -> dict[str, object]:
    """What the page needs to know of a scan."""
    turned = scan.reorient("RAS")
    ranges = [display_range(channel) for channel in scan.array]
    return {
        "name": name,
        "shape": turned.shape,
        "spacing": turned.spacing,
        "affine": turned.affine.tolist(),
        "modalities": list(modalities),
        "ranges": ranges,
        "hounsfield": SOFT_TISSUE in ranges,
    }


def still_files(
    name: str, scan: Volume, maps: Sequence[LabelMap], classes: Sequence[ClassEntry], *, modality: int = 0
) -> Files:
    """All files of a page that shows one scan with its label maps, the first two side by side.

    Args:
        modality: The one that is shown first.
    """
    values = [entry.value for entry in classes]
    modalities = [f"modality {number + 1}" for number in range(len(scan.array))]
    versions = [{"id": str(number), "name": each.name} for number, each in enumerate(maps)]
    details = {
        **case_details(name, scan, modalities),
        "state": "",
        "versions": versions,
        "modality": modality,
        "opened": [version["id"] for version in versions[:2]],
    }
    off = dict.fromkeys(("draw", "list", "train"), None)
    documents = {
        "page/room": {"title": "inflate3d", "classes": class_entries(classes), **off},
        "page/cases": {
            "cases": [{"id": "0", "name": name, "state": ""}],
            "model": None,
            "predict": False,
            "strategies": [],
        },
        "page/cases/0": details,
    }
    return {
        **page_files(),
        **{path: (json.dumps(document).encode(), "application/json") for path, document in documents.items()},
        **{f"page/cases/0/scan/{number}": (scan_file(scan, number), BYTES) for number in range(len(modalities))},
        **{
            f"page/cases/0/labels/{number}": (labels_file(_numbers(each.array, values), scan), BYTES)
            for number, each in enumerate(maps)
        },
    }


def _orientation(scan: Volume) -> Orientation:
    return Orientation.toward(scan.affine, "RAS")


def _numbers(labels: Integer[np.ndarray, "i j k"], values: Sequence[int]) -> UInt8[np.ndarray, "i j k"]:
    """Places in the list of classes."""
    numbers = np.zeros(labels.shape, np.uint8)
    for place, value in enumerate(values, start=1):
        numbers[labels == value] = place
    return numbers
