"""The process that opens image files of strangers: `python -m hat_sr.serve.child FD`, started by `sandbox`.

It loads the image library once and then makes a copy of itself (fork) for every file, which has limits of its own for
memory and time, does one task, answers with one line of JSON and ends. A file that makes a decoder crash, or take more
than it may, ends that copy and nothing else. The answer holds no path.

FD is a socket on which the server sends one end of a pair of sockets for each task. If the server ends, however it
does, its end is closed, and this process ends, too.
"""

import fcntl
import json
import logging
import math
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import OpenImageIO as oiio  # noqa: N813

from hat_sr.errors import HatError
from hat_sr.image.decode import read_header
from hat_sr.image.io import read_image, write_image
from hat_sr.image.noise import noise_in_file
from hat_sr.serve.exchange import put_picture, take_picture
from hat_sr.serve.settings import is_full_disk

logger = logging.getLogger(__name__)

_LARGEST_FILE = 8 << 30
"""Bytes that a copy may write into one file."""


def look(source: Path) -> dict[str, Any]:
    """What the header says: height, width, channels, lossy."""
    header = read_header(source)
    return {"height": header.height, "width": header.width, "channels": header.channels, "lossy": header.lossy}


def noise(source: Path) -> dict[str, Any]:
    """The level of noise, from a sample of the pixels."""
    return {"level": noise_in_file(source)}


def read(source: Path, folder: Path) -> dict[str, Any]:
    """Decode an image file, and put the picture into the folder."""
    put_picture(read_image(source), folder)
    return {}


def write(folder: Path, target: Path, quality: int | None) -> dict[str, Any]:
    """Write the picture in the folder as an image file."""
    write_image(target, take_picture(folder), quality=quality)
    return {}


def convert(source: Path, target: Path) -> dict[str, Any]:
    """Write an image file as another kind."""
    write_image(target, read_image(source))
    return {}


_TASKS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "look": look,
    "noise": noise,
    "read": read,
    "write": write,
    "convert": convert,
}
_PATHS = ("source", "target", "folder")


class _Warnings(logging.Handler):
    """Keeps what the image library's users are warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _handle(connection: socket.socket) -> None:
    """One task, in a process of its own."""
    with connection.makefile("rb") as lines:
        line = lines.readline()
    if not line:  # whoever asked has gone
        return
    request = json.loads(line)
    _limit(seconds=request["seconds"], num_bytes=request["bytes"])
    _end_with(connection, True)
    with suppress(BlockingIOError):  # of whoever hung up before that, no signal comes
        if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            return
    answer = json.dumps(_answer(request["task"], request["arguments"])).encode()
    _end_with(connection, False)
    with suppress(BrokenPipeError):  # the server is gone
        connection.sendall(answer)


def _answer(task: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    paths = {name: Path(value) for name, value in arguments.items() if name in _PATHS}
    if "source" in paths:
        tempfile.tempdir = str(paths["source"].parent)  # the job's own: it goes even if this is killed
    warnings = _Warnings()
    logging.getLogger("hat_sr").addHandler(warnings)
    try:
        answer = _TASKS[task](**{**arguments, **paths})
    except HatError as error:
        return {"error": without_paths(str(error), paths), "full": is_full_disk(error)}
    except MemoryError:
        return {"error": "the file takes more memory than it may: make it smaller, or save it anew"}
    except Exception as error:  # whatever a damaged file leads to
        return {
            "error": f"the file cannot be read or written ({type(error).__name__})",
            "full": is_full_disk(error),
        }
    return {**answer, "warnings": [without_paths(text, paths) for text in warnings.messages]}


def without_paths(text: str, paths: Mapping[str, Path]) -> str:
    """The sentence about a file, without where it lies."""
    for path in sorted(map(str, paths.values()), key=len, reverse=True):
        text = text.removeprefix(f"{path}: ").replace(path, "the file")
    return text


def _end_with(connection: socket.socket, whether: bool) -> None:
    """Whether the system ends this process if whoever asked hangs up: then nobody wants the answer any more.

    It says so with SIGIO, which ends a process on Linux and nowhere else; there the answer is made in vain.
    """
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL) & ~os.O_ASYNC
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | (os.O_ASYNC if whether else 0))


def _limit(*, seconds: float, num_bytes: int) -> None:
    """So many bytes of memory more than now, and so much time; then the system ends this process."""
    limits = {
        resource.RLIMIT_CPU: math.ceil(seconds),
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _LARGEST_FILE,
    }
    if sys.platform == "linux":  # elsewhere it is not enforced, or counted in another way
        limits[resource.RLIMIT_AS] = _address_space() + num_bytes
    for what, value in limits.items():
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _serve(control: socket.socket) -> None:
    """Make a copy of this process for each task that comes, until the server is gone."""
    control.sendall(b"\n")  # ready
    while True:
        _, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not handles:
            return
        with socket.socket(fileno=handles[0]) as connection:
            if os.fork() == 0:
                control.close()
                try:
                    _handle(connection)
                except Exception:  # whatever it is, this copy must not go on as the process it is one of
                    logger.exception("a task on a file ended")
                finally:
                    os._exit(0)


def main() -> None:
    """Serve until the server that started this ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how copies ended, so none is kept to tell
    oiio.attribute("threads", 1)
    oiio.attribute(
        "limits:imagesize_MB", 0
    )  # who asks looks at the header first, and says more clearly what is too large
    oiio.attribute("try_all_readers", 0)  # one decoder for each kind of file, not whichever takes it
    with socket.socket(fileno=int(sys.argv[1])) as control, suppress(ConnectionError):  # the server is gone
        _serve(control)


if __name__ == "__main__":
    main()
