"""Window attention in C, for hat-sr on CPUs: `attend` computes what `hat_sr.model.attention.attend` does, in windows
that may be views of a feature map, and without gradients.

Layout in names: B batch, h w rows and columns of windows, K heads, N query and M key tokens of a window, C channels,
D channels of a head (C = K·D).
"""

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

LEVELS = ("portable", "avx2", "avx512", "avx512bf16")
"""Of processors, the best last: a library each, as far as the compiler could make it."""


class _Attention(ctypes.Structure):
    """What attention.c calls Attention."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "bias", "masks", "out", "prepared")),
        *((name, ctypes.c_int64) for name in ("B", "h", "w", "K", "N", "M", "D")),
        *((name, ctypes.c_int64 * 3) for name in ("q_strides", "k_strides", "v_strides", "out_strides")),
        *((name, ctypes.c_void_p) for name in ("q_tokens", "k_tokens", "v_tokens", "out_tokens")),
        *((name, ctypes.c_int64 * 2) for name in ("bias_strides", "mask_strides")),
        *((name, ctypes.c_int32) for name in ("low", "low_bias", "low_masks")),
    )


@lru_cache
def levels() -> tuple[str, ...]:
    """Those of LEVELS that are installed and that this processor can run."""
    best = _library(LEVELS[0]).hat_sr_cpu_level()
    return tuple(level for level in LEVELS[: best + 1] if _path(level).exists())


def attend(
    q_BhwNC: Tensor,
    k_BhwMC: Tensor,
    v_BhwMC: Tensor,
    bias_KNM: Tensor,
    masks_3NM: Tensor | None = None,
    *,
    out: Tensor | None = None,
    level: str | None = None,
) -> Tensor:
    """softmax(QKᵀ/√D + bias)·V within each window: of the shape and dtype of the queries.

    Queries, keys and values are float32 or bfloat16, bias and masks either, all on the CPU. Tokens may have two axes,
    rows and columns of the window, instead of one. The masks are added for the last row of windows, the last column,
    and the corner. Sums are float32. `out` is where the result is put, a new tensor by default; its last axis is
    contiguous. Runs on torch.get_num_threads() threads; the result does not depend on how many. `level` is one of
    `levels()`, the best by default. Raises ValueError for anything else. There is no gradient.
    """
    if out is None:
        out = torch.empty(q_BhwNC.shape, dtype=q_BhwNC.dtype, device="cpu")
    a, kept = _described(q_BhwNC, k_BhwMC, v_BhwMC, bias_KNM, masks_3NM, out)
    if level is not None and level not in levels():
        raise ValueError(f"level {level!r}: this processor and installation have {', '.join(levels())}")
    library = _library(levels()[-1] if level is None else level)
    if out.numel() == 0:
        return out
    num_threads = min(torch.get_num_threads(), a.B * a.h * a.w * a.K)
    prepared = _floats(library.hat_sr_prepared_size(ctypes.byref(a)))
    scratch = _floats(num_threads, library.hat_sr_scratch_size(ctypes.byref(a)))
    a.prepared = prepared.data_ptr()
    library.hat_sr_attend(ctypes.byref(a), scratch.data_ptr(), num_threads)
    del kept  # the memory that `a` points to was needed until here
    return out


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _described(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, masks: Tensor | None, out: Tensor
) -> tuple[_Attention, list[Tensor | None]]:
    """The structure for C, and the tensors whose memory it points to."""
    B, h, w, N, C = _shape("queries", q)
    M = _shape("keys", k)[3]
    if bias.dim() != 3:
        raise ValueError(f"bias has {bias.dim()} dimensions: 3 are needed")
    K = len(bias)
    for name, x, shape in (
        ("keys", _shape("keys", k), (B, h, w, M, C)),
        ("values", _shape("values", v), (B, h, w, M, C)),
        ("bias", tuple(bias.shape), (K, N, M)),
        ("masks", (3, N, M) if masks is None else tuple(masks.shape), (3, N, M)),
        ("out", tuple(out.shape), tuple(q.shape)),
    ):
        if x != shape:
            raise ValueError(f"{name} have the shape {x}: {shape} is needed for the other tensors")
    if K == 0 or M == 0 or C % K:
        raise ValueError(f"{C} channels cannot be shared among {K} heads with {M} keys")
    if not q.dtype == k.dtype == v.dtype == out.dtype:
        raise ValueError(
            f"queries, keys, values and out have dtypes {q.dtype}, {k.dtype}, {v.dtype}, {out.dtype}: "
            "they must be the same"
        )
    for x in (q, k, v, bias, out, *([] if masks is None else [masks])):
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"a tensor is {x.dtype} on {x.device}: float32 or bfloat16 on the CPU is needed")
    if out.stride(-1) != 1:
        raise ValueError("the channels of out are not side by side in memory, as they must be")
    # Rows of numbers side by side are what is read; other tensors are copied.
    q, k, v, bias = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v, bias))
    a = _Attention(B=B, h=h, w=w, K=K, N=N, M=M, D=C // K)
    a.q, a.k, a.v, a.bias, a.out = (x.data_ptr() for x in (q, k, v, bias, out))
    a.q_strides, a.k_strides, a.v_strides, a.out_strides = (x.stride()[:3] for x in (q, k, v, out))
    tokens = [_token_offsets(tuple(x.shape[3:-1]), x.stride()[3:-1], x.element_size()) for x in (q, k, v, out)]
    a.q_tokens, a.k_tokens, a.v_tokens, a.out_tokens = (offsets.data_ptr() for offsets in tokens)
    a.bias_strides = bias.stride()[:-1]
    a.low, a.low_bias = (x.dtype == torch.bfloat16 for x in (q, bias))
    if masks is not None:
        masks = masks if masks.stride(-1) == 1 else masks.contiguous()
        a.masks, a.mask_strides = masks.data_ptr(), masks.stride()[:-1]
        a.low_masks = masks.dtype == torch.bfloat16
    return a, [q, k, v, bias, masks, *tokens]


def _shape(name: str, x: Tensor) -> tuple[int, ...]:
    """With one axis of tokens: (B, h, w, tokens, C)."""
    if x.dim() not in (5, 6):
        raise ValueError(f"{name} have {x.dim()} dimensions: 5, or 6 with rows and columns of tokens, are needed")
    return *x.shape[:3], x.shape[3:-1].numel(), x.shape[-1]


@lru_cache(maxsize=256)
def _token_offsets(sizes: tuple[int, ...], strides: tuple[int, ...], element_size: int) -> Tensor:
    """From a window's first token to each, in bytes: int64."""
    offsets = torch.zeros(1, dtype=torch.int64, device="cpu")
    for size, stride in zip(sizes, strides, strict=True):
        offsets = (offsets[:, None] + stride * torch.arange(size, device="cpu")).flatten()
    return offsets * element_size


def _path(level: str) -> Path:
    return Path(__file__).with_name(f"{level}.so")


@lru_cache
def _library(level: str) -> ctypes.CDLL:
    library = ctypes.CDLL(str(_path(level)))  # lets go of Python's lock while it works
    sizes = library.hat_sr_prepared_size, library.hat_sr_scratch_size
    for size in sizes:
        size.argtypes, size.restype = (ctypes.POINTER(_Attention),), ctypes.c_int64
    library.hat_sr_attend.argtypes = (ctypes.POINTER(_Attention), ctypes.c_void_p, ctypes.c_int)
    library.hat_sr_attend.restype = None
    return library
