"""Patches: what is cut from an image, and batches of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hat_sr.image.resize import imresize
from hat_sr.train.config import DegradationConfig
from hat_sr.train.data.files import Picture
from hat_sr.train.degradation import degrade

MARGIN = 3
"""Low-resolution pixels around a crop, so that its bicubic equals the crop of the whole image's: the kernel reaches
2 low-resolution pixels from a pixel's centre."""

JPEG_BLOCK = 8
"""JPEG's blocks begin at a file's corner and are this wide, those of half-size colour twice as wide: a patch to be
degraded is cut from one that is larger by a block, so that colour's begin at its edge or in its midst, as in a file."""


class Sample(NamedTuple):
    """One patch."""

    lr: Tensor
    """(3, P, P) float32 in [0, 1], P the patch size."""
    hr: Tensor
    """(3, s·P, s·P) float32 in [0, 1], s the scale."""
    name: str
    """Of its image."""
    skipped: tuple[str, ...] = ()
    """Why images that were drawn before it could not be used."""


class Batch(NamedTuple):
    """The patches of one step that one process takes."""

    lr: Tensor
    """(b, 3, P, P) float32 in [0, 1]."""
    hr: Tensor
    """(b, 3, s·P, s·P) float32 in [0, 1]."""
    names: tuple[str, ...]
    """Of their images."""
    skipped: tuple[str, ...]
    """Why images that were drawn for the batch could not be used."""


def as_batch(samples: Sequence[Sample]) -> Batch:
    """Put samples together, in their order."""
    return Batch(
        lr=torch.stack([sample.lr for sample in samples]),
        hr=torch.stack([sample.hr for sample in samples]),
        names=tuple(sample.name for sample in samples),
        skipped=tuple(message for sample in samples for message in sample.skipped),
    )


def draw_patch(
    picture: Picture,
    random: np.random.Generator,
    *,
    patch_size: int,
    scale: int,
    degradation: DegradationConfig | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut a patch with place, degradation, flip and rotation drawn from `random`: (lr, hr) as in `Sample`.

    The image must have room for it.
    """
    size = patch_size
    if degradation is not None and min(picture.hr.shape[1:]) // scale >= patch_size + JPEG_BLOCK:
        size += JPEG_BLOCK
    top, left = (int(random.integers(side // scale - size + 1)) for side in picture.hr.shape[1:])
    if picture.lr is None:
        lr, hr = crop_pair(picture.hr, top, left, patch_size=size, scale=scale)
    else:
        lr = _crop(picture.lr, top, left, size)
        hr = _crop(picture.hr, top * scale, left * scale, size * scale)
    if degradation is not None:
        lr = degrade(lr, degradation, random)
        top, left = (int(shift) for shift in random.integers(2, size=2) * (size - patch_size))
        lr, hr = _crop(lr, top, left, patch_size), _crop(hr, top * scale, left * scale, patch_size * scale)
    turns, flip = int(random.integers(4)), bool(random.integers(2))
    lr, hr = (torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1)) for x in (lr, hr))
    return lr.float() / 255, hr.float() / 255


def crop_pair(image_CHW: Tensor, top: int, left: int, *, patch_size: int, scale: int) -> tuple[Tensor, Tensor]:
    """Cut the patch whose low-resolution corner is (top, left): (lr, hr), uint8 like the image.

    `lr` equals, bit for bit, that part of the whole image's MATLAB bicubic, the image being cut at the right and
    bottom to a multiple of `scale` first.
    """
    spans, inner, outer = [], [], []
    for start, side in zip((top, left), image_CHW.shape[1:], strict=True):
        low, high = max(start - MARGIN, 0), min(start + patch_size + MARGIN, side // scale)
        spans.append(slice(low * scale, high * scale))
        inner.append(slice(start - low, start - low + patch_size))
        outer.append(slice((start - low) * scale, (start - low + patch_size) * scale))
    # An image read from a file has its channels innermost, which makes resizing three times slower.
    wide = image_CHW[:, spans[0], spans[1]].contiguous()
    lr = imresize(wide, 1 / scale) if scale > 1 else wide
    return lr[:, inner[0], inner[1]], wide[:, outer[0], outer[1]]


def _crop(image_CHW: Tensor, top: int, left: int, size: int) -> Tensor:
    return image_CHW[:, top : top + size, left : left + size]
