"""The optional package hat-sr-native: window attention in C, for CPUs and where no gradient is wanted.

It is used if it is installed; torch does the same without it.
Layout in names: B batch, h w rows and columns of windows, N query and M key tokens of a window, C channels, K heads.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hat_sr.model.tracing import is_traced
from hat_sr.model.window import Cut, put_windows, windows

logger = logging.getLogger(__name__)


class Package(Protocol):
    """What is used of hat_sr_native; its docstrings say more."""

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, masks: Tensor | None, *, out: Tensor, sums: Tensor | None
    ) -> Tensor:
        """The result, put into `out`; and into `sums` what `gradient` needs."""

    def gradient(
        self,
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor,
        masks: Tensor | None,
        sums: Tensor,
        *,
        grad_q: Tensor,
        grad_k: Tensor,
        grad_v: Tensor,
    ) -> Tensor:
        """The gradient of the bias, in float32; the others are put into tensors."""

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """The result, and what `layer_norm_gradient` needs."""

    def layer_norm_gradient(
        self, grad: Tensor, x: Tensor, weight: Tensor, statistics: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, and, in float32, of weight and bias."""


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
    package = _package_for(qkv_BHWC, bias_KNM)
    return None if package is None else partial(_attend_in_map, package)


def native_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor | None:
    """Layer normalisation over the last axis; None where torch has to do it."""
    package = _package_for(x, weight, bias)
    if package is None:
        return None
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        out: Tensor = _LayerNorm.apply(package, x, weight, bias, eps)  # type: ignore[no-untyped-call]
        return out
    return package.layer_norm(x, weight, bias, eps)[0]


def _package_for(x: Tensor, *weights: Tensor) -> Package | None:
    """The package, if it can work on this tensor with these weights."""
    if is_traced() or not _wanted.get():
        return None
    # Other types than Tensor are stand-ins without memory, such as those by which torch traces a network.
    if type(x) is not Tensor or x.device.type != "cpu" or x.dtype not in TOLERANCES:
        return None
    if any(weight.dtype != x.dtype for weight in weights) or x.numel() == 0:
        return None
    return _checked()


def _attend_in_map(
    package: Package, qkv_BHWC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, how: Cut
) -> Tensor:
    if torch.is_grad_enabled() and (qkv_BHWC.requires_grad or bias_KNM.requires_grad):
        out_BHWC: Tensor = _Attention.apply(package, qkv_BHWC, bias_KNM, masks_3NM, how)  # type: ignore[no-untyped-call]
        return out_BHWC
    return _attended(package, qkv_BHWC, bias_KNM, masks_3NM, how, None)


def _attended(
    package: Package, qkv_BHWC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, how: Cut, sums: Tensor | None
) -> Tensor:
    """Windows are views of the map, and so are those of the result: nothing is cut out or put back."""
    q, k, v = how.views(qkv_BHWC)
    out_BHWC = torch.empty_like(how.with_queries(qkv_BHWC)[..., : q.shape[-1]], memory_format=torch.contiguous_format)
    package.attend(q, k, v, bias_KNM, masks_3NM, out=windows(out_BHWC, how.window_size, how.window_size), sums=sums)
    return out_BHWC


class _Attention(torch.autograd.Function):
    """Of what is as large as the attention matrices nothing is kept for the backward pass: they are made again."""

    @staticmethod
    def forward(
        ctx: Any, package: Package, qkv_BHWC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, how: Cut
    ) -> Tensor:
        B, H, W, _ = how.with_queries(qkv_BHWC).shape
        sums_KBhwN = torch.empty(
            len(bias_KNM), B, H // how.window_size, W // how.window_size, how.window_size**2, dtype=torch.float32
        )
        ctx.package, ctx.how = package, how
        ctx.save_for_backward(qkv_BHWC, bias_KNM, masks_3NM, sums_KBhwN)
        return _attended(package, qkv_BHWC, bias_KNM, masks_3NM, how, sums_KBhwN)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out_BHWC: Tensor) -> tuple[Tensor | None, ...]:
        qkv_BHWC, bias_KNM, masks_3NM, sums_KBhwN = ctx.saved_tensors
        how: Cut = ctx.how
        q, k, v = how.views(qkv_BHWC)
        grad_BHWC = how.new_map(qkv_BHWC, qkv_BHWC.shape)
        parts = grad_BHWC.chunk(3, dim=-1)
        grads = [windows(how.with_queries(x_BHWC), how.window_size, how.window_size) for x_BHWC in parts]
        if how.overlap:  # windows of keys and values do, so they need memory of their own
            grads[1:] = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (k, v))
        grad_q, grad_k, grad_v = grads
        grad_bias = ctx.package.gradient(
            windows(grad_out_BHWC, how.window_size, how.window_size),
            *(q, k, v, bias_KNM, masks_3NM, sums_KBhwN),
            grad_q=grad_q,
            grad_k=grad_k,
            grad_v=grad_v,
        )
        if how.overlap:
            for x_BHWC, grad in zip(parts[1:], grads[1:], strict=True):
                put_windows(x_BHWC, grad, how)
        return None, grad_BHWC, grad_bias.to(bias_KNM.dtype), None, None


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, package: Package, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        out, statistics = package.layer_norm(x, weight, bias, eps)
        ctx.package = package
        ctx.save_for_backward(x, weight, bias, statistics)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, statistics = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = ctx.package.layer_norm_gradient(grad, x, weight, statistics)
        return None, grad_x, grad_weight.to(weight.dtype), grad_bias.to(bias.dtype), None


@lru_cache(maxsize=1)
def _checked() -> Package | None:
    """The package, if it is installed and right about a small example; if it is not right, one warning."""
    try:
        import hat_sr_native

        package: Package = hat_sr_native
        differences = {dtype: _difference(package, dtype) for dtype in TOLERANCES}
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError, AttributeError, TypeError, ValueError) as error:
        logger.warning("hat-sr-native does not work, torch does its work: %s", error)
        return None
    for dtype, tolerance in TOLERANCES.items():
        if not differences[dtype] <= tolerance:  # nor if it is not a number
            logger.warning("hat-sr-native is wrong by %.2g in %s, torch does its work", differences[dtype], dtype)
            return None
    return package


@torch.no_grad()
def _difference(package: Package, dtype: torch.dtype) -> float:
    """The largest one from the equation and its gradient, for two heads of four channels, in four windows of 3×3
    queries and 5 keys."""

    def numbers(*shape: int) -> Tensor:
        count = torch.Size(shape).numel()
        x = torch.arange(count, dtype=torch.float64, device="cpu").square().sin()
        return x.view(shape).to(dtype)

    def in_heads(x: Tensor) -> Tensor:
        return x.double().unflatten(-1, (2, 4)).transpose(3, 4)

    def difference(found: Tensor, wanted: Tensor) -> float:
        return float((found.double() - wanted).abs().max())

    q, k, v = numbers(1, 2, 2, 9, 8), numbers(1, 2, 2, 5, 8), numbers(1, 2, 2, 5, 8).neg()
    bias, masks = numbers(2, 9, 5), numbers(3, 9, 5)
    down, right, corner = masks.double()
    mask = torch.stack([torch.zeros_like(down), right, down, corner]).view(1, 2, 2, 1, 9, 5)
    weights = (in_heads(q) @ in_heads(k).mT / 2 + bias.double() + mask).softmax(-1)
    out, sums = q.new_empty(1, 2, 2, 3, 3, 8), torch.empty(2, 1, 2, 2, 9, device="cpu")
    package.attend(q.view(out.shape), k, v, bias, masks, out=out, sums=sums)
    differences = [difference(in_heads(out.flatten(3, 4)), weights @ in_heads(v))]

    grad = q.flip(-1).view(out.shape)
    grads = [torch.empty_like(x) for x in (q.view(out.shape), k, v)]
    tensors = q.view(out.shape), k, v, bias, masks, sums
    grad_bias = package.gradient(grad, *tensors, grad_q=grads[0], grad_k=grads[1], grad_v=grads[2])
    grad_weights = in_heads(grad.flatten(3, 4)) @ in_heads(v).mT
    grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
    wanted = grad_scores @ in_heads(k) / 2, grad_scores.mT @ in_heads(q) / 2, weights.mT @ in_heads(grad.flatten(3, 4))
    found = grads[0].flatten(3, 4), grads[1], grads[2]
    differences += [difference(in_heads(x), y) for x, y in zip(found, wanted, strict=True)]
    differences.append(difference(grad_bias, grad_scores.sum((0, 1, 2))))
    return max(differences)
