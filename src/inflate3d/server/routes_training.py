"""``/train/`` and ``/model/``: trainings, and the versions of the model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body, HTTPException, Query
from fastapi.responses import FileResponse, Response

from inflate3d.server.faults import NotFoundError
from inflate3d.server.guard import Rules
from inflate3d.server.requests import MEDIA_TYPE, check_model
from inflate3d.server.routes_datastore import FILE
from inflate3d.server.service import Service
from inflate3d.server.tasks import Task, TaskList


def make_router(service: Service, rules: Rules) -> APIRouter:
    router = APIRouter()
    _add_trainings(router, service)
    _add_models(router, service)
    return router


def _add_trainings(router: APIRouter, service: Service) -> None:
    @router.get("/train/", tags=["Train"], response_model=None)
    def status(all: bool = False, check_if_running: bool = False) -> dict[str, Any] | list[dict[str, Any]]:  # noqa: A002
        """The last training; 404 if there was none, or if none is running and only that is asked."""
        return show_tasks(service.trainer.tasks, all=all, check_if_running=check_if_running)

    @router.get("/train/progress", tags=["Train"])
    def progress() -> dict[str, Any]:
        """Step, number of steps, and the curve of loss and validation Dice of the last training."""
        return service.trainer.progress()

    @router.post("/train/", tags=["Train"], include_in_schema=False)
    def start_all(params: dict[str, Any] | None = Body(None)) -> dict[str, Any]:  # noqa: B008 - FastAPI's body
        """Starts the training of the only model."""
        own = (params or {}).get(service.name)
        return {service.name: {"result": service.trainer.start(own or {}).to_dict(), "detail": None}}

    @router.post("/train/{model}", tags=["Train"])
    def start(model: str, params: dict[str, Any] | None = Body(None)) -> dict[str, Any]:  # noqa: B008
        """Starts a training on all finished label maps: from the model in service, or resumes one that was stopped."""
        check_model(service, model)
        return service.trainer.start(params or {}).to_dict()

    @router.delete("/train/", tags=["Train"])
    def stop() -> dict[str, Any] | None:
        """Stops the running training after a checkpoint."""
        task = service.trainer.stop()
        return None if task is None else task.to_dict()


def _add_models(router: APIRouter, service: Service) -> None:
    @router.get("/model/info/{model}", tags=["Model"])
    def info(model: str) -> dict[str, Any]:
        """The model in service, and all versions with the Dice of their held-out cases."""
        check_model(service, model)
        current = service.models.in_service
        versions = [version.model_dump(mode="json") for version in service.models.versions()]
        if current is None:
            raise NotFoundError("no model has been trained yet", got=model)
        file = _weights(service, current.number)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {
            "checksum": f"SHA256:{digest}",
            "modified_time": int(file.stat().st_mtime),
            "version": current.number,
            "versions": versions,
        }

    @router.get("/model/{model}", tags=["Model"], response_class=Response, responses=FILE)
    def download(model: str) -> Response:
        """The weights of the model in service, as safetensors."""
        check_model(service, model)
        current = service.models.in_service
        if current is None:
            raise NotFoundError("no model has been trained yet", got=model)
        return FileResponse(
            _weights(service, current.number), media_type=MEDIA_TYPE, filename=f"{service.name}.safetensors"
        )

    @router.put("/model/{model}/in-service", tags=["Model"])
    def put_in_service(model: str, version: int = Query(ge=0, le=10**6)) -> dict[str, Any]:
        """Lets another version predict from now on, such as one that scored worse, or an older one."""
        check_model(service, model)
        return service.models.put_in_service(version).model_dump(mode="json")


def _weights(service: Service, number: int) -> Path:
    from inflate3d.models.checkpoint import find_model_folder  # which loads torch

    folder = find_model_folder(service.models.path(number))
    if folder is None:
        raise NotFoundError("the model consists of several networks", got=f"version {number}")
    return folder / "model.safetensors"


def show_tasks(tasks: TaskList, *, all: bool, check_if_running: bool) -> dict[str, Any] | list[dict[str, Any]]:  # noqa: A002
    """Background tasks as MONAI Label's clients see them.

    Raises:
        HTTPException: 404 if there is none.
    """
    task: Task | None = tasks.running if check_if_running else tasks.newest
    if task is None:
        raise HTTPException(404, "nothing is running" if check_if_running else "nothing was started yet")
    return [each.to_dict() for each in tasks.all()] if all and not check_if_running else task.to_dict()
