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
from torch import Tensor

from hat_sr.model.tracing import is_traced
from hat_sr.model.window import Cut, windows

logger = logging.getLogger(__name__)

Attend = Callable[..., Tensor]
"""`hat_sr_native.attend`: queries, keys, values, bias, masks or None, and where to put the result."""

AttendInMap = Callable[..., Tensor]
"""Queries, keys and values in the last axis of a map, (B, H, W, 3·C), bias, masks and how to cut → (B, H, W, C) of the
rows that have queries."""

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


def native_attention(qkv_BHWC: Tensor, bias_KNM: Tensor) -> AttendInMap | None:
    """Attention over this map with this bias; None where torch has to do it."""
    if is_traced() or not _wanted.get():
        return None
    if torch.is_grad_enabled() and (qkv_BHWC.requires_grad or bias_KNM.requires_grad):
        return None
    # Other types than Tensor are stand-ins without memory, such as those by which torch traces a network.
    if type(qkv_BHWC) is not Tensor or qkv_BHWC.device.type != "cpu" or qkv_BHWC.dtype not in TOLERANCES:
        return None
    if bias_KNM.dtype != qkv_BHWC.dtype or qkv_BHWC.numel() == 0:
        return None
    attend = _checked()
    return None if attend is None else partial(_attend_in_map, attend)


def _attend_in_map(
    attend: Attend, qkv_BHWC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, how: Cut
) -> Tensor:
    """Windows are views of the map, and so are those of the result: nothing is cut out or put back."""
    q, k, v = how.views(qkv_BHWC)
    out_BHWC = torch.empty_like(how.with_queries(qkv_BHWC)[..., : q.shape[-1]], memory_format=torch.contiguous_format)
    attend(q, k, v, bias_KNM, masks_3NM, out=windows(out_BHWC, how.window_size, how.window_size))
    return out_BHWC


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
