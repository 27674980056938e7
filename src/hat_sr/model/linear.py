"""Linear layers by the faster of two libraries on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hat_sr.model.native import package_for_linear
from hat_sr.model.tracing import is_traced


class Linear(nn.Linear):
    """A linear layer over the last axis; with AVX-512 computed by oneDNN, and so is the gradient of its input.

    torch's own goes to MKL in float32, which on processors of AMD takes twice as long, and in bfloat16 to oneDNN with a
    copy of the bias for each pixel before. oneDNN's call is not differentiable by itself.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class's name)
        """(…, in_features) → (…, out_features)."""
        if not _by_onednn(input, self.weight):
            return F.linear(input, self.weight, self.bias)
        inputs = (input, self.weight) if self.bias is None else (input, self.weight, self.bias)
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            out: Tensor = _Linear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return out
        return _product(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.package = package_for_linear(x)
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
