"""The HTTP API. Every error is `{"error": sentence}` with its status, and holds no path."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Request, UploadFile
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from hat_sr import __version__
from hat_sr.inference.sizing import scaled_size
from hat_sr.serve.answers import SHOWN_NAME, SHOWN_NAMES, answer_errors
from hat_sr.serve.kinds import MEDIA_TYPES
from hat_sr.serve.service import Service
from hat_sr.serve.settings import RefusedError
from hat_sr.serve.store import Job, State

_SECONDS_BETWEEN_LOOKS = 0.03
_SECONDS_BETWEEN_EVENTS = 0.3


class Wanted(BaseModel):
    """The fields of a form: a picture, and what is to be made of it."""

    model_config = ConfigDict(extra="forbid")

    file: UploadFile = Field(description="An image file: JPEG, PNG, TIFF, WebP, BMP, EXR or GIF.")
    scale: float | None = Field(None, description="Factor, from 1 to the network's. Default: the network's.")
    model: str | None = Field(None, description="A name of /v1/models. Default: its first.")
    format: str | None = Field(None, description="jpg, png, tif, webp, bmp or exr. Default: the file's.")
    quality: int | None = Field(None, description="1 to 100, of JPEG (default 95) and WebP (default lossless).")


Filled = Annotated[Wanted, Form(media_type="multipart/form-data")]


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


class Network(BaseModel):
    """A network on offer."""

    name: str
    scale: int | None = Field(description="The largest factor; none for auto, which takes the network that suits.")
    default: bool


def create_app(service: Service) -> FastAPI:
    """The application, for any ASGI server, without the page; to be guarded by `Guard`."""
    app = FastAPIOffline(
        redoc_url=None, title="hat-sr", version=__version__, description="Makes images larger and sharper with HAT."
    )
    answer_errors(app, fields=Wanted.model_fields)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(_refuse_query)], responses=_errors(422))
    _add_pictures(v1, service)
    _add_jobs(v1, service)
    _add_networks(v1, service)
    app.include_router(v1)
    _add_status(app, service)
    return app


def _refuse_query(request: Request) -> None:
    """No address below /v1 takes parameters behind a question mark: they would be ignored."""
    if request.query_params:
        names = ", ".join(name[:SHOWN_NAME] for name in list(request.query_params)[:SHOWN_NAMES])
        raise RefusedError(
            422, f"{names}: addresses below /v1 take no parameters; the fields of a form go into its body"
        )


def _refuse_other_bodies(request: Request) -> None:
    """A picture that is sent as it is, or JSON, would be read as a form of strange fields."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RefusedError(415, "send a form (multipart/form-data) whose field 'file' is the image")


def _add_pictures(v1: APIRouter, service: Service) -> None:
    @v1.post(
        "/upscale",
        summary="Enlarge a small picture; the answer is the picture",
        response_class=FileResponse,
        responses=_errors(413, 415, 422, 429, 504),
        dependencies=[Depends(_refuse_other_bodies)],
    )
    async def upscale(request: Request, wanted: Filled) -> FileResponse:
        job = await run_in_threadpool(_submit, service, wanted, direct=True)
        deadline = time.monotonic() + service.settings.direct_seconds
        while not service.job(job.id).is_finished:
            if await request.is_disconnected():
                service.store.cancel(job.id)
            elif time.monotonic() > deadline:
                service.store.cancel(job.id)
                limit = f"{service.settings.direct_seconds:g} s"
                raise RefusedError(504, f"it took longer than {limit}: send the picture to /v1/jobs instead")
            else:
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        return _file(service, job, BackgroundTask(service.store.remove, job.id))


def _add_jobs(v1: APIRouter, service: Service) -> None:
    missing = _errors(404)

    @v1.post(
        "/jobs",
        summary="Enlarge a picture of any size; the answer is a job",
        status_code=202,
        response_model=JobView,
        responses=_errors(413, 415, 422, 429),
        dependencies=[Depends(_refuse_other_bodies)],
    )
    def add(request: Request, response: Response, wanted: Filled) -> JobView:
        job = _submit(service, wanted)
        response.headers["Location"] = f"{_root(request)}/v1/jobs/{job.id}"
        return _view(service, job)

    @v1.get("/jobs/{identity}", summary="How far a job is", response_model=JobView, responses=missing)
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

    @v1.get(
        "/jobs/{identity}/result",
        summary="The picture that a job made",
        response_class=FileResponse,
        responses=_errors(404, 409, 410),
    )
    def result(identity: str) -> FileResponse:
        return _file(service, service.job(identity))

    @v1.delete(
        "/jobs/{identity}",
        summary="Cancel a job that is unfinished; forget one that is finished",
        status_code=204,
        responses=missing,
    )
    def delete(identity: str) -> None:
        service.delete(identity)


def _add_networks(v1: APIRouter, service: Service) -> None:
    @v1.get("/models", summary="The networks on offer", response_model=list[Network])
    def models() -> list[Network]:
        networks = service.networks
        return [
            Network(name=name, scale=networks.scales.get(name), default=name == networks.default)
            for name in networks.names
        ]


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process answers", response_class=PlainTextResponse)
    def healthy() -> str:
        return "ok\n"

    @app.get("/readyz", summary="Whether pictures are worked on", response_class=PlainTextResponse)
    def ready() -> PlainTextResponse:
        alive = service.worker.is_alive()
        return PlainTextResponse("ok\n" if alive else "the worker has ended\n", 200 if alive else 503)

    @app.get("/metrics", summary="Counters, for Prometheus", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    def home(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{_root(request)}/ui/")


def _submit(service: Service, wanted: Wanted, *, direct: bool = False) -> Job:
    return service.submit(
        wanted.file.file,
        scale=wanted.scale,
        model=wanted.model,
        format=wanted.format,
        quality=wanted.quality,
        direct=direct,
    )


def _root(request: Request) -> str:
    """The path under which a proxy shows all this."""
    return str(request.scope.get("root_path", ""))


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
        headers={"X-Model": job.model, "X-Content-Type-Options": "nosniff"},
        background=background,
    )


async def _events(service: Service, identity: str) -> AsyncIterator[str]:
    while True:
        try:
            view = _view(service, service.job(identity))
        except RefusedError as refusal:  # it was forgotten meanwhile
            yield f"event: gone\ndata: {Error(error=str(refusal)).model_dump_json()}\n\n"
            return
        unfinished = view.state in ("queued", "running")
        yield f"event: {'progress' if unfinished else view.state}\ndata: {view.model_dump_json()}\n\n"
        if not unfinished:
            return
        await asyncio.sleep(_SECONDS_BETWEEN_EVENTS)
