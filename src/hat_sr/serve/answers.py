"""How the server says what is wrong: the same form for every error."""

from collections.abc import Mapping

from starlette.responses import JSONResponse


def error_answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """`{"error": sentence}`, with its status."""
    return JSONResponse({"error": sentence}, status, headers)
