"""The images of a benchmark's pair: read, cut to the scale, and made smaller where there is no file for it."""

import hashlib
from pathlib import Path

from numpy.random import PCG64, Generator
from torch import Tensor

from hat_sr.degradation.config import PRESETS
from hat_sr.degradation.degrade import degrade
from hat_sr.errors import DataError
from hat_sr.evaluate.dataset import Dataset, Degraded, Pair
from hat_sr.evaluate.metrics import to_uint8
from hat_sr.image.convert import to_tensor
from hat_sr.image.io import read_image
from hat_sr.image.jpeg import through_jpeg
from hat_sr.image.resize import imresize


def load_pair(pair: Pair, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The image to enlarge and the ground truth, uint8 (1, 3, H, W), sizes that fit each other.

    The ground truth is cut at the right and bottom to a multiple of the scale. Raises DataError, naming the files, for
    an image with alpha, in linear light or with less than 11 pixels inside the crop, and for a low-resolution file
    whose size does not fit; ImageError for a file that cannot be read.
    """
    lr, hr = _read_pair(pair, dataset)
    return (lr if dataset.jpeg is None else through_jpeg(lr[0], quality=dataset.jpeg)[None]), hr


def degraded_lr(hr: Tensor, degraded: Degraded, scale: int) -> Tensor:
    """The low-resolution image, uint8 (1, 3, H / s, W / s), of a ground truth, uint8 (1, 3, H, W).

    What is drawn depends on the seed and the pixels, not on the file's name or place among others.
    """
    digest = hashlib.sha256(repr(tuple(hr.shape)).encode() + hr.contiguous().numpy().tobytes()).digest()
    random = Generator(PCG64((degraded.seed, int.from_bytes(digest[:8], "big"))))
    return degrade(hr[0], PRESETS[degraded.preset], random, scale=scale)[0][None]


def read_rgb(path: Path) -> Tensor:
    """Read a gray or RGB file as uint8 (1, 3, H, W), deeper files rounded to 8 bits. Raises as `load_pair`."""
    image = read_image(path)
    if image.alpha is not None or image.linear:
        found = "linear light" if image.linear else "an alpha channel"
        raise DataError(f"{path} has {found}, but scores are defined for plain gray and sRGB images: convert it first")
    return to_uint8(to_tensor(image.pixels)).expand(1, 3, -1, -1)


def _read_pair(pair: Pair, dataset: Dataset) -> tuple[Tensor, Tensor]:
    scale = dataset.scale
    hr = read_rgb(pair.hr)
    height, width = hr.shape[-2] // scale, hr.shape[-1] // scale
    # 11 pixels are SSIM's window; the crop takes `scale` pixels from each side.
    if min(height, width) * scale < 11 + 2 * scale:
        raise DataError(
            f"{pair.hr} has {hr.shape[-2]}×{hr.shape[-1]} pixels (height × width), too few to be scored at ×{scale}"
        )
    hr = hr[..., : height * scale, : width * scale]
    if dataset.degraded is not None:
        return degraded_lr(hr, dataset.degraded, scale), hr
    if pair.lr is None:
        return imresize(hr, 1 / scale, border=dataset.border or "mirror"), hr
    lr = read_rgb(pair.lr)
    if lr.shape[-2:] != (height, width):
        raise DataError(
            f"{pair.lr} has {lr.shape[-2]}×{lr.shape[-1]} pixels (height × width), but {pair.hr} at ×{scale} needs "
            f"{height}×{width}: the files do not belong together"
        )
    return lr, hr
