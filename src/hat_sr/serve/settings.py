"""Limits of the server, and the error for a request that exceeds one."""

import errno
import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from hat_sr.checkpoints.named import AUTO
from hat_sr.errors import ConfigError, HatError, NoRoomError
from hat_sr.inference.device import Precision

TOKEN_VARIABLE = "HAT_SR_TOKEN"
"""The environment variable that holds the token if no option does."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """A server's. Raises ConfigError for a limit that is not above 0, for no model, and for a token that is empty or
    has space around it."""

    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 is every address of the machine: give a token then."""
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8000
    """The port to listen at; 0 is any that is free."""
    allowed_hosts: Annotated[tuple[str, ...], Parameter(name="--allowed-host", negative="")] = ()
    """A host name under which browsers may reach this server, such as a proxy's; may be given again. localhost, the
    address listened at, and with 0.0.0.0 every numeric address are always allowed."""
    models: Annotated[tuple[str, ...], Parameter(name=("--model", "-m"), negative="")] = (AUTO,)
    """A HAT to offer: a name, a file or an hf:// name; may be given again, and the first is the default. auto offers
    those in the package, and takes for each image the one that suits it."""
    folder: Path = Path("hat-sr-serve")
    """Folder of the queue and its images; for one server at a time."""
    token: str | None = None
    """Secret that every request must send. Better given in the environment variable HAT_SR_TOKEN, which other users
    of the machine cannot see."""
    max_bytes: int = 64 << 20
    """Size of a request, such as 64MiB."""
    max_pixels: int = 16_000_000
    """Pixels of an image that is sent, by its header."""
    max_result_pixels: int = 64_000_000
    """Pixels of the network's result; each takes about 60 bytes of memory."""
    direct_pixels: int = 512 * 512
    """Pixels of an image that POST /v1/upscale answers."""
    max_queue: int = 50
    """Images that wait or are being enlarged."""
    max_connections: int = 250
    """Connections at a time."""
    max_uploads: int = 50
    """Images that are being sent and checked at a time."""
    max_seconds: float = 1800
    """Seconds for enlarging one image."""
    direct_seconds: float = 120
    """Seconds for an answer of POST /v1/upscale, waiting included."""
    file_seconds: float = 20
    """Seconds for reading or writing one image file."""
    idle_seconds: float = 20
    """Seconds for a request's headers, and for a client to read on; a body has one more for each 10 kB received."""
    keep_seconds: float = 3600
    """Seconds for which results are kept."""
    keep_bytes: int = 16 << 30
    """Size of kept results and their images; beyond it the oldest are deleted early."""
    memory: int | None = None
    """Memory to plan with, as for hat-sr upscale."""
    precision: Precision = "auto"
    """auto, fp32, bf16 or fp16, as for hat-sr upscale."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, xpu."""
    root_path: str = ""
    """The path under which a reverse proxy shows this server, such as /hat."""
    page: bool = True
    """Serve the page beside the API."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            limit = name.startswith(("max_", "direct_", "keep_")) or name.endswith("_seconds")
            if limit and not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: a number above 0 is accepted")
        if self.token is not None and (not self.token or self.token != self.token.strip()):
            raise ConfigError(
                f"the token is empty or has space around it: give another with --token or {TOKEN_VARIABLE}, or none"
            )
        if not self.models:
            raise ConfigError("no model: name one at least")


class RefusedError(HatError):
    """What a server answers instead of a result: a sentence for people, and the status that says so in HTTP."""

    def __init__(self, status: int, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""


def full_disk() -> RefusedError:
    """The answer to a request for which the disk has no room."""
    return RefusedError(507, "the server's disk is full: try again later")


def is_full_disk(error: BaseException | None) -> bool:
    """True if the error, or its cause, is a full disk."""
    while error is not None:
        match error:
            case NoRoomError():
                return True
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                return True
            case sqlite3.Error(sqlite_errorcode=sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR_SHMSIZE):
                return True
        error = error.__cause__
    return False
