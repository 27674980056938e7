"""Score an upscaler on a benchmark folder."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.evaluate.dataset import Dataset
from hat_sr.evaluate.metrics import psnr, ssim, to_uint8
from hat_sr.evaluate.niqe import niqe
from hat_sr.evaluate.pairs import load_pair
from hat_sr.evaluate.st_lpips import st_lpips
from hat_sr.image.resize import imresize
from hat_sr.inference.upscale import Upscale

Extra = Literal["st_lpips", "niqe"]
"""A perceptual metric that is computed on request."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """PSNR in dB and SSIM, both on Y, as `hat_sr.evaluate.metrics` defines them, with the scale as crop_border.

    ST-LPIPS and NIQE, both lower for better images, are those of whole images; None if they were not asked for.
    """

    psnr: float
    ssim: float
    st_lpips: float | None = None
    niqe: float | None = None

    def __str__(self) -> str:
        """The figures as tables have them."""
        extras = [f"{value:.{digits}f}" for value, digits in ((self.st_lpips, 4), (self.niqe, 2)) if value is not None]
        return " / ".join([f"{self.psnr:.2f}", f"{self.ssim:.4f}", *extras])


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """One image's score."""

    name: str
    score: Score


def benchmark(upscale: Upscale, dataset: Dataset) -> Iterator[ImageResult]:
    """Upscale and score the images of `dataset` one after the other, yielding each result as it is there.

    upscale: (1, 3, h, w) float32 RGB in [0, 1] on the CPU, of any size → (1, 3, scale·h, scale·w) on any device. Gray
    images are given as RGB with three equal channels.

    Raises as `load_pair`, and InputError if upscale's result has another size.
    """
    for pair in dataset.pairs:
        lr, hr = load_pair(pair, dataset)
        sr = enlarge(upscale, lr, hr, name=pair.name)
        yield ImageResult(name=pair.name, score=score(sr, hr, dataset.scale))


def bicubic(scale: int) -> Upscale:
    """MATLAB's bicubic with mirrored borders, in 8 bits before and after: the interpolation of the papers' tables."""
    return lambda x: imresize(to_uint8(x), scale).float() / 255


def enlarge(upscale: Upscale, lr: Tensor, hr: Tensor, *, name: str) -> Tensor:
    """What `upscale` makes of a pair's uint8 images, (1, 3, H, W) like `hr`. Raises InputError for another size."""
    with torch.inference_mode():
        sr = upscale(lr.float() / 255)
    if sr.shape != hr.shape:
        raise InputError(
            f"{name}: upscale made {tuple(sr.shape)} of {tuple(lr.shape)} instead of {tuple(hr.shape)}: "
            f"an upscaler by {hr.shape[-1] // lr.shape[-1]} is needed"
        )
    return sr


def score(sr: Tensor, hr: Tensor, scale: int, extras: Collection[Extra] = ()) -> Score:
    """The score of an enlarged image against its ground truth, both (1, 3, H, W), with the `extras` asked for.

    Raises as the metrics do.
    """
    rounded = to_uint8(sr)
    return Score(
        psnr=psnr(sr, hr, crop_border=scale),
        ssim=ssim(sr, hr, crop_border=scale),
        st_lpips=st_lpips(rounded, hr) if "st_lpips" in extras else None,
        niqe=niqe(rounded) if "niqe" in extras else None,
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of per-image scores, which is what tables give for a set. Raises InputError if there are none."""
    if not scores:
        raise InputError("no scores to take the mean of")

    def mean(values: list[float | None]) -> float | None:
        given = [value for value in values if value is not None]
        return fmean(given) if given else None

    return Score(
        psnr=fmean(score.psnr for score in scores),
        ssim=fmean(score.ssim for score in scores),
        st_lpips=mean([score.st_lpips for score in scores]),
        niqe=mean([score.niqe for score in scores]),
    )
