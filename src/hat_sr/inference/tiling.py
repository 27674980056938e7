"""Large images in tiles with context, blended where they meet: planned in integers, then applied to tensors.

    one axis      |<------- read -------->|
    tile 1        ======================|--
    tile 2                   --|//====================\\\\|--
                               |<- used ->  // \\\\ blend, -- context that is dropped

All lengths are in LR pixels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hat_sr.errors import ConfigError
from hat_sr.inference.upscale import Upscale


@dataclass(frozen=True, kw_only=True)
class Span:
    """One tile along one axis: [start, stop) is read, and of its result [core_start, core_stop) is used.

    The cores of neighbours overlap by the blend, in which one fades into the other.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int


def smallest_tile_size(*, tile_pad: int, blend_size: int, align: int) -> int:
    """The least `tile_size` that `plan_axis` takes with these settings."""
    return _shared(tile_pad, blend_size, align) + align


def plan_axis(length: int, *, tile_size: int, tile_pad: int, blend_size: int, align: int) -> list[Span]:
    """Cut an axis of `length` pixels into the fewest tiles of at most `tile_size`, context included.

    A pixel is used only from a tile that reads at least `tile_pad` pixels on each side of it (or all there are), and
    neighbours blend over `blend_size` pixels. Tiles are made equal, no larger than their number asks for. Starts are
    multiples of `align`, so that a tile has the same window grid as the whole image; the last tile is moved inwards
    and may be up to align − 1 shorter. Raises ConfigError for settings that cannot be.
    """
    _check(tile_size, tile_pad, blend_size, align)
    if length <= tile_size:
        return [Span(start=0, stop=length, core_start=0, core_stop=length)]

    shared = _shared(tile_pad, blend_size, align)
    count = math.ceil((length - shared) / (tile_size - shared))
    stride = _round_up(math.ceil((length - shared) / count), align)
    size = stride + shared
    last_start = _round_up(length - size, align)
    starts = [min(number * stride, last_start) for number in range(count)]
    stops = [min(start + size, length) for start in starts]

    blend_starts = [(stop + start - blend_size) // 2 for stop, start in zip(stops[:-1], starts[1:], strict=True)]
    core_starts = [0, *blend_starts]
    core_stops = [*(start + blend_size for start in blend_starts), length]
    return [
        Span(start=start, stop=stop, core_start=core_start, core_stop=core_stop)
        for start, stop, core_start, core_stop in zip(starts, stops, core_starts, core_stops, strict=True)
    ]


def blend_weights(span: Span, length: int, *, blend_size: int, scale: int) -> Tensor:
    """How much each output pixel of a tile's core counts along one axis: (scale·core,) float64 in [0, 1].

    Over all tiles of an axis of `length` pixels the weights of a pixel add up to 1.
    """
    position = torch.arange(span.core_start * scale, span.core_stop * scale, dtype=torch.float64) + 0.5

    def rise(start: int) -> Tensor:
        return ((position - start * scale) / (blend_size * scale)).clamp(0, 1)

    weights = torch.ones_like(position) if span.start == 0 else rise(span.core_start)
    return weights if span.stop == length else weights - rise(span.core_stop - blend_size)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """An image cut into rows of tiles, either axis by `plan_axis`; `plan_tiles` makes it."""

    height: int
    width: int
    scale: int
    blend_size: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def finished(self, number: int) -> tuple[int, int]:
        """The LR rows, from one to before another, whose result is complete with that row of tiles and not before."""
        return self.rows[number].core_start, _end(self.rows, number)

    def run_row(
        self, number: int, upscale: Callable[[Span, Span], Tensor], above: Tensor | None
    ) -> Iterator[tuple[int, Tensor]]:
        """Run one row of tiles: yields (left, block), blocks of the result side by side and the column each begins at.

        upscale: gives the result, (B, C, H, W), for the pixels of a row and a column of tiles. A block has the rows
        that are `finished`, and under them those, if any, in which the next row of tiles is blended in: put side by
        side they are its `above`, which the first row of tiles has not.
        """
        row = self.rows[number]
        row_weights = blend_weights(row, self.height, blend_size=self.blend_size, scale=self.scale)
        edge = None
        for index, column in enumerate(self.columns):
            column_weights = blend_weights(column, self.width, blend_size=self.blend_size, scale=self.scale)
            tile = upscale(row, column)[..., _core(row, self.scale), _core(column, self.scale)]
            left, right = column.core_start * self.scale, column.core_stop * self.scale
            sums = torch.zeros_like(tile)
            if above is not None:
                sums[..., : above.shape[-2], :] = above[..., left:right]
            if edge is not None:
                sums[..., : edge.shape[-1]] = edge
            sums += tile * torch.outer(row_weights, column_weights).to(tile)
            num_finished = _end(self.columns, index) * self.scale - left
            edge = sums[..., num_finished:]
            yield left, sums[..., :num_finished]


def plan_tiles(
    height: int, width: int, *, scale: int, tile_size: int, tile_pad: int, blend_size: int, align: int
) -> Tiling:
    """The tiles of an image of that size, for an upscaler of factor `scale`. Settings and errors as `plan_axis`."""
    rows, columns = (
        tuple(plan_axis(side, tile_size=tile_size, tile_pad=tile_pad, blend_size=blend_size, align=align))
        for side in (height, width)
    )
    return Tiling(height=height, width=width, scale=scale, blend_size=blend_size, rows=rows, columns=columns)


def tiled(
    upscale: Upscale, *, scale: int, tile_size: int, tile_pad: int, blend_size: int = 8, align: int = 1
) -> Upscale:
    """An Upscale that runs `upscale` on one tile after the other, and blends them without seams.

    Each call of `upscale` gets at most tile_size × tile_size pixels; the result is gathered on the input's device, so
    that with the image on the CPU only tiles are on an accelerator. The settings are those of `plan_axis`.
    Equal to the whole image at once where no output pixel depends on input further than `tile_pad` away. HAT does
    (attention chains, and the global mean in channel attention): there it is an approximation.
    Raises ConfigError for settings that cannot be.
    """
    _check(tile_size, tile_pad, blend_size, align)

    def run(x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tiling = plan_tiles(
            H, W, scale=scale, tile_size=tile_size, tile_pad=tile_pad, blend_size=blend_size, align=align
        )
        if len(tiling.rows) == len(tiling.columns) == 1:
            return upscale(x)
        out = x.new_empty(B, C, H * scale, W * scale)
        above = None
        for number in range(len(tiling.rows)):
            top = tiling.rows[number].core_start * scale
            bottom = tiling.rows[number].core_stop * scale
            for left, block in tiling.run_row(number, lambda row, column: upscale(_read(x, row, column)), above):
                out[..., top:bottom, left : left + block.shape[-1]] = block
            above = out[..., tiling.finished(number)[1] * scale : bottom, :].clone()
        return out

    return run


def _read(x: Tensor, row: Span, column: Span) -> Tensor:
    return x[..., row.start : row.stop, column.start : column.stop]


def _core(span: Span, scale: int) -> slice:
    """The core in output pixels of the tile."""
    return slice((span.core_start - span.start) * scale, (span.core_stop - span.start) * scale)


def _end(spans: Sequence[Span], number: int) -> int:
    """Up to where the pixels of an axis are finished with that span: where the next begins to blend in."""
    return spans[number].core_stop if number + 1 == len(spans) else spans[number + 1].core_start


def _shared(tile_pad: int, blend_size: int, align: int) -> int:
    """How many pixels two neighbours both read, at least."""
    return _round_up(2 * tile_pad + blend_size, align)


def _round_up(value: int, multiple: int) -> int:
    return value + -value % multiple


def _check(tile_size: int, tile_pad: int, blend_size: int, align: int) -> None:
    if tile_pad < 0 or blend_size < 1 or align < 1:
        raise ConfigError(
            f"tile_pad {tile_pad} must be at least 0, blend_size {blend_size} and align {align} at least 1"
        )
    smallest = smallest_tile_size(tile_pad=tile_pad, blend_size=blend_size, align=align)
    if tile_size < smallest or tile_size % align:
        raise ConfigError(
            f"tile_size {tile_size} must be a multiple of {align} and at least {smallest}: it includes tile_pad "
            f"{tile_pad} on both sides and blend_size {blend_size}"
        )
