"""Windows of a feature map: cutting, putting back, relative positions, and the masks of shifted windows.

Layout in names: B batch, H W, C channels, h w rows and columns of windows, r c rows and columns of a window's tokens, N
tokens of a query window, M of a key window, K heads, D channels of a head.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hat_sr.model.tracing import is_traced


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How a map is cut into windows: those of keys may be larger, and are centred on those of queries.

    Beyond the map keys and values are zeros (paper, eq. 7). The rows `above` and `below` have no queries of their own.
    All but overlap_window_size are multiples of window_size, as a map's height and width are.
    """

    window_size: int
    overlap_window_size: int
    above: int = 0
    below: int = 0

    @property
    def overlap(self) -> int:
        """Pixels that a window of keys reaches beyond its queries, on each side."""
        return (self.overlap_window_size - self.window_size) // 2

    def with_queries(self, x_BHWC: Tensor) -> Tensor:
        """The rows that have queries."""
        return _without(x_BHWC, self.above, self.below)

    def new_map(self, like: Tensor, shape: torch.Size) -> Tensor:
        """A map of that shape: zeros, or anything where windows of queries and keys are all of it."""
        return like.new_zeros(shape) if self.above or self.below else like.new_empty(shape)

    def views(self, qkv_BHWC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows of queries, keys and values, which lie side by side in the channels: (B, h, w, rows, columns, C).

        Only what has to be padded is copied.
        """
        C = qkv_BHWC.shape[-1] // 3
        q_BHWC, kv_BHWC = qkv_BHWC.split((C, 2 * C), dim=-1)
        if self.overlap:
            kv_BHWC = F.pad(kv_BHWC, (0, 0, *[self.overlap] * 4))
        k_BHWC, v_BHWC = kv_BHWC.chunk(2, dim=-1)
        return self.query_windows(q_BHWC), self.key_windows(k_BHWC), self.key_windows(v_BHWC)

    def query_windows(self, x_BHWC: Tensor) -> Tensor:
        """Those of queries, a view: (B, h, w, rows, columns, C)."""
        return windows(self.with_queries(x_BHWC), self.window_size, self.window_size)

    def key_windows(self, x_BHWC: Tensor) -> Tensor:
        """Those of keys or values, a view of a map with `overlap` more pixels on each side."""
        x_BhwrcC = windows(x_BHWC, self.window_size, self.overlap_window_size)
        return _without(x_BhwrcC, self.above // self.window_size, self.below // self.window_size)


def windows(x_BHWC: Tensor, step: int, size: int) -> Tensor:
    """Windows of that size, `step` apart, without a copy: (B, h, w, rows, columns, C)."""
    return x_BHWC.unfold(1, size, step).unfold(2, size, step).permute(0, 1, 2, 4, 5, 3)


def cut(qkv_BHWC: Tensor, num_heads: int, how: Cut) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of each window and head: (B, h, w, K, N, D), and twice (B, h, w, K, M, D).

    The tokens of a window are in row-major order.
    """
    if torch.is_grad_enabled() and qkv_BHWC.requires_grad and not is_traced():
        parts: tuple[Tensor, Tensor, Tensor] = _Cut.apply(qkv_BHWC, num_heads, how)  # type: ignore[no-untyped-call]
        return parts
    return _cut(qkv_BHWC, num_heads, how)


def joined(x_BhwKND: Tensor, window_size: int) -> Tensor:
    """The map of windows: (B, h, w, K, N, D) → (B, H, W, C), C = K·D."""
    x: Tensor = x_BhwKND.unflatten(4, (window_size, window_size)).permute(0, 1, 4, 2, 5, 3, 6)
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2)


def _cut(qkv_BHWC: Tensor, num_heads: int, how: Cut) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (_in_heads(x, num_heads).flatten(4, 5).contiguous() for x in how.views(qkv_BHWC))
    return q, k, v


class _Cut(torch.autograd.Function):
    """torch's own gradient of windows takes many passes over the map, those of queries, keys and values one each."""

    @staticmethod
    def forward(ctx: Any, qkv_BHWC: Tensor, num_heads: int, how: Cut) -> tuple[Tensor, Tensor, Tensor]:
        ctx.how, ctx.shape = how, qkv_BHWC.shape
        return _cut(qkv_BHWC, num_heads, how)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor, grad_v: Tensor) -> tuple[Tensor | None, ...]:
        grad_BHWC = ctx.how.new_map(grad_q, ctx.shape)
        for x_BHWC, grad_BhwKMD in zip(grad_BHWC.chunk(3, dim=-1), (grad_q, grad_k, grad_v), strict=True):
            size = math.isqrt(grad_BhwKMD.shape[4])
            _put_windows(x_BHWC, grad_BhwKMD.unflatten(4, (size, size)).permute(0, 1, 2, 4, 5, 3, 6), ctx.how)
        return grad_BHWC, None, None


def _put_windows(x_BHWC: Tensor, values: Tensor, how: Cut) -> None:
    """Set a map to what windows of queries or of keys add up to: (B, h, w, rows, columns, …), the rest is channels.

    Of queries, rows without windows stay; of keys all is set, to 0 where no window reaches.
    """
    size = values.shape[3]
    if size == how.window_size:
        how.query_windows(x_BHWC).unflatten(-1, values.shape[5:]).copy_(values)
        return
    B, H, W, C = x_BHWC.shape
    padded_BHWC = x_BHWC.new_zeros(B, H + 2 * how.overlap, W + 2 * how.overlap, C)
    places = how.key_windows(padded_BHWC).unflatten(-1, values.shape[5:])
    apart = -(-size // how.window_size)  # so many windows further they do not overlap
    for row, column in product(range(apart), repeat=2):
        places[:, row::apart, column::apart].add_(values[:, row::apart, column::apart])
    inner = slice(how.overlap, -how.overlap)
    x_BHWC.copy_(padded_BHWC[:, inner, inner])


def _in_heads(x_BhwrcC: Tensor, num_heads: int) -> Tensor:
    """Each head's channels by themselves, a view: (B, h, w, rows, columns, C) → (B, h, w, K, rows, columns, D)."""
    x_BhwrcKD: Tensor = x_BhwrcC.unflatten(-1, (num_heads, -1))
    return x_BhwrcKD.permute(0, 1, 2, 5, 3, 4, 6)


def _without(x: Tensor, first: int, last: int) -> Tensor:
    """All but so many along the second axis; where all are left no view is made, whose gradient would be a copy."""
    return x[:, first : x.shape[1] - last] if first or last else x


def _coordinates(size: int) -> Tensor:
    """Row and column of each token of a window: (size², 2) int64."""
    axis = torch.arange(size)
    return torch.cartesian_prod(axis, axis)


def relative_position_index(window_size: int) -> Tensor:
    """Where in the bias table of (2M − 1)² rows each pair of query and key looks: (N, N) int64."""
    tokens = _coordinates(window_size)
    offset = tokens[:, None] - tokens[None, :] + (window_size - 1)
    return offset[..., 0] * (2 * window_size - 1) + offset[..., 1]


def overlap_relative_position_index(window_size: int, overlap_window_size: int) -> Tensor:
    """The same for OCAB's bias table of (M + Mo − 1)² rows: (N, M) int64.

    The released weights were trained with key − query (W-MSA has query − key) and an offset of M − Mo + 1, so that
    some indices are negative and wrap round to the end of the table. The mapping stays one-to-one; it is kept, as
    indices modulo the table, because those weights depend on it.
    """
    side = window_size + overlap_window_size - 1
    query = _coordinates(window_size)
    key = _coordinates(overlap_window_size)
    offset = key[None, :] - query[:, None] + (window_size - overlap_window_size + 1)
    return (offset[..., 0] * side + offset[..., 1]) % side**2


def shift_masks(window_size: int, shift_size: int) -> Tensor:
    """What keeps wrapped-round pixels apart in shifted windows: (3, N, N) float, 0 or −100.

    After a cyclic shift only the last row and the last column of windows hold pixels from two sides of the image.
    The masks are for the windows of the last row, of the last column, and of the corner, whatever the image size.
    −100 instead of −inf is what the released weights were trained with.
    """
    tokens = _coordinates(window_size)
    wrapped_down, wrapped_right = (tokens >= window_size - shift_size).unbind(1)
    apart_down = wrapped_down[:, None] != wrapped_down[None, :]
    apart_right = wrapped_right[:, None] != wrapped_right[None, :]
    apart = torch.stack([apart_down, apart_right, apart_down | apart_right])
    return torch.zeros(apart.shape).masked_fill(apart, -100.0)
