"""What every request passes first, whatever it asks for: token, origin and size; and is counted."""

import base64
import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hat_sr.serve.answers import error_answer
from hat_sr.serve.metrics import Metrics
from hat_sr.serve.settings import Settings

_OPEN_PATHS = ("/healthz", "/readyz")
"""What those may ask that know no token: whoever restarts the server, or sends it requests."""


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refused(scope, Headers(scope=scope))
            if refused is not None:
                await refused(scope, receive, counted)
            else:
                await self._app(scope, self._limited(receive), counted)
        finally:
            self._metrics.answered(_pattern(scope), status)

    def _refused(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] not in ("GET", "HEAD"):
            return error_answer(403, "a page of another site may not send requests here")
        if not self._knows_token(scope, headers):
            return error_answer(
                401,
                "the token is missing or wrong: send it as 'Authorization: Bearer TOKEN', or as the password",
                {"WWW-Authenticate": 'Basic realm="hat-sr"'},  # browsers ask for a password then
            )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._settings.max_bytes:
            return error_answer(413, self._too_large())
        return None

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        token = self._settings.token
        if token is None or path_of(scope) in _OPEN_PATHS:
            return True
        # In constant time: how long a wrong one takes must not tell how much of it is right.
        return hmac.compare_digest(_token(headers.get("authorization", "")), token.encode())

    def _limited(self, receive: Receive) -> Receive:
        """Counts what comes: a request that is sent in chunks does not say its length."""
        num_bytes = 0

        async def limited() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._settings.max_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return f"the request is larger than {self._settings.max_bytes} bytes: make the file smaller"


def _token(authorization: str) -> bytes:
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip().encode()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value).partition(b":")[2]
        except ValueError:
            return b""
    return b""


def path_of(scope: Scope) -> str:
    """What is asked for, without the path under which a proxy shows the server: ASGI puts that before it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    inner = path.removeprefix(root)
    return inner if inner.startswith("/") else path


def _pattern(scope: Scope) -> str:
    """The path as the route spells it: with an id in it there would be a counter for every job."""
    path = path_of(scope)
    if path == "/ui" or path.startswith("/ui/"):
        return "/ui"
    route = scope.get("route")
    return str(getattr(route, "path", "other"))
