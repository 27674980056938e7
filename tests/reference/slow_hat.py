"""HAT written straight from the paper's equations, slowly: loops over windows, rows and heads, one image at a time.

It shares no code with the package and no tensor trick with it either: no cyclic shift, no batched windows, no
unfolding, no fused attention. It reads a state dict of released keys and takes the network's structure from them.
The equations are those of arXiv 2205.04437, section 3. What they leave open follows the released network, each with a
note.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a state dict does not tell."""

    window_size: int
    overlap: int
    conv_scale: float = 0.01
    img_range: float = 1.0
    mean: tuple[float, ...] | None = None


def slow_hat(state: State, x_BCHW: Tensor, settings: Settings) -> Tensor:
    """The network's output for images whose sides are multiples of the window, in the dtype of the state."""
    return torch.stack([_one_image(state, x_CHW, settings) for x_CHW in x_BCHW])


def _one_image(state: State, x_CHW: Tensor, settings: Settings) -> Tensor:
    channels = len(x_CHW)
    mean = settings.mean or ((0.4488, 0.4371, 0.4040) if channels == 3 else (0.0,) * channels)
    # The released network keeps the mean in float32, whatever it computes in.
    mean_C11 = torch.tensor(mean, dtype=torch.float32).to(x_CHW.dtype).view(-1, 1, 1)
    shallow = _conv(state, "conv_first", (x_CHW - mean_C11) * settings.img_range)
    x = _layer_norm(state, "patch_embed.norm", shallow)
    for group in range(_count(state, "layers")):
        x = _rhag(state, f"layers.{group}", x, settings)
    x = shallow + _conv(state, "conv_after_body", _layer_norm(state, "norm", x))
    x = _conv(state, "conv_before_upsample.0", x)
    x = torch.where(x >= 0, x, 0.01 * x)
    for step in range(0, 2 * _count(state, "upsample"), 2):
        x = _conv(state, f"upsample.{step}", x)
        x = _pixel_shuffle(x, 3 if len(x) == 9 * state["conv_last.weight"].shape[1] else 2)
    return _conv(state, "conv_last", x) / settings.img_range + mean_C11


def _rhag(state: State, key: str, x_CHW: Tensor, settings: Settings) -> Tensor:
    """Residual hybrid attention group: x + conv(OCAB(HAB(… HAB(x))))."""
    out = x_CHW
    for block in range(_count(state, f"{key}.residual_group.blocks")):
        shift = settings.window_size // 2 if block % 2 else 0
        out = _hab(state, f"{key}.residual_group.blocks.{block}", out, shift, settings)
    if f"{key}.residual_group.overlap_attn.qkv.weight" in state:
        out = _ocab(state, f"{key}.residual_group.overlap_attn", out, settings)
    return x_CHW + _conv(state, f"{key}.conv", out)


def _hab(state: State, key: str, x_CHW: Tensor, shift: int, settings: Settings) -> Tensor:
    """Hybrid attention block: (S)W-MSA and α·CAB of one norm, beside each other, then the MLP."""
    normed = _layer_norm(state, f"{key}.norm1", x_CHW)
    middle = x_CHW + _window_attention(state, f"{key}.attn", normed, settings.window_size, shift)
    if f"{key}.conv_block.cab.0.weight" in state:
        middle = middle + settings.conv_scale * _cab(state, f"{key}.conv_block.cab", normed)
    return middle + _mlp(state, f"{key}.mlp", _layer_norm(state, f"{key}.norm2", middle))


def _cab(state: State, key: str, x_CHW: Tensor) -> Tensor:
    """Channel attention block: conv, GELU, conv, and a weight for each channel from the means of all."""
    x = _conv(state, f"{key}.2", _gelu(_conv(state, f"{key}.0", x_CHW)))
    if f"{key}.3.attention.1.weight" not in state:
        return x
    means = torch.stack([channel.mean() for channel in x])
    squeezed = state[f"{key}.3.attention.1.weight"][:, :, 0, 0] @ means + state[f"{key}.3.attention.1.bias"]
    squeezed = torch.where(squeezed > 0, squeezed, 0 * squeezed)
    weights = state[f"{key}.3.attention.3.weight"][:, :, 0, 0] @ squeezed + state[f"{key}.3.attention.3.bias"]
    return x / (1 + torch.exp(-weights)).view(-1, 1, 1)


def _window_attention(state: State, key: str, x_CHW: Tensor, size: int, shift: int) -> Tensor:
    """(S)W-MSA. The windows of a shifted layer start at `shift` and wrap round the image's edges.

    Pixels that are in one window only by wrapping round are kept apart by −100 before the softmax, as released (not
    by −∞: a little leaks through).
    """
    _, height, width = x_CHW.shape
    qkv = _linear(state, f"{key}.qkv", x_CHW)
    table = state[f"{key}.relative_position_bias_table"]
    tokens = [(row, column) for row in range(size) for column in range(size)]
    # W-MSA looks up query − key.
    rows = [
        (query[0] - key_[0] + size - 1) * (2 * size - 1) + (query[1] - key_[1] + size - 1)
        for query in tokens
        for key_ in tokens
    ]
    bias_NNK = table[rows].view(len(tokens), len(tokens), -1)
    out = torch.empty_like(x_CHW)
    for top in range(shift, height + shift, size):
        for left in range(shift, width + shift, size):
            places = [(top + row, left + column) for row, column in tokens]
            wrapped = [(row >= height, column >= width) for row, column in places]
            mask = torch.tensor([[-100.0 * (one != other) for other in wrapped] for one in wrapped])
            window_NC = torch.stack([qkv[:, row % height, column % width] for row, column in places])
            mixed_NC = _attention(*window_NC.chunk(3, dim=1), bias_NNK + mask[..., None].to(x_CHW.dtype))
            for (row, column), value in zip(places, mixed_NC, strict=True):
                out[:, row % height, column % width] = value
    return _linear(state, f"{key}.proj", out)


def _ocab(state: State, key: str, x_CHW: Tensor, settings: Settings) -> Tensor:
    """Overlapping cross-attention block: keys and values from windows larger by γM.

    Keys and values outside the image are zero vectors (padding after the projection, so without its bias), and they
    do take part in the softmax. The bias is looked up by key − query with an offset such that many indices are
    negative: the released weights were trained with a table read from its end there.
    """
    size, overlap = settings.window_size, settings.overlap
    side = 2 * size + overlap - 1
    channels, height, width = x_CHW.shape
    q, k, v = _linear(state, f"{key}.qkv", _layer_norm(state, f"{key}.norm1", x_CHW)).chunk(3)
    table = state[f"{key}.relative_position_bias_table"]
    queries = [(row, column) for row in range(size) for column in range(size)]
    keys = [(row, column) for row in range(size + overlap) for column in range(size + overlap)]
    rows = [
        (key_[0] - query[0] - overlap + 1) * side + (key_[1] - query[1] - overlap + 1)
        for query in queries
        for key_ in keys
    ]
    bias_NMK = torch.stack([table[row] for row in rows]).view(len(queries), len(keys), -1)
    out = torch.empty_like(x_CHW)
    zero = x_CHW.new_zeros(channels)
    for top in range(0, height, size):
        for left in range(0, width, size):
            query_places = [(top + row, left + column) for row, column in queries]
            key_places = [(top + row - overlap // 2, left + column - overlap // 2) for row, column in keys]
            q_NC = torch.stack([q[:, row, column] for row, column in query_places])
            k_MC, v_MC = (
                torch.stack(
                    [x[:, row, col] if 0 <= row < height and 0 <= col < width else zero for row, col in key_places]
                )
                for x in (k, v)
            )
            for (row, column), value in zip(query_places, _attention(q_NC, k_MC, v_MC, bias_NMK), strict=True):
                out[:, row, column] = value
    x = x_CHW + _linear(state, f"{key}.proj", out)
    return x + _mlp(state, f"{key}.mlp", _layer_norm(state, f"{key}.norm2", x))


def _attention(q_NC: Tensor, k_MC: Tensor, v_MC: Tensor, bias_NMK: Tensor) -> Tensor:
    """softmax(QKᵀ/√d + B)·V for each head."""
    heads = bias_NMK.shape[2]
    size = q_NC.shape[1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = q_NC[:, part] @ k_MC[:, part].T / math.sqrt(size) + bias_NMK[:, :, head]
        weights = torch.exp(scores - scores.amax(dim=1, keepdim=True))
        mixed.append(weights / weights.sum(dim=1, keepdim=True) @ v_MC[:, part])
    return torch.cat(mixed, dim=1)


def _mlp(state: State, key: str, x_CHW: Tensor) -> Tensor:
    return _linear(state, f"{key}.fc2", _gelu(_linear(state, f"{key}.fc1", x_CHW)))


def _gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def _layer_norm(state: State, key: str, x_CHW: Tensor) -> Tensor:
    centred = x_CHW - x_CHW.mean(dim=0)
    normed = centred / torch.sqrt((centred**2).mean(dim=0) + 1e-5)
    return normed * state[f"{key}.weight"].view(-1, 1, 1) + state[f"{key}.bias"].view(-1, 1, 1)


def _linear(state: State, key: str, x_CHW: Tensor) -> Tensor:
    """The same linear map of the channels at every pixel."""
    flat = state[f"{key}.weight"] @ x_CHW.flatten(1) + state[f"{key}.bias"][:, None]
    return flat.view(-1, *x_CHW.shape[1:])


def _conv(state: State, key: str, x_CHW: Tensor) -> Tensor:
    return F.conv2d(x_CHW[None], state[f"{key}.weight"], state[f"{key}.bias"], padding=1)[0]


def _pixel_shuffle(x_CHW: Tensor, factor: int) -> Tensor:
    """Channel c·r² + r·i + j goes to row i and column j of each r × r block of channel c."""
    channels, height, width = x_CHW.shape
    out = x_CHW.new_empty(channels // factor**2, height * factor, width * factor)
    for i in range(factor):
        for j in range(factor):
            out[:, i::factor, j::factor] = x_CHW[factor * i + j :: factor**2]
    return out


def _count(state: State, key: str) -> int:
    """How many numbered modules with parameters there are under `key`."""
    return len({name[len(key) + 1 :].split(".")[0] for name in state if name.startswith(f"{key}.")})
