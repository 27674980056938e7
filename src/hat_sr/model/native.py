"""The optional package hat-sr-native: window attention in C, for CPUs and where no gradient is wanted.

It is used if it is installed; torch does the same without it.
Layout in names: B batch, h w rows and columns of windows, N query and M key tokens of a window, C channels, K heads.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.model.tracing import is_traced

logger = logging.getLogger(__name__)

Attend = Callable[..., Tensor]
"""`hat_sr_native.attend`: queries, keys, values, bias, masks or None, and where to put the result."""

AttendInMap = Callable[..., Tensor]
"""Queries, keys and values in the last axis of a map, (B, H, W, 3·C), bias and masks, window_size and
overlap_window_size, and how many rows `above` and `below` have no queries of their own → (B, H − above − below, W, C).
"""

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""How far the package's first result may be from the equation, where values are about 1."""

_wanted = ContextVar("_wanted", default=True)


@contextmanager
def without_native() -> Iterator[None]:
    """Within it (in this thread and task) torch does all attention: to compare the two."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


def native_attention(x_BHWC: Tensor, *weights: Tensor) -> AttendInMap | None:
    """Attention over a map like this one, by layers with these weights; None where torch has to do it."""
    if is_traced() or not _wanted.get():
        return None
    if torch.is_grad_enabled() and any(x.requires_grad for x in (x_BHWC, *weights)):
        return None
    # Other types than Tensor are stand-ins without memory, such as those by which torch traces a network.
    if type(x_BHWC) is not Tensor or x_BHWC.device.type != "cpu" or x_BHWC.dtype not in TOLERANCES:
        return None
    if any(weight.dtype != x_BHWC.dtype for weight in weights) or x_BHWC.numel() == 0:
        return None
    attend = _checked()
    return None if attend is None else partial(_attend_in_map, attend)


def _attend_in_map(
    attend: Attend,
    qkv_BHWC: Tensor,
    bias_KNM: Tensor,
    masks_3NM: Tensor | None,
    *,
    window_size: int,
    overlap_window_size: int,
    above: int = 0,
    below: int = 0,
) -> Tensor:
    """Windows are views of the map, and so are those of the result: nothing is cut out or put back."""
    H, C = qkv_BHWC.shape[1], qkv_BHWC.shape[-1] // 3
    q_BHWC, kv_BHWC = qkv_BHWC[:, above : H - below, :, :C], qkv_BHWC[..., C:]
    overlap = (overlap_window_size - window_size) // 2
    if overlap:
        kv_BHWC = F.pad(kv_BHWC, (0, 0, *[overlap] * 4))
    rows = slice(above // window_size, (H - below) // window_size)
    k, v = (_windows(x, window_size, overlap_window_size)[:, rows] for x in kv_BHWC.chunk(2, dim=-1))
    out_BHWC = q_BHWC.new_empty(q_BHWC.shape)
    q, out = (_windows(x, window_size, window_size) for x in (q_BHWC, out_BHWC))
    attend(q, k, v, bias_KNM, masks_3NM, out=out)
    return out_BHWC


def _windows(x_BHWC: Tensor, step: int, size: int) -> Tensor:
    """Windows of that size, `step` apart, without a copy: (B, h, w, size, size, C)."""
    return x_BHWC.unfold(1, size, step).unfold(2, size, step).permute(0, 1, 2, 4, 5, 3)


@lru_cache(maxsize=1)
def _checked() -> Attend | None:
    """The package's function, if it is installed and right about a small example; if it is not right, one warning."""
    try:
        import hat_sr_native

        attend: Attend = hat_sr_native.attend
        differences = {dtype: _difference(attend, dtype) for dtype in TOLERANCES}
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError, AttributeError, TypeError, ValueError) as error:
        logger.warning("hat-sr-native does not work, torch does its work: %s", error)
        return None
    for dtype, tolerance in TOLERANCES.items():
        if not differences[dtype] <= tolerance:  # nor if it is not a number
            logger.warning("hat-sr-native is wrong by %.2g in %s, torch does its work", differences[dtype], dtype)
            return None
    return attend


@torch.no_grad()
def _difference(attend: Attend, dtype: torch.dtype) -> float:
    """The largest one from the equation, for two heads of four channels, in four windows of 3×3 queries and 5 keys."""

    def numbers(*shape: int) -> Tensor:
        count = torch.Size(shape).numel()
        x = torch.arange(count, dtype=torch.float64, device="cpu").square().sin()
        return x.view(shape).to(dtype)

    q, k, v = numbers(1, 2, 2, 9, 8), numbers(1, 2, 2, 5, 8), numbers(1, 2, 2, 5, 8).neg()
    bias, masks = numbers(2, 9, 5), numbers(3, 9, 5)
    in_heads = [x.double().unflatten(-1, (2, 4)).transpose(3, 4) for x in (q, k, v)]
    scores = in_heads[0] @ in_heads[1].transpose(-1, -2) / 2 + bias.double()
    down, right, corner = masks.double()
    scores += torch.stack([torch.zeros_like(down), right, down, corner]).view(1, 2, 2, 1, 9, 5)
    wanted = (scores.softmax(-1) @ in_heads[2]).transpose(3, 4).flatten(4)
    out = torch.empty(1, 2, 2, 3, 3, 8, dtype=dtype, device="cpu")
    attend(q.view(out.shape), k, v, bias, masks, out=out)
    return float((out.flatten(3, 4).double() - wanted).abs().max())
