"""Pictures larger than memory: their raw pixels in a file, read and written in parts."""

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from hat_sr.errors import ImageError
from hat_sr.image.pixels import Image, Pixels
from hat_sr.image.reader import ImageFile


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
    """What is known only when the whole picture was read. Pixels under alpha 0 count only if there are no others."""

    channels: int
    dtype: str
    num_visible: int
    num_hidden: int
    """How many pixels have alpha above 0, or no alpha; and how many alpha 0 hides, which it does not in EXR."""
    peak: float
    """The largest value of a colour, white being 1; no less than 1."""
    num_negative: int
    """Values of colours below 0."""


def copy_pixels(file: ImageFile, path: Path) -> Facts:
    """Write the file's picture to a `Spool` at `path`, upright, and return what is known then.

    Raises as reading and writing do, and InputError for NaN and infinity.
    """
    header, blocks = file.header, file.blocks()
    first = next(blocks)
    channels, dtype = first[2].shape[2], first[2].dtype.name
    visible, hidden = _Tally(), _Tally()
    with Spool(path, height=header.height, width=header.width, channels=channels, dtype=dtype) as spool:
        for top, left, pixels in chain([first], blocks):
            image = Image(pixels)
            spool.write(top, left, pixels)
            shown = np.ones(pixels.shape[:2], bool)
            if image.alpha is not None and not file.is_associated:
                shown = image.alpha[..., 0].astype(np.float32) > 0
            visible.add(image.color[shown])
            hidden.add(image.color[~shown])
        spool.sync()
    counted = visible if visible.num_pixels else hidden
    return Facts(
        channels=channels,
        dtype=dtype,
        num_visible=visible.num_pixels,
        num_hidden=hidden.num_pixels,
        peak=counted.peak,
        num_negative=counted.num_negative,
    )


@dataclass
class _Tally:
    """Counts pixels, and looks at their values if these can be beyond black and white."""

    num_pixels: int = 0
    peak: float = 1.0
    num_negative: int = 0

    def add(self, colors: Pixels) -> None:
        self.num_pixels += len(colors)
        if colors.dtype.kind == "f" and len(colors):
            values = colors.astype(np.float32)
            self.peak = max(self.peak, float(values.max()))
            self.num_negative += int((values < 0).sum())
