"""Patches: what is cut from an image, and batches of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hat_sr.degradation.config import DegradationConfig
from hat_sr.degradation.degrade import degrade
from hat_sr.degradation.filters import sharpened
from hat_sr.image.resize import imresize
from hat_sr.train.data.reading import Picture

MARGIN = 3
"""Low-resolution pixels around a crop, so that its bicubic equals the crop of the whole image's: the kernel reaches
2 low-resolution pixels from a pixel's centre."""

JPEG_BLOCK = 8
"""JPEG's blocks begin at a file's corner and are this wide, those of half-size colour twice as wide: of a degraded area
that is two blocks wider a patch is cut which begins at a block. One half of the patches begins a block inside, so that
filters saw what is around; a quarter each begins or ends at the area's edge, as at a file's."""


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
    teacher: Tensor | None = None
    """(3, s·P, s·P) float32 in [0, 1]: a teacher's answer to `lr`, where it is kept."""


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
    teacher: Tensor | None = None
    """(b, 3, s·P, s·P) float32 in [0, 1]; None unless all samples have an answer."""


def as_batch(samples: Sequence[Sample]) -> Batch:
    """Put samples together, in their order."""
    answers = [sample.teacher for sample in samples if sample.teacher is not None]
    return Batch(
        lr=torch.stack([sample.lr for sample in samples]),
        hr=torch.stack([sample.hr for sample in samples]),
        names=tuple(sample.name for sample in samples),
        skipped=tuple(message for sample in samples for message in sample.skipped),
        teacher=torch.stack(answers) if len(answers) == len(samples) else None,
    )


def draw_patch(
    picture: Picture,
    random: np.random.Generator,
    *,
    patch_size: int,
    scale: int,
    degradation: DegradationConfig | None = None,
    flats: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cut a patch with place, degradation, flip and rotation drawn from `random`: (lr, hr, teacher) as in `Sample`.

    A share `flats` of the patches is of one colour, and then degraded. The image must have room for a patch.
    """
    if flats and random.random() < flats:
        picture = _draw_flat(picture, random)
    blocks = 0 if degradation is None else min(min(picture.hr.shape[1:]) // scale - patch_size, 2 * JPEG_BLOCK)
    size = patch_size + blocks // JPEG_BLOCK * JPEG_BLOCK
    top, left = (int(random.integers(side // scale - size + 1)) for side in picture.hr.shape[1:])
    lr, hr = _degraded_pair(picture, top, left, random, size=size, scale=scale, degradation=degradation)
    if size > patch_size:
        shifts = random.integers(2, size=(2, (size - patch_size) // JPEG_BLOCK)).sum(1) * JPEG_BLOCK
        top, left = (int(shift) for shift in shifts)
        lr, hr = _crop(lr, top, left, patch_size), _crop(hr, top * scale, left * scale, patch_size * scale)
    turns, flip = int(random.integers(4)), bool(random.integers(2))

    def turned(x: Tensor) -> Tensor:
        return torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1)).float() / 255

    if picture.teacher is None:
        return turned(lr), turned(hr), None
    answer = _crop(picture.teacher, top * scale, left * scale, patch_size * scale)
    return turned(lr), turned(hr), turned(answer)


def _draw_flat(picture: Picture, random: np.random.Generator) -> Picture:
    """A picture of that size of one colour: any, or one whose channels are 0 or 255."""
    saturated = bool(random.integers(2))
    color = random.integers(2, size=3) * 255 if saturated else random.integers(256, size=3)
    flat = torch.from_numpy(color).to(torch.uint8)[:, None, None]
    lr, teacher = (None if image is None else flat.expand_as(image) for image in picture[1:])
    return Picture(flat.expand_as(picture.hr), lr, teacher)


def _degraded_pair(
    picture: Picture,
    top: int,
    left: int,
    random: np.random.Generator,
    *,
    size: int,
    scale: int,
    degradation: DegradationConfig | None,
) -> tuple[Tensor, Tensor]:
    """The pair at (top, left), `size` low-resolution pixels wide: as `crop_pair`, or degraded."""
    hr = _crop(picture.hr, top * scale, left * scale, size * scale)
    if picture.lr is None:
        if degradation is None:
            return crop_pair(picture.hr, top, left, patch_size=size, scale=scale)
        return degrade(hr.contiguous(), degradation, random, scale=scale)
    lr = _crop(picture.lr, top, left, size)
    if degradation is None:
        return lr, hr
    lr, _ = degrade(lr.contiguous(), replace(degradation, sharpen=False), random, scale=1)
    return lr, sharpened(hr) if degradation.sharpen else hr


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
