"""The thread that works the queue off, one job at a time, with one network in memory."""

import logging
import shutil
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from hat_sr.errors import HatError
from hat_sr.inference.enlarge import enlarge_image
from hat_sr.inference.sizing import scaled_size
from hat_sr.serve.exchange import put_picture, take_picture
from hat_sr.serve.metrics import Metrics
from hat_sr.serve.networks import Networks
from hat_sr.serve.sandbox import BadFileError, Check, Sandbox
from hat_sr.serve.settings import RefusedError, ServerSettings, full_disk, is_full_disk
from hat_sr.serve.store import Job, Store

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_SWEEPS = 30


class _CancelledError(Exception):
    """The job is not to be worked on any more."""


class Worker(threading.Thread):
    """Takes jobs from the store, until it is stopped; deletes what was finished too long ago, and what is too much.

    A picture is treated as `hat-sr upscale` treats it: the same functions, the same pixels.
    """

    def __init__(
        self, settings: ServerSettings, store: Store, sandbox: Sandbox, networks: Networks, metrics: Metrics
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self._settings, self._store, self._sandbox = settings, store, sandbox
        self._networks, self._metrics = networks, metrics
        self._stopping, self._news = threading.Event(), threading.Event()
        self._at: tuple[str, float, float] = ("", 0.0, 0.0)

    def wake(self) -> None:
        """There is a new job."""
        self._news.set()

    def stop(self) -> None:
        """Leave the job that runs, which stays in the queue on disk, and end."""
        self._stopping.set()
        self._news.set()
        self.join()
        self._store.requeue()

    def progress(self, identity: str) -> tuple[float, float | None]:
        """Which part of a running job is done, and in how many seconds the rest will be, if that can be said."""
        running, part, since = self._at
        if running != identity or part == 0:
            return 0.0, None
        return part, (time.monotonic() - since) * (1 - part) / part

    def run(self) -> None:
        """The thread's work."""
        swept, in_doubt = 0.0, False
        while not self._stopping.is_set():
            self._news.clear()
            try:
                if in_doubt:
                    self._store.requeue()
                    in_doubt = False
                if time.monotonic() - swept > min(_SECONDS_BETWEEN_SWEEPS, self._settings.keep_seconds):
                    self._store.remove_finished(
                        before=time.time() - self._settings.keep_seconds, max_bytes=self._settings.keep_bytes
                    )
                    swept = time.monotonic()
                job = self._store.claim()
                if job is not None:
                    self._work(job)
                    continue
            except Exception:  # a full disk, say: the queue is still there when it is no more
                logger.exception("the queue cannot be worked on")
                in_doubt = True
            self._news.wait(1)

    def _work(self, job: Job) -> None:
        since = time.monotonic()
        try:
            warnings = self._make(job)
            outcome = "done" if self._store.finish(job, warnings=warnings) else "cancelled"
        except _CancelledError:
            outcome = "cancelled"
        except Exception as error:  # whatever is wrong with one picture, the others go on
            refusal = self._refusal(job, error)
            self._store.clear_work(job)  # first: if the disk is full, this makes room to write down why
            outcome = "failed" if self._store.fail(job, refusal.status, str(refusal)) else "cancelled"
        if self._stopping.is_set() and outcome == "cancelled":
            return  # to be queued again
        if outcome != "done":
            self._store.clear(job.id)
        self._metrics.job_ended(outcome, seconds=time.monotonic() - since, num_pixels=job.height * job.width)

    def _refusal(self, job: Job, error: Exception) -> RefusedError:
        """HTTP status and message of a failed job."""
        if isinstance(error, RefusedError):
            return error
        if isinstance(error, BadFileError):
            return RefusedError(422, str(error))
        if is_full_disk(error):
            logger.error("job %s failed, the disk is full: %s", job.id, error)
            return full_disk()
        if isinstance(error, HatError):
            logger.error("job %s failed: %s", job.id, error)
            return RefusedError(422, str(error).replace(str(self._store.folder(job.id)), "the file"))
        logger.error("job %s failed", job.id, exc_info=error)
        return RefusedError(500, "something went wrong in the server: see its log")

    def _make(self, job: Job) -> list[str]:
        """Write the result, and return what was lost or converted."""
        check = partial(self._check, job, deadline=time.monotonic() + self._settings.max_seconds)
        self._store.clear_work(job)  # of a process that was killed, whose child may still write there: hence a new name
        work = Path(tempfile.mkdtemp(prefix="work-", dir=self._store.folder(job.id)))
        source, result = self._store.source(job), self._store.result(job)
        warnings = self._sandbox.read(source, work, num_pixels=job.height * job.width, check=check)
        num_pixels = self._enlarge(job, work, check)
        warnings += self._sandbox.write(work, result, num_pixels=num_pixels, quality=job.quality, check=check)
        shutil.rmtree(work)
        return warnings

    def _check(self, job: Job, *, deadline: float) -> None:
        """Raise what ends the work on a job before its result is there."""
        if self._stopping.is_set() or not self._is_wanted(job):
            raise _CancelledError
        if time.monotonic() > deadline:
            raise RefusedError(504, f"the picture took longer than {self._settings.max_seconds:g} s: make it smaller")

    def _enlarge(self, job: Job, work: Path, check: Check) -> int:
        """Put the result in the picture's place; returns how many pixels it has."""
        upscaler = self._networks.upscaler(job.model)
        image, since = take_picture(work, size=(job.height, job.width)), time.monotonic()

        def report(part: float) -> None:
            check()
            self._at = job.id, part, since

        result = enlarge_image(image, [upscaler], scaled_size(image.height, image.width, job.scale), report=report)
        check()
        put_picture(result, work)
        return result.height * result.width

    def _is_wanted(self, job: Job) -> bool:
        now = self._store.get(job.id)
        return now is not None and now.state == "running"
