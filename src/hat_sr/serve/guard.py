"""What every request passes first, whatever it asks for: host, origin, token, size and time; and is counted."""

import asyncio
import base64
import hmac
import ipaddress
import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hat_sr.serve.answers import error_answer
from hat_sr.serve.metrics import Metrics
from hat_sr.serve.settings import ServerSettings

logger = logging.getLogger(__name__)

_OPEN_PATHS = ("/healthz", "/readyz")
"""What those may ask that know neither token nor name: whoever restarts the server, or sends it requests."""
_SLOWEST = 10_000
"""Bytes of a body that must come in each second after the first ones."""
_EVERY_ADDRESS = ("0.0.0.0", "::")
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OWN = f"{_NOTHING}; img-src 'self' data:; connect-src 'self'"
_POLICIES = {
    "/ui": f"{_OWN}; script-src 'self'; style-src 'self'",
    "/docs": f"{_OWN}; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'",  # as FastAPI writes it
}


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._names = {settings.host.lower(), "localhost", "127.0.0.1", "::1"}
        self._named = {name.lower() for name in settings.allowed_hosts}

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
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Content-Security-Policy"] = _POLICIES.get(_pattern(scope), _NOTHING)
            await send(message)

        try:
            refused = self._refused(scope, Headers(scope=scope))
            if refused is not None:
                await refused(scope, receive, counted)
            else:
                has_body = scope["method"] not in ("GET", "HEAD")  # else nobody reads it
                await self._app(scope, self._limited(receive) if has_body else receive, counted)
        finally:
            self._metrics.answered(_pattern(scope), status)
            if status >= 400:
                logger.warning(f"requests are refused: {status} for {_pattern(scope)}")

    def _refused(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        if path_of(scope) not in _OPEN_PATHS:
            host = headers.get("host", "")
            if not self._is_ours(host):
                return error_answer(
                    421, f"this server is not known as {host[:80]!r}: start it with --allowed-host and that name"
                )
            if not self._is_own_origin(headers.get("origin"), host):
                return error_answer(403, "a page of another site may not send requests here")
            if not self._knows_token(headers):
                return error_answer(
                    401,
                    "the token is missing or wrong: send it as 'Authorization: Bearer TOKEN', or as the password",
                    {"WWW-Authenticate": 'Basic realm="hat-sr"'},  # browsers ask for a password then
                )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._settings.max_bytes:
            return error_answer(413, self._too_large())
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether it is one of our names: a name that somebody made to point here would make their page ours."""
        name = _name(host)
        if name in self._names | self._named:
            return True
        return self._settings.host in _EVERY_ADDRESS and _is_address(name)

    def _is_own_origin(self, origin: str | None, host: str) -> bool:
        """Whether the request comes from no page, from one of ours, or from a proxy's that asks under another name."""
        if origin is None:
            return True
        where = origin.partition("://")[2].lower()
        return where == host.lower() or _name(where) in self._named

    def _knows_token(self, headers: Headers) -> bool:
        token = self._settings.token
        # In constant time: how long a wrong one takes must not tell how much of it is right.
        return token is None or hmac.compare_digest(_token(headers.get("authorization", "")), token.encode())

    def _limited(self, receive: Receive) -> Receive:
        """Counts what comes, and how long it takes: a request that is sent in chunks does not say its length."""
        num_bytes, is_whole = 0, False
        since = asyncio.get_running_loop().time()

        async def limited() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:  # only the end of the connection is waited for
                return await receive()
            try:
                async with asyncio.timeout_at(since + self._settings.idle_seconds + num_bytes / _SLOWEST):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, "the request came too slowly: send it again") from error
            is_whole = not message.get("more_body", False)
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._settings.max_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return f"the request is larger than {self._settings.max_bytes} bytes: make the file smaller"


def _name(host: str) -> str:
    """The host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


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
