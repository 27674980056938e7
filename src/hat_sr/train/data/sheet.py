"""A picture of what a training sees: parts of images, and what degradations make of them."""

import io
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from torch import Tensor

from hat_sr.degradation.config import DegradationConfig
from hat_sr.degradation.degrade import degrade, draw_steps
from hat_sr.degradation.filters import sharpened
from hat_sr.errors import ConfigError, ImageError, require
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.train.data.reading import read_rgb

SIDE = 256
"""Pixels of a part's side, about: a multiple of the scale."""

COLUMNS = 6
"""Cells in a row."""

_CAPTION = 64
_GAP = 8
_DOTS_PER_INCH = 100
_LETTERS = 44

Cell = tuple[NDArray[np.uint8], str]
"""Pixels, (H, W, 3), and what is written beneath."""


def check_sheet_path(path: Path) -> None:
    """Raise what `draw_sheet` would raise for this path, before any work.

    ConfigError for another suffix than .png or a folder that is missing, MissingExtraError without matplotlib.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: a sheet is written as .png")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}: make it first")
    require("matplotlib.figure", extra="lam")


def draw_sheet(
    path: Path, images: Sequence[Path], config: DegradationConfig, *, scale: int, num_samples: int, seed: int
) -> None:
    """Write a sheet: of each image the middle, the target if it is another, and samples, each with what was done.

    A pixel of the sheet is one of the image, and low-resolution pixels are squares. Sample k of image i is drawn from
    (seed, i, k). Raises as `check_sheet_path` and `hat_sr.train.data.reading.read_rgb`, ImageError for an image that is
    smaller than a low-resolution pixel, and OSError if the sheet cannot be written.
    """
    check_sheet_path(path)
    rows = [
        row
        for number, image in enumerate(images)
        for row in _rows(image, config, scale=scale, seeds=[(seed, number, sample) for sample in range(num_samples)])
    ]
    width, height = COLUMNS * (SIDE + _GAP), len(rows) * (SIDE + _CAPTION + _GAP)
    new_figure = require("matplotlib.figure", extra="lam").Figure
    figure = new_figure((width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH)
    for number, row in enumerate(rows):
        bottom = height - number * (SIDE + _CAPTION + _GAP) - SIDE
        for column, (pixels, text) in enumerate(row):
            left = column * (SIDE + _GAP)
            figure.figimage(pixels, left, bottom + SIDE - len(pixels))
            figure.text(left / width, (bottom - 2) / height, fill(text, _LETTERS), fontsize=6.5, va="top")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=_DOTS_PER_INCH)
    pixels = np.frombuffer(buffer.getvalue(), dtype=np.uint8).reshape(height, width, 4)[..., :3]
    write_image(path, Image(np.ascontiguousarray(pixels)))


def _rows(path: Path, config: DegradationConfig, *, scale: int, seeds: Sequence[tuple[int, ...]]) -> list[list[Cell]]:
    hr = _middle(read_rgb(path), scale)
    if not hr.numel():
        raise ImageError(f"{path} has a side below {scale} pixels: nothing is left of it at ×{scale}")
    cells = [(_pixels(hr, 1), path.name)]
    if config.sharpen:
        cells.append((_pixels(sharpened(hr), 1), "target, sharpened"))
    for seed in seeds:
        lr, _ = degrade(hr, config, Generator(PCG64(seed)), scale=scale)
        steps = draw_steps(config, Generator(PCG64(seed)), (hr.shape[1], hr.shape[2]), scale=scale)
        cells.append((_pixels(lr, scale), ", ".join(map(str, steps))))
    return [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]


def _middle(image_CHW: Tensor, scale: int) -> Tensor:
    sides = [min(SIDE, side) // scale * scale for side in image_CHW.shape[1:]]
    top, left = ((side - part) // 2 for side, part in zip(image_CHW.shape[1:], sides, strict=True))
    return image_CHW[:, top : top + sides[0], left : left + sides[1]].contiguous()


def _pixels(image_CHW: Tensor, times: int) -> NDArray[np.uint8]:
    wide = image_CHW.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
    pixels: NDArray[np.uint8] = wide.permute(1, 2, 0).numpy()
    return pixels
