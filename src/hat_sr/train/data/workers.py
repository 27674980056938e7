"""Worker processes that prepare samples, and worker threads that read and write images."""

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import OpenImageIO as oiio  # noqa: N813
import torch

from hat_sr.errors import DataError

T = TypeVar("T")
R = TypeVar("R")

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
def without_reader_threads() -> Iterator[None]:
    """A process forked meanwhile can read any image.

    Otherwise it would wait for ever for the threads that OpenImageIO started here (for large TIFF and EXR), which a
    forked process does not have; to end them there crashes.
    """
    threads = oiio.get_int_attribute("threads")
    oiio.attribute("threads", 1)
    try:
        yield
    finally:
        oiio.attribute("threads", threads)


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


@contextmanager
def in_threads(function: Callable[[T], R], items: Iterable[T], *, num_threads: int) -> Iterator[Iterator[R]]:
    """Give function(item) for each item, in order. Raises what the function raises, when that item's turn comes.

    At most two items a thread are under way or waiting to be taken, so that results do not pile up. However the block
    is left, nothing of it runs any more: what the function writes to can be taken away.
    """
    executor = ThreadPoolExecutor(num_threads)
    try:
        yield _in_order(executor, function, items, most=2 * num_threads)
    finally:
        executor.shutdown(cancel_futures=True)


def _in_order(
    executor: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], *, most: int
) -> Iterator[R]:
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(executor.submit(function, item))
        if len(pending) > most:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
