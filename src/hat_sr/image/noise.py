"""How noisy a picture is: the standard deviation of white noise in it, from a sample of its pixels.

The diagonal Haar wavelet detail of white noise has the noise's own deviation, and that of a picture is small where the
picture is smooth (Donoho and Johnstone, Biometrika 81, 1994). The median over a whole picture takes texture for noise.
So the detail's energy is taken block by block, and the least ones count: a block cannot have less than the noise.
"""

import math
import os
from collections.abc import Iterable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hat_sr.image.color import srgb_encode
from hat_sr.image.convert import to_tensor
from hat_sr.image.decode import sampled
from hat_sr.image.pixels import Image, Pixels

NOISY = 4.5
"""A picture is called noisy from this deviation on, in levels of 255 (see docs/noise.md)."""

_BLOCK = 8
_NUM_DETAILS = (_BLOCK // 2) ** 2
"""Diagonal details of a block."""
_FEWEST_BLOCKS = 16
_PART = 0.01
"""The part of all blocks that is taken to be smooth."""
_FLATTEST = 2.0
"""In the smoothest blocks horizontal and vertical details are at most so much larger than diagonal ones, if they are
noise: those of texture are."""
_UNCLIPPED = 0.9
"""The part of a block's pixels, at least, that is neither black nor white: there is no noise to be seen in these."""

_Values = NDArray[np.floating[Any]]


def noise_in_file(path: str | os.PathLike[str], *, page: int | None = None) -> float:
    """`noise_level` of a fixed sample of the file's pixels (see `ImageFile.sample`).

    page, and errors: as for `hat_sr.image.decode.open_image`. The file is no JPEG.
    """
    with sampled(path, page=page) as bands:
        return noise_level(bands)


def noise_level(bands: Iterable[Pixels]) -> float:
    """The standard deviation of white noise in a picture, in levels of 255; 0 if there is none or it cannot be told.

    bands: parts of the picture as `Image` has pixels, gray or RGB, perhaps with alpha; what is not opaque does not
    count. Of RGB it is the mean over the channels, less by up to a quarter if they have their noise in common. Floats
    are linear light. Raises InputError for other pixels, and NaN and infinity.
    """
    parts = [_details(*_levels(Image(band))) for band in bands]
    diagonal, straight = (np.concatenate(energies) for energies in zip(*parts, strict=True))
    if len(diagonal) < _FEWEST_BLOCKS:
        return 0.0
    level, other = _least(diagonal, _NUM_DETAILS), _least(straight, 2 * _NUM_DETAILS)
    return level if other <= _FLATTEST * level else 0.0


def _levels(image: Image) -> tuple[_Values, NDArray[np.bool_]]:
    """HWC colours in levels of 255, as displayed; and HW, where they are between black and white, and opaque."""
    x = to_tensor(image.color).clamp(0, 1)
    levels: _Values = 255 * (srgb_encode(x) if image.pixels.dtype.kind == "f" else x)[0].permute(1, 2, 0).numpy()
    seen = ((levels > 0) & (levels < 255)).all(axis=2)
    if image.alpha is not None:
        seen = seen & (to_tensor(image.alpha)[0, 0].numpy() >= 1)
    return levels, np.asarray(seen)


def _details(levels: _Values, seen: NDArray[np.bool_]) -> tuple[_Values, _Values]:
    """Mean squares of the diagonal, and of the horizontal and vertical Haar details: (blocks that count, channels)."""
    rows, columns = (side // 2 for side in seen.shape)
    a, b, c, d = (levels[i::2, j::2][:rows, :columns] for i in (0, 1) for j in (0, 1))
    diagonal = (a - b - c + d) / 2
    straight = ((a - b + c - d) ** 2 + (a + b - c - d) ** 2) / 8
    counted = _block_means(seen[..., None].astype(np.float32), _BLOCK)[..., 0] >= _UNCLIPPED
    return _block_means(diagonal**2, _BLOCK // 2)[counted], _block_means(straight, _BLOCK // 2)[counted]


def _block_means(values: _Values, side: int) -> _Values:
    """Means of the whole blocks of side × side of HWC values."""
    rows, columns = (length // side for length in values.shape[:2])
    blocks = values[: rows * side, : columns * side].reshape(rows, side, columns, side, values.shape[2])
    return np.asarray(blocks.mean(axis=(1, 3)))


def _least(energies: _Values, number: int) -> float:
    """The deviation of the noise by the least of the blocks' energies, each the mean of `number` squares a channel."""
    if bool((energies == energies[:, :1]).all()):  # gray, stored as RGB
        energies = energies[:, :1]
    least = np.quantile(energies.mean(axis=1), _PART)
    return math.sqrt(least / _least_of_noise(number * energies.shape[1]))


def _least_of_noise(number: int) -> float:
    """The quantile at _PART of the mean square of so many values of white noise with deviation 1.

    Wilson and Hilferty's approximation of the χ² distribution (PNAS 17, 1931).
    """
    z = NormalDist().inv_cdf(_PART)
    return float((1 - 2 / (9 * number) + z * math.sqrt(2 / (9 * number))) ** 3)
