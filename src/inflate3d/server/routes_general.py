"""``/info/``, ``/auth/`` and ``/logs/``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Form, HTTPException, Query
from fastapi.responses import JSONResponse, PlainTextResponse

from inflate3d.annotation.strategies import DEFAULT_STRATEGY, STRATEGIES
from inflate3d.server.guard import COOKIE, LOG_LINES, Rules
from inflate3d.server.models import ModelVersion
from inflate3d.server.service import Service
from inflate3d.version import __version__


def make_router(service: Service, rules: Rules) -> APIRouter:
    router = APIRouter()

    @router.get("/info/", tags=["App"])
    def info() -> dict[str, Any]:
        """What is annotated, the models and the strategies."""
        return _info(service)

    @router.get("/auth/", tags=["Auth"])
    def auth_enabled() -> dict[str, Any]:
        """Whether requests need a token."""
        return {"enabled": rules.token is not None, "client_id": "inflate3d", "realm": None}

    @router.post("/auth/token", tags=["Auth"])
    def token(username: str = Form(""), password: str = Form("")) -> JSONResponse:
        """Gives the token to who knows it: the password is the token, and any user name will do."""
        if rules.token is None:
            return JSONResponse({"access_token": None, "token_type": None})
        if not rules.accepts(password):
            raise HTTPException(401, "invalid token")
        answer = JSONResponse({"access_token": rules.token, "token_type": "bearer"})
        answer.set_cookie(COOKIE, rules.token, httponly=True, samesite="strict")
        return answer

    @router.get("/auth/token/valid", tags=["Auth"])
    def token_valid() -> dict[str, Any]:
        """Answered if the request's token is valid."""
        return {"username": "annotator", "roles": ["user"]}

    @router.get("/logs/", tags=["Others"], response_class=PlainTextResponse)
    def logs(lines: int = Query(300, ge=1, le=LOG_LINES)) -> str:
        """The last requests: when, which route, status, and seconds. No names of cases."""
        return "".join(f"{line}\n" for line in list(rules.log)[-lines:])

    return router


def _info(service: Service) -> dict[str, Any]:
    name, model = service.name, service.models.in_service
    description = f"segmentation of {', '.join(service.cases.coding.names)}"
    return {
        "name": name,
        "description": description,
        "version": __version__,
        "labels": list(service.cases.coding.names),
        "models": {} if model is None else {name: _model_info(service, model, description)},
        "trainers": {name: {"description": description, "config": service.trainer.options}},
        "strategies": _strategies(with_model=model is not None),
        "scoring": {"dice": {"description": "Dice of predictions with finished label maps"}},
        "train_stats": {name: _train_stats(service, model)},
        "datastore": service.statistics(),
    }


def _model_info(service: Service, model: ModelVersion, description: str) -> dict[str, Any]:
    return {
        "type": "segmentation",
        "labels": service.cases.coding.numbers,
        "dimension": 3,
        "description": description,
        "config": {},
        "version": model.number,
        "dice": model.dice,
    }


def _strategies(*, with_model: bool) -> dict[str, Any]:
    """The strategies, the default first: clients choose the first one."""
    first = DEFAULT_STRATEGY if with_model else "random"
    names = sorted(STRATEGIES, key=lambda name: name != first)
    return {name: {"description": STRATEGIES[name].about} for name in names}


def _train_stats(service: Service, model: ModelVersion | None) -> dict[str, Any]:
    """What Slicer shows as progress and accuracy; steps stand for epochs."""
    progress = service.trainer.progress()
    stats = {
        "epoch": progress.get("step", 0),
        "total_epochs": progress.get("steps", 0) or 1,
        "best_metric": (model.dice if model else None) or 0.0,
    }
    task = service.trainer.tasks.newest
    if task is not None and task.ended is not None:
        stats["total_time"] = str(task.ended - task.started)
    return stats
