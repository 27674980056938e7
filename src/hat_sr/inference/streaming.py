"""A picture larger than memory, from file to file: one row of tiles after the other, each safe on disk when it is done.

The input is copied first, upright and raw, which also shows what only the whole picture shows. The result grows as raw
pixels too, and becomes a file when it is complete. Both lie in the hidden folder of the `Journal`, with what the last
row of tiles left to be blended with the next, so that a job that was stopped goes on after its last finished strip.

The result is that of `upscale_image` with an `Upscaler` whose `tile` is the same, bit for bit.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hat_sr import __version__
from hat_sr.errors import ImageError, InputError, OutputError
from hat_sr.image.decode import Header, open_image, read_header
from hat_sr.image.io import check_output, write_rows
from hat_sr.image.spool import Facts, Spool, copy_pixels
from hat_sr.inference.device import PRECISION_NAMES, find_dtype
from hat_sr.inference.journal import Begun, Journal, read_begun, read_journal, unfinished_folder
from hat_sr.inference.memory import is_out_of_memory
from hat_sr.inference.picture import warn_of_negative
from hat_sr.inference.strips import Strips
from hat_sr.inference.tiling import Tiling
from hat_sr.inference.upscale import Upscale
from hat_sr.inference.upscaler import ImagePlan, Progress, Upscaler

Say = Callable[[str], None]
"""Told in a sentence what people should know."""

_SOURCE, _RESULT = "source.raw", "result.raw"


def is_unfinished(source: Path, output: Path, upscaler: Upscaler) -> bool:
    """Whether just this was begun by `upscale_file`, and stopped."""
    begun = read_begun(read_journal(unfinished_folder(output)))
    return begun is not None and not _differences(begun.job, _identity(source, upscaler))


def upscale_file(
    source: Path,
    output: Path,
    upscaler: Upscaler,
    *,
    size: tuple[int, int] | None = None,
    quality: int | None = None,
    keep_dpi: bool = False,
    progress: Progress = lambda done, total: None,
    say: Say = lambda sentence: None,
) -> None:
    """Enlarge the picture at `source` to `output`, whose suffix says the kind of file.

    size: (height, width) to which the network's result is resized; None is its own factor.

    Memory is taken for a tile, and for the rows of the input that a row of tiles reads. If the same job was stopped, it
    goes on after the last finished row of tiles; if input, network or settings have changed since, it starts anew.
    progress: called with how many tiles are done and how many there are, first before any is run. quality, keep_dpi: as
    for `write_image`. Raises ImageError if a file cannot be read or written, room on the disk is short, or another
    process is at the same result; InputError if the picture is of no kind for the network, or memory runs out.
    """
    header = read_header(source)
    size = size or (header.height * upscaler.scale, header.width * upscaler.scale)
    check_output(output, *size, quality=quality)
    try:
        with Journal(output) as journal:
            try:
                _Job(source, output, size, upscaler, journal, header, say).run(quality, keep_dpi, progress)
            except BaseException:
                if (begun := read_begun(read_journal(journal.folder))) is not None and begun.num_finished:
                    say(f"{source}: {begun.num_finished} finished strips are kept: the same command goes on from there")
                else:
                    journal.remove()
                raise
            journal.remove()
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from error


class _Job:
    """What is made of what, and the journal of it."""

    def __init__(
        self,
        source: Path,
        output: Path,
        size: tuple[int, int],
        upscaler: Upscaler,
        journal: Journal,
        header: Header,
        say: Say,
    ) -> None:
        self.source, self.output, self.upscaler, self.journal, self.say = source, output, upscaler, journal, say
        self.height, self.width, self.scale, self.size = header.height, header.width, upscaler.scale, size
        self.row_bytes = header.width * header.channels * np.dtype(header.dtype).itemsize

    def run(self, quality: int | None, keep_dpi: bool, progress: Progress) -> None:
        """Do what is still to be done."""
        begun = self._begun() or self._begin()
        facts, plan, num_finished = begun.facts, begun.plan, begun.num_finished
        tiling = self._tiling(plan)
        num_strips, num_columns = len(tiling.rows), len(tiling.columns)
        above = None
        if num_finished:
            _check_room(self.journal.folder, self._needed(tiling.finished(num_finished - 1)[1]), self.output)
            self.say(f"{self.source}: going on after strip {num_finished} of {num_strips}")
            above = torch.from_numpy(np.load(self._above(num_finished)))
            if begun.precision != PRECISION_NAMES[self.upscaler.dtype]:
                self.upscaler.compute_in(find_dtype(begun.precision, self.upscaler.device))
        with open_image(self.source) as file:
            like = file.picture(np.zeros((1, 1, facts.channels), facts.dtype))

        def report(number: int, num_done: int) -> None:
            progress(number * num_columns + num_done, num_strips * num_columns)

        report(num_finished, 0)
        with self._spool(_SOURCE, 1, facts) as source, self._spool(_RESULT, self.scale, facts) as result:
            strips = Strips(
                source,
                result,
                tiling,
                like=like,
                facts=facts,
                upscale=_explained(self.upscaler.for_tiles(plan), plan),
                in_chans=self.upscaler.in_chans,
            )
            for number in range(num_finished, num_strips):
                needed = self._needed(tiling.finished(number)[0])
                with _told_of_full_disk(self.journal.folder, needed, self.output):
                    above = strips.run(number, above, partial(report, number))
                    result.sync()
                    _save(self._above(number + 1), above)
                    self.journal.add({"strip": number + 1, "precision": PRECISION_NAMES[self.upscaler.dtype]})
            write_rows(self.output, strips.parts(self.size), height=self.size[0], quality=quality, keep_dpi=keep_dpi)

    def _begun(self) -> Begun | None:
        """What was begun of this job, if it can go on; None, and said why, if not."""
        lines = read_journal(self.journal.folder)
        begun = read_begun(lines)
        if begun is not None and (changed := _differences(begun.job, _identity(self.source, self.upscaler))):
            self.say(f"{self.source}: starting anew: what was begun had another {' and another '.join(changed)}")
            return None
        if lines and (begun is None or not self._is_whole(begun)):
            self.say(f"{self.source}: starting anew: what was begun is damaged")
            return None
        return begun

    def _is_whole(self, begun: Begun) -> bool:
        """Whether there can be as many strips, and the files are there and as long as they are then."""
        facts, tiling, number = begun.facts, self._tiling(begun.plan), begun.num_finished
        if not 0 <= number <= len(tiling.rows):
            return False
        row_bytes = self.width * facts.channels * np.dtype(facts.dtype).itemsize
        lengths = {self.journal.folder / _SOURCE: self.height * row_bytes}
        if number:
            num_rows = tiling.finished(number - 1)[1]
            lengths |= {self.journal.folder / _RESULT: num_rows * self.scale**2 * row_bytes, self._above(number): 1}
        return all(path.is_file() and path.stat().st_size >= length for path, length in lengths.items())

    def _tiling(self, plan: ImagePlan) -> Tiling:
        return self.upscaler.plan_tiling(self.height, self.width, plan)

    def _begin(self) -> Begun:
        """Copy the input, and write the first line of the journal."""
        self.journal.clear()
        identity, plan = _identity(self.source, self.upscaler), self.upscaler.plan_stream(self.height, self.width)
        needed = self.height * self.row_bytes + self._needed(0)
        _check_room(self.journal.folder, needed, self.output)
        self.say(
            f"{self.source}: too large for the memory there is: strip by strip, in {plan}, "
            f"with up to {_size(needed)} of disk beside {self.output}"
        )
        with open_image(self.source) as file, _told_of_full_disk(self.journal.folder, needed, self.output):
            facts = copy_pixels(file, self.journal.folder / _SOURCE)
        if _identity(self.source, self.upscaler) != identity:
            raise ImageError(f"{self.source}: it was changed while it was read: start again")
        if facts.num_negative:
            warn_of_negative(facts.num_negative, self.source)
        begun = Begun(job=identity, facts=facts, plan=plan)
        self.journal.add(begun.line())
        return begun

    def _needed(self, num_rows: int) -> int:
        """Bytes on the disk for what comes after so many finished rows of the input: raw, and then as a file."""
        file = self.size[0] * self.size[1] * self.row_bytes // self.width
        return (self.height - num_rows) * self.scale**2 * self.row_bytes + file

    def _spool(self, name: str, scale: int, facts: Facts) -> Spool:
        return Spool(
            self.journal.folder / name,
            height=self.height * scale,
            width=self.width * scale,
            channels=facts.channels,
            dtype=facts.dtype,
        )

    def _above(self, number: int) -> Path:
        """Where it lies what a strip, counted from 1, left to be blended with the next; the last two are kept."""
        return self.journal.folder / f"above-{number % 2}.npy"


def _identity(source: Path, upscaler: Upscaler) -> dict[str, str]:
    """What must be the same in all runs of one job, under names for people."""
    status = source.stat()
    return {
        "input": f"{source.resolve()}, {status.st_size} bytes, {status.st_mtime_ns}",
        "model": upscaler.fingerprint(),
        **upscaler.settings,
        "version of hat-sr": __version__,
    }


def _differences(job: Mapping[str, str], identity: Mapping[str, str]) -> list[str]:
    """What is not as it was when the job was begun."""
    return [name for name, value in identity.items() if job.get(name) != value]


def _save(path: Path, values: Tensor) -> None:
    with path.open("wb") as file:
        np.save(file, values.numpy())
        file.flush()
        os.fsync(file.fileno())


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _check_room(folder: Path, needed: int, output: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{output}: up to {_size(needed)} are needed on that disk and {_size(free)} are free: "
            f"{_size(needed - free)} are missing"
        )


@contextmanager
def _told_of_full_disk(folder: Path, needed: int, output: Path) -> Iterator[None]:
    """Says of a disk that is full how much is needed from here on."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _check_room(folder, needed, output)
        raise OutputError(f"{output}: the disk is full, or your share of it: {error.strerror}") from error


def _explained(upscale: Upscale, plan: ImagePlan) -> Upscale:
    """`upscale`, which says of memory that runs out what to do."""

    def run(x: Tensor) -> Tensor:
        try:
            return upscale(x)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"memory ran out on a tile of {plan.tile_size} pixels a side: free some, or use a smaller tile, "
                "another device or another precision"
            ) from error

    return run
