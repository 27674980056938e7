"""The page at /ui: a picture in, how far it is, before and after. It asks the same `Service` as the API."""

import asyncio
import html
import importlib.resources
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hat_sr.errors import HatError
from hat_sr.inference.sizing import scaled_size
from hat_sr.serve.answers import error_answer
from hat_sr.serve.service import Service
from hat_sr.serve.store import Job

PATH = "/ui"

_PICTURE = """<label>Drop, paste or choose an image
<input type="file" accept="image/*,.tif,.tiff,.exr,.webp" aria-label="Image"><output></output></label>"""

_SECONDS_BETWEEN_LOOKS = 0.2
_AS_THE_FILE = "as the image"
_NEEDED = ("queue/join", "queue/data", "cancel", "heartbeat/", "startup-events", "reset", "info")
"""Gradio's addresses that the page asks."""
_FORMATS = {_AS_THE_FILE: None, "PNG": "png", "JPEG": "jpg", "WebP": "webp", "TIFF": "tif", "BMP": "bmp", "EXR": "exr"}


def add_page(app: FastAPI, service: Service) -> FastAPI:
    """The application with the page."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio has no other way to be told, not for all of it
    _add_shown(app, service)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        _page(service),
        path=PATH,
        footer_links=[],
        ssr_mode=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # none from the network
        css=_text("page.css"),
        head=f'<link rel="icon" href="data:,"><script>{_text("page.js")}</script>',
    )
    mounted.add_middleware(_NoFiles)
    return mounted


class _NoFiles:
    """Lets through to Gradio what the page needs, and nothing that deals with files: those go through the API alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, of_gradio, address = scope.get("path", "").partition("/gradio_api/")  # wherever that is shown
        if of_gradio and not address.startswith(_NEEDED):
            await error_answer(404, "the page has no such address")(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _add_shown(app: FastAPI, service: Service) -> None:
    """Before and after, as browsers show them."""

    @app.get(f"{PATH}/shown/{{identity}}/{{which}}", include_in_schema=False)
    def shown(identity: str, which: Literal["before", "after"]) -> FileResponse:
        before, after = service.shown(identity)
        return FileResponse(before if which == "before" else after)


def _page(service: Service) -> gr.Blocks:
    networks = service.networks
    largest = max(networks.scales.values())
    page: gr.Blocks = gr.Blocks(title="hat-sr", analytics_enabled=False)
    with page:
        gr.Markdown("# Enlarge an image\nMade larger and sharper with HAT, on this machine.")
        job = gr.State("")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                gr.HTML(_PICTURE, elem_id="picture")
                model = gr.Dropdown(networks.names, value=networks.default, label="Network", elem_id="model")
                scale = gr.Slider(1, largest, value=min(4, largest), step=0.5, label="Scale", elem_id="scale")
                kind = gr.Dropdown(list(_FORMATS), value=_AS_THE_FILE, label="Format of the result", elem_id="format")
                with gr.Row():
                    start = gr.Button("Enlarge", variant="primary", elem_id="start", min_width=120)
                    stop = gr.Button("Cancel", elem_id="stop", interactive=False, min_width=120)
            with gr.Column(scale=2, min_width=300):
                state = gr.HTML(_said("Choose an image, then Enlarge."), elem_id="state")
                slider = gr.HTML(elem_id="slider", visible=False)

        async def follow(sent: str, *_: object) -> AsyncIterator[Any]:
            async for update in _follow(service, sent):
                yield update

        def cancel(identity: str) -> Any:
            if identity:
                service.store.cancel(identity)
            return (
                _said("Cancelled.", bad=True),
                gr.update(),
                "",
                gr.update(interactive=True),
                gr.update(interactive=False),
            )

        def limit(name: str) -> Any:
            most = networks.scales.get(name, largest)
            return gr.update(maximum=most, value=min(4, most))

        outputs = [state, slider, job, start, stop]
        hidden: Any = {"show_progress": "hidden", "api_visibility": "private"}
        sent = gr.Textbox(visible=False)
        running = start.click(
            follow,
            [sent, model, scale, kind],
            outputs,
            js=f"async (_, model, scale, kind) => [await sendPicture(model, scale, {json.dumps(_FORMATS)}[kind]),"
            " model, scale, kind]",
            **hidden,
            concurrency_limit=None,
        )
        stop.click(cancel, [job], outputs, cancels=[running], **hidden, concurrency_limit=None)
        model.change(limit, [model], [scale], **hidden)
    return page


async def _follow(service: Service, sent: str) -> AsyncIterator[tuple[Any, ...]]:
    """What the page shows of a job, again and again: state, slider, the job's id, and the two buttons.

    sent: what `sendPicture` returned.
    """
    idle = (gr.update(interactive=True), gr.update(interactive=False))
    hidden = gr.update(visible=False, value="")
    if sent.startswith("!"):
        yield _said(_sentence(sent[1:]), bad=True), hidden, "", *idle
        return
    since = time.monotonic()
    try:
        job = service.job(sent)
        yield _progress(service, job), hidden, sent, gr.update(interactive=False), gr.update(interactive=True)
        while not (job := service.job(sent)).is_finished:
            yield _progress(service, job), gr.update(), sent, gr.update(), gr.update()
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        yield _done(job, service.result(sent), time.monotonic() - since), hidden, "", *idle
        await run_in_threadpool(service.shown, sent)
        yield gr.update(), gr.update(visible=True, value=_compared(job)), "", *idle
    except HatError as error:
        yield _said(_sentence(str(error)), bad=True), hidden, "", *idle
    finally:
        service.store.cancel(sent)  # if the page was left


def _said(sentence: str, *, bad: bool = False) -> str:
    role = "alert" if bad else "status"
    return f'<p role="{role}"{" class=bad" if bad else ""}>{html.escape(sentence)}</p>'


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _progress(service: Service, job: Job) -> str:
    if job.state == "queued":
        waiting = service.store.unfinished()
        place = waiting.index(job.id) if job.id in waiting else 0
        return _said(f"Waiting: {place} before this one." if place else "Waiting for its turn.")
    part, seconds = service.worker.progress(job.id)
    percent = round(100 * part)
    left = "" if seconds is None else f", {_duration(seconds)} left"
    return (
        f'<p role="status">{job.width}×{job.height} pixels by {html.escape(job.model)}: {percent} %{left}</p>'
        f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><div style="width: {percent}%"></div></div>'
    )


def _done(job: Job, result: Path, seconds: float) -> str:
    height, width = scaled_size(job.height, job.width, job.scale)
    facts = (
        f"{job.width}×{job.height} → {width}×{height} pixels, {_size(result.stat().st_size)}, "
        f"by {html.escape(job.model)} in {_duration(seconds)}."
    )
    notes = "".join(f"<br>{html.escape(_sentence(line))}" for line in job.warnings.splitlines())
    kind = job.suffix.removeprefix(".").upper()
    return (
        f'<p role="status">{facts}{notes}</p>'
        f'<a class="download" href="../v1/jobs/{job.id}/result" download>Download {kind}</a>'
    )


def _compared(job: Job) -> str:
    _, width = scaled_size(job.height, job.width, job.scale)
    images = "".join(
        f'<img class="{which}" alt="{alt}" src="shown/{job.id}/{which}" draggable="false">'
        for which, alt in (("before", "The image as it came"), ("after", "The image enlarged"))
    )
    return (
        f'<figure class="compare" style="--width: {width}px"><div class="frame"><div class="pair">{images}'
        '<div class="line"></div><span class="tag left">before</span><span class="tag right">after</span></div></div>'
        '<input type="range" min="0" max="100" value="50" step="1" aria-label="How much of the image before is shown">'
        "<label><input type=checkbox> Full size</label></figure>"
    )


def _text(name: str) -> str:
    """A file that lies beside this one."""
    return importlib.resources.files("hat_sr.serve").joinpath(name).read_text(encoding="utf-8")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"
