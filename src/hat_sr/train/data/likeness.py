"""Whether two image files show the same picture, though not with the same pixels."""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

THUMBNAIL = 32
"""Side of the small gray picture that a hash is made of."""

KEPT = 8
"""Its lowest frequencies each way: KEPT² bits."""

ALIKE_BITS = 8
"""Pictures whose hashes differ in at most so many of 64 bits are taken for the same."""


def perceptual_hashes(image_CHW: Tensor, num_views: int = 8) -> tuple[int, ...]:
    """Hashes of the picture in so many of its eight flips and turns, as it is first.

    64 bits: which of a small gray picture's lowest frequencies are above their median (pHash; C. Zauner, 2010).
    Compression, another size and a little of noise or blur change few of them. image_CHW: (3, H, W) uint8.
    """
    if not num_views:
        return ()
    x = _thumbnail(image_CHW)
    views = [view for y in (x, x.mT) for view in (y, y.flip(0), y.flip(1), y.flip(0, 1))]
    return tuple(_hash(view) for view in views[:num_views])


def distances(hashes: NDArray[np.uint64], views: Iterable[int]) -> NDArray[np.uint8]:
    """For each of the hashes, the smallest number of bits in which it differs from a view of one picture: (N,)."""
    different = [np.bitwise_count(hashes ^ np.uint64(view)) for view in views]
    nearest: NDArray[np.uint8] = np.min(different, axis=0)
    return nearest


def _thumbnail(image_CHW: Tensor) -> Tensor:
    gray = image_CHW.float().mean(0)
    return F.interpolate(gray[None, None], size=(THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)[0, 0]


def _hash(gray: Tensor) -> int:
    low = (_cosines() @ gray @ _cosines().T).flatten()
    bits = low > low[1:].median()  # without the mean of the picture, which says nothing
    return sum(1 << number for number, bit in enumerate(bits.tolist()) if bit)


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The first rows of the DCT-II, unscaled: (KEPT, THUMBNAIL)."""
    place = torch.arange(THUMBNAIL) + 0.5
    return torch.cos(math.pi / THUMBNAIL * torch.arange(KEPT)[:, None] * place)
