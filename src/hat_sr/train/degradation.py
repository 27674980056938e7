"""Low-resolution patches as the files have them that people enlarge: a little blurred and noisy, and through JPEG."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.image.jpeg import through_jpeg
from hat_sr.train.config import DegradationConfig


def degrade(lr_CHW: Tensor, config: DegradationConfig, random: np.random.Generator) -> Tensor:
    """Blur, noise and JPEG as far as `random` draws from `config`: (3, H, W) uint8 → the same."""
    clean = random.random() < config.clean
    sigma = random.uniform(*config.blur_sigma)
    level = random.uniform(*config.noise)
    quality = int(random.integers(config.jpeg_quality[0], config.jpeg_quality[1], endpoint=True))
    fine = random.random() < config.fine_color
    if clean:
        return lr_CHW
    x = blurred(lr_CHW.float(), sigma)
    x = x + level * torch.from_numpy(random.standard_normal(tuple(x.shape), dtype=np.float32))
    x = x.round_().clamp_(0, 255).to(torch.uint8)
    return through_jpeg(x, quality=quality, subsampling="4:4:4" if fine else "4:2:0")


def blurred(x_CHW: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of a float (C, H, W) with mirrored borders; `sigma` in pixels, 0 leaves it as it is."""
    radius = min(math.ceil(3 * sigma), *(side - 1 for side in x_CHW.shape[1:]))
    if sigma == 0 or radius == 0:
        return x_CHW
    taps = torch.arange(-radius, radius + 1, dtype=x_CHW.dtype).div_(sigma).square_().mul_(-0.5).exp_()
    taps /= taps.sum()
    x = F.pad(x_CHW[None], (radius,) * 4, mode="reflect").transpose(0, 1)
    return F.conv2d(F.conv2d(x, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))[:, 0]
