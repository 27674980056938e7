"""A function of many things, computed in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


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
