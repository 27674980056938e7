"""HAT: shallow features, a body of RHAGs, reconstruction (paper, section 3.1)."""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hat_sr.errors import InputError
from hat_sr.model.blocks import RHAG, LayerNorm, conv3x3
from hat_sr.model.config import HATConfig
from hat_sr.model.reconstruction import enlarge
from hat_sr.model.window import overlap_relative_position_index, relative_position_index, shift_masks

LEAKY_SLOPE = 0.01
"""Of the LeakyReLU before the upsampling, as published."""


def upsampler(config: HATConfig) -> nn.Sequential:
    """A convolution and a pixel shuffle for each step of the enlargement."""
    channels = config.num_feat
    layers: list[nn.Module] = []
    for step in config.upsampling_steps:
        layers += [conv3x3(channels, channels * step * step), nn.PixelShuffle(step)]
    return nn.Sequential(*layers)


class PatchEmbed(nn.Module):
    """The layer norm before the body; a module of its own only because the released keys have it so."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)


class HAT(nn.Module):
    """Hybrid Attention Transformer for image super-resolution.

    The network is an `Upscale` for images whose sides are multiples of `config.window_size`; `hat_sr.Upscaler`
    takes any size. `activation_checkpointing` may be switched at any time: in training, the activations inside each
    block are then computed again in the backward pass instead of kept.

    `hat_sr.HAT` has `from_pretrained` and `save_pretrained`, too, from `hat_sr.checkpoints.named`.
    """

    relative_position_index_SA: Tensor
    relative_position_index_OCA: Tensor
    shift_masks: Tensor

    if TYPE_CHECKING:
        # hat_sr.checkpoints.named puts these two here: a network knows of no files.
        @staticmethod
        def from_pretrained(
            source: str | PathLike[str],
            *,
            revision: str | None = None,
            device: str | torch.device = "cpu",
            dtype: torch.dtype = torch.float32,
        ) -> "HAT":
            """See `hat_sr.checkpoints.named.load_pretrained`."""

        def save_pretrained(
            self,
            folder: str | PathLike[str],
            *,
            provenance: Mapping[str, str] | None = None,
            repo_id: str | None = None,
            overwrite: bool = False,
        ) -> None:
            """See `hat_sr.checkpoints.pretrained.save_pretrained`."""

    def __init__(self, config: HATConfig, *, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = activation_checkpointing
        channels, num_feat = config.embed_dim, config.num_feat

        self.conv_first = conv3x3(config.in_chans, channels)
        self.patch_embed = PatchEmbed(channels)
        rates = iter(torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu").tolist())
        self.layers = nn.ModuleList(
            RHAG(config, num_heads=num_heads, drop_path_rates=[next(rates) for _ in range(depth)])
            for num_heads, depth in zip(config.num_heads, config.depths, strict=True)
        )
        self.norm = LayerNorm(channels)
        self.conv_after_body = conv3x3(channels, channels)
        self.conv_before_upsample = nn.Sequential(conv3x3(channels, num_feat), nn.LeakyReLU(LEAKY_SLOPE))
        self.upsample = upsampler(config)
        self.conv_last = conv3x3(num_feat, config.in_chans)

        # Constants of the config alone: not in the state dict, moved and cast with the module.
        M, Mo = config.window_size, config.overlap_window_size
        self.register_buffer("relative_position_index_SA", relative_position_index(M), persistent=False)
        self.register_buffer("relative_position_index_OCA", overlap_relative_position_index(M, Mo), persistent=False)
        self.register_buffer("shift_masks", shift_masks(M, M // 2), persistent=False)
        self.apply(_initialise)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Enlarge a batch of images: (B, in_chans, H, W) in [0, 1] → (B, in_chans, upscale·H, upscale·W).

        The input has the device of the weights, and their dtype or another floating one: the mean is taken from the
        image and added to the result in that one, which the result has, too. The body may have another (`cast_body`).
        The output is about [0, 1], not clamped.
        Raises InputError if it is not floating, the number of channels is another, or H or W is no multiple of
        window_size.
        """
        self.check(x_BCHW)
        shallow = self.conv_first(self.centred(x_BCHW))
        return self.reconstruct(shallow + self._body(shallow).to(shallow.dtype), x_BCHW.dtype)

    def cast_body(self, dtype: torch.dtype) -> "HAT":
        """Cast the body, in place, and leave what holds the picture itself: the first convolution and reconstruction.

        Nearly all of the work is the body's, and nearly all that a low precision does to the picture is the others'.
        """
        for part in (self.patch_embed, self.layers, self.norm, self.conv_after_body):
            part.to(dtype)
        return self

    def centred(self, x_BCHW: Tensor) -> Tensor:
        """An image as the first convolution takes it: without the mean, in the weights' dtype, channels last."""
        x = (x_BCHW - self._mean(x_BCHW)) * self.config.img_range
        return x.to(self.conv_first.weight.dtype).contiguous(memory_format=torch.channels_last)

    def reconstruct(self, features_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
        """From shallow and deep features to the enlarged image, in `dtype`."""
        x = enlarge([*self.upsample, self.conv_last], self.conv_before_upsample(features_BCHW)).to(dtype)
        return torch.add(self._mean(x), x, alpha=1 / self.config.img_range)  # of 1 it costs nothing, unlike a division

    def _mean(self, x_BCHW: Tensor) -> Tensor:
        """The mean for an image of that dtype: (1, in_chans, 1, 1)."""
        # Not a buffer, which would be cast with the weights. In float32 at first, as in the released network.
        mean_C = torch.tensor(self.config.mean, dtype=torch.float32, device=x_BCHW.device)
        return mean_C.to(x_BCHW.dtype).view(1, -1, 1, 1)

    def _body(self, x_BCHW: Tensor) -> Tensor:
        x = self.patch_embed.norm(x_BCHW.permute(0, 2, 3, 1).to(self.norm.weight.dtype))
        for layer in self.layers:
            x = layer(
                x,
                self.relative_position_index_SA,
                self.relative_position_index_OCA,
                self.shift_masks,
                checkpointing=self.activation_checkpointing and self.training,
            )
        out: Tensor = self.conv_after_body(self.norm(x).permute(0, 3, 1, 2))
        return out

    def check(self, x_BCHW: Tensor) -> None:
        """Raise InputError if the network does not take this input."""
        config = self.config
        if not x_BCHW.is_floating_point():
            raise InputError(f"the input is {x_BCHW.dtype}: convert it to float in [0, 1] first")
        if x_BCHW.dim() != 4 or x_BCHW.shape[1] != config.in_chans:
            raise InputError(
                f"the input has the shape {tuple(x_BCHW.shape)}: this network takes (B, {config.in_chans}, H, W)"
            )
        height, width = x_BCHW.shape[2:]
        if height == 0 or width == 0 or height % config.window_size or width % config.window_size:
            raise InputError(
                f"height {height} and width {width} must be multiples of window_size {config.window_size}: "
                "pad the image first, or use hat_sr.Upscaler, which does"
            )


def _initialise(module: nn.Module) -> None:
    """Linear weights and bias tables from a normal of σ 0.02 cut at ±2; convolutions keep torch's default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    table = getattr(module, "relative_position_bias_table", None)
    if isinstance(table, nn.Parameter):
        nn.init.trunc_normal_(table, std=0.02)
