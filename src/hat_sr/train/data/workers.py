"""The processes that prepare samples: how they start, and how the main process learns of their end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from hat_sr.errors import DataError

_GRACE_SECONDS = 60
"""How long a worker process that was told to end goes on."""


def start_worker(number: int) -> None:
    """Set up worker process `number`: one thread, and signals left to the main process.

    Ctrl-C and a scheduler's SIGTERM reach the workers too, while the main process still needs them, or needs not to be
    told of their end while it writes a checkpoint.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_SECONDS))


@contextmanager
def waiting_for_workers(watch: "WorkerWatch | None") -> Iterator[None]:
    """In here worker processes are watched: the end of one, here or since the last time, raises DataError."""
    try:
        if watch is None:
            yield
            return
        watch.on = True
        try:
            watch(signal.SIGCHLD, None)
            yield
        finally:
            watch.on = False
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _ended(error) from error
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # it ended while it handed something over
        raise _ended(error) from error


class WorkerWatch:
    """A handler of SIGCHLD that passes it on while `on`.

    torch's handler raises when a worker process has ended, wherever the main process is then: in the middle of writing
    a checkpoint, too.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], object]) -> None:
        self.handler = handler
        self.on = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if self.on:
            self.handler(number, frame)


def watch_workers() -> WorkerWatch | None:
    """Put a watch before the handler that torch installed when it started workers; None if there is none."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGCHLD)
    if isinstance(handler, WorkerWatch):
        return handler
    if not callable(handler):
        return None
    watch = WorkerWatch(handler)
    signal.signal(signal.SIGCHLD, watch)
    return watch


def _ended(error: Exception) -> DataError:
    reason = str(error).partition("\n")[0].rstrip(". ") or type(error).__name__
    return DataError(
        f"a process that prepares samples ended ({reason}): if the memory was full, lower data.num_workers; "
        "data.num_workers 0 shows other reasons"
    )
