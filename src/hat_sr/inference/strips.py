"""A picture in a file of raw pixels, enlarged into another: one row of tiles at a time, and each as in memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hat_sr.image.alpha import Filling, neighbourhood
from hat_sr.image.convert import to_pixels, to_tensor
from hat_sr.image.pixels import Image, Pixels
from hat_sr.image.resize import resize_rows
from hat_sr.image.spool import Facts, Spool
from hat_sr.inference.picture import Treatment, check_channels
from hat_sr.inference.tiling import Span, Tiling
from hat_sr.inference.upscale import Upscale

_BLOCK_BYTES = 1 << 24
"""About how much of the result is read at once when it becomes a file."""


class Strips:
    """What `upscale_image` does to a picture, for `source` and `result` in place of pictures in memory.

    like: a picture with the file's metadata, of any size. facts: what `copy_pixels` saw. upscale: what runs on a tile,
    (1, in_chans, H, W) in [0, 1]. Raises InputError for RGB and a network of one channel.
    """

    def __init__(
        self,
        source: Spool,
        result: Spool,
        tiling: Tiling,
        *,
        like: Image,
        facts: Facts,
        upscale: Upscale,
        in_chans: int,
    ) -> None:
        channels = like.color.shape[2]
        check_channels(channels, in_chans)
        self._source, self._result, self._tiling, self._like = source, result, tiling, like
        self._upscale, self._in_chans = upscale, in_chans
        self._treatment = Treatment(
            channels=channels,
            in_chans=in_chans,
            dtype=facts.dtype,
            linear=like.linear,
            peak=torch.tensor(facts.peak, dtype=torch.float32),
        )
        self._filling = Filling(self._read, source.height) if facts.num_visible and facts.num_hidden else None

    def run(self, number: int, above: Tensor | None, report: Callable[[int], None]) -> Tensor:
        """Run a row of tiles, write what is finished, and return what is to be the next one's `above` (see `Tiling`).

        `report` is called after each tile, with how many of the row are done.
        """
        row, scale = self._tiling.rows[number], self._tiling.scale
        first, last = self._tiling.finished(number)
        strip = self._picture(self._source, row.start, row.stop)
        filled = None if self._filling is None else self._filling.rows(row.start, row.stop)
        alpha = None if strip.alpha is None else to_tensor(strip.alpha).clamp(0, 1)
        bounds = None if alpha is None else neighbourhood(alpha)

        def run_tile(_: Span, column: Span) -> Tensor:
            part = slice(column.start, column.stop)
            color = to_tensor(strip.color[:, part]) if filled is None else filled[..., part]
            results = [self._upscale(self._treatment.of_color(color))]
            if alpha is not None:
                results.append(self._upscale(self._treatment.of_alpha(alpha[..., part])))
            return torch.cat(results, dim=1)

        below = []
        for left, block in self._tiling.run_row(number, run_tile, above):
            done, rest = block.split([(last - first) * scale, block.shape[-2] - (last - first) * scale], dim=-2)
            pixels = self._treatment.color(done[:, : self._in_chans])
            if bounds is not None:
                columns = slice(left // scale, (left + block.shape[-1]) // scale)
                least, greatest = (values[..., first - row.start : last - row.start, columns] for values in bounds)
                enlarged = self._treatment.alpha(done[:, self._in_chans :], (least, greatest))
                pixels = np.concatenate([pixels, enlarged], axis=2)
            self._result.write(first * scale, left, pixels)
            below.append(rest.clone())  # not a view, which would keep the block
            report(len(below))
        return torch.cat(below, dim=-1)

    def parts(self, size: tuple[int, int]) -> Iterator[Image]:
        """The result, from top to bottom, some rows at a time, at `size` = (height, width): resized if need be."""
        height, width = self._result.height, self._result.width
        step = max(1, _BLOCK_BYTES * size[0] // (height * self._result.row_bytes))
        for top in range(0, size[0], step):
            bottom = min(top + step, size[0])
            if size == (height, width):
                yield self._picture(self._result, top, bottom)
            else:
                rows = resize_rows(self._encoded, height, width, size, top, bottom).clamp(0, 1)
                yield replace(self._like, pixels=self._decoded(rows))

    def _encoded(self, start: int, stop: int) -> Tensor:
        """Rows of the result as the network gave them: (1, in_chans and perhaps alpha, rows, width) in [0, 1]."""
        strip = self._picture(self._result, start, stop)
        color = self._treatment.of_color(to_tensor(strip.color))
        return color if strip.alpha is None else torch.cat([color, to_tensor(strip.alpha).clamp(0, 1)], dim=1)

    def _decoded(self, rows: Tensor) -> Pixels:
        """Pixels of what `_encoded` gave."""
        pixels = self._treatment.color(rows[:, : self._in_chans])
        if rows.shape[1] == self._in_chans:
            return pixels
        return np.concatenate([pixels, to_pixels(rows[:, self._in_chans :], pixels.dtype.name)], axis=2)

    def _picture(self, spool: Spool, start: int, stop: int) -> Image:
        return replace(self._like, pixels=spool.read(start, stop))

    def _read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Colour and alpha of rows of the input that has alpha."""
        picture = self._picture(self._source, start, stop)
        return to_tensor(picture.color), to_tensor(picture.pixels[..., -1:]).clamp(0, 1)
