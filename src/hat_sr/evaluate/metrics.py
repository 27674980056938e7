"""PSNR and SSIM on luma, as the tables of super-resolution papers give them.

The definition behind those tables: both images are rounded to 8 bits, `crop_border` pixels are cut from each side (by
custom as many as the scale), and luma Y of BT.601 in studio range is compared unrounded, with 255 as the peak. A set's
score is the mean over its images. A gray image is scored as the RGB image with three such channels: Y then spans 219 of
the 255 codes, so it reads 1.32 dB higher than if its values were compared as they are.
"""

import math

import torch
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.image.color import rgb_to_y

_PEAK = 255.0
_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5


def psnr(sr: Tensor, hr: Tensor, *, crop_border: int) -> float:
    """Peak signal-to-noise ratio on Y in dB; infinite for images that are equal after rounding to 8 bits.

    sr, hr: one image each, of one shape, (C, H, W) or (1, C, H, W), RGB or gray; uint8, or float in [0, 1] (sr may
    overshoot: it is clipped as when written to a file). crop_border: pixels cut from each side, by custom the scale.
    Raises InputError for shapes that differ, other channels or batches, values that are not finite, a hr outside
    [0, 1], or images that the crop leaves empty.
    """
    y_sr, y_hr = _cropped_y(sr, hr, crop_border, smallest=1)
    mse: float = (y_sr - y_hr).square().mean().item()
    return math.inf if mse == 0 else 10 * math.log10(_PEAK**2 / mse)


def ssim(sr: Tensor, hr: Tensor, *, crop_border: int) -> float:
    """Structural similarity on Y (Wang et al., IEEE TIP 13, 2004), 1 for equal images.

    Gaussian window of 11×11 with σ = 1.5, K = (0.01, 0.03), averaged where the window lies fully inside. Arguments and
    errors are those of `psnr`; in addition 11 pixels must be left in each direction after the crop.
    """
    y_sr, y_hr = _cropped_y(sr, hr, crop_border, smallest=_SSIM_WINDOW)
    mean_sr, mean_hr, square_sr, square_hr, product = _gaussian_mean(
        torch.cat([y_sr, y_hr, y_sr.square(), y_hr.square(), y_sr * y_hr])
    )
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    variances = square_sr - mean_sr.square() + square_hr - mean_hr.square()
    covariance = product - mean_sr * mean_hr
    luminance = (2 * mean_sr * mean_hr + c1) / (mean_sr.square() + mean_hr.square() + c1)
    similarity: float = (luminance * (2 * covariance + c2) / (variances + c2)).mean().item()
    return similarity


def to_uint8(x: Tensor) -> Tensor:
    """Round an image in [0, 1] to 8 bits, clipping what lies outside. uint8 passes unchanged; shape is kept.

    Raises InputError for other integers and for values that are not finite.
    """
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise InputError(f"an image must be uint8 or float in [0, 1], got {x.dtype}")
    if not x.isfinite().all():
        raise InputError("the image holds NaN or infinite values: nothing can be measured on it")
    return (x.double().clamp(0, 1) * 255).round().to(torch.uint8)


def _cropped_y(sr: Tensor, hr: Tensor, crop_border: int, *, smallest: int) -> tuple[Tensor, Tensor]:
    """Y of both images in 8-bit codes, cropped: float64 (1, 1, H, W) on the CPU."""
    if sr.shape != hr.shape:
        raise InputError(f"sr and hr must have one shape, got {tuple(sr.shape)} and {tuple(hr.shape)}")
    if sr.ndim not in (3, 4) or sr.shape[-3] not in (1, 3) or (sr.ndim == 4 and len(sr) != 1):
        raise InputError(
            f"one image of shape (C, H, W) or (1, C, H, W) with 1 or 3 channels is needed, got {tuple(sr.shape)}; "
            "score the images of a batch one by one"
        )
    height, width = sr.shape[-2:]
    if crop_border < 0 or min(height, width) - 2 * crop_border < smallest:
        raise InputError(
            f"{height}×{width} pixels with crop_border {crop_border}: the crop must be at least 0 and must leave "
            f"at least {smallest}×{smallest} pixels"
        )
    if hr.is_floating_point() and not ((hr >= 0) & (hr <= 1)).all():
        raise InputError(
            f"hr must lie in [0, 1], got values from {hr.min().item():g} to {hr.max().item():g}: divide 8-bit codes "
            "by 255, or pass uint8"
        )
    return y_codes(sr, crop_border), y_codes(hr, crop_border)


def y_codes(image: Tensor, crop_border: int = 0) -> Tensor:
    """Y in 8-bit codes, not rounded, without the border: float64 (1, 1, H, W) on the CPU.

    image: RGB or gray, (C, H, W) or (1, C, H, W), as `to_uint8` takes it.
    """
    height, width = image.shape[-2:]
    cropped = image[..., crop_border : height - crop_border, crop_border : width - crop_border]
    rgb = to_uint8(cropped.detach().cpu()).double() / 255
    rgb = rgb.reshape(1, *rgb.shape[-3:]).expand(1, 3, -1, -1)
    return rgb_to_y(rgb) * 255


def _gaussian_mean(x: Tensor) -> Tensor:
    """Weighted mean under the SSIM window, where it fits: (B, 1, H, W) → (B, 1, H − 10, W − 10)."""
    offsets = torch.arange(_SSIM_WINDOW, dtype=x.dtype) - _SSIM_WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * _SSIM_SIGMA**2))
    weights = (window / window.sum()).tolist()
    for dim in (-2, -1):
        # Shifted sums: torch's convolution takes several times as long in float64 on a CPU.
        length = x.shape[dim] - _SSIM_WINDOW + 1
        mean = x.narrow(dim, 0, length) * weights[0]
        for shift in range(1, _SSIM_WINDOW):
            mean += x.narrow(dim, shift, length) * weights[shift]
        x = mean
    return x
