"""What training makes small: how far the enlarged patches are from the originals."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.train.config import LossName

CHARBONNIER_EPSILON = 1e-3
"""About where the loss turns from squares to absolute values (LapSRN, arXiv 1704.03915)."""


def pixel_loss(sr: Tensor, hr: Tensor, name: LossName) -> Tensor:
    """Mean over all values of |d| ("l1"), √(d² + ε²) ("charbonnier") or d² ("mse"), d being sr − hr.

    sr, hr: (B, C, H, W) float in [0, 1]. Returns a scalar.
    """
    if name == "l1":
        return F.l1_loss(sr, hr, reduction="sum") / sr.numel()  # in training a third of the mean's time
    if name == "mse":
        return F.mse_loss(sr, hr)
    return ((sr - hr).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def frequency_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean over all frequencies of the distance of real and of imaginary parts (SAFMN, arXiv 2302.13800, eq. 8).

    sr, hr: (B, C, H, W) float in [0, 1]; the transform is not normalised. Returns a scalar.
    """
    return F.l1_loss(torch.view_as_real(torch.fft.rfft2(sr)), torch.view_as_real(torch.fft.rfft2(hr)))
