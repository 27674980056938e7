"""The parts of HAT: channel attention, CAB, window attention, HAB, OCAB, RHAG (paper, section 3).

Feature maps are BHWC throughout; a convolution takes the same memory as channels-last BCHW, so that no copy is made.
Attribute names follow the released state dicts and must not change.
Layout in names: B batch, H W, C channels, h w rows and columns of windows, N query and M key tokens of a window, K
heads.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hat_sr.model import ops
from hat_sr.model.config import HATConfig
from hat_sr.model.tracing import is_traced
from hat_sr.model.window import Cut


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def apply_channels_last(module: nn.Module, x_BHWC: Tensor) -> Tensor:
    """Run a BCHW module on a BHWC map, without a copy."""
    out_BCHW: Tensor = module(x_BHWC.permute(0, 3, 1, 2))
    return out_BCHW.permute(0, 2, 3, 1)


def drop_path(x: Tensor, rate: float, *, training: bool) -> Tensor:
    """Stochastic depth: in training, zero whole samples of the batch with probability `rate`, scale the rest up."""
    if not training or rate == 0:
        return x
    kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device) >= rate
    return x * kept / (1 - rate)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis by `ops`. It has weight and bias; without one of them use torch's."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, C)."""
        return ops.layer_norm(x, self.weight, self.bias, self.eps)


class GELU(nn.GELU):
    """GELU by `ops`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class's name)
        """Any shape."""
        return ops.gelu(input)


class Linear(nn.Linear):
    """A linear layer over the last axis by `ops`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class's name)
        """(…, in_features) → (…, out_features)."""
        return ops.linear(input, self.weight, self.bias)


class MLP(nn.Module):
    """Two linear layers with GELU between them, over the last axis."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.fc1 = Linear(channels, hidden_channels)
        self.act = GELU()
        self.fc2 = Linear(hidden_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, C)."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class ChannelAttention(nn.Module):
    """Scales each channel by a weight in (0, 1) computed from all channels' means over the image (RCAN).

    The layers are in a Sequential, which is not called, for the released keys.
    """

    def __init__(self, channels: int, squeeze_factor: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // squeeze_factor, 1),
            nn.ReLU(),
            nn.Conv2d(channels // squeeze_factor, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C)."""
        _, H, W, _ = x_BHWC.shape
        # As a sum, divided: the gradient of a mean is a map of its own, twice. But float16 would not hold the sum.
        as_mean = x_BHWC.dtype == torch.float16 or is_traced()
        mean_BC = x_BHWC.mean((1, 2)) if as_mean else x_BHWC.sum((1, 2)) / (H * W)
        return x_BHWC * self.weights(mean_BC)[:, None, None]

    def weights(self, mean_BC: Tensor) -> Tensor:
        """The weights of the channels, of their means: (B, C) → (B, C)."""
        # As linear layers: a convolution of a single pixel takes ten times as long. S: squeezed channels.
        squeeze, expand = (cast(nn.Conv2d, self.attention[number]) for number in (1, 3))
        hidden_BS = F.relu(F.linear(mean_BC, squeeze.weight.flatten(1), squeeze.bias))
        return F.linear(hidden_BS, expand.weight.flatten(1), expand.bias).sigmoid()


class CAB(nn.Module):
    """Channel attention block: two convolutions through C/β channels, then channel attention (section 3.2.2)."""

    def __init__(self, config: HATConfig) -> None:
        super().__init__()
        channels, inner = config.embed_dim, config.embed_dim // config.compress_ratio
        self.cab = nn.Sequential(conv3x3(channels, inner), GELU(), conv3x3(inner, channels))
        if config.use_channel_attention:
            self.cab.append(ChannelAttention(channels, config.squeeze_factor))

    @property
    def convolutions(self) -> nn.Sequential:
        """All but channel attention."""
        return nn.Sequential(*list(self.cab)[:3])

    @property
    def attention(self) -> ChannelAttention | None:
        """Channel attention, if there is one."""
        last = self.cab[-1]
        return last if isinstance(last, ChannelAttention) else None

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C)."""
        out = apply_channels_last(self.convolutions, x_BHWC)
        return out if self.attention is None else cast(Tensor, self.attention(out))


def position_bias(table: Tensor, index_NM: Tensor) -> Tensor:
    """The bias of each pair of query and key: a table of (positions, K) → (K, N, M)."""
    if table.device.type != "cpu":  # where gather's gradient would be added up in no fixed order
        return F.embedding(index_NM, table).permute(2, 0, 1).contiguous()
    # Of all ways to look up, gather has by far the fastest gradient; in bfloat16 it is added up in float32.
    by_head = table.float() if table.dtype == torch.bfloat16 else table
    bias = by_head.t().gather(1, index_NM.flatten().expand(table.shape[1], -1))
    return bias.to(table.dtype).view(-1, *index_NM.shape)


class WindowAttention(nn.Module):
    """W-MSA and SW-MSA: attention within (shifted) windows, with a learnt bias for each relative position."""

    def __init__(self, channels: int, *, num_heads: int, window_size: int, shift_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift_size = shift_size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.qkv = Linear(channels, 3 * channels)
        self.proj = Linear(channels, channels)

    def forward(self, x_BHWC: Tensor, index_NN: Tensor, masks_3NN: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C); H and W are multiples of window_size."""
        shift = self.shift_size
        if not shift:
            return self.in_windows(x_BHWC, index_NN, masks_3NN)
        return self.in_windows(x_BHWC.roll((-shift, -shift), (1, 2)), index_NN, masks_3NN).roll((shift, shift), (1, 2))

    def in_windows(self, x_BHWC: Tensor, index_NN: Tensor, masks_3NN: Tensor) -> Tensor:
        """The same on a map that is shifted already, if windows are: (B, H, W, C) → (B, H, W, C)."""
        M, masks = self.window_size, masks_3NN if self.shift_size else None
        bias_KNN = position_bias(self.relative_position_bias_table, index_NN)
        how = Cut(window_size=M, overlap_window_size=M)
        out: Tensor = self.proj(ops.window_attention(self.qkv(x_BHWC), bias_KNN, masks, how))
        return out


class HAB(nn.Module):
    """Hybrid attention block: CAB beside (shifted) window attention, then an MLP (section 3.2.2, eqs. 3–5)."""

    def __init__(self, config: HATConfig, *, num_heads: int, shift_size: int, drop_path_rate: float) -> None:
        super().__init__()
        channels = config.embed_dim
        self.conv_scale = config.conv_scale
        self.drop_path_rate = drop_path_rate
        self.norm1 = LayerNorm(channels)
        self.attn = WindowAttention(
            channels, num_heads=num_heads, window_size=config.window_size, shift_size=shift_size
        )
        self.conv_block = CAB(config) if config.use_cab else None
        self.norm2 = LayerNorm(channels)
        self.mlp = MLP(channels, int(channels * config.mlp_ratio))

    def forward(self, x_BHWC: Tensor, index_NN: Tensor, masks_3NN: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C). CAB reads the normed, unshifted map and is not under drop path."""
        norm = self.norm1(x_BHWC)
        attended = self.attn(norm, index_NN, masks_3NN)
        x = x_BHWC + drop_path(attended, self.drop_path_rate, training=self.training)
        if self.conv_block is not None:
            x = torch.add(x, self.conv_block(norm), alpha=self.conv_scale)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop_path_rate, training=self.training)


class OCAB(nn.Module):
    """Overlapping cross-attention block: queries from windows, keys and values from larger ones (section 3.2.3)."""

    def __init__(self, config: HATConfig, *, num_heads: int) -> None:
        super().__init__()
        channels = config.embed_dim
        self.window_size = config.window_size
        self.overlap_window_size = config.overlap_window_size
        table_size = (config.window_size + config.overlap_window_size - 1) ** 2
        self.norm1 = LayerNorm(channels)
        self.qkv = Linear(channels, 3 * channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_size, num_heads))
        self.proj = Linear(channels, channels)
        self.norm2 = LayerNorm(channels)
        self.mlp = MLP(channels, int(channels * config.mlp_ratio))

    def forward(self, x_BHWC: Tensor, index_NM: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C).

        The zero padding comes after the projection: padded keys are zero vectors that still take part in the softmax.
        """
        return self.rows(x_BHWC, index_NM, above=0, below=0)

    def rows(self, x_BHWC: Tensor, index_NM: Tensor, *, above: int, below: int) -> Tensor:
        """The same for all rows but the first `above` and the last `below`, which serve as keys and values alone.

        Both are multiples of window_size. (B, H, W, C) → (B, H − above − below, W, C).
        """
        how = Cut(window_size=self.window_size, overlap_window_size=self.overlap_window_size, above=above, below=below)
        bias_KNM = position_bias(self.relative_position_bias_table, index_NM)
        attended = self.proj(ops.window_attention(self.qkv(self.norm1(x_BHWC)), bias_KNM, None, how))
        x = how.with_queries(x_BHWC) + attended
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ResidualGroup(nn.Module):
    """The HABs of one group and its OCAB; a module of its own only because the released keys have it so."""

    def __init__(self, config: HATConfig, *, num_heads: int, drop_path_rates: list[float]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            HAB(
                config,
                num_heads=num_heads,
                shift_size=config.window_size // 2 if number % 2 else 0,
                drop_path_rate=rate,
            )
            for number, rate in enumerate(drop_path_rates)
        )
        self.overlap_attn = OCAB(config, num_heads=num_heads) if config.use_ocab else None

    def forward(
        self, x_BHWC: Tensor, index_NN: Tensor, index_NM: Tensor, masks_3NN: Tensor, *, checkpointing: bool
    ) -> Tensor:
        """(B, H, W, C) → (B, H, W, C); with `checkpointing`, activations inside a block are computed again."""
        calls: list[tuple[nn.Module, tuple[Tensor, ...]]] = [(block, (index_NN, masks_3NN)) for block in self.blocks]
        if self.overlap_attn is not None:
            calls.append((self.overlap_attn, (index_NM,)))
        x = x_BHWC
        for block, constants in calls:
            x = checkpoint(block, x, *constants, use_reentrant=False) if checkpointing else block(x, *constants)
        return x


class RHAG(nn.Module):
    """Residual hybrid attention group: HABs, an OCAB, a convolution, and the input added (section 3.2.1)."""

    def __init__(self, config: HATConfig, *, num_heads: int, drop_path_rates: list[float]) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(config, num_heads=num_heads, drop_path_rates=drop_path_rates)
        self.conv = conv3x3(config.embed_dim, config.embed_dim)

    def forward(
        self, x_BHWC: Tensor, index_NN: Tensor, index_NM: Tensor, masks_3NN: Tensor, *, checkpointing: bool
    ) -> Tensor:
        """(B, H, W, C) → (B, H, W, C)."""
        out = self.residual_group(x_BHWC, index_NN, index_NM, masks_3NN, checkpointing=checkpointing)
        return x_BHWC + apply_channels_last(self.conv, out)
