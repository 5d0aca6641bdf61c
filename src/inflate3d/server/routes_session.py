"""``/session/``: scans that are sent once, predicted several times, and not kept."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, File, Query, UploadFile
from fastapi.responses import FileResponse, Response

from inflate3d.errors import ConfigError
from inflate3d.server.guard import Rules
from inflate3d.server.requests import MEDIA_TYPE
from inflate3d.server.service import Service
from inflate3d.server.sessions import LONGEST


def make_router(service: Service, rules: Rules) -> APIRouter:
    router = APIRouter(prefix="/session", tags=["Session"])

    @router.put("/")
    async def create(
        files: list[UploadFile] = File(),  # noqa: B008 - FastAPI's form
        uncompress: bool = False,
        expiry: int = Query(0, ge=0, le=LONGEST),
    ) -> dict[str, Any]:
        """Begins a session with a scan's file, or the files of a DICOM series."""
        if uncompress:
            raise ConfigError("archives are refused", got="uncompress", hint="send the files themselves")
        sent = [(each.file, each.filename) for each in files]
        session = await service.readers.run(partial(service.sessions.add, sent, expiry))
        return {"session_id": session.id, "session_info": session.to_dict()}

    @router.get("/{session_id}", response_model=None)
    def get(session_id: str, update_ts: bool = False, image: bool = False) -> dict[str, Any] | Response:
        """What is known of a session, or its scan."""
        session = service.sessions.get(session_id, use=update_ts)
        if not image:
            return session.to_dict()
        if session.image.is_dir():
            raise ConfigError("the session's scan consists of several files", hint="keep the files that were sent")
        return FileResponse(session.image, media_type=MEDIA_TYPE, filename=session.image.name)

    @router.delete("/{session_id}")
    def remove(session_id: str) -> dict[str, Any]:
        """Ends a session."""
        return service.sessions.remove(session_id).to_dict()

    return router
