"""The thread that works the queue off, one job at a time, with one network in memory."""

import logging
import shutil
import tempfile
import threading
import time
from pathlib import Path

from torch import Tensor

from hat_sr.errors import HatError
from hat_sr.inference.picture import upscale_image
from hat_sr.inference.sizing import scaled_size, upscale_to
from hat_sr.serve.exchange import put_picture, take_picture
from hat_sr.serve.metrics import Metrics
from hat_sr.serve.networks import Networks
from hat_sr.serve.sandbox import BadFileError, Sandbox
from hat_sr.serve.settings import RefusedError, Settings
from hat_sr.serve.store import Job, Store

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_SWEEPS = 30


class _CancelledError(Exception):
    """The job is not to be worked on any more."""


class Worker(threading.Thread):
    """Takes jobs from the store, until it is stopped; deletes what was finished too long ago.

    A picture is treated as `hat-sr upscale` treats it: the same functions, the same pixels.
    """

    def __init__(
        self, settings: Settings, store: Store, sandbox: Sandbox, networks: Networks, metrics: Metrics
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

    def progress(self, identity: str) -> tuple[float, float | None]:
        """Which part of a running job is done, and in how many seconds the rest will be, if that can be said."""
        running, part, since = self._at
        if running != identity or part == 0:
            return 0.0, None
        return part, (time.monotonic() - since) * (1 - part) / part

    def run(self) -> None:
        """The thread's work."""
        swept = 0.0
        while not self._stopping.is_set():
            self._news.clear()
            try:
                if time.monotonic() - swept > min(_SECONDS_BETWEEN_SWEEPS, self._settings.keep_seconds):
                    self._store.remove_finished(before=time.time() - self._settings.keep_seconds)
                    swept = time.monotonic()
                job = self._store.claim()
                if job is not None:
                    self._work(job)
                    continue
            except Exception:  # a full disk, say: the queue is still there when it is no more
                logger.exception("the queue cannot be worked on")
            self._news.wait(1)

    def _work(self, job: Job) -> None:
        since = time.monotonic()
        try:
            warnings = self._make(job)
            outcome = "done" if self._store.finish(job, warnings=warnings) else "cancelled"
        except _CancelledError:
            outcome = "cancelled"
        except RefusedError as refusal:
            outcome = self._fail(job, refusal.status, str(refusal))
        except BadFileError as error:
            outcome = self._fail(job, 422, str(error))
        except HatError as error:
            logger.error("job %s failed: %s", job.id, error)
            outcome = self._fail(job, 422, str(error).replace(str(self._store.folder(job.id)), "the file"))
        except Exception:  # whatever is wrong with one picture, the others go on
            logger.exception("job %s failed", job.id)
            outcome = self._fail(job, 500, "something went wrong in the server: see its log")
        if self._stopping.is_set() and outcome == "cancelled":
            return  # to be queued again
        if outcome != "done":
            self._store.clear(job.id)
        self._metrics.job_ended(outcome, seconds=time.monotonic() - since, num_pixels=job.height * job.width)

    def _fail(self, job: Job, status: int, sentence: str) -> str:
        return "failed" if self._store.fail(job, status, sentence) else "cancelled"

    def _make(self, job: Job) -> list[str]:
        """Write the result, and return what was lost or converted."""
        deadline = time.monotonic() + self._settings.max_seconds
        folder = self._store.folder(job.id)
        for unfinished in folder.glob("work-*"):  # of a process that was killed, whose child may still write there
            shutil.rmtree(unfinished, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix="work-", dir=folder))
        warnings = self._sandbox.read(self._store.source(job), work, num_pixels=job.height * job.width)
        num_pixels = self._enlarge(job, work, deadline)
        warnings += self._sandbox.write(work, self._store.result(job), num_pixels=num_pixels, quality=job.quality)
        shutil.rmtree(work)
        return warnings

    def _enlarge(self, job: Job, work: Path, deadline: float) -> int:
        """Put the result in the picture's place; returns how many pixels it has."""
        upscaler, image, since = self._networks.upscaler(job.model), take_picture(work), time.monotonic()
        num_passes, num_done = 1 if image.alpha is None else 2, 0
        size = scaled_size(image.height, image.width, job.scale)

        def report(part: float) -> None:
            if self._stopping.is_set() or not self._is_wanted(job):
                raise _CancelledError
            if time.monotonic() > deadline:
                raise RefusedError(
                    504, f"the picture took longer than {self._settings.max_seconds:g} s: make it smaller"
                )
            self._at = job.id, (num_done + part) / num_passes, since

        def upscale(x: Tensor) -> Tensor:
            nonlocal num_done
            out = upscale_to(lambda y: upscaler(y, report=report), x, size, scale=upscaler.scale)
            num_done += 1
            return out

        result = upscale_image(image, upscale, in_chans=upscaler.in_chans)
        put_picture(result, work)
        return result.height * result.width

    def _is_wanted(self, job: Job) -> bool:
        now = self._store.get(job.id)
        return now is not None and now.state == "running"
