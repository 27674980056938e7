"""A function of many things, computed in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Iterable[T], *, num_threads: int) -> Iterator[R]:
    """Yield function(item) for each item, in order. Raises what the function raises, when that item's turn comes.

    At most two items a thread are under way or waiting to be taken, so that results do not pile up.
    """
    pending: deque[Future[R]] = deque()
    executor = ThreadPoolExecutor(num_threads)
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > 2 * num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
