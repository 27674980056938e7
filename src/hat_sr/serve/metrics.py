"""What a server counts, in Prometheus' text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """Counters of one server."""

    def __init__(self, *, queue_length: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hat_sr_requests", "Answers, by path and status.", ["path", "status"], registry=self._registry
        )
        self._jobs = Counter("hat_sr_jobs", "Jobs that ended, by outcome.", ["outcome"], registry=self._registry)
        self._pixels = Counter("hat_sr_pixels", "Pixels that came, of jobs that are done.", registry=self._registry)
        self._seconds = Histogram(
            "hat_sr_job_seconds", "Time that jobs which are done took.", buckets=_SECONDS, registry=self._registry
        )
        queue = Gauge("hat_sr_queue_length", "Jobs that wait or are worked on.", registry=self._registry)
        queue.set_function(queue_length)

    def answered(self, path: str, status: int) -> None:
        """A request was answered; path is the route's pattern."""
        self._requests.labels(path, str(status)).inc()

    def job_ended(self, outcome: str, *, seconds: float, num_pixels: int) -> None:
        """A job is done, failed or cancelled."""
        self._jobs.labels(outcome).inc()
        if outcome == "done":
            self._seconds.observe(seconds)
            self._pixels.inc(num_pixels)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
