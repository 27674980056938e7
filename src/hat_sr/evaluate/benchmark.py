"""Score an upscaler on a benchmark folder, with bicubic interpolation beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from hat_sr.errors import DataError, InputError
from hat_sr.evaluate.dataset import Dataset, Pair
from hat_sr.evaluate.metrics import psnr, ssim, to_uint8
from hat_sr.image.convert import to_tensor
from hat_sr.image.io import read_image
from hat_sr.image.jpeg import through_jpeg
from hat_sr.image.resize import imresize
from hat_sr.inference.upscale import Upscale


@dataclass(frozen=True, kw_only=True)
class Score:
    """PSNR in dB and SSIM, both on Y, as `hat_sr.evaluate.metrics` defines them, with the scale as crop_border."""

    psnr: float
    ssim: float


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """One image's scores."""

    name: str
    model: Score
    bicubic: Score


def benchmark(upscale: Upscale, dataset: Dataset) -> Iterator[ImageResult]:
    """Upscale and score the images of `dataset` one after the other, yielding each result as it is there.

    upscale: (1, 3, h, w) float32 RGB in [0, 1] on the CPU, of any size → (1, 3, scale·h, scale·w) on any device. Gray
    images are given as RGB with three equal channels. The ground truth is cut at the right and bottom to a multiple of
    the scale. Bicubic is MATLAB's, with mirrored borders.

    Raises DataError, naming the files, for an image with alpha, in linear light or with less than 11 pixels inside the
    crop, and for a low-resolution file whose size does not fit; InputError if upscale's result has another size;
    ImageError for a file that cannot be read.
    """
    for pair in dataset.pairs:
        lr, hr = load_pair(pair, dataset)
        with torch.inference_mode():
            sr = upscale(lr.float() / 255)
        if sr.shape != hr.shape:
            raise InputError(
                f"{pair.name}: upscale made {tuple(sr.shape)} of {tuple(lr.shape)} instead of {tuple(hr.shape)}: "
                f"an upscaler by {dataset.scale} is needed"
            )
        yield ImageResult(
            name=pair.name,
            model=_score(sr, hr, dataset.scale),
            bicubic=_score(imresize(lr, dataset.scale), hr, dataset.scale),
        )


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of per-image scores, which is what tables give for a set. Raises InputError if there are none."""
    if not scores:
        raise InputError("no scores to take the mean of")
    return Score(psnr=fmean(score.psnr for score in scores), ssim=fmean(score.ssim for score in scores))


def _score(sr: Tensor, hr: Tensor, scale: int) -> Score:
    return Score(psnr=psnr(sr, hr, crop_border=scale), ssim=ssim(sr, hr, crop_border=scale))


def load_pair(pair: Pair, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The image to enlarge and the ground truth, uint8 (1, 3, H, W), sizes that fit each other.

    Raises DataError and ImageError as `benchmark` does.
    """
    lr, hr = _read_pair(pair, dataset)
    return (lr if dataset.jpeg is None else through_jpeg(lr[0], quality=dataset.jpeg)[None]), hr


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
    if pair.lr is None:
        return imresize(hr, 1 / scale, border=dataset.border or "mirror"), hr
    lr = read_rgb(pair.lr)
    if lr.shape[-2:] != (height, width):
        raise DataError(
            f"{pair.lr} has {lr.shape[-2]}×{lr.shape[-1]} pixels (height × width), but {pair.hr} at ×{scale} needs "
            f"{height}×{width}: the files do not belong together"
        )
    return lr, hr


def read_rgb(path: Path) -> Tensor:
    """Read a gray or RGB file as uint8 (1, 3, H, W), deeper files rounded to 8 bits.

    Raises ImageError if it cannot be read, DataError if it has alpha or is in linear light.
    """
    image = read_image(path)
    if image.alpha is not None or image.linear:
        found = "linear light" if image.linear else "an alpha channel"
        raise DataError(f"{path} has {found}, but scores are defined for plain gray and sRGB images: convert it first")
    return to_uint8(to_tensor(image.pixels)).expand(1, 3, -1, -1)
