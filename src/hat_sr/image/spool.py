"""Pictures larger than memory: their raw pixels in a file, read and written in parts."""

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hat_sr.errors import ImageError
from hat_sr.image.decode import ImageFile
from hat_sr.image.pixels import Image, Pixels


class Spool:
    """A file of pixels, HWC, row after row, in this machine's byte order; it is made if it is not there.

    What was never written reads as 0, or not at all beyond the last pixel written. Raises OSError as files do.
    """

    def __init__(self, path: Path, *, height: int, width: int, channels: int, dtype: str) -> None:
        self.path, self.height, self.width, self.channels = path, height, width, channels
        self.dtype = np.dtype(dtype)
        self._file = path.open("r+b" if path.exists() else "w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def row_bytes(self) -> int:
        """What one row takes."""
        return self.width * self.channels * self.dtype.itemsize

    def write(self, top: int, left: int, pixels: Pixels) -> None:
        """Put a rectangle of pixels in its place."""
        pixel_bytes = self.channels * self.dtype.itemsize
        rows = [pixels] if pixels.shape[1] == self.width else list(pixels)
        for number, row in enumerate(rows):
            self._file.seek((top + number) * self.row_bytes + left * pixel_bytes)
            self._file.write(np.ascontiguousarray(row).data)

    def read(self, start: int, stop: int) -> Pixels:
        """The rows from `start` to before `stop`. Raises ImageError if they are not all there."""
        self._file.seek(start * self.row_bytes)
        data = self._file.read((stop - start) * self.row_bytes)
        if len(data) < (stop - start) * self.row_bytes:
            raise ImageError(f"{self.path}: cut short: delete it and start again")
        return np.frombuffer(data, self.dtype).reshape(stop - start, self.width, self.channels)

    def sync(self) -> None:
        """Return when all that was written is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What shows only when all of a picture was read. What lies under alpha 0 counts only if there is nothing else."""

    channels: int
    dtype: str
    num_visible: int
    num_hidden: int
    """How many pixels have alpha above 0, or no alpha; and how many have alpha 0."""
    peak: float
    """The largest value of a colour, white being 1; no less than 1."""
    num_negative: int
    """Values of colours below 0."""


def copy_pixels(file: ImageFile, path: Path) -> Facts:
    """Write the file's picture to a `Spool` at `path`, upright, and see what shows on the way.

    Raises as reading and writing do, and InputError for NaN and infinity.
    """
    header = file.header
    blocks = file.blocks()
    first = next(blocks)
    channels, dtype = first[2].shape[2], first[2].dtype.name
    num_pixels, peaks, num_negative = [0, 0], [1.0, 1.0], [0, 0]  # of hidden pixels, and of visible ones
    with Spool(path, height=header.height, width=header.width, channels=channels, dtype=dtype) as spool:
        for top, left, pixels in chain([first], blocks):
            block = Image(pixels)
            spool.write(top, left, pixels)
            alpha = np.ones(1) if block.alpha is None else block.alpha[..., 0].astype(np.float32)
            visible = np.broadcast_to(alpha > 0, pixels.shape[:2])
            for kind in (False, True):
                chosen = visible == kind
                num_pixels[kind] += int(chosen.sum())
                if pixels.dtype.kind == "f" and chosen.any():
                    values = block.color[chosen]
                    peaks[kind] = max(peaks[kind], float(values.max()))
                    num_negative[kind] += int((values < 0).sum())
        spool.sync()
    counted = num_pixels[True] > 0
    return Facts(
        channels=channels,
        dtype=dtype,
        num_visible=num_pixels[True],
        num_hidden=num_pixels[False],
        peak=peaks[counted],
        num_negative=num_negative[counted],
    )
