"""`hat-sr serve`."""

import errno
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from cyclopts import Parameter, Token

from hat_sr.cli.parsing import parse_bytes
from hat_sr.errors import ConfigError, require
from hat_sr.serve.settings import TOKEN_VARIABLE, ServerSettings

logger = logging.getLogger(__name__)

_LOCAL = ("127.0.0.1", "localhost", "::1")


def _parsed(_: object, tokens: Sequence[Token]) -> int:
    return parse_bytes(tokens[0].value)


_Bytes = Annotated[int, Parameter(converter=_parsed, show_default=lambda value: f"{value >> 20}MiB")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServeOptions(ServerSettings):
    """What a server allows, as the command line has it: sizes are such as 64MiB."""

    max_bytes: _Bytes = ServerSettings.max_bytes
    keep_bytes: _Bytes = ServerSettings.keep_bytes
    memory: Annotated[int | None, Parameter(converter=_parsed)] = None


_DEFAULTS = ServeOptions()


def serve(*, settings: ServeOptions = _DEFAULTS) -> int:
    """Serve a page and an HTTP API that enlarge images, offline, until stopped.

    The page is at /ui, the description of the API at /docs. Jobs outlive the process: the next start goes on.
    """
    for module in ("fastapi", "fastapi_offline", "uvicorn", "prometheus_client"):
        require(module, extra="serve")
    import uvicorn

    from hat_sr.serve.api import application
    from hat_sr.serve.connections import config_for, few_lines
    from hat_sr.serve.service import Service

    logging.getLogger("hat_sr").setLevel(logging.INFO)
    if settings.token is None and TOKEN_VARIABLE in os.environ:
        settings = replace(settings, token=os.environ[TOKEN_VARIABLE])
    if settings.host not in _LOCAL and settings.token is None:
        logger.warning("anybody who reaches %s can use this server: give --token or %s", settings.host, TOKEN_VARIABLE)
    with few_lines(), _listening(settings.host, settings.port) as listener, Service(settings) as service:
        config = config_for(application(service), settings)
        where = f"[{settings.host}]" if ":" in settings.host else settings.host
        path = "/ui" if settings.page else "/docs"
        logger.info("serving at http://%s:%d%s, until Ctrl-C", where, listener.getsockname()[1], path)
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """What listens there; who connects before the networks are loaded waits. Raises ConfigError if it cannot be."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # IPv4 if the name has both
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is taken: name another with --port, or stop the program that listens there"
            ) from error
        reason = str(error.strerror).partition(" (")[0]  # behind it the address again
        raise ConfigError(f"port {port} of {host} cannot be listened at: {reason}") from error
