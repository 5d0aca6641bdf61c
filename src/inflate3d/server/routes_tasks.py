"""``/activelearning/``, ``/batch/infer/`` and ``/scoring/``."""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Body, Query

from inflate3d.annotation.strategies import Candidate, find_strategy, order_cases
from inflate3d.errors import Inflate3dError
from inflate3d.server.cases import AnnotatedCase
from inflate3d.server.faults import BusyError, NotFoundError
from inflate3d.server.guard import Rules
from inflate3d.server.requests import check_model, client_of
from inflate3d.server.routes_datastore import describe
from inflate3d.server.routes_training import show_tasks
from inflate3d.server.service import Service
from inflate3d.server.tasks import Task

RESERVED = 3600
"""Seconds for which a case that one client got as the next is not given to others, if there is another."""

SCORING = "dice"

_LARGEST_SEED = 2**32

Images = Literal["all", "labeled", "unlabeled"]


def make_router(service: Service, rules: Rules) -> APIRouter:
    router = APIRouter()
    _add_next(router, service)
    _add_batch(router, service)
    _add_scoring(router, service)
    return router


def _add_next(router: APIRouter, service: Service) -> None:
    @router.post("/activelearning/{strategy}", tags=["ActiveLearning"])
    def next_sample(strategy: str, params: dict[str, Any] | None = Body(None)) -> dict[str, Any]:  # noqa: B008
        """The case to label next by a strategy; empty if all are labeled."""
        find_strategy(strategy)
        client = client_of(params or {})
        case = choose_next(service, strategy, client)
        if case is None:
            return {}
        service.cases.note(case.id, {"given": {"to": client, "at": int(time.time()), "strategy": strategy}})
        return {"id": case.id, **describe(service, case)}


def choose_next(service: Service, strategy: str, client: str | None) -> AnnotatedCase | None:
    """The case to label next; rather one that no other client got lately, and that nobody has begun."""
    cases = {case.id: case for case in service.cases}
    candidates = [Candidate(case.id, labeled=case.labeled, confidence=_confidence(case)) for case in cases.values()]
    order = [cases[name] for name in order_cases(strategy, candidates, secrets.randbelow(_LARGEST_SEED))]
    free = [case for case in order if not _is_taken(case, client)]
    return next(iter(free or order), None)


def _confidence(case: AnnotatedCase) -> dict[str, float] | None:
    predicted = case.history.newest("predicted")
    return None if predicted is None else predicted.confidence


def _is_taken(case: AnnotatedCase, client: str | None) -> bool:
    draft, given = case.history.newest("draft"), case.notes.get("given", {})
    if draft is not None and draft.by != client:
        return True
    return given.get("to") != client and time.time() - given.get("at", 0) < RESERVED


def _add_batch(router: APIRouter, service: Service) -> None:
    @router.get("/batch/infer", tags=["Infer"], response_model=None)
    def status(all: bool = False, check_if_running: bool = False) -> dict[str, Any] | list[dict[str, Any]]:  # noqa: A002
        """The last predictions of many cases; 404 if there were none."""
        return show_tasks(service.batches, all=all, check_if_running=check_if_running)

    @router.post("/batch/infer/{model}", tags=["Infer"])
    async def start(
        model: str,
        images: Images = "all",
        params: dict[str, Any] | None = Body(None),  # noqa: B008
        run_sync: bool = False,
    ) -> dict[str, Any]:
        """Predicts all cases, or those that are labeled or not; each prediction is saved as ``predicted``."""
        check_model(service, model)
        if service.batches.running:
            raise BusyError("predictions are running", hint="wait, or stop them: DELETE /batch/infer")
        cases = [case for case in service.cases if images == "all" or case.labeled == (images == "labeled")]
        task = service.batches.add(Task({"model": model, "images": images}))
        service.loop_tasks.add(running := asyncio.ensure_future(_predict_all(service, cases, task)))
        running.add_done_callback(service.loop_tasks.discard)
        if run_sync:
            await running
        return task.to_dict()

    @router.delete("/batch/infer", tags=["Infer"])
    def stop() -> dict[str, Any] | None:
        """Stops after the case that is being predicted."""
        task = service.batches.running
        if task is not None:
            task.end("STOPPED", "stopped")
        return None if task is None else task.to_dict()


async def _predict_all(service: Service, cases: list[AnnotatedCase], task: Task) -> None:
    done, failed, warnings = 0, {}, {}
    for case in cases:
        if not task.running:
            return
        try:
            version, _ = await service.predictions.run(partial(service.predict_case, case))
            done += 1
            if found := [warning["what"] for warning in version.info.get("warnings", [])]:
                warnings[case.id] = found
        except Inflate3dError as error:
            failed[case.id] = error.what
        task.details.append(f"{done + len(failed)} of {len(cases)}")
    result = {"predicted": done, "failed": failed, "warnings": warnings}
    task.end("ERROR" if failed else "DONE", f"{done} predicted, {len(failed)} failed", result)


def _add_scoring(router: APIRouter, service: Service) -> None:
    @router.get("/scoring/", tags=["Scoring"], response_model=None)
    def status(all: bool = False, check_if_running: bool = False) -> dict[str, Any] | list[dict[str, Any]]:  # noqa: A002
        """The last scoring; 404 if there was none."""
        return show_tasks(service.scorings, all=all, check_if_running=check_if_running)

    @router.post("/scoring/{method}", tags=["Scoring"])
    async def start(
        method: str,
        params: dict[str, Any] | None = Body(None),  # noqa: B008
        run_sync: bool = Query(False),
    ) -> dict[str, Any]:
        """Dice of the newest predictions with the finished label maps of the same cases."""
        if method != SCORING:
            raise NotFoundError("scoring method not found", expected=SCORING, got=method)
        if service.scorings.running:
            raise BusyError("scoring is running", hint="wait until it has finished")
        task = service.scorings.add(Task({"method": method}))
        service.loop_tasks.add(running := asyncio.ensure_future(_score_all(service, task)))
        running.add_done_callback(service.loop_tasks.discard)
        if run_sync:
            await running
        return task.to_dict()

    @router.delete("/scoring/", tags=["Scoring"])
    def stop() -> dict[str, Any] | None:
        """Stops after the case that is being scored."""
        task = service.scorings.running
        if task is not None:
            task.end("STOPPED", "stopped")
        return None if task is None else task.to_dict()


async def _score_all(service: Service, task: Task) -> None:
    scores: dict[str, float] = {}
    failed: dict[str, str] = {}
    for case in service.cases:
        if not task.running:
            return
        try:
            value = await service.readers.run(partial(service.score_case, case))
        except Inflate3dError as error:
            failed[case.id] = error.what
            continue
        if value is not None:
            scores[case.id] = round(value, 4)
    mean = sum(scores.values()) / len(scores) if scores else None
    result = {"cases": scores, "mean": mean, "failed": failed}
    task.end("ERROR" if failed else "DONE", f"{len(scores)} cases scored, {len(failed)} failed", result)
