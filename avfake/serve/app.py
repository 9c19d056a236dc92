"""The HTTP application: which address means what."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import re
import secrets
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from avfake import __version__
from avfake.serve import schemas, work
from avfake.serve.description import (
    DESCRIPTION,
    FORM,
    NO_VIEW,
    PNG,
    REFUSED,
    guarded,
    refusals,
)
from avfake.serve.docs import DOCS_POLICY, document
from avfake.serve.faults import ApiError
from avfake.serve.guards import COOKIE, PAGE_POLICY, Guards
from avfake.serve.jobs import Job, Jobs
from avfake.serve.settings import Settings
from avfake.serve.store import Store
from avfake.serve.upload import Gone, Upload, receive_upload, stored_name

PAGE = Path(__file__).parent / "page"
SAMPLE = Path(__file__).parent / "sample.mp4"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

log = logging.getLogger("avfake.serve")

router = APIRouter()


def make_app(settings: Settings, store: Store, jobs: Jobs) -> FastAPI:
    """The application. `jobs` is open for as long as it serves."""
    app = FastAPI(
        title="avfake",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings, app.state.store, app.state.jobs = settings, store, jobs
    app.state.viewing = secrets.token_urlsafe(32)
    app.include_router(router, responses=REFUSED)
    if settings.token is not None:
        guarded(app.openapi())
    app.mount("/page", _Files(directory=PAGE))
    app.add_middleware(Guards, settings=settings, viewing=app.state.viewing)
    for kind in (ApiError, HTTPException, RequestValidationError, Gone):
        app.add_exception_handler(kind, _refused)
    return app


@router.post(
    "/v1/predictions",
    status_code=202,
    response_model=schemas.Job,
    responses=refusals(
        *("bad_form", "too_slow", "file_too_large", "not_a_form", "wrong_part", "busy", "no_room")
    ),
    openapi_extra=FORM,
    tags=["clips"],
)
async def send_a_clip(request: Request) -> Response:
    """Send a clip to be judged: one file, in a part called `file`."""
    state = request.app.state
    most = state.settings.limits.bytes
    return await _added(request, lambda folder: receive_upload(request, state.store, folder, most))


@router.post(
    "/v1/predictions/sample",
    status_code=202,
    response_model=schemas.Job,
    responses=refusals("busy", "no_room"),
    tags=["clips"],
)
async def judge_the_sample(request: Request) -> Response:
    """Judge the sample clip that comes with avfake: a portrait that a script makes talk."""
    return await _added(request, lambda folder: asyncio.to_thread(_copy_sample, folder))


@router.get(
    "/v1/predictions/{id}",
    response_model=schemas.Job,
    responses=refusals("not_found"),
    tags=["clips"],
)
async def ask_for_a_clip(request: Request, id: str) -> Response:
    """How far a clip is, and its result once there is one."""
    return _job(request, request.app.state.jobs.get(id), 200)


@router.delete(
    "/v1/predictions/{id}",
    status_code=204,
    response_class=Response,
    responses=refusals("not_found"),
    tags=["clips"],
)
async def delete_a_clip(request: Request, id: str) -> Response:
    """Stop judging a clip, and remove all that is known of it."""
    jobs: Jobs = request.app.state.jobs
    await jobs.remove(jobs.get(id))
    return Response(status_code=204)


@router.get(
    "/v1/predictions/{id}/media",
    response_class=FileResponse,
    responses={
        200: {"description": "The clip, or a preview of it.", "content": {"*/*": {}}},
        206: {"description": "The bytes that `Range` asks for.", "content": {"*/*": {}}},
        **refusals("not_found", "no_media", "not_done", "no_such_range"),
    },
    tags=["evidence"],
)
async def play_a_clip(request: Request, id: str) -> Response:
    """The clip to play; where it is a preview that is still being made, this waits for it."""
    job: Job = request.app.state.jobs.get(id)
    playback = _judged(job).playback
    path: Path | None = job.upload.path
    if playback is not None and playback.type is None:
        path = None if job.preview is None else await _while_there(request, job.preview)
    if playback is None or path is None:
        raise ApiError(404, "no_media", "There is nothing to play.")
    try:
        facts = await asyncio.to_thread(path.stat)
    except FileNotFoundError:  # it was deleted meanwhile
        raise ApiError(404, "not_found", "There is no such prediction any more.") from None
    _check_range(request, facts.st_size)
    kind = playback.type or f"{playback.kind}/mp4"
    return FileResponse(path, media_type=kind, filename=job.upload.name, stat_result=facts)


@router.get(
    "/v1/predictions/{id}/heatmap",
    response_class=Response,
    responses={
        200: {
            "content": PNG,
            "description": "The crop of the picture nearest in time. The headers `X-Time` "
            "(seconds) and `X-Fake-Probability` say which, and how it was scored.",
        },
        **refusals("no_such_face", "bad_request", *NO_VIEW),
    },
    tags=["evidence"],
)
async def see_a_face(
    request: Request,
    id: str,
    time: Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False, description="Seconds.")],
    track: Annotated[int, Query(ge=0, le=10**6, description="Which face.")] = 0,
) -> Response:
    """A face as the picture branch saw it, with what spoke for and against a fake laid over it."""
    png, when, probability = await _view(request, id, partial(work.heat_map, track, time))
    headers = {"X-Time": f"{when:.3f}", "X-Fake-Probability": f"{probability:.4f}"}
    return Response(png, media_type="image/png", headers=headers)


@router.get(
    "/v1/predictions/{id}/spectrogram",
    response_class=Response,
    responses={
        200: {"content": PNG, "description": "From second 0 to the clip's duration."},
        **refusals("no_sound", *NO_VIEW),
    },
    tags=["evidence"],
)
async def see_the_sound(request: Request, id: str) -> Response:
    """The sound as a log-mel spectrogram."""
    png = await _view(request, id, work.spectrogram_png)
    return Response(png, media_type="image/png")


@router.get(
    "/v1/predictions/{id}/waveform",
    response_model=schemas.Wave,
    responses=refusals("no_sound", "bad_request", *NO_VIEW),
    tags=["evidence"],
)
async def see_the_wave(
    request: Request,
    id: str,
    columns: Annotated[int, Query(ge=1, le=4000, description="How many stretches.")] = 800,
) -> Response:
    """The sound's outline."""
    return JSONResponse(await _view(request, id, partial(work.wave, columns)))


@router.get(
    "/v1/predictions/{id}/report",
    response_class=Response,
    responses={
        200: {
            "content": {"text/html": {"schema": {"type": "string"}}},
            "description": "One HTML file that needs nothing else.",
        },
        **refusals(*NO_VIEW),
    },
    tags=["evidence"],
)
async def get_the_report(request: Request, id: str) -> Response:
    """The report to keep: everything on one page, pictures included, no script."""
    job: Job = request.app.state.jobs.get(id)
    task = partial(work.report, job.upload.name, job.credentials)
    html = await _view(request, id, task)
    headers = {
        "content-disposition": 'attachment; filename="avfake-report.html"',
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
        "img-src data:; sandbox",
    }
    return HTMLResponse(html, headers=headers)


@router.post("/v1/session", status_code=204, response_class=Response, tags=["server"])
async def open_a_session(request: Request) -> Response:
    """A cookie for elements that can send no token. It is good for reading, in this run only."""
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE, request.app.state.viewing, path=None, httponly=True, samesite="strict"
    )
    return response


@router.get("/v1/about", response_model=schemas.About, tags=["server"])
async def about(request: Request) -> Response:
    """Which models judge, by which thresholds and within which limits."""
    settings: Settings = request.app.state.settings
    facts: work.Facts = request.app.state.jobs.facts
    limits = settings.limits
    body = {
        "version": __version__,
        "bundle": facts.bundle,
        "shipped": facts.shipped,
        "thresholds": facts.thresholds,
        "limits": {
            "bytes": limits.bytes,
            "seconds": _finite(limits.seconds),
            "pixels": limits.pixels,
            "decode_seconds": _finite(limits.decode_seconds),
            "timeout": settings.timeout,
        },
        "workers": settings.workers,
        "queue": settings.queue,
        "keep": settings.keep,
    }
    return JSONResponse(body)


@router.get("/healthz", response_model=schemas.Health, tags=["server"])
async def health(request: Request) -> Response:
    """Whether clips can be judged."""
    fault = request.app.state.jobs.fault
    if fault is not None:
        raise ApiError(503, fault, "No clip can be judged at present; the server's log says why.")
    return JSONResponse({"status": "ok"})


@router.get("/", include_in_schema=False)
async def page() -> Response:
    return FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    html = document(request.app.openapi())
    return HTMLResponse(html, headers={"content-security-policy": DOCS_POLICY})


_PAGE_HEADERS = {"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"}


class _Files(StaticFiles):
    """The page's files, which browsers ask for again each time: they change with avfake."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_PAGE_HEADERS)
        return response


async def _added(request: Request, bring: Callable[[Path], Any]) -> Response:
    """Bring a clip into a new folder and queue it; the folder is gone if anything goes wrong."""
    jobs: Jobs = request.app.state.jobs
    store: Store = request.app.state.store
    with jobs.place():
        try:
            folder = await asyncio.to_thread(store.new)
            try:
                job = jobs.add(await bring(folder), folder)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(store.remove, folder))
                raise
        except OSError as error:
            log.error("a clip cannot be stored: %s", error.strerror)
            raise ApiError(507, "no_room", "There is no room left for this file.") from None
    return _job(request, job, 202)


def _copy_sample(folder: Path) -> Upload:
    path = folder / stored_name(SAMPLE.name)
    shutil.copyfile(SAMPLE, path)
    content = path.read_bytes()
    return Upload(path, SAMPLE.name, len(content), hashlib.sha256(content).hexdigest())


def _job(request: Request, job: Job, status: int) -> Response:
    body = job.body(request.app.state.jobs.position(job))
    return Response(body, status, media_type="application/json")


def _judged(job: Job) -> work.Judged:
    if job.judged is None:
        raise ApiError(409, "not_done", "This clip is not judged yet.")
    return job.judged


async def _view(request: Request, id: str, task: Callable[..., Any]) -> Any:
    """What a worker answers to a task about a clip that was judged."""
    jobs: Jobs = request.app.state.jobs
    prediction = _judged(jobs.get(id)).prediction
    viewing = asyncio.create_task(jobs.view(partial(task, prediction)))
    try:
        return await _while_there(request, viewing)
    finally:
        viewing.cancel()


async def _while_there(request: Request, task: asyncio.Task[Any]) -> Any:
    """What a task gives, waited for as long as the client does."""
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
    if not task.done():
        raise Gone
    if task.cancelled():  # its clip was deleted
        raise ApiError(404, "not_found", "There is no such prediction any more.")
    return task.result()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_range(request: Request, size: int) -> None:
    """Let through what can be served of a `Range` header; others are ignored, as RFC 9110 has it,
    and what lies beyond the end is a 416."""
    wanted = request.headers.get("range")
    match = None if wanted is None else _RANGE.fullmatch(wanted.strip())
    first, last = ("", "") if match is None else match.groups()
    if not (first or last) or (first and last and int(first) > int(last)):
        raw = request.scope["headers"]
        request.scope["headers"] = [(name, value) for name, value in raw if name != b"range"]
    elif (int(first) >= size) if first else (int(last) == 0 or size == 0):
        raise ApiError(
            416, "no_such_range", "The clip ends before that.", {"Content-Range": f"bytes */{size}"}
        )


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, ApiError):
        return error.response()
    if isinstance(error, RequestValidationError):
        where = ".".join(str(part) for part in error.errors()[0]["loc"][1:])
        return ApiError(422, "bad_request", f"The parameter '{where}' is not right.").response()
    if isinstance(error, HTTPException):
        reasons = {404: "not_found", 405: "not_allowed"}
        messages = {404: "There is nothing here.", 405: "That cannot be done here."}
        code = error.status_code
        headers = dict(error.headers or {})
        if code == 405 and "Allow" in headers:
            headers["Allow"] = _allowed(request) or headers["Allow"]
        reason, message = reasons.get(code, "refused"), messages.get(code, "That was refused.")
        return ApiError(code, reason, message, headers).response()
    return Response(status_code=400)  # Gone: nobody reads it


def _allowed(request: Request) -> str:
    """All methods of an address: Starlette tells those of its first route."""
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    first = next((route for route in routes if route.path_regex.match(request.url.path)), None)
    same = [r.methods or () for r in routes if first is not None and r.path == first.path]
    return ", ".join(sorted({method for methods in same for method in methods}))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
