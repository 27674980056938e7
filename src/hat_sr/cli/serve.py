"""`hat-sr serve`."""

import errno
import logging
import os
import socket
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hat_sr.cli.sizes import parse_bytes
from hat_sr.errors import ConfigError, require
from hat_sr.inference.device import Precision
from hat_sr.model.zoo import AUTO
from hat_sr.serve.settings import TOKEN_VARIABLE, Settings

logger = logging.getLogger(__name__)

_LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8000,
    models: Annotated[tuple[str, ...], Parameter(name=("--model", "-m"), negative="")] = (AUTO,),
    folder: Path = Path("hat-sr-serve"),
    token: str | None = None,
    max_bytes: str = "64MiB",
    max_pixels: int = Settings.max_pixels,
    max_result_pixels: int = Settings.max_result_pixels,
    direct_pixels: int = Settings.direct_pixels,
    max_queue: int = Settings.max_queue,
    max_seconds: float = Settings.max_seconds,
    direct_seconds: float = Settings.direct_seconds,
    file_seconds: float = Settings.file_seconds,
    keep_seconds: float = Settings.keep_seconds,
    keep_bytes: str = "16GiB",
    memory: str | None = None,
    precision: Precision = "auto",
    device: str = "auto",
    root_path: str = "",
    page: bool = True,
) -> int:
    """Serve a page and an HTTP API that enlarge images, offline, until stopped.

    The page is at /ui, the description of the API at /docs. Jobs outlive the process: the next start goes on.

    Parameters
    ----------
    host
        The address to listen at; 0.0.0.0 is every one that the machine has: give a token then.
    port
        The port to listen at; 0 is any that is free.
    models
        A HAT to offer, by its name, file or hf:// name; may be given again, and the first is the default. auto is those
        in the package, of which each image gets the one that suits it.
    folder
        Where the queue and the images lie; for one server at a time.
    token
        What every request must know. Better given in the environment variable HAT_SR_TOKEN, where other users of the
        machine do not see it.
    max_bytes
        Size of a request, such as 64MiB.
    max_pixels
        Pixels of an image that comes.
    max_result_pixels
        Pixels of what the network makes of it; some 60 bytes of memory for each.
    direct_pixels
        Pixels of an image that POST /v1/upscale answers.
    max_queue
        Images that wait or are worked on.
    max_seconds
        Time for one image once it is its turn.
    direct_seconds
        Time for an answer of POST /v1/upscale, waiting included.
    file_seconds
        Time to read or write one image file.
    keep_seconds
        How long results are kept.
    keep_bytes
        Size of kept results and their images; beyond it the oldest ones go before their time.
    memory
        How much to plan with, as for hat-sr upscale.
    precision
        auto, fp32, bf16 or fp16, as for hat-sr upscale.
    device
        auto, cpu, cuda, cuda:1, mps, xpu.
    root_path
        The path under which a reverse proxy shows all this, such as /hat.
    page
        Without it there is the API alone.
    """
    for module in ("fastapi", "fastapi_offline", "uvicorn", "prometheus_client", *(["gradio"] if page else [])):
        require(module, extra="serve")
    import uvicorn

    from hat_sr.serve.application import application
    from hat_sr.serve.service import Service

    logging.getLogger("hat_sr").setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    token = token or os.environ.get(TOKEN_VARIABLE)
    settings = Settings(
        folder=folder,
        models=models,
        token=token,
        max_bytes=parse_bytes(max_bytes),
        max_pixels=max_pixels,
        max_result_pixels=max_result_pixels,
        direct_pixels=direct_pixels,
        max_queue=max_queue,
        max_seconds=max_seconds,
        direct_seconds=direct_seconds,
        file_seconds=file_seconds,
        keep_seconds=keep_seconds,
        keep_bytes=parse_bytes(keep_bytes),
        precision=precision,
        device=device,
        memory=None if memory is None else parse_bytes(memory),
    )
    if host not in _LOCAL and token is None:
        logger.warning("anybody who reaches %s can use this server: give --token or %s", host, TOKEN_VARIABLE)
    with _listening(host, port) as listener, Service(settings) as service:
        config = uvicorn.Config(
            application(service, page=page),
            root_path=root_path,
            log_level="info",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        where = f"[{host}]" if ":" in host else host
        path = "/ui" if page else "/docs"
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
