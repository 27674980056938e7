"""Attention within windows by torch, softmax(QKᵀ/√D + bias)·V, without and with gradients.

Without gradients it is torch's fused attention, or in bfloat16 on a CPU, where that is slow, `_written_out`. With
gradients torch would, on a CPU, fall back to a slow form, because the bias needs a gradient too: `_Attention` is that
form in few passes, which keeps each matrix once.
Layout in names: B batch, h w rows and columns of windows, K heads, N query and M key tokens of a window, D channels of
a head; X stands for B·h·w·K.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hat_sr.model.tracing import is_traced

MATRIX_ELEMENTS = 2**20
"""About how many elements of attention matrices are worked on at once, at least those of a window: few, so that they
stay in the processor's cache."""

FLOOR = 60.0
"""Scores of masked pairs are kept this near to the row's largest in training: e⁻⁶⁰ is nothing beside 1, like e⁻¹⁰⁰, but
a normal float32, while with subnormal ones the softmax takes five times as long."""


def attend(q: Tensor, k: Tensor, v: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None) -> Tensor:
    """Multi-head attention of windows: (B, h, w, K, N, D), keys and values (B, h, w, K, M, D).

    `masks_3NM` are those of shifted windows: for the last row of windows, the last column, and the corner.
    """
    # Elsewhere than on the CPU the fused form has a gradient for the bias, and many small steps would cost more.
    if torch.is_grad_enabled() and (q.requires_grad or bias_KNM.requires_grad) and q.device.type == "cpu":
        out_BhwKND: Tensor = _Attention.apply(q, k, v, bias_KNM, masks_3NM)  # type: ignore[no-untyped-call]
        return out_BhwKND
    return _attention(q, k, v, bias_KNM, masks_3NM)


def _attention(q: Tensor, k: Tensor, v: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None) -> Tensor:
    """Without gradients."""
    if masks_3NM is None:
        return _alike(q, k, v, bias_KNM)
    # Four calls instead of one mask a window: memory does not grow with the number of windows.
    upper, lower = slice(None, -1), slice(-1, None)
    down, right, corner = bias_KNM + masks_3NM[:, None].to(bias_KNM.dtype)
    halves = ((upper, upper, bias_KNM), (upper, lower, right)), ((lower, upper, down), (lower, lower, corner))
    rows = [
        torch.cat([_alike(q[:, h, w], k[:, h, w], v[:, h, w], bias) for h, w, bias in half], dim=2) for half in halves
    ]
    return torch.cat(rows, dim=1)


def _alike(q_BhwKND: Tensor, k_BhwKMD: Tensor, v_BhwKMD: Tensor, bias_KNM: Tensor) -> Tensor:
    """Of windows that have the same bias."""
    if q_BhwKND.numel() == 0:
        return q_BhwKND
    q, k, v = (x.flatten(0, 2) for x in (q_BhwKND, k_BhwKMD, v_BhwKMD))
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and not is_traced():
        return _written_out(q, k, v, bias_KNM).reshape(q_BhwKND.shape)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias_KNM[None]).reshape(q_BhwKND.shape)


def _written_out(q_XKND: Tensor, k_XKMD: Tensor, v_XKMD: Tensor, bias_KNM: Tensor) -> Tensor:
    """The equation, some windows at a time: the products by oneDNN, which the fused form does not use for bfloat16."""
    num_heads, N, M = bias_KNM.shape
    q_XND, k_XMD, v_XMD = (x.flatten(0, 1) for x in (q_XKND * q_XKND.shape[-1] ** -0.5, k_XKMD, v_XKMD))
    out_XND = torch.empty_like(q_XND)
    num_windows = max(1, MATRIX_ELEMENTS // (num_heads * N * M))
    for start in range(0, len(q_XND), num_windows * num_heads):
        part = slice(start, start + num_windows * num_heads)
        bias_XNM = bias_KNM.repeat(len(q_XND[part]) // num_heads, 1, 1)
        scores_XNM = bias_XNM.baddbmm_(q_XND[part], k_XMD[part].transpose(1, 2))
        torch.bmm(torch.softmax(scores_XNM, dim=-1), v_XMD[part], out=out_XND[part])
    return out_XND


class _Attention(torch.autograd.Function):
    """Attention some windows at a time, so that a matrix is in the cache for all that is done to it.

    The weights are kept for the backward pass; where memory is short, activation checkpointing lets go of them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_BhwKND: Tensor,
        k_BhwKMD: Tensor,
        v_BhwKMD: Tensor,
        bias_KNM: Tensor,
        masks_3NM: Tensor | None,
    ) -> Tensor:
        q, k, v = (x.contiguous() for x in (q_BhwKND, k_BhwKMD, v_BhwKMD))
        q = q * q.shape[-1] ** -0.5
        ctx.bias_dtype = bias_KNM.dtype
        bias_KNM = bias_KNM.to(q.dtype).contiguous()
        masks_3NM = None if masks_3NM is None else masks_3NM.to(q.dtype)
        out = torch.empty_like(q)
        kept = []
        for portion in _portions(q, k):
            weights_XNM = _weights(q, k, bias_KNM, masks_3NM, portion)
            torch.bmm(weights_XNM, _matrices(v, portion), out=_matrices(out, portion))
            kept.append(weights_XNM)
        ctx.save_for_backward(q, k, v, bias_KNM, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BhwKND: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias_KNM, *kept = ctx.saved_tensors
        grad = grad_BhwKND.contiguous()
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
        grad_bias = torch.zeros_like(bias_KNM, dtype=torch.promote_types(bias_KNM.dtype, torch.float32))
        for portion, weights_XNM in zip(_portions(q, k), kept, strict=True):
            grad_XND = _matrices(grad, portion)
            torch.bmm(weights_XNM.transpose(1, 2), grad_XND, out=_matrices(grad_v, portion))
            grad_weights_XNM = torch.bmm(grad_XND, _matrices(v, portion).transpose(1, 2))
            # Private: the formula, weights * (grad - (grad * weights).sum(-1, keepdim=True)), takes two more passes.
            grad_scores_XNM = torch._softmax_backward_data(grad_weights_XNM, weights_XNM, -1, weights_XNM.dtype)
            grad_bias += _sum(grad_scores_XNM.view(-1, *bias_KNM.shape))
            torch.bmm(grad_scores_XNM, _matrices(k, portion), out=_matrices(grad_q, portion))
            torch.bmm(grad_scores_XNM.transpose(1, 2), _matrices(q, portion), out=_matrices(grad_k, portion))
        return grad_q.mul_(q.shape[-1] ** -0.5), grad_k, grad_v, grad_bias.to(ctx.bias_dtype), None


def _sum(x: Tensor) -> Tensor:
    """Over the first axis, halving it each time: faster than Tensor.sum along the outermost axis."""
    while len(x) > 1:
        half = len(x) // 2
        x = torch.cat([x[:half] + x[half : 2 * half], x[2 * half :]]) if len(x) % 2 else x[:half] + x[half:]
    return x[0]


Portion = tuple[slice, slice]
"""Rows and columns of windows; the rows of all images count on."""


def _portions(q_BhwKND: Tensor, k_BhwKMD: Tensor) -> list[Portion]:
    """Which windows to work on at once: several rows, or a part of one."""
    B, h, w, K, N, _ = q_BhwKND.shape
    num_windows = max(1, MATRIX_ELEMENTS // (K * N * k_BhwKMD.shape[-2]))
    num_columns = min(num_windows, w)
    num_rows = max(1, num_windows // w)
    return [
        (slice(row, row + num_rows), slice(column, min(column + num_columns, w)))
        for row in range(0, B * h, num_rows)
        for column in range(0, w, num_columns)
    ]


def _matrices(x_BhwKND: Tensor, portion: Portion) -> Tensor:
    """The matrices of some windows, without a copy: (X, N, D)."""
    return x_BhwKND.flatten(0, 1)[portion].flatten(0, 2)


def _weights(q: Tensor, k: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None, portion: Portion) -> Tensor:
    """Attention weights of some windows: (X, N, M). The queries are scaled already."""
    q_XND, k_XMD = _matrices(q, portion), _matrices(k, portion)
    num_heads, *matrix = bias_KNM.shape
    scores_XNM = bias_KNM.repeat(len(q_XND) // num_heads, 1, 1).baddbmm_(q_XND, k_XMD.transpose(1, 2))
    if masks_3NM is not None:
        rows, columns = portion
        h, w = q.shape[1:3]
        scores = scores_XNM.view(-1, columns.stop - columns.start, num_heads, *matrix)
        down_NM, right_NM, corner_NM = masks_3NM
        last = slice((h - 1 - rows.start) % h, None, h)  # the last row of each image
        at_edges = [scores[last]]
        scores[last] += down_NM
        if columns.stop == w:
            at_edges.append(scores[:, -1])
            scores[:, -1] += right_NM
            scores[last, -1] += corner_NM - down_NM - right_NM
        for edge in at_edges:
            edge.clamp_(min=edge.amax(-1, keepdim=True) - FLOOR)
    return torch.softmax(scores_XNM, dim=-1)
