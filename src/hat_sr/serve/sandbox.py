"""Image files read and written by child processes with limits: this process never runs a decoder on an upload."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hat_sr.errors import ConfigError, HatError
from hat_sr.serve.settings import TOKEN_VARIABLE, RefusedError, full_disk

logger = logging.getLogger(__name__)

_BASE_BYTES = 512 << 20
_BYTES_PER_PIXEL = 96
"""Memory of a child: what four float channels take, six times over."""
_STARTING_SECONDS = 300
"""Some two are usual."""
_SECONDS_BETWEEN_CHECKS = 0.1
_PATIENCE = 10
"""How many times its own limit a copy is waited for: its time begins when it does."""
_LARGEST_ANSWER = 1 << 20

Check = Callable[[], None]
"""Called again and again while a copy is waited for; what it raises ends the copy, too."""


def _unchecked() -> None:
    pass


class BadFileError(HatError):
    """An image file that cannot be read or written; the sentence says why."""


class Sandbox:
    """Starts `hat_sr.serve.child` and asks it to do things; starts it anew if it is gone.

    seconds: how long one task may take. Methods may be called from several threads. They raise BadFileError for a file
    that cannot be read, that crashed its reader or took more memory than it may, RefusedError (504) if it took longer,
    (507) if the disk is full, and (503) if the process does not start.
    Raises ConfigError where processes cannot be copied (Windows).
    """

    def __init__(self, *, seconds: float) -> None:
        if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
            raise ConfigError("a server reads files in copies of a process, which this system cannot make: use Linux")
        self._seconds = seconds
        self._lock = threading.Lock()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def look(self, source: Path) -> dict[str, Any]:
        """height, width, channels and lossy, by the file's header."""
        answer = self._ask("look", {"source": source}, num_pixels=0)
        sides = [answer.get(name) for name in ("height", "width", "channels")]
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise BadFileError("the file's header makes no sense: save it anew and try again")
        return answer

    def noise(self, source: Path, *, num_pixels: int) -> float:
        """How noisy a picture of so many pixels is: `hat_sr.image.noise.noise_in_file`."""
        level = self._ask("noise", {"source": source}, num_pixels=num_pixels).get("level")
        return float(level) if isinstance(level, int | float) else 0.0

    def read(self, source: Path, folder: Path, *, num_pixels: int, check: Check = _unchecked) -> list[str]:
        """Decode a file of so many pixels and put the picture into the folder; returns what is to be warned of."""
        return self._warnings("read", {"source": source, "folder": folder}, num_pixels, check)

    def write(
        self, folder: Path, target: Path, *, num_pixels: int, quality: int | None, check: Check = _unchecked
    ) -> list[str]:
        """Write the picture in the folder as an image file; returns what is to be warned of."""
        return self._warnings("write", {"folder": folder, "target": target, "quality": quality}, num_pixels, check)

    def convert(self, source: Path, target: Path, *, num_pixels: int) -> list[str]:
        """Write an image file as another kind; returns what is to be warned of."""
        return self._warnings("convert", {"source": source, "target": target}, num_pixels)

    def _warnings(self, task: str, arguments: dict[str, Any], num_pixels: int, check: Check = _unchecked) -> list[str]:
        warnings = self._ask(task, arguments, num_pixels=num_pixels, check=check).get("warnings")
        return list(map(_text, warnings)) if isinstance(warnings, list) else []

    def _ask(
        self, task: str, arguments: dict[str, Any], *, num_pixels: int, check: Check = _unchecked
    ) -> dict[str, Any]:
        request = {
            "task": task,
            "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
            "seconds": self._seconds,
            "bytes": _BASE_BYTES + _BYTES_PER_PIXEL * num_pixels,
        }
        since, answer = time.monotonic(), None
        with self._connected() as connection, suppress(ConnectionError):  # it ended at once
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = _answered(connection, until=since + _PATIENCE * self._seconds, check=check)
        if answer is not None:
            if "error" in answer:
                if answer.get("full"):
                    logger.error("the disk is full: %s", answer["error"])
                    raise full_disk()
                raise BadFileError(_text(answer["error"]))
            return answer
        if time.monotonic() - since >= self._seconds:
            raise RefusedError(504, f"the file took longer than {self._seconds:g} s to read or write: make it smaller")
        raise BadFileError("reading or writing the file crashed or took too much memory: save it anew and try again")

    def _connected(self) -> socket.socket:
        """A connection to a new copy of the process."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            while True:
                if self._process.poll() is not None:
                    self._end()
                    self._start()
                try:
                    socket.send_fds(self._control, [b"\n"], [theirs.fileno()])
                    return ours
                except ConnectionError:  # it is about to end
                    self._process.wait()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_STARTING_SECONDS)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment.pop(TOKEN_VARIABLE, None)
        command = [sys.executable, "-m", "hat_sr.serve.child", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C goes to all processes of a terminal, and it is the server that decides
            )
        with suppress(TimeoutError):
            if self._control.recv(1):
                return
        self._end()
        raise RefusedError(503, "the process that reads image files does not start: see the server's log")

    def _end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


def _text(said: object) -> str:
    """As text that can be stored and sent: JSON can hold halves of characters."""
    return str(said).encode("utf-8", "replace").decode()


def _answered(connection: socket.socket, *, until: float, check: Check) -> dict[str, Any] | None:
    """What a copy answers, which ends at its time limit and this with it; None if that is nothing, or no sense.

    A copy that was taken over may send anything, and for ever.
    """
    connection.settimeout(_SECONDS_BETWEEN_CHECKS)
    text = b""
    while len(text) <= _LARGEST_ANSWER and time.monotonic() < until:
        check()
        try:
            part = connection.recv(1 << 16)
        except TimeoutError:
            continue
        except ConnectionError:
            return None
        if part:
            text += part
            continue
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return answer if isinstance(answer, dict) else None
    return None
