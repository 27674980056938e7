"""What the server does, whoever asks: takes pictures within its limits, and says how far they are."""

import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from hat_sr.errors import ImageError
from hat_sr.image.formats import FORMATS, check_size
from hat_sr.image.noise import NOISY
from hat_sr.image.signature import HEAD_BYTES, kind_of
from hat_sr.inference.sizing import scaled_size
from hat_sr.serve.metrics import Metrics
from hat_sr.serve.networks import Networks
from hat_sr.serve.sandbox import BadFileError, Sandbox
from hat_sr.serve.settings import RefusedError, ServerSettings
from hat_sr.serve.store import Job, Store
from hat_sr.serve.worker import Worker

_SHOWN = (".jpg", ".png", ".webp")
"""Kinds that browsers show."""

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".exr": "image/x-exr",
}
"""Of the kinds that are written, by the suffix that results have here."""

_SUFFIXES = {kind.name: kind.suffixes[0] for kind in FORMATS} | {"gif": ".gif"}
"""Of the kinds that are taken."""


def suffix_of_upload(head: bytes) -> str:
    """The suffix of files that begin with these bytes; the name that a client gives says nothing.

    Raises RefusedError (415) if it is no kind that is taken.
    """
    kind = kind_of(head)
    if kind is None:
        what = "the file is no image of a kind that is taken here" if head else "the file is empty"
        raise RefusedError(415, f"{what}: JPEG, PNG, TIFF, WebP, BMP, EXR and GIF are accepted")
    return _SUFFIXES[kind]


def suffix_of_result(wanted: str | None, source: str) -> str:
    """The suffix of a result: of the format `wanted`, or of the `source`'s, .png where such files are not written.

    Raises RefusedError (415) for a format that is not written.
    """
    if not wanted:
        return source if source in MEDIA_TYPES else ".png"
    suffix = "." + wanted.lower().removeprefix(".")
    suffix = next((kind.suffixes[0] for kind in FORMATS if suffix in kind.suffixes), suffix)
    if suffix not in MEDIA_TYPES:
        known = ", ".join(name.removeprefix(".") for name in MEDIA_TYPES)
        raise RefusedError(415, f"format {wanted!r} is not written here: {known} are accepted")
    return suffix


class Service:
    """A queue, its worker and its limits. Made, it works; `close` it. For several threads.

    Raises as `Store`, `Networks` and `Sandbox`.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.networks = Networks(settings)
        self.store = Store(settings.folder)
        self.sandbox = Sandbox(seconds=settings.file_seconds)
        self.metrics = Metrics(queue_length=lambda: len(self.store.unfinished()))
        self.worker = Worker(settings, self.store, self.sandbox, self.networks, self.metrics)
        self.worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop working; what is unfinished stays in the folder for the next start."""
        self.worker.stop()
        self.sandbox.close()
        self.store.close()

    def submit(
        self,
        file: BinaryIO,
        *,
        scale: float | None = None,
        model: str | None = None,
        format: str | None = None,  # noqa: A002 (the field's name)
        quality: int | None = None,
        direct: bool = False,
    ) -> Job:
        """Take a picture; once this returns, it is safe on the disk.

        scale: None is the network's. model: a name of `Networks`. format: of the result, None the file's. quality: 1 to
        100, for JPEG and WebP. direct: a request waits for the result.
        Raises RefusedError, with a status and a sentence for people, if it is not taken; OSError if the disk is full.
        """
        if len(self.store.unfinished()) >= self.settings.max_queue:
            raise self._full()
        identity, folder = self.store.new_folder()
        try:
            source_suffix = suffix_of_upload(head := file.read(HEAD_BYTES))
            source = folder / f"source{source_suffix}"
            with source.open("wb") as target:
                target.write(head)
                shutil.copyfileobj(file, target)
            job = self._planned(identity, source, scale, model, format, quality, direct=direct)
            if not self.store.add(job, max_queue=self.settings.max_queue):
                raise self._full()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.worker.wake()
        return job

    def job(self, identity: str) -> Job:
        """The job of that id. Raises RefusedError (404) if there is none, or none any more."""
        job = self.store.get(identity)
        expired = time.time() - self.settings.keep_seconds  # the worker deletes them when it has the time
        if job is None or (job.finished is not None and job.finished < expired):
            raise RefusedError(404, "there is no such job: it never was, was deleted, or was finished too long ago")
        return job

    def result(self, identity: str) -> Path:
        """The file that a job made. Raises RefusedError: 404, 409 while it is unfinished, or why there is none."""
        job = self.job(identity)
        if not job.is_finished:
            raise RefusedError(409, f"the job is {job.state}: ask again when it is done", retry_after=1)
        if job.state != "done":
            raise RefusedError(job.status or 500, job.error or "the job failed")
        return self.store.result(job)

    def delete(self, identity: str) -> None:
        """Cancel a job that is unfinished, forget one that is finished. Raises RefusedError (404) if there is none."""
        self.job(identity)
        if not self.store.cancel(identity):
            self.store.remove(identity)

    def before(self, identity: str) -> Path:
        """What came, as a file that browsers show. Raises as `result` and as `Sandbox`."""
        self.result(identity)
        job, shown = self.job(identity), self.store.folder(identity) / "before.png"
        return self._shown(self.store.source(job), shown, num_pixels=job.height * job.width)

    def after(self, identity: str) -> Path:
        """What was made, as a file that browsers show. Raises as `result` and as `Sandbox`."""
        result, job = self.result(identity), self.job(identity)
        if job.suffix in _SHOWN:
            return result
        height, width = scaled_size(job.height, job.width, job.scale)
        return self._shown(result, self.store.folder(identity) / "after.png", num_pixels=height * width)

    def _shown(self, source: Path, shown: Path, *, num_pixels: int) -> Path:
        if not shown.exists():
            self.sandbox.convert(source, shown, num_pixels=num_pixels)
        return shown

    def _planned(
        self,
        identity: str,
        source: Path,
        scale: float | None,
        model: str | None,
        wanted_format: str | None,
        quality: int | None,
        *,
        direct: bool,
    ) -> Job:
        """The job, if all that can be said before decoding speaks for it."""
        suffix = suffix_of_result(wanted_format, source.suffix)
        if quality is not None and not 1 <= quality <= 100:
            raise RefusedError(422, f"quality {quality}: 1 to 100 is accepted")
        try:
            header = self.sandbox.look(source)
        except BadFileError as error:
            raise RefusedError(422, str(error)) from error
        height, width = int(header["height"]), int(header["width"])
        what = f"the picture has {width}×{height} pixels"
        self._check_pixels(what, height * width, self.settings.max_pixels)

        def is_degraded() -> bool:
            return bool(header["lossy"]) or self.sandbox.noise(source, num_pixels=height * width) >= NOISY

        try:
            name, factor = self.networks.choose(model, scale, is_degraded=is_degraded)
        except BadFileError as error:
            raise RefusedError(422, str(error)) from error
        made = height * width * self.networks.scales[name] ** 2
        self._check_pixels(f"{what}, of which {name} makes {made}", made, self.settings.max_result_pixels)
        if direct and height * width > self.settings.direct_pixels:
            raise RefusedError(
                413,
                f"{what}, and up to {self.settings.direct_pixels} are answered directly: send it to /v1/jobs instead",
            )
        try:
            check_size(Path(f"result{suffix}"), *scaled_size(height, width, factor))
        except ImageError as error:
            raise RefusedError(413, str(error)) from error
        return Job(
            id=identity,
            direct=direct,
            model=name,
            scale=factor,
            height=height,
            width=width,
            source_suffix=source.suffix,
            suffix=suffix,
            quality=quality,
            created=time.time(),
        )

    def _check_pixels(self, what: str, number: int, largest: int) -> None:
        if number > largest:
            raise RefusedError(413, f"{what}, and up to {largest} are accepted: make it smaller")

    def _full(self) -> RefusedError:
        return RefusedError(
            429, f"{self.settings.max_queue} pictures wait already: try again in a while", retry_after=10
        )
