"""Small stand-ins for networks, whose right result is known."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.inference.upscale import Upscale
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT


def nearest(scale: int) -> Upscale:
    def run(x: Tensor) -> Tensor:
        return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)

    return run


def blurred(scale: int, radius: int) -> Upscale:
    """Nearest after a convolution that is not symmetric and reads `radius` pixels on each side, zeros beyond."""
    side = 2 * radius + 1
    kernel = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kernel /= kernel.sum()

    def run(x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        out = F.conv2d(x.reshape(B * C, 1, H, W), kernel.to(x), padding=radius)
        return nearest(scale)(out.reshape(B, C, H, W))

    return run


def pooled(upscale: Upscale) -> Upscale:
    """With the global mean of channel attention: every pixel depends on the whole image."""

    def run(x: Tensor) -> Tensor:
        return upscale(x) * x.mean(dim=(2, 3), keepdim=True).sigmoid()

    return run


def random_image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def tiny_hat(**changes: object) -> HAT:
    """A whole HAT, ×2, window 4, small enough for milliseconds, with weights large enough to make a difference."""
    settings: dict[str, object] = {
        "upscale": 2,
        "embed_dim": 12,
        "depths": (2,),
        "num_heads": (2,),
        "window_size": 4,
        "squeeze_factor": 4,
        "num_feat": 4,
    }
    torch.manual_seed(0)
    return HAT(HATConfig(**(settings | changes))).eval()
