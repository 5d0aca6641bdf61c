"""The page at ``/``, and ``/page/``: what it loads and sends."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from inflate3d.server.faults import NotFoundError
from inflate3d.server.guard import Rules
from inflate3d.server.page import PageData
from inflate3d.server.routes_datastore import FILE
from inflate3d.server.service import Service
from inflate3d.viewer.page import BYTES, page_files

_GZIP = {"requestBody": {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}}


def make_router(service: Service, rules: Rules) -> APIRouter:
    router = APIRouter(tags=["Page"])
    data = PageData(service)
    _add_page(router)
    _add_lists(router, data)
    _add_files(router, data)
    _add_changes(router, data)
    return router


def _add_page(router: APIRouter) -> None:
    files = page_files()

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        content, kind = files[""]
        return Response(content, media_type=kind)

    @router.get("/static/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        file = files.get(f"static/{name}")
        if file is None:
            raise NotFoundError("file not found", got=name[:200])
        return Response(file[0], media_type=file[1])


def _add_lists(router: APIRouter, data: PageData) -> None:
    @router.get("/page/room")
    def room() -> dict[str, Any]:
        """The classes, and what the page can do."""
        return data.room()

    @router.get("/page/cases")
    def cases() -> dict[str, Any]:
        """All cases with their state, and the model in service."""
        return data.cases()

    @router.get("/page/models")
    def models() -> dict[str, Any]:
        """All versions of the model with their Dice, and the number of held-out cases that it is the mean of."""
        return data.models()

    @router.get("/page/cases/{case}")
    async def case(case: str) -> dict[str, Any]:
        """A case's grid, range of values and label maps."""
        return await data.service.readers.run(partial(data.case, case))


def _add_files(router: APIRouter, data: PageData) -> None:
    async def answer(work: partial[bytes], kind: str = BYTES) -> Response:
        return Response(await data.service.readers.run(work), media_type=kind)

    @router.get("/page/cases/{case}/scan/{modality}", response_class=Response, responses=FILE)
    async def scan(case: str, modality: int) -> Response:
        """A modality, from 0 on, as NIfTI: in RAS+ order on a grid without rotation."""
        return await answer(partial(data.scan, case, modality))

    @router.get("/page/cases/{case}/labels/{version}", response_class=Response, responses=FILE)
    async def labels(case: str, version: int) -> Response:
        """A label map: a byte per voxel in RAS+ order, the first axis fastest, compressed by gzip."""
        return await answer(partial(data.labels, case, version))

    @router.get("/page/cases/{case}/thumbnail", response_class=Response, responses=FILE)
    async def thumbnail(case: str) -> Response:
        """A small picture."""
        return await answer(partial(data.thumbnail, case), "image/png")


def _add_changes(router: APIRouter, data: PageData) -> None:
    @router.post("/page/cases/{case}/labels", openapi_extra=_GZIP)
    async def save(
        request: Request,
        case: str,
        tag: Literal["draft", "final"],
        base: int | None = None,
        newest: int = 0,
        by: str = Query("", max_length=200),
    ) -> dict[str, Any]:
        """Saves a label map, which has the form in which it is loaded, as a new version."""
        content = await request.body()
        work = partial(data.save, case, content, base=base, newest=newest, tag=tag, by=by.strip() or None)
        return await data.service.readers.run(work)

    @router.post("/page/cases/{case}/predict")
    async def predict(case: str) -> dict[str, Any]:
        """Labels a case by the model in service."""
        return await data.service.predictions.run(partial(data.predict, case))
