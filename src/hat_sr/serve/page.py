"""The page's files, and routes that answer GET and HEAD."""

import importlib.resources
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse, Response

_PAGE = (
    ("", "page.html", "text/html"),
    ("page.css", "page.css", "text/css"),
    ("page.js", "page.js", "text/javascript"),
)
"""The page's paths below /ui, its files and their kinds."""

Function = TypeVar("Function", bound=Callable[..., Any])


def get(router: APIRouter | FastAPI, path: str, **options: Any) -> Callable[[Function], Function]:
    """Have GET and HEAD answered by the function that this decorates."""

    def add(function: Function) -> Function:
        router.head(path, **{**options, "include_in_schema": False})(function)
        return router.get(path, **options)(function)

    return add


def root_of(request: Request) -> str:
    """The path under which a proxy shows all this."""
    return str(request.scope.get("root_path", ""))


def add_page(app: FastAPI, *, page: bool) -> None:
    """The page's files, none of which is named by a request; without a page, its address leads to the description."""

    @get(app, "/", include_in_schema=False)
    def home(request: Request) -> RedirectResponse:
        return RedirectResponse(root_of(request) + ("/ui/" if page else "/docs"))

    get(app, "/favicon.ico", include_in_schema=False)(_page_file("icon.svg", "image/svg+xml"))
    if page:
        get(app, "/ui", include_in_schema=False)(home)
        for path, name, kind in _PAGE:
            get(app, f"/ui/{path}", include_in_schema=False)(_page_file(name, kind))


def _page_file(name: str, media_type: str) -> Callable[[], Awaitable[Response]]:
    content = importlib.resources.files("hat_sr.serve").joinpath(name).read_bytes()

    async def file() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return file
