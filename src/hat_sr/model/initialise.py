"""Start a HAT as a bicubic interpolator, so that training begins with learning what interpolation leaves out."""

import torch
from torch import Tensor, nn

from hat_sr.errors import ConfigError
from hat_sr.model.hat import HAT, LEAKY_SLOPE

BODY_GAIN = 0.1
"""By how much the weights of the body's last convolution are made smaller."""


@torch.no_grad()
def initialise_as_interpolator(model: HAT) -> None:
    """Set the outer convolutions of `model` so that it enlarges bicubically; the rest keeps its start.

    The image goes through the first in_chans channels: shallow features pass it on; the reconstruction takes it and its
    negative, whose difference LeakyReLU only scales; each upsampling convolution holds the sub-pixel weights of bicubic
    interpolation cut to 3×3; and the last convolution picks the image, and nothing else. Architecture and file format
    stay as they are. At the border convolutions read zeros: the mean colour, or black where the mean is 0. Ours, not
    the paper's.

    Raises ConfigError if the network has fewer features than image channels, or than two for each to reconstruct from.
    """
    config, channels = model.config, model.config.in_chans
    if channels > config.embed_dim or 2 * channels > config.num_feat:
        raise ConfigError(
            f"in_chans {channels}, embed_dim {config.embed_dim}, num_feat {config.num_feat}: an interpolator needs "
            "embed_dim of in_chans at least, and num_feat of twice in_chans"
        )
    same = torch.eye(channels)
    both = torch.cat([same, -same])
    _connect(model.conv_first, same)
    model.conv_after_body.weight.mul_(BODY_GAIN)
    _connect(model.conv_after_body, 0 * same)  # the body adds nothing to the image itself yet
    (before_upsample,) = _convolutions(model.conv_before_upsample)
    _connect(before_upsample, both)
    merge = both.T / (1 + LEAKY_SLOPE)  # LeakyReLU(x) − LeakyReLU(−x) = (1 + slope)·x
    for conv, factor in zip(_convolutions(model.upsample), config.upsampling_steps, strict=True):
        _connect(conv, merge, factor)
        merge = same
    _connect(model.conv_last, merge)


def _convolutions(layers: nn.Sequential) -> list[nn.Conv2d]:
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)]


def _connect(conv: nn.Conv2d, mixing_OI: Tensor, factor: int = 1) -> None:
    """Make the first outputs the first inputs, mixed by `mixing_OI` (O outputs of I inputs), and nothing else.

    With a `factor` an output is factor² sub-pixels of the bicubic interpolation, one channel each.
    """
    taps = torch.stack([_sub_pixel_weights(phase, factor) for phase in range(factor)])
    weight = torch.einsum("oi,ah,bw->oabihw", mixing_OI, taps, taps).flatten(0, 2)
    conv.weight[: len(weight)] = 0
    conv.weight[: len(weight), : mixing_OI.shape[1]] = weight
    if conv.bias is not None:
        conv.bias[: len(weight)] = 0


def _sub_pixel_weights(phase: int, factor: int) -> Tensor:
    """Weights of the three nearest pixels for sub-pixel `phase` of `factor`: cubic kernel, a = −0.5, normalised.

    `image.resize` has the same kernel; it is not imported, so that `model/` can be copied on its own.
    """
    distance = (torch.tensor([-1.0, 0.0, 1.0]) - ((phase + 0.5) / factor - 0.5)).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum()
