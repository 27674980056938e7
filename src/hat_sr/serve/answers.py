"""How the server says what is wrong: the same form for every error, which holds no path."""

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from hat_sr.serve.settings import RefusedError, full_disk, is_full_disk

logger = logging.getLogger(__name__)

SHOWN_NAME, SHOWN_NAMES = 40, 5
"""Letters of a name that a client made up, and how many of such names, that an answer repeats."""
_NO_FILE = "a file is wanted, and this is text (curl: -F file=@PATH)"


def error_answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """`{"error": sentence}`, with its status."""
    return JSONResponse({"error": sentence}, status, headers)


def answer_errors(app: FastAPI, *, fields: Iterable[str]) -> None:
    """Have the application answer whatever is raised so. fields: those of its form, to be named if there is another."""
    app.exception_handler(RefusedError)(_refused)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(RequestValidationError)(partial(_invalid, fields))
    app.exception_handler(ClientDisconnect)(_gone)
    app.exception_handler(OSError)(_system_error)
    app.exception_handler(sqlite3.Error)(_system_error)
    app.exception_handler(Exception)(_unexpected)


def _refused(request: Request, error: RefusedError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return error_answer(error.status, str(error), headers)


def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    return error_answer(error.status_code, str(error.detail), dict(error.headers or {}))


def _invalid(fields: Iterable[str], request: Request, error: RequestValidationError) -> JSONResponse:
    parts, unknown = [], []
    for one in error.errors():
        name = ".".join(str(part) for part in one["loc"][1:])
        if one["type"] == "extra_forbidden":
            unknown.append(name[:SHOWN_NAME])
        else:
            parts.append(f"{name}: {_NO_FILE if one['type'] == 'value_error' else one['msg']}")
    if unknown:
        names = ", ".join(unknown[:SHOWN_NAMES])
        parts.append(f"{names}: there is no such field: {', '.join(fields)} are accepted")
    return error_answer(422, "; ".join(parts))


def _gone(request: Request, error: Exception) -> JSONResponse:
    return error_answer(400, "the connection ended before the request was there")  # which nobody reads


def _system_error(request: Request, error: Exception) -> JSONResponse:
    logger.error("a request failed", exc_info=error)
    return _refused(request, full_disk()) if is_full_disk(error) else _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return error_answer(500, "something went wrong in the server: see its log")
