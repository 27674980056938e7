"""Operations of HAT's blocks: by hat-sr-native where it is installed and can, or by oneDNN, else by torch.

Layout in names: B batch, H W, C channels, N query and M key tokens of a window, K heads.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hat_sr.model import native
from hat_sr.model.attention import attend
from hat_sr.model.tracing import is_traced
from hat_sr.model.window import Cut, cut, joined


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer normalisation over the last axis, whose weight and bias get an exact gradient in bfloat16 too.

    On a CPU torch sums that gradient in bfloat16, by which it can be off by half of its size.
    """
    package = native.package_for(x, weight, bias)
    if package is not None:
        return native.layer_norm(package, x, weight, bias, eps)
    if x.dtype == torch.bfloat16 and torch.is_grad_enabled() and weight.requires_grad:
        return torch.addcmul(bias, F.layer_norm(x, weight.shape, eps=eps), weight)
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def gelu(x: Tensor) -> Tensor:
    """GELU (exact, by erf). The native package has its gradient alone."""
    package = native.package_for(x) if torch.is_grad_enabled() and x.requires_grad else None
    return F.gelu(x) if package is None else native.gelu(package, x)


def window_attention(qkv_BHWC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, how: Cut) -> Tensor:
    """Multi-head attention within the windows of a map, queries, keys and values in its last axis: (B, H, W, C).

    The bias says how many heads there are. `masks_3NM` are those of shifted windows: for the last row of windows, the
    last column, and the corner.
    """
    package = native.package_for(qkv_BHWC, bias_KNM)
    if package is not None:
        return native.attention(package, qkv_BHWC, bias_KNM, masks_3NM, how)
    return joined(attend(*cut(qkv_BHWC, len(bias_KNM), how), bias_KNM, masks_3NM), how.window_size)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer over the last axis; with AVX-512 computed by oneDNN, and so is the gradient of its input.

    torch's own goes to MKL in float32, which on processors of AMD takes twice as long, and in bfloat16 to oneDNN with a
    copy of the bias for each pixel before. oneDNN's call is not differentiable by itself.
    """
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    if torch.is_grad_enabled() and any(one.requires_grad for one in inputs):
        out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _product(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.package = native.package_for_linear(x)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad_x = _product(grad, weight.t(), None) if of_x else None
        if of_weight and ctx.package is not None:
            grad_weight, grad_bias = (gradient.to(weight.dtype) for gradient in ctx.package.linear_gradient(grad, x))
            return grad_x, grad_weight, grad_bias if of_bias else None
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            grad_x,
            rows.t() @ x.reshape(-1, x.shape[-1]) if of_weight else None,  # here torch's own is the faster one
            rows.sum(0) if of_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and x.shape[-1] == weight.shape[1]  # else torch says what is wrong
        and not is_traced()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
