"""Connections within limits, which uvicorn does not set: how many there are, and how long one may stand still."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from hat_sr.serve.settings import ServerSettings

logger = logging.getLogger(__name__)

_OF_STRANGERS = ("uvicorn.error", *(f"hat_sr.serve.{name}" for name in ("answers", "connections", "guard")))
"""Who logs what strangers do, as often as they do it."""
_SECONDS_BETWEEN_LIKE_LINES = 60
_LOOKS = 4
"""In the time for which a connection may stand still, so that it may live for a quarter longer."""
_BUSY = json.dumps({"error": "the server has too many connections: try again later"}).encode()
_TOO_MANY = b"\r\n".join(
    (
        b"HTTP/1.1 503 Service Unavailable",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(_BUSY),
        b"Retry-After: 5",
        b"Connection: close",
        b"",
        _BUSY,
    )
)


def config_for(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    """How uvicorn is to serve the application."""
    return uvicorn.Config(
        app,
        http=_limited(settings),
        ws="none",
        root_path=settings.root_path,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def _limited(settings: ServerSettings) -> type[H11Protocol]:
    class Limited(H11Protocol):
        """A connection that is closed if it stood still for a number of looks."""

        _look: asyncio.TimerHandle | None = None
        _seen: object = None
        """The request that was there at the last look, unless the client has read some of the answer since."""
        _num_still = 0
        """For how many looks nothing has come of the client."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            if len(self.connections) <= settings.max_connections:
                self._look_later()
                return
            logger.warning("a connection was refused: there are %d, as many as may be", settings.max_connections)
            transport.write(_TOO_MANY)
            transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._look is not None:
                self._look.cancel()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._seen = "progress"

        def _look_later(self) -> None:
            self._look = self.loop.call_later(settings.idle_seconds / _LOOKS, self._look_now)

        def _look_now(self) -> None:
            waits_for_client = self.cycle is None or self.cycle.response_complete or self.flow.write_paused
            self._num_still = self._num_still + 1 if waits_for_client and self._seen is self.cycle else 0
            if self._num_still == _LOOKS:
                logger.warning("a connection was closed: its client neither sent a request nor read the answer")
                self.transport.abort()
                return
            self._seen = self.cycle if waits_for_client else "at work"
            self._look_later()

    return Limited


@contextmanager
def few_lines() -> Iterator[None]:
    """Has the log tell of what strangers do once a minute for each kind, however often they do it."""
    filters = {logging.getLogger(name): Seldom() for name in _OF_STRANGERS}
    for teller, seldom in filters.items():
        teller.addFilter(seldom)
    try:
        yield
    finally:
        for teller, seldom in filters.items():
            teller.removeFilter(seldom)


class Seldom(logging.Filter):
    """Lets through one line of each kind in a minute, and says in the next how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging. Lines are of one kind if they are the same text before anything is filled in."""
        since, number = self._kinds.get(record.msg, (0.0, 0))
        if record.created < since + _SECONDS_BETWEEN_LIKE_LINES:
            self._kinds[record.msg] = since, number + 1
            return False
        self._kinds[record.msg] = record.created, 0
        if number:
            record.msg = f"{record.msg} ({number} more like this before)"
        return True
