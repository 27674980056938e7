"""Start a HAT as a bicubic interpolator, so that training begins with learning what interpolation leaves out."""

import torch
from torch import Tensor, nn

from hat_sr.errors import ConfigError
from hat_sr.model.hat import HAT

BODY_GAIN = 0.1
"""By how much the weights of the body's last convolution are made smaller."""


@torch.no_grad()
def initialise_as_interpolator(model: HAT) -> None:
    """Set the outer convolutions of `model` so that it enlarges nearly bicubically; the rest keeps its start.

    The image goes through the first in_chans channels: shallow features pass it on, the reconstruction adds 1 to it
    (so that LeakyReLU leaves it alone), each upsampling convolution holds the sub-pixel weights of bicubic
    interpolation cut to 3×3, and the last convolution picks it, and nothing else, and takes the 1 off. Architecture
    and file format stay as they are. Ours, not the paper's.

    Raises ConfigError if the network has fewer features than image channels, or img_range is not 1.
    """
    config, channels = model.config, model.config.in_chans
    if channels > min(config.embed_dim, config.num_feat) or config.img_range != 1:
        raise ConfigError(
            f"in_chans {channels}, embed_dim {config.embed_dim}, num_feat {config.num_feat}, img_range "
            f"{config.img_range}: an interpolator needs in_chans features at least, and img_range 1"
        )
    _pass_through(model.conv_first, channels, bias=0.0)
    model.conv_after_body.weight.mul_(BODY_GAIN)
    model.conv_after_body.weight[:channels] = 0  # the body adds nothing to the image itself yet
    if model.conv_after_body.bias is not None:
        model.conv_after_body.bias[:channels] = 0
    for conv in model.conv_before_upsample:
        if isinstance(conv, nn.Conv2d):
            _pass_through(conv, channels, bias=1.0)
    for conv in model.upsample:
        if isinstance(conv, nn.Conv2d):  # the other layers shuffle pixels
            _interpolate(conv, channels, round((conv.out_channels / conv.in_channels) ** 0.5))
    _pass_through(model.conv_last, channels, bias=-1.0)


def _pass_through(conv: nn.Conv2d, channels: int, *, bias: float) -> None:
    """Make outputs 0 … channels − 1 the inputs of the same number, plus `bias`."""
    conv.weight[:channels] = 0
    for channel in range(channels):
        conv.weight[channel, channel, 1, 1] = 1
    if conv.bias is not None:
        conv.bias[:channels] = bias


def _interpolate(conv: nn.Conv2d, channels: int, factor: int) -> None:
    """Make the sub-pixels of outputs 0 … channels − 1 the bicubic interpolation of the inputs of the same number."""
    taps = torch.stack([_sub_pixel_weights(phase, factor) for phase in range(factor)])
    weights = torch.einsum("ai,bj->abij", taps, taps).reshape(factor * factor, 3, 3)
    used = channels * factor * factor
    conv.weight[:used] = 0
    for channel in range(channels):
        conv.weight[channel * factor * factor : (channel + 1) * factor * factor, channel] = weights
    if conv.bias is not None:
        conv.bias[:used] = 0


def _sub_pixel_weights(phase: int, factor: int) -> Tensor:
    """Weights of the three nearest pixels for sub-pixel `phase` of `factor`: cubic kernel, a = −0.5, normalised."""
    distance = (torch.tensor([-1.0, 0.0, 1.0]) - ((phase + 0.5) / factor - 0.5)).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum()
