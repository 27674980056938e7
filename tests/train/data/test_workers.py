"""A function computed in threads."""

import threading
import time

import pytest

from hat_sr.train.data.workers import in_threads


class _StopError(Exception):
    pass


def test_results_come_in_order():
    with in_threads(lambda item: (time.sleep(0.001 * (5 - item)), item)[1], range(5), num_threads=3) as results:
        assert list(results) == [0, 1, 2, 3, 4]


def test_an_error_comes_when_its_turn_does():
    def function(item):
        if item == 2:
            raise _StopError
        return item

    with in_threads(function, range(9), num_threads=2) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(_StopError):
            next(results)


def test_nothing_runs_when_the_block_has_been_left():
    started, ended = [], []
    running = threading.Event()

    def function(item):
        started.append(item)
        if item:
            running.set()
            time.sleep(0.05)
        ended.append(item)

    with pytest.raises(_StopError) as caught, in_threads(function, range(1000), num_threads=2) as results:
        next(results)
        running.wait()
        raise _StopError
    assert len(ended) == len(started) < 10
    assert caught.traceback  # holds the frame in which `results` is still open
