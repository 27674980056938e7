"""What a HAT is made of: one frozen dataclass, and the three published sizes."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from hat_sr.errors import ConfigError

UPSCALES = (1, 2, 3, 4, 8)

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean of DIV2K in RGB, range [0, 1], taken off every 3-channel input (paper's released option files)."""


LARGEST_SIZE, LARGEST_RATIO, LARGEST_WINDOW, MOST_BLOCKS = 65_536, 1_000_000, 64, 1_000
"""What no network reaches (the published ones have 180, 30, 16 and 72): a file that says more is damaged, or meant to
take all memory."""


def shortened(value: object) -> str:
    """A value as an error says it, however long it is."""
    return reprlib.repr(value)


def _is_moderate(value: Any) -> bool:
    return bool(-LARGEST_RATIO <= value <= LARGEST_RATIO)  # a whole number may be too large for a float


@dataclass(frozen=True, kw_only=True)
class HATConfig:
    """The settings of one network, spelt as in the paper and the released option files.

    The defaults are the published HAT at ×4. An impossible combination raises ConfigError.
    """

    upscale: int = 4
    """Factor between input and output sides, one of 1, 2, 3, 4, 8."""
    in_chans: int = 3
    """Image channels, in and out."""
    embed_dim: int = 180
    """Feature channels of the body."""
    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    """Number of HABs in each RHAG."""
    num_heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    """Attention heads in each RHAG; each must divide embed_dim."""
    window_size: int = 16
    """M: side of an attention window, in input pixels. Input sides must be multiples of it."""
    overlap_ratio: float = 0.5
    """γ: OCAB's key windows have the side (1 + γ)·M. int(γ·M) must be even."""
    compress_ratio: int = 3
    """β: CAB's inner channels are embed_dim // β."""
    squeeze_factor: int = 30
    """Channel attention's inner channels are embed_dim // squeeze_factor."""
    conv_scale: float = 0.01
    """α: weight of CAB beside window attention."""
    mlp_ratio: float = 2.0
    """Hidden channels of each MLP, as a multiple of embed_dim."""
    drop_path_rate: float = 0.1
    """Probability of dropping the last HAB's branches in training; rises linearly from 0 over all HABs."""
    num_feat: int = 64
    """Channels of the reconstruction part (after the body)."""
    img_range: float = 1.0
    """The input minus its mean is multiplied by this, the output divided by it."""
    mean: tuple[float, ...] = ()
    """Mean per channel, range [0, 1]. Empty: RGB_MEAN for 3 channels, 0 for any other number, as published."""
    use_cab: bool = True
    """False leaves CAB out of every HAB (ablation)."""
    use_channel_attention: bool = True
    """False leaves channel attention out of every CAB (ablation)."""
    use_ocab: bool = True
    """False leaves OCAB out of every RHAG (ablation)."""

    def __post_init__(self) -> None:
        """Turn sequences into tuples, fill in the mean, refuse what cannot be."""
        for name in ("depths", "num_heads", "mean"):
            value = getattr(self, name)
            if isinstance(value, str | bytes) or not isinstance(value, Iterable):
                raise ConfigError(f"{name} {shortened(value)} must be a list of numbers")
            object.__setattr__(self, name, tuple(value))
        self._check_kinds()
        if not self.mean:
            object.__setattr__(self, "mean", RGB_MEAN if self.in_chans == 3 else (0.0,) * self.in_chans)
        self._check_sizes()
        self._check_attention()

    @property
    def overlap(self) -> int:
        """γM: by how many pixels OCAB's key windows are larger than its query windows, both sides together."""
        return int(self.window_size * self.overlap_ratio)

    @property
    def overlap_window_size(self) -> int:
        """Mo = M + γM: side of OCAB's key windows."""
        return self.window_size + self.overlap

    @property
    def upsampling_steps(self) -> tuple[int, ...]:
        """The factors by which the reconstruction enlarges, one after the other."""
        return (3,) if self.upscale == 3 else (2,) * (self.upscale.bit_length() - 1)

    def _check_kinds(self) -> None:
        """Whole numbers that a network can have, finite numbers, and truth values, as a file may not have them."""
        sizes = ("in_chans", "embed_dim", "num_feat", "compress_ratio", "squeeze_factor", "window_size", "upscale")
        lists = [(name, value) for name in ("depths", "num_heads") for value in getattr(self, name)]
        for name, value in [(name, getattr(self, name)) for name in sizes] + lists:
            if type(value) is bool or not isinstance(value, Integral) or int(value) > LARGEST_SIZE:
                raise ConfigError(f"{name} {shortened(value)} must be a whole number of at most {LARGEST_SIZE:,}")
        ratios = ("overlap_ratio", "conv_scale", "mlp_ratio", "drop_path_rate", "img_range")
        for name, value in [(name, getattr(self, name)) for name in ratios] + [("mean", value) for value in self.mean]:
            if type(value) is bool or not isinstance(value, Real) or not _is_moderate(value):
                raise ConfigError(f"{name} {shortened(value)} must be a finite number of at most {LARGEST_RATIO:,}")
        for name in ("use_cab", "use_channel_attention", "use_ocab"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"{name} {shortened(getattr(self, name))} must be true or false")

    def _check_sizes(self) -> None:
        if self.upscale not in UPSCALES:
            raise ConfigError(f"upscale {self.upscale} is not one of {', '.join(map(str, UPSCALES))}")
        for name in ("in_chans", "embed_dim", "num_feat", "compress_ratio", "squeeze_factor"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} must be at least 1")
        if self.use_cab and self.compress_ratio > self.embed_dim:
            raise ConfigError(f"compress_ratio {self.compress_ratio} leaves CAB no channel of {self.embed_dim}")
        if self.use_cab and self.use_channel_attention and self.squeeze_factor > self.embed_dim:
            raise ConfigError(f"squeeze_factor {self.squeeze_factor} leaves no channel of {self.embed_dim}")
        if not 1 <= int(self.embed_dim * self.mlp_ratio) <= LARGEST_SIZE:
            raise ConfigError(
                f"mlp_ratio {self.mlp_ratio} of embed_dim {self.embed_dim} must leave the MLP 1 to {LARGEST_SIZE:,} "
                "channels"
            )
        if len(self.mean) != self.in_chans:
            raise ConfigError(f"mean has {len(self.mean)} values for {self.in_chans} channels: give one for each")
        if self.img_range <= 0:
            raise ConfigError(f"img_range {self.img_range} must be above 0")

    def _check_attention(self) -> None:
        if not self.depths or min(self.depths) < 1:
            raise ConfigError(
                f"depths {shortened(self.depths)} must name at least one group, each of at least one block"
            )
        if sum(self.depths) > MOST_BLOCKS:
            raise ConfigError(f"depths {shortened(self.depths)} make more than {MOST_BLOCKS:,} blocks")
        if len(self.num_heads) != len(self.depths):
            raise ConfigError(
                f"num_heads {shortened(self.num_heads)} and depths {shortened(self.depths)} must be equally long"
            )
        for num_heads in self.num_heads:
            if num_heads < 1 or self.embed_dim % num_heads:
                raise ConfigError(f"num_heads {num_heads} must divide embed_dim {self.embed_dim}")
        if not 2 <= self.window_size <= LARGEST_WINDOW:
            raise ConfigError(
                f"window_size {self.window_size} must be from 2, half of which is the shift, to {LARGEST_WINDOW}: "
                "tables of its positions take a gigabyte there"
            )
        if self.overlap_ratio < 0 or self.overlap % 2 or self.overlap_window_size > 2 * LARGEST_WINDOW:
            raise ConfigError(
                f"overlap_ratio {self.overlap_ratio} of window_size {self.window_size} is an overlap of "
                f"{self.overlap} pixels: it must be even, half of it goes on each side, and make the window no larger "
                f"than {2 * LARGEST_WINDOW}"
            )
        if not 0 <= self.drop_path_rate < 1:
            raise ConfigError(f"drop_path_rate {self.drop_path_rate} must be in [0, 1)")


PRESETS: dict[str, HATConfig] = {
    f"{name}-x{upscale}": HATConfig(
        upscale=upscale,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=(6,) * len(depths),
        compress_ratio=compress_ratio,
        squeeze_factor=squeeze_factor,
    )
    for name, embed_dim, depths, compress_ratio, squeeze_factor in (
        ("HAT-S", 144, (6,) * 6, 24, 24),
        ("HAT", 180, (6,) * 6, 3, 30),
        ("HAT-L", 180, (6,) * 12, 3, 30),
    )
    for upscale in (2, 3, 4)
}
"""The nine published classical networks: HAT-S-x2 … HAT-L-x4 (journal version, section 4.1)."""
