"""Windows of a feature map: cutting, putting back, relative positions, and the masks of shifted windows.

Layout in names: B batch, H W, C channels, h w rows and columns of windows, N tokens of a query window, M of a key
window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def partition(x_BHWC: Tensor, window_size: int) -> Tensor:
    """Cut into windows: (B, H, W, C) → (B, h, w, N, C), the tokens of a window in row-major order.

    H and W must be multiples of `window_size`.
    """
    B, H, W, C = x_BHWC.shape
    x = x_BHWC.view(B, H // window_size, window_size, W // window_size, window_size, C)
    return x.transpose(2, 3).flatten(3, 4)


def reverse(x_BhwNC: Tensor, window_size: int) -> Tensor:
    """Put windows back: (B, h, w, N, C) → (B, H, W, C). The inverse of `partition`."""
    B, h, w, _, C = x_BhwNC.shape
    x = x_BhwNC.view(B, h, w, window_size, window_size, C).transpose(2, 3)
    return x.reshape(B, h * window_size, w * window_size, C)


def partition_overlapping(x_BHWC: Tensor, window_size: int, overlap_window_size: int) -> Tensor:
    """Cut into windows of side `overlap_window_size`, `window_size` apart: (B, H, W, C) → (B, h, w, M, C).

    The map is padded with zeros by half the overlap on every side, so that each window is centred on the plain
    window of the same number (paper, eq. 7).
    """
    x = _windows_along(x_BHWC, 1, window_size, overlap_window_size)  # (B, h, Mo, W, C)
    x = _windows_along(x, 3, window_size, overlap_window_size)  # (B, h, Mo, w, Mo, C)
    return x.transpose(2, 3).flatten(3, 4)


def _windows_along(x: Tensor, axis: int, window_size: int, overlap_window_size: int) -> Tensor:
    """Replace `axis` by two: the windows along it, and the pixels of each.

    Made of whole blocks of window_size pixels instead of with Tensor.unfold, whose gradient is slow.
    """
    num_windows = x.shape[axis] // window_size
    num_blocks = -(-overlap_window_size // window_size)  # that a window reaches into
    before = (overlap_window_size - window_size) // 2
    after = (num_windows + num_blocks - 1) * window_size - x.shape[axis] - before
    x = F.pad(x, (0, 0) * (x.dim() - 1 - axis) + (before, after)).unflatten(axis, (-1, window_size))
    parts = [x.narrow(axis, block, num_windows) for block in range(num_blocks)]
    rest = overlap_window_size - (num_blocks - 1) * window_size
    parts[-1] = parts[-1].narrow(axis + 1, 0, rest)
    return torch.cat(parts, dim=axis + 1)


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
