"""What several routes take from a request: the JSON texts in its forms, and files to send back."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi.responses import Response
from jaxtyping import Integer

from inflate3d.errors import DataError
from inflate3d.io import write_labels, write_volume
from inflate3d.server.cases import AnnotatedCase
from inflate3d.server.coding import LabelCoding
from inflate3d.server.faults import NotFoundError
from inflate3d.server.service import Service
from inflate3d.volume import Volume

LARGEST_PARAMS = 1 << 20
"""Size limit of a JSON text in a form, in bytes."""

MEDIA_TYPE = "application/octet-stream"


def parse_params(text: str) -> dict[str, Any]:
    """The JSON object in a form's field.

    Raises:
        DataError: It is none.
    """
    try:
        if len(text) > LARGEST_PARAMS:
            raise ValueError(f"it has more than {LARGEST_PARAMS} bytes")
        values = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError("params are not JSON", expected='an object, such as {"client_id": "me"}', got=error) from error
    if not isinstance(values, dict):
        raise DataError(
            "params are not a JSON object", expected='such as {"client_id": "me"}', got=type(values).__name__
        )
    return values


def check_model(service: Service, name: str) -> None:
    """Checks the name of a model in a request.

    Raises:
        NotFoundError: It is not that of the project's model.
    """
    if name != service.name:
        raise NotFoundError("model not found", expected=service.name, got=name)


def client_of(params: dict[str, Any]) -> str | None:
    """Who sends a request, as far as they say."""
    client = params.get("client_id")
    return client[:200] if isinstance(client, str) and client else None


def scan_bytes(case: AnnotatedCase, modality: int) -> bytes:
    """One modality of a scan, from 1 on, as a NIfTI file.

    Raises:
        DataError: The scan does not have it.
    """
    volume = case.read_scan()
    if not 1 <= modality <= len(volume.array):
        raise DataError("modality not found in the scan", expected=f"1 to {len(volume.array)}", got=modality)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "scan.nii.gz"
        write_volume(file, Volume(volume.array[modality - 1 : modality], volume.affine))
        return file.read_bytes()


def label_bytes(labels: Integer[np.ndarray, "i j k"], coding: LabelCoding, like: Path | Volume, suffix: str) -> bytes:
    """A label map as a file with the classes' numbers (see `LabelCoding`), on the scan's grid.

    Args:
        labels: The dataset's label values.
        like: The scan.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"labels{suffix}"
        write_labels(file, coding.encode(labels), like=like)
        return file.read_bytes()


def attachment(content: bytes, name: str) -> Response:
    return Response(
        content, media_type=MEDIA_TYPE, headers={"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"}
    )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
