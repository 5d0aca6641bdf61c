"""``/datastore/``: scans, label maps by version, and what is noted about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse, Response

from inflate3d.errors import ConfigError
from inflate3d.io import label_suffix, stem_of
from inflate3d.server.cases import AnnotatedCase
from inflate3d.server.faults import ConflictError, NotFoundError
from inflate3d.server.guard import Rules
from inflate3d.server.labels import LabelVersion, Tag, as_tag
from inflate3d.server.requests import MEDIA_TYPE, attachment, client_of, label_bytes, parse_params, scan_bytes
from inflate3d.server.service import Service

FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}
"""The answer of a route that sends a file, for the OpenAPI document."""


def make_router(service: Service, rules: Rules) -> APIRouter:
    router = APIRouter(prefix="/datastore", tags=["Datastore"])
    _add_lists(router, service)
    _add_images(router, service)
    _add_labels(router, service)
    return router


def _add_lists(router: APIRouter, service: Service) -> None:
    @router.get("/", response_model=None)
    def datastore(output: Literal["train", "stats", "all"] = "stats") -> dict[str, Any] | list[dict[str, str]]:
        """All cases, those to train on, or their numbers."""
        if output == "all":
            return _everything(service)
        return service.statistics() if output == "stats" else _training_list(service)

    @router.get("/versions")
    def versions(image: str) -> list[dict[str, Any]]:
        """All versions of a case's label map, oldest first."""
        return [version.model_dump(mode="json") for version in service.cases[image].history.versions()]


def _add_images(router: APIRouter, service: Service) -> None:
    @router.get("/image", response_class=Response, responses=FILE)
    async def image(image: str, modality: int | None = Query(None, ge=1, le=1000)) -> Response:
        """The scan; as NIfTI where its own files are of several parts, or if a modality is asked for."""
        case = service.cases[image]
        if case.file is not None and modality is None:
            return FileResponse(case.file, media_type=MEDIA_TYPE, filename=case.file.name)
        content = await service.readers.run(partial(scan_bytes, case, modality or 1))
        return attachment(content, f"{case.id}.nii.gz")

    @router.head("/image", response_class=Response)
    async def has_image(image: str, check_sum: str | None = None) -> Response:
        """Whether there is a scan of this name, with this checksum (``SHA256:...``) if one is given."""
        case = service.cases[image]
        if check_sum is not None:
            await service.readers.run(partial(_check_sum, case, check_sum))
        return Response()

    @router.put("/", include_in_schema=False)
    @router.put("/image")
    async def add_image(
        image: str | None = None,
        params: str = Form("{}"),
        file: UploadFile = File(),  # noqa: B008 - FastAPI's form
    ) -> dict[str, Any]:
        """Adds a scan."""
        notes = parse_params(params)

        def add() -> AnnotatedCase:
            with service.received(file.file, file.filename) as received:
                case = service.cases.add_scan(image or stem_of(file.filename or ""), received)
                if kept := {key: value for key, value in notes.items() if value is not None}:
                    service.cases.note(case.id, kept)
                return case

        return {"image": (await service.readers.run(add)).id}

    @router.delete("/", include_in_schema=False)
    @router.delete("/image")
    def remove_image(id: str) -> dict[str, Any]:  # noqa: A002 - the protocol's name
        """Removes a scan that a client has sent and no person labeled."""
        service.cases.remove_scan(id)
        return {}

    @router.get("/image/info")
    def image_info(image: str) -> dict[str, Any]:
        """What is known of a scan."""
        return describe(service, service.cases[image])

    @router.put("/image/info")
    def note_image(image: str, info: str = Form("{}")) -> dict[str, Any]:
        """Notes something about a scan."""
        service.cases.note(image, parse_params(info))
        return {}


def _add_labels(router: APIRouter, service: Service) -> None:
    @router.get("/label", response_class=Response, responses=FILE)
    async def label(label: str, tag: str = "", version: int | None = Query(None, ge=0)) -> Response:
        """A label map with the classes' numbers: the newest with a tag, a version, or what is to be corrected."""
        case = service.cases[label]
        found = _find(case, tag, version)

        def read() -> bytes:
            labels = service.cases.read_labels(case.id, found)
            return label_bytes(labels.array[0], service.cases.coding, case.case.scan, _suffix(case))

        if service.cases.coding.is_plain and found.number > 0:
            file = case.history.path(found)
            return FileResponse(file, media_type=MEDIA_TYPE, filename=f"{case.id}{_suffix(case)}")
        return attachment(await service.readers.run(read), f"{case.id}{_suffix(case)}")

    @router.head("/label", response_class=Response)
    def has_label(image: str, tag: str = "") -> Response:
        """Whether a case has a label map with a tag."""
        _find(service.cases[image], tag, None)
        return Response()

    @router.put("/label")
    async def save_label(
        image: str,
        params: str = Form("{}"),
        tag: str = "final",
        label: UploadFile = File(),  # noqa: B008 - FastAPI's form
    ) -> dict[str, Any]:
        """Saves a label map that a person drew as a new version; ``label_info`` in params names its numbers."""
        case, values, meant = service.cases[image], parse_params(params), _tag(tag or "final")
        if meant == "predicted":
            raise ConflictError("label maps of clients are not predictions", expected="the tag final or draft", got=tag)

        def save() -> LabelVersion:
            with service.received(label.file, label.filename) as received:
                labels = service.cases.read_sent_labels(case.id, received, values.get("label_info"))
            kept = {key: value for key, value in values.items() if key not in ("client_id", "label_info")}
            return service.cases.save_labels(case.id, labels, tag=meant, by=client_of(values), info=kept)

        version = await service.readers.run(save)
        return {"image": case.id, "label": case.id, "tag": version.tag, "version": version.number}

    @router.delete("/label")
    def withdraw_label(id: str, tag: str) -> dict[str, Any]:  # noqa: A002 - the protocol's name
        """Makes the newest label map with a tag not count any more; its version is kept."""
        case, meant = service.cases[id], _tag(tag)
        _find(case, tag, None)
        case.history.withdraw(meant)
        return {}

    @router.get("/label/info")
    def label_info(label: str, tag: str = "") -> dict[str, Any]:
        """What is known of the newest label map with a tag."""
        return _label_info(service, _find(service.cases[label], tag, None))

    @router.put("/updatelabelinfo", include_in_schema=False)
    @router.put("/label/info")
    def note_label(label: str, tag: str, info: str = Form("{}")) -> dict[str, Any]:
        """Notes something about the newest label map with a tag."""
        case, values = service.cases[label], parse_params(info)
        version = _find(case, tag, None)
        if version.number == 0:
            raise ConflictError("the label map is the dataset's own", hint="save it first", got=label)
        case.history.annotate(version, values)
        return {}


def describe(service: Service, case: AnnotatedCase) -> dict[str, Any]:
    """What clients learn about a scan."""
    name = f"{case.id}.nii.gz" if case.file is None else case.file.name
    path = str(case.file.resolve()) if case.file is not None and service.local else ""
    return {**case.notes, "name": name, "path": path}


def _everything(service: Service) -> dict[str, Any]:
    dataset = service.project.dataset
    return {
        "name": service.name,
        "description": f"{dataset.name}: {', '.join(service.cases.coding.names)}",
        "images_dir": "",
        "labels_dir": "labels",
        "objects": {case.id: _object(service, case) for case in service.cases},
    }


def _object(service: Service, case: AnnotatedCase) -> dict[str, Any]:
    """A case as MONAI Label lists it; clients look for predictions under ``original``."""
    suffix = "".join(Path(describe(service, case)["name"]).suffixes[-2:])
    labels: dict[str, Any] = {}
    for tag in ("final", "draft", "predicted"):
        version = case.history.newest(tag)
        if version is not None:
            labels[tag] = {"ext": _suffix(case), "info": _label_info(service, version)}
    if "predicted" in labels:
        labels["original"] = labels["predicted"]
    current = case.history.current()
    return {
        "image": {"ext": suffix, "info": describe(service, case)},
        "labels": labels,
        "current": None if current is None else current.model_dump(mode="json"),
        "versions": len(case.history.versions()),
    }


def _label_info(service: Service, version: LabelVersion) -> dict[str, Any]:
    saved = None if version.saved is None else int(version.saved.timestamp())
    own = version.model_dump(mode="json", exclude={"file", "info"})
    return {**version.info, **own, "ts": saved, "params": {"label_names": service.cases.coding.numbers}}


def _training_list(service: Service) -> list[dict[str, str]]:
    """Scans with the label maps that persons finished; file names only for clients on this machine."""
    pairs = []
    for case in service.cases:
        version = case.history.newest("final")
        if version is not None:
            scan, label = case.case.scan, case.history.path(version)
            pairs.append({"image": _shown(scan, service), "label": _shown(label, service)})
    return pairs


def _shown(path: Path, service: Service) -> str:
    return str(path.resolve()) if service.local else path.name


def _find(case: AnnotatedCase, tag: str, number: int | None) -> LabelVersion:
    history = case.history
    find: Callable[[], LabelVersion | None]
    if number is not None:
        find = partial(history.get, number)
    else:
        find = partial(history.newest, _tag(tag)) if tag else history.current
    version = find()
    if version is None or version.withdrawn:
        got = f"version {number}" if number is not None else f"tag {tag}" if tag else "none"
        raise NotFoundError("label map not found", got=got, case=case.id)
    return version


def _tag(name: str) -> Tag:
    tag = as_tag(name)
    if tag is None:
        raise ConfigError("unknown tag", expected="final, draft or predicted", got=name)
    return tag


def _suffix(case: AnnotatedCase) -> str:
    return label_suffix(case.case.scan).lower()


def _check_sum(case: AnnotatedCase, wanted: str) -> None:
    kind, _, digest = wanted.rpartition(":")
    if kind.upper() not in ("", "SHA256"):
        raise ConfigError("unknown checksum", expected="SHA256:...", got=kind)
    found = None
    if case.file is not None:
        with case.file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest.lower():
        raise NotFoundError("no scan with this checksum", case=case.id)
