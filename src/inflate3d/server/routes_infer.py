"""``/infer/{model}``: predictions of cases, of uploaded scans, and of those of a session."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import JSONResponse, Response
from jaxtyping import Integer

from inflate3d.errors import ConfigError, DataError
from inflate3d.io import WRITABLE_SUFFIXES, read_images
from inflate3d.server.guard import Rules
from inflate3d.server.requests import MEDIA_TYPE, attachment, check_model, label_bytes, parse_params
from inflate3d.server.service import Service
from inflate3d.volume import Volume

Output = Literal["all", "image", "json"]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {"schema": {"type": "object"}},
            MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {"schema": {"type": "object"}},
        }
    }
}


@dataclass(frozen=True)
class Inferred:
    """A prediction to be sent.

    Attributes:
        labels: The dataset's label values.
        scan: The scan whose grid it is on.
        params: What is said about it.
    """

    labels: Integer[np.ndarray, "i j k"]
    scan: Volume
    name: str
    params: dict[str, Any]


def make_router(service: Service, rules: Rules) -> APIRouter:
    router = APIRouter(tags=["Infer"])

    @router.post("/infer/{model}", response_class=Response, responses=_ANSWERS)
    async def infer(
        model: str,
        image: str = "",
        session_id: str = "",
        params: str = Form("{}"),
        file: UploadFile | None = File(None),  # noqa: B008 - FastAPI's form
        label: UploadFile | None = File(None),  # noqa: B008
        output: Output = "all",
    ) -> Response:
        """Predicts a case, an uploaded scan or that of a session; a case's prediction is saved as ``predicted``."""
        check_model(service, model)
        values = parse_params(params)
        suffix = _result_suffix(values)

        def work() -> tuple[Inferred, bytes | None]:
            if file is not None:
                with service.received(file.file, file.filename) as received:
                    found = _infer_scan(service, read_images((received,)), "scan")
            elif session_id:
                found = _infer_scan(service, service.sessions.read(session_id), "scan")
            elif image:
                found = _infer_case(service, image)
            else:
                raise DataError("no scan given", expected="an image, a session_id, or a file")
            content = None if output == "json" else label_bytes(found.labels, service.cases.coding, found.scan, suffix)
            return found, content

        found, content = await service.predictions.run(work)
        if content is None:
            return JSONResponse(found.params)
        name = f"{found.name}{suffix}"
        return attachment(content, name) if output == "image" else _multipart(found.params, name, content)

    return router


def _infer_case(service: Service, name: str) -> Inferred:
    case = service.cases[name]
    version, seconds = service.predict_case(case)
    labels = service.cases.read_labels(case.id, version)
    said = {name: version.info.get(name) for name in ("confidence", "warnings")}
    params = {**_params(service, version.model, seconds), **said}
    return Inferred(labels.array[0], labels, case.id, params)


def _infer_scan(service: Service, scan: Volume, name: str) -> Inferred:
    from inflate3d.inference.scan_warnings import log_warnings

    prediction, used, seconds = service.models.predict(scan)
    log_warnings(prediction.warnings)
    assert prediction.confidence is not None
    said = {
        "confidence": prediction.confidence.to_dict(),
        "warnings": [warning.to_dict() for warning in prediction.warnings],
    }
    params = {**_params(service, used.number, seconds), **said}
    return Inferred(prediction.labels, scan, name, params)


def _params(service: Service, model: int | None, seconds: Mapping[str, float]) -> dict[str, Any]:
    latencies = {stage: round(value, 3) for stage, value in seconds.items()}
    numbers = service.cases.coding.numbers
    return {"label_names": numbers, "model_version": model, "latencies": latencies}


def _result_suffix(params: Mapping[str, Any]) -> str:
    """The format that a client asks for; ``.seg.nrrd`` is NRRD."""
    asked = params.get("result_extension") or ".nii.gz"
    suffix = next((each for each in WRITABLE_SUFFIXES if isinstance(asked, str) and asked.lower().endswith(each)), None)
    if suffix is None or suffix in (".nhdr", ".mhd"):
        raise ConfigError("unknown result_extension", expected=".nii.gz, .nii, .nrrd or .mha", got=asked)
    return suffix


def _multipart(params: Mapping[str, Any], name: str, content: bytes) -> Response:
    """The answer in parts: ``params`` as JSON, and the label map's file."""
    limit = secrets.token_hex(16)
    plain = name.encode("ascii", "replace").replace(b"?", b"_").replace(b'"', b"_").decode()
    head = (
        f'--{limit}\r\nContent-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n'
        f'{json.dumps(params)}\r\n--{limit}\r\nContent-Disposition: form-data; name="image"; filename="{plain}"\r\n'
        f"Content-Type: {MEDIA_TYPE}\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{limit}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={limit}")
