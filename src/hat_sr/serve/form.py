"""The form that brings a picture: its fields, and how it is taken within limits, away from the event loop."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from hat_sr.serve.service import Service
from hat_sr.serve.settings import RefusedError
from hat_sr.serve.store import Job

T = TypeVar("T")

_FILES_AT_A_TIME = 4
"""Image files that requests have opened, each in a process and a thread: the other threads answer meanwhile."""
_MOST_FIELDS, _MOST_BYTES_OF_FIELD = 100, 10_000
_TYPE = "multipart/form-data"


class Form(BaseModel):
    """A picture, and what is to be made of it."""

    model_config = ConfigDict(extra="forbid")

    file: UploadFile = Field(description="An image file: JPEG, PNG, TIFF, WebP, BMP, EXR or GIF.")
    scale: float | None = Field(None, description="Factor, from 1 to the network's. Default: the network's.")
    model: str | None = Field(None, description="A name of /v1/models. Default: its first.")
    format: str | None = Field(None, description="jpg, png, tif, webp, bmp or exr. Default: the file's.")
    quality: int | None = Field(None, description="1 to 100, of JPEG (default 95) and WebP (default lossless).")


DESCRIPTION: dict[str, Any] = {
    "requestBody": {"required": True, "content": {_TYPE: {"schema": Form.model_json_schema()}}}
}
"""Of the form, for OpenAPI."""


class _Parser(MultiPartParser):
    def on_headers_finished(self) -> None:
        """A part whose name of a file is in another alphabet (`filename*=UTF-8''…`, RFC 5987) is a file, too."""
        part = self._current_part
        if part.content_disposition is not None:
            part.content_disposition = re.sub(rb";\s*filename\*\s*=", b"; filename=", part.content_disposition)
        super().on_headers_finished()


async def read_form(request: Request) -> Form:
    """The form of a request; its file is to be closed. Nothing that the client says becomes the name of a file.

    Raises RefusedError (415) for another kind of body, (422) for a field that comes twice, HTTPException (400) for a
    form that is broken, RequestValidationError (422) for fields that there are not or that make no sense.
    """
    if not request.headers.get("content-type", "").lower().startswith(_TYPE):
        raise RefusedError(415, f"send a form ({_TYPE}) whose field 'file' is the image")
    limits: dict[str, Any] = {"max_fields": _MOST_FIELDS, "max_part_size": _MOST_BYTES_OF_FIELD}
    try:
        data = await _Parser(request.headers, request.stream(), max_files=2, **limits).parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form is broken: {error.message}") from error
    try:
        for name, number in Counter(name for name, _ in data.multi_items()).items():
            if number > 1 and name in Form.model_fields:
                raise RefusedError(422, f"{name}: the field comes {number} times, and is accepted once")
        return Form.model_validate({name: value for name, value in data.items() if value != ""})
    except ValidationError as error:
        await data.close()
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error
    except RefusedError:
        await data.close()
        raise


class Uploads:
    """Takes pictures from requests, of which so many may be unfinished; opens their files away from the event loop."""

    def __init__(self, service: Service) -> None:
        self._service, self._num_uploads = service, 0
        self._limiter = CapacityLimiter(_FILES_AT_A_TIME)

    async def take(self, request: Request, *, direct: bool = False) -> Job:
        """The job that the request's form asks for."""
        most = self._service.settings.max_uploads
        if self._num_uploads >= most:
            raise RefusedError(503, f"{most} images are being sent already: try again in a while", retry_after=5)
        self._num_uploads += 1
        try:
            form = await read_form(request)
            options = form.model_dump(exclude={"file"})
            try:
                return await self.in_thread(partial(self._service.submit, form.file.file, **options, direct=direct))
            finally:
                await form.file.close()
        finally:
            self._num_uploads -= 1

    async def in_thread(self, task: Callable[[], T]) -> T:
        """What a task returns that opens image files."""
        return await run_sync(task, limiter=self._limiter)
