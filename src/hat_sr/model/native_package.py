"""What is asked of hat-sr-native, and whether it is right about small examples.

Layout in names: as in native.py.
"""

from typing import Protocol

import torch
from torch import Tensor


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

    def add_windows(self, windows: Tensor, out: Tensor, *, step: int, top: int, left: int) -> None:
        """Set a map to what windows add up to that may overlap."""

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """The result, and what `layer_norm_gradient` needs."""

    def layer_norm_gradient(
        self, grad: Tensor, x: Tensor, weight: Tensor, statistics: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, and, in float32, of weight and bias."""

    def gelu_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        """The gradient of x."""

    def linear_gradient(self, grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients, in float32, of a linear layer's weight and bias."""


def largest_error(package: Package, dtype: torch.dtype) -> float:
    """How far its results are from the equations, in float64, at most; not a number if one of them is not.

    Whatever a package raises that is not what it should be is handed on.
    """
    with torch.no_grad():
        pairs = [
            *_attention(package, dtype),
            *_windows(package, dtype),
            *_layer_norm(package, dtype),
            *_gelu(package, dtype),
            *_linear(package, dtype),
        ]
        return float(torch.stack([(found.double() - wanted).abs().max() for found, wanted in pairs]).max())


Pairs = list[tuple[Tensor, Tensor]]
"""What was found, and what is wanted, in float64."""


def _numbers(dtype: torch.dtype, *shape: int) -> Tensor:
    """In [-1, 1], without a pattern and always the same."""
    count = torch.Size(shape).numel()
    x = torch.arange(count, dtype=torch.float64, device="cpu").square().sin()
    return x.view(shape).to(dtype)


def _attention(package: Package, dtype: torch.dtype) -> Pairs:
    """For two heads of four channels, in four windows of 3×3 queries and 5 keys."""

    def in_heads(x: Tensor) -> Tensor:
        heads: Tensor = x.double().unflatten(-1, (2, 4))
        return heads.transpose(3, 4)

    q, k, v = _numbers(dtype, 1, 2, 2, 9, 8), _numbers(dtype, 1, 2, 2, 5, 8), _numbers(dtype, 1, 2, 2, 5, 8).neg()
    bias, masks, grad = _numbers(dtype, 2, 9, 5), _numbers(dtype, 3, 9, 5), q.flip(-1)
    q_in_rows = q.view(1, 2, 2, 3, 3, 8)
    out, sums = torch.empty_like(q_in_rows), torch.empty(2, 1, 2, 2, 9, dtype=torch.float32, device="cpu")
    package.attend(q_in_rows, k, v, bias, masks, out=out, sums=sums)
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q_in_rows, k, v))
    places = {"grad_q": grad_q, "grad_k": grad_k, "grad_v": grad_v}
    grad_bias = package.gradient(grad.view(out.shape), q_in_rows, k, v, bias, masks, sums, **places)

    down, right, corner = masks.double()
    mask = torch.stack([torch.zeros_like(down), right, down, corner]).view(1, 2, 2, 1, 9, 5)
    weights = (in_heads(q) @ in_heads(k).mT / 2 + bias.double() + mask).softmax(-1)
    grad_weights = in_heads(grad) @ in_heads(v).mT
    grad_scores = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
    return [
        (in_heads(out.flatten(3, 4)), weights @ in_heads(v)),
        (in_heads(grad_q.flatten(3, 4)), grad_scores @ in_heads(k) / 2),
        (in_heads(grad_k), grad_scores.mT @ in_heads(q) / 2),
        (in_heads(grad_v), weights.mT @ in_heads(grad)),
        (grad_bias, grad_scores.sum((0, 1, 2))),
    ]


def _windows(package: Package, dtype: torch.dtype) -> Pairs:
    """Two times three windows of 3×3 pixels, 2 further each, in a map of 4×5, above and left of which they start."""
    values, out = _numbers(dtype, 1, 2, 3, 3, 3, 7), torch.empty(1, 4, 5, 7, dtype=dtype, device="cpu")
    package.add_windows(values, out, step=2, top=-1, left=-1)
    wanted = torch.zeros(1, 5, 7, 7, dtype=torch.float64, device="cpu")
    for row in range(2):
        for column in range(3):
            wanted[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += values[:, row, column].double()
    return [(out, wanted[:, 1:, 1:6])]


def _layer_norm(package: Package, dtype: torch.dtype) -> Pairs:
    """Of six rows of 21 channels."""
    x, grad = _numbers(dtype, 2, 3, 21), _numbers(dtype, 2, 3, 21).flip(-1)
    weight, bias, eps = _numbers(dtype, 21) + 1, _numbers(dtype, 21).neg(), 1e-5
    out, statistics = package.layer_norm(x, weight, bias, eps)
    grad_x, grad_weight, grad_bias = package.layer_norm_gradient(grad, x, weight, statistics)

    deviation = (x.double().var(-1, correction=0, keepdim=True) + eps).sqrt()
    normed = (x.double() - x.double().mean(-1, keepdim=True)) / deviation
    scaled = grad.double() * weight.double()
    along = normed * (normed * scaled).mean(-1, keepdim=True)
    return [
        (out, normed * weight.double() + bias.double()),
        (grad_x, (scaled - scaled.mean(-1, keepdim=True) - along) / deviation),
        (grad_weight, (grad.double() * normed).sum((0, 1))),
        (grad_bias, grad.double().sum((0, 1))),
    ]


def _gelu(package: Package, dtype: torch.dtype) -> Pairs:
    x, grad = 3 * _numbers(dtype, 5, 7), _numbers(dtype, 5, 7).flip(-1)
    normal = x.double()
    slope = torch.special.ndtr(normal) + normal * (-normal.square() / 2).exp() / (2 * torch.pi) ** 0.5
    return [(package.gelu_gradient(grad, x), grad.double() * slope)]


def _linear(package: Package, dtype: torch.dtype) -> Pairs:
    """Of 70 rows, from 34 channels to 17."""
    x, grad = _numbers(dtype, 2, 35, 34), _numbers(dtype, 2, 35, 17).neg() / 8
    grad_weight, grad_bias = package.linear_gradient(grad, x)
    rows = grad.double().flatten(0, 1)
    return [(grad_weight, rows.mT @ x.double().flatten(0, 1)), (grad_bias, rows.sum(0))]
