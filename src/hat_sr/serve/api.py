"""The HTTP API, and the page's files. Every error is `{"error": sentence}` with its status, and holds no path."""

import asyncio
import importlib.resources
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp

from hat_sr import __version__
from hat_sr.inference.sizing import scaled_size
from hat_sr.serve.answers import SHOWN_NAME, SHOWN_NAMES, answer_errors
from hat_sr.serve.form import DESCRIPTION, Form, Uploads
from hat_sr.serve.guard import Guard
from hat_sr.serve.service import MEDIA_TYPES, Service
from hat_sr.serve.settings import RefusedError
from hat_sr.serve.store import Job, State

_SECONDS_BETWEEN_LOOKS = 0.03
_SECONDS_BETWEEN_EVENTS = 0.3
_LONGEST_WARNINGS = 4000
_PAGE = (
    ("", "page.html", "text/html"),
    ("page.css", "page.css", "text/css"),
    ("page.js", "page.js", "text/javascript"),
)
"""The page's paths below /ui, its files and their kinds."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Error(BaseModel):
    """What is answered instead."""

    error: str


class JobView(BaseModel):
    """A job as clients see it."""

    id: str
    state: State
    progress: float = Field(description="The part that is done, 0 to 1.")
    seconds_left: float | None = Field(description="Of a running job, as far as that can be said.")
    place: int | None = Field(description="How many jobs come before it, of one that waits.")
    model: str
    scale: float
    width: int
    height: int
    result_width: int
    result_height: int
    format: str
    error: str | None = Field(description="Why there is no result.")
    warnings: list[str] = Field(description="What was converted or lost.")


class NetworkView(BaseModel):
    """A network on offer."""

    name: str
    scale: int | None = Field(description="The largest factor; none for auto, which takes the network that suits.")
    default: bool


def application(service: Service) -> ASGIApp:
    """All that a server answers, for any ASGI server."""
    app = FastAPIOffline(
        redoc_url=None,
        title="hat-sr",
        version=__version__,
        description="Makes images larger and sharper with HAT.",
        redirect_slashes=False,
    )
    answer_errors(app, fields=Form.model_fields)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(_refuse_query)], responses=_errors(422))
    uploads = Uploads(service)
    _add_pictures(v1, service, uploads)
    _add_jobs(v1, service, uploads)
    _add_networks(v1, service)
    app.include_router(v1)
    _add_status(app, service)
    _add_page(app, page=service.settings.page)
    return Guard(app, settings=service.settings, metrics=service.metrics)


def _refuse_query(request: Request) -> None:
    """No address below /v1 takes parameters behind a question mark: they would be ignored."""
    if request.query_params:
        names = ", ".join(name[:SHOWN_NAME] for name in list(request.query_params)[:SHOWN_NAMES])
        raise RefusedError(
            422, f"{names}: addresses below /v1 take no parameters; the fields of a form go into its body"
        )


def _get(router: APIRouter | FastAPI, path: str, **options: Any) -> Callable[[Function], Function]:
    """Have GET and HEAD answered by the function that this decorates."""

    def add(function: Function) -> Function:
        router.head(path, **{**options, "include_in_schema": False})(function)
        return router.get(path, **options)(function)

    return add


def _root(request: Request) -> str:
    """The path under which a proxy shows all this."""
    return str(request.scope.get("root_path", ""))


def _add_pictures(v1: APIRouter, service: Service, uploads: Uploads) -> None:
    @v1.post(
        "/upscale",
        summary="Enlarge a small picture; the answer is the picture",
        response_class=FileResponse,
        responses=_errors(408, 413, 415, 422, 429, 503, 504),
        openapi_extra=DESCRIPTION,
    )
    async def upscale(request: Request) -> FileResponse:
        job = await uploads.take(request, direct=True)
        deadline = time.monotonic() + service.settings.direct_seconds
        while not (job := await run_sync(service.job, job.id)).is_finished:
            if await request.is_disconnected():
                await run_sync(service.store.cancel, job.id)
            elif time.monotonic() > deadline:
                await run_sync(service.store.cancel, job.id)
                limit = f"{service.settings.direct_seconds:g} s"
                raise RefusedError(504, f"it took longer than {limit}: send the picture to /v1/jobs instead")
            else:
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        return await run_sync(_file, service, job, BackgroundTask(service.store.remove, job.id))


def _add_jobs(v1: APIRouter, service: Service, uploads: Uploads) -> None:
    missing = _errors(404)

    @v1.post(
        "/jobs",
        summary="Enlarge a picture of any size; the answer is a job",
        status_code=202,
        response_model=JobView,
        responses=_errors(408, 413, 415, 422, 429, 503),
        openapi_extra=DESCRIPTION,
    )
    async def add(request: Request, response: Response) -> JobView:
        job = await uploads.take(request)
        if await request.is_disconnected():  # then nobody knows its id
            await run_sync(service.store.cancel, job.id)
        response.headers["Location"] = f"{_root(request)}/v1/jobs/{job.id}"
        return await run_sync(_view, service, job)

    @_get(v1, "/jobs/{identity}", summary="How far a job is", response_model=JobView, responses=missing)
    def show(identity: str) -> JobView:
        return _view(service, service.job(identity))

    @v1.get(
        "/jobs/{identity}/events",
        summary="How far a job is, again and again until it is finished: server-sent events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}, **missing},
    )
    def events(identity: str) -> StreamingResponse:
        service.job(identity)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second is for nginx
        return StreamingResponse(_events(service, identity), media_type="text/event-stream", headers=headers)

    made: dict[str, Any] = {"response_class": FileResponse, "responses": _errors(404, 409, 410)}

    @_get(v1, "/jobs/{identity}/result", summary="The picture that a job made", **made)
    def result(identity: str) -> FileResponse:
        return _file(service, service.job(identity))

    @_get(v1, "/jobs/{identity}/before", summary="The picture that came, in a format that browsers show", **made)
    async def before(identity: str) -> FileResponse:
        return FileResponse(await uploads.in_thread(partial(service.before, identity)))

    @_get(v1, "/jobs/{identity}/after", summary="The picture that was made, in a format that browsers show", **made)
    async def after(identity: str) -> FileResponse:
        return FileResponse(await uploads.in_thread(partial(service.after, identity)))

    @v1.delete(
        "/jobs/{identity}",
        summary="Cancel a job that is unfinished; forget one that is finished",
        status_code=204,
        responses=missing,
    )
    def delete(identity: str) -> None:
        service.delete(identity)


def _add_networks(v1: APIRouter, service: Service) -> None:
    @_get(v1, "/models", summary="The networks on offer", response_model=list[NetworkView])
    def models() -> list[NetworkView]:
        networks = service.networks
        return [
            NetworkView(name=name, scale=networks.scales.get(name), default=name == networks.default)
            for name in networks.names
        ]


def _add_status(app: FastAPI, service: Service) -> None:
    plain: dict[str, Any] = {"response_class": PlainTextResponse}

    @_get(app, "/healthz", summary="Whether the process answers", **plain)
    async def healthy() -> str:
        return "ok\n"

    @_get(app, "/readyz", summary="Whether pictures are worked on", **plain)
    async def ready() -> PlainTextResponse:
        alive = service.worker.is_alive()
        return PlainTextResponse("ok\n" if alive else "the worker has ended\n", 200 if alive else 503)

    @_get(app, "/metrics", summary="Counters, for Prometheus", **plain)
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI, *, page: bool) -> None:
    """The page's files, none of which is named by a request; without a page, its address leads to the description."""

    @_get(app, "/", include_in_schema=False)
    def home(request: Request) -> RedirectResponse:
        return RedirectResponse(_root(request) + ("/ui/" if page else "/docs"))

    _get(app, "/favicon.ico", include_in_schema=False)(_page_file("icon.svg", "image/svg+xml"))
    if page:
        _get(app, "/ui", include_in_schema=False)(home)
        for path, name, kind in _PAGE:
            _get(app, f"/ui/{path}", include_in_schema=False)(_page_file(name, kind))


def _page_file(name: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    content = importlib.resources.files("hat_sr.serve").joinpath(name).read_bytes()

    async def file() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return file


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI page: these statuses come with an `Error`."""
    return {status: {"model": Error} for status in statuses}


def _view(service: Service, job: Job) -> JobView:
    part, seconds_left = service.worker.progress(job.id) if job.state == "running" else (0.0, None)
    waiting = service.store.unfinished() if job.state == "queued" else []
    height, width = scaled_size(job.height, job.width, job.scale)
    return JobView(
        id=job.id,
        state=job.state,
        progress=1.0 if job.state == "done" else round(part, 4),
        seconds_left=None if seconds_left is None else round(seconds_left, 1),
        place=waiting.index(job.id) if job.id in waiting else None,
        model=job.model,
        scale=job.scale,
        width=job.width,
        height=job.height,
        result_width=width,
        result_height=height,
        format=job.suffix.removeprefix("."),
        error=job.error,
        warnings=job.warnings.splitlines(),
    )


def _file(service: Service, job: Job, background: BackgroundTask | None = None) -> FileResponse:
    path = service.result(job.id)
    return FileResponse(
        path,
        media_type=MEDIA_TYPES[job.suffix],
        filename=f"result_x{job.scale:g}{job.suffix}",
        headers={"X-Model": quote(job.model), "X-Warnings": _header(job.warnings.splitlines())},
        background=background,
    )


def _header(lines: list[str]) -> str:
    """A list in JSON, as far as a header has room for it."""
    while len(text := json.dumps(lines)) > _LONGEST_WARNINGS:
        lines = lines[:-1]
    return text


async def _events(service: Service, identity: str) -> AsyncIterator[str]:
    while True:
        try:
            view = await run_sync(lambda: _view(service, service.job(identity)))
        except RefusedError as refusal:  # it was forgotten meanwhile
            yield f"event: gone\ndata: {Error(error=str(refusal)).model_dump_json()}\n\n"
            return
        unfinished = view.state in ("queued", "running")
        yield f"event: {'progress' if unfinished else view.state}\ndata: {view.model_dump_json()}\n\n"
        if not unfinished:
            return
        await asyncio.sleep(_SECONDS_BETWEEN_EVENTS)
