"""The parts of HAT: channel attention, CAB, window attention, HAB, OCAB, RHAG (paper, section 3).

Feature maps are BHWC throughout; a convolution takes the same memory as channels-last BCHW, so that no copy is made.
Attribute names follow the released state dicts and must not change.
Layout in names: B batch, H W, C channels, G windows of all images, N query and M key tokens of a window, K heads,
D channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hat_sr.model.config import HATConfig
from hat_sr.model.window import partition, partition_overlapping, reverse


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


class MLP(nn.Module):
    """Two linear layers with GELU (exact, by erf) between them, over the last axis."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, C)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class ChannelAttention(nn.Module):
    """Scales each channel by a weight in (0, 1) computed from all channels' means over the image (RCAN)."""

    def __init__(self, channels: int, squeeze_factor: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // squeeze_factor, 1),
            nn.ReLU(),
            nn.Conv2d(channels // squeeze_factor, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        weight_BC11: Tensor = self.attention(x_BCHW)
        return x_BCHW * weight_BC11


class CAB(nn.Module):
    """Channel attention block: two convolutions through C/β channels, then channel attention (section 3.2.2)."""

    def __init__(self, config: HATConfig) -> None:
        super().__init__()
        channels, inner = config.embed_dim, config.embed_dim // config.compress_ratio
        self.cab = nn.Sequential(conv3x3(channels, inner), nn.GELU(), conv3x3(inner, channels))
        if config.use_channel_attention:
            self.cab.append(ChannelAttention(channels, config.squeeze_factor))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C)."""
        return apply_channels_last(self.cab, x_BHWC)


def attend(q_GNC: Tensor, k_GMC: Tensor, v_GMC: Tensor, bias_KNM: Tensor) -> Tensor:
    """Multi-head attention within windows, softmax(QKᵀ/√D + bias)·V: → (G, N, C). The bias has K heads."""
    num_heads = len(bias_KNM)
    q, k, v = (x.view(*x.shape[:2], num_heads, -1).transpose(1, 2) for x in (q_GNC, k_GMC, v_GMC))
    out_GKND = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_KNM[None])
    return out_GKND.transpose(1, 2).flatten(2)


class WindowAttention(nn.Module):
    """W-MSA: attention within windows, with a learnt bias for each relative position."""

    def __init__(self, channels: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def bias(self, index_NN: Tensor) -> Tensor:
        """The bias of each pair of tokens: (K, N, N)."""
        return self.relative_position_bias_table[index_NN].permute(2, 0, 1)

    def forward(self, x_BHWC: Tensor, bias_KNN: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C), within windows; H and W are multiples of window_size, and may be 0."""
        _, H, W, _ = x_BHWC.shape
        if H == 0 or W == 0:
            return x_BHWC
        q, k, v = self.qkv(partition(x_BHWC, self.window_size)).chunk(3, dim=-1)
        out_GNC = self.proj(attend(q, k, v, bias_KNN))
        return reverse(out_GNC, self.window_size, H, W)


class HAB(nn.Module):
    """Hybrid attention block: CAB beside (shifted) window attention, then an MLP (section 3.2.2, eqs. 3–5)."""

    def __init__(self, config: HATConfig, *, num_heads: int, shift_size: int, drop_path_rate: float) -> None:
        super().__init__()
        channels = config.embed_dim
        self.shift_size = shift_size
        self.conv_scale = config.conv_scale
        self.drop_path_rate = drop_path_rate
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, config.window_size)
        self.conv_block = CAB(config) if config.use_cab else None
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, int(channels * config.mlp_ratio))

    def forward(self, x_BHWC: Tensor, index_NN: Tensor, masks_3NN: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C). CAB reads the normed, unshifted map and is not under drop path."""
        norm = self.norm1(x_BHWC)
        x = x_BHWC + drop_path(self._attend(norm, index_NN, masks_3NN), self.drop_path_rate, training=self.training)
        if self.conv_block is not None:
            x = x + self.conv_scale * self.conv_block(norm)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop_path_rate, training=self.training)

    def _attend(self, x_BHWC: Tensor, index_NN: Tensor, masks_3NN: Tensor) -> Tensor:
        bias = self.attn.bias(index_NN)
        if self.shift_size == 0:
            out: Tensor = self.attn(x_BHWC, bias)
            return out
        # Four calls instead of one mask a window: memory does not grow with the number of windows.
        x = x_BHWC.roll((-self.shift_size, -self.shift_size), (1, 2))
        upper, lower = slice(None, -self.attn.window_size), slice(-self.attn.window_size, None)
        down, right, corner = bias + masks_3NN[:, None]
        rows = [
            torch.cat([self.attn(x[:, rows, upper], bias_left), self.attn(x[:, rows, lower], bias_right)], dim=2)
            for rows, bias_left, bias_right in ((upper, bias, right), (lower, down, corner))
        ]
        return torch.cat(rows, dim=1).roll((self.shift_size, self.shift_size), (1, 2))


class OCAB(nn.Module):
    """Overlapping cross-attention block: queries from windows, keys and values from larger ones (section 3.2.3)."""

    def __init__(self, config: HATConfig, *, num_heads: int) -> None:
        super().__init__()
        channels = config.embed_dim
        self.window_size = config.window_size
        self.overlap_window_size = config.overlap_window_size
        table_size = (config.window_size + config.overlap_window_size - 1) ** 2
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_size, num_heads))
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, int(channels * config.mlp_ratio))

    def forward(self, x_BHWC: Tensor, index_NM: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C).

        The zero padding comes after the projection: padded keys are zero vectors that still take part in the softmax.
        """
        _, H, W, C = x_BHWC.shape
        q_BHWC, kv_BHWC = self.qkv(self.norm1(x_BHWC)).split((C, 2 * C), dim=-1)
        q_GNC = partition(q_BHWC, self.window_size)
        k_GMC, v_GMC = partition_overlapping(kv_BHWC, self.window_size, self.overlap_window_size).chunk(2, dim=-1)
        bias_KNM = self.relative_position_bias_table[index_NM].permute(2, 0, 1)
        out_GNC = self.proj(attend(q_GNC, k_GMC, v_GMC, bias_KNM))
        x = x_BHWC + reverse(out_GNC, self.window_size, H, W)
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
