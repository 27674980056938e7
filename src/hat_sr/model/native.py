"""The optional package hat-sr-native: window attention, layer norms and some gradients in C, for CPUs.

`hat_sr.model.ops` uses it where it is installed. That it computes what it should is for its own tests, native/tests.
Layout in names: B batch, H W, C channels, h w rows and columns of windows, N query and M key tokens of a window, K
heads.
"""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hat_sr.model.tracing import is_traced
from hat_sr.model.window import Cut, windows

logger = logging.getLogger(__name__)

INTERFACE = 1
"""Which functions with which parameters are asked of the package: raised here and there when one changes."""

Views = tuple[Tensor, Tensor, Tensor]
"""Windows of queries, keys and values: (B, h, w, rows, columns, C)."""

_wanted = ContextVar("_wanted", default=True)


@contextmanager
def without_native() -> Iterator[None]:
    """Within it (in this thread and task) torch does all of it: to compare the two."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


def package_for(x: Tensor, *weights: Tensor) -> ModuleType | None:
    """The package, if it can work on this tensor with these weights."""
    if is_traced() or not _wanted.get():
        return None
    # Other types than Tensor are stand-ins without memory, such as those by which torch traces a network.
    if type(x) is not Tensor or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return None
    if any(weight.dtype != x.dtype for weight in weights) or x.numel() == 0:
        return None
    return _installed()


def package_for_linear(x: Tensor) -> ModuleType | None:
    """What computes the gradient of weights of a linear layer of this input; None where torch has to do it."""
    return None if x.dtype == torch.bfloat16 and _has_amx() else package_for(x)


@lru_cache(maxsize=1)
def _has_amx() -> bool:
    """Whether the processor multiplies matrices of bfloat16, which torch makes use of and the package does not."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))


@lru_cache(maxsize=1)
def _installed() -> ModuleType | None:
    """The package, if it is installed and of this interface; if it is of another one, there is one warning."""
    try:
        package = importlib.import_module("hat_sr_native")
        package.check(INTERFACE)
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError, AttributeError) as error:
        logger.warning(
            "hat-sr-native does not work, torch does its work: %s. Install it again, from the same sources as hat-sr",
            error,
        )
        return None
    return package


def attention(package: ModuleType, qkv_BHWC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, how: Cut) -> Tensor:
    """`hat_sr.model.ops.window_attention`."""
    if torch.is_grad_enabled() and (qkv_BHWC.requires_grad or bias_KNM.requires_grad):
        out_BHWC: Tensor = _Attention.apply(package, qkv_BHWC, bias_KNM, masks_3NM, how)  # type: ignore[no-untyped-call]
        return out_BHWC
    return _attended(package, qkv_BHWC, how.views(qkv_BHWC), bias_KNM, masks_3NM, how, None)


def layer_norm(package: ModuleType, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer normalisation over the last axis."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        out: Tensor = _LayerNorm.apply(package, x, weight, bias, eps)  # type: ignore[no-untyped-call]
        return out
    normed: Tensor = package.layer_norm(x, weight, bias, eps)[0]
    return normed


def gelu(package: ModuleType, x: Tensor) -> Tensor:
    """GELU whose gradient is the package's."""
    out: Tensor = _GELU.apply(package, x)  # type: ignore[no-untyped-call]
    return out


def _attended(
    package: ModuleType,
    qkv_BHWC: Tensor,
    views: Views,
    bias_KNM: Tensor,
    masks_3NM: Tensor | None,
    how: Cut,
    sums: Tensor | None,
) -> Tensor:
    """Windows are views of the map, and so are those of the result: nothing is cut out or put back."""
    C = views[0].shape[-1]
    out_BHWC = torch.empty_like(how.with_queries(qkv_BHWC)[..., :C], memory_format=torch.contiguous_format)
    package.attend(*views, bias_KNM, masks_3NM, out=windows(out_BHWC, how.window_size, how.window_size), sums=sums)
    return out_BHWC


class _Attention(torch.autograd.Function):
    """Of what is as large as the attention matrices nothing is kept for the backward pass: they are made again.

    Keys and values that were padded are kept so, which saves time, not memory.
    """

    @staticmethod
    def forward(
        ctx: Any, package: ModuleType, qkv_BHWC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, how: Cut
    ) -> Tensor:
        B, H, W, _ = how.with_queries(qkv_BHWC).shape
        grid = H // how.window_size, W // how.window_size
        sums_KBhwN = qkv_BHWC.new_empty(len(bias_KNM), B, *grid, how.window_size**2, dtype=torch.float32)
        views = how.views(qkv_BHWC)
        ctx.package, ctx.how, ctx.shape = package, how, qkv_BHWC.shape
        ctx.save_for_backward(*views, bias_KNM, masks_3NM, sums_KBhwN)
        return _attended(package, qkv_BHWC, views, bias_KNM, masks_3NM, how, sums_KBhwN)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out_BHWC: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias_KNM, masks_3NM, sums_KBhwN = ctx.saved_tensors
        how: Cut = ctx.how
        C = q.shape[-1]
        grad_BHWC = how.new_map(q, ctx.shape)
        grad_q_BHWC, grad_kv_BHWC = grad_BHWC.split((C, 2 * C), dim=-1)
        # Windows of keys and values that overlap need memory of their own.
        grad_kv = q.new_empty(*k.shape[:-1], 2 * C) if how.overlap else how.query_windows(grad_kv_BHWC)
        grad_k, grad_v = grad_kv.chunk(2, dim=-1)
        grad_bias = ctx.package.gradient(
            windows(grad_out_BHWC, how.window_size, how.window_size),
            *(q, k, v, bias_KNM, masks_3NM, sums_KBhwN),
            grad_q=how.query_windows(grad_q_BHWC),
            grad_k=grad_k,
            grad_v=grad_v,
        )
        if how.overlap:
            top, left = how.above - how.overlap, -how.overlap
            ctx.package.add_windows(grad_kv, grad_kv_BHWC, step=how.window_size, top=top, left=left)
        return None, grad_BHWC, grad_bias.to(bias_KNM.dtype), None, None


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, package: ModuleType, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        made: tuple[Tensor, Tensor] = package.layer_norm(x, weight, bias, eps)
        out, statistics = made
        ctx.package = package
        ctx.save_for_backward(x, weight, bias, statistics)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, statistics = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = ctx.package.layer_norm_gradient(grad, x, weight, statistics)
        return None, grad_x, grad_weight.to(weight.dtype), grad_bias.to(bias.dtype), None


class _GELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, package: ModuleType, x: Tensor) -> Tensor:
        ctx.package = package
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.package.gelu_gradient(grad, *ctx.saved_tensors)
