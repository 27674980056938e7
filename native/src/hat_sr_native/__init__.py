"""Window attention in C, for hat-sr on CPUs: `attend` is `hat_sr.model.attention.attend` without gradients.

Layout in names: B batch, h w rows and columns of windows, K heads, N query and M key tokens of a window, C channels,
D channels of a head (C = K·D).
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
        *((name, ctypes.c_int64 * 4) for name in ("q_strides", "k_strides", "v_strides")),
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
    level: str | None = None,
) -> Tensor:
    """softmax(QKᵀ/√D + bias)·V within each window: (B, h, w, N, C), contiguous, in the dtype of the queries.

    Queries, keys and values are float32 or bfloat16, bias and masks either, all on the CPU. The masks are added for the
    last row of windows, the last column, and the corner. Sums are float32. Runs on torch.get_num_threads() threads; the
    result does not depend on how many. `level` is one of `levels()`, the best by default. Raises ValueError for
    anything else. There is no gradient.
    """
    a, kept = _described(q_BhwNC, k_BhwMC, v_BhwMC, bias_KNM, masks_3NM)
    if level is not None and level not in levels():
        raise ValueError(f"level {level!r}: this processor and installation have {', '.join(levels())}")
    library = _library(levels()[-1] if level is None else level)
    out = torch.empty(q_BhwNC.shape, dtype=q_BhwNC.dtype, device="cpu")
    if out.numel() == 0:
        return out
    num_planes, num_windows = a.K + (0 if masks_3NM is None else 3), a.B * a.h * a.w * a.K
    num_threads = min(torch.get_num_threads(), num_windows)
    prepared = _floats(library.hat_sr_prepared_size(ctypes.byref(a)))
    scratch = _floats(num_threads, library.hat_sr_scratch_size(ctypes.byref(a)))
    a.out, a.prepared = out.data_ptr(), prepared.data_ptr()

    def prepare(thread: int, start: int, stop: int) -> None:
        library.hat_sr_prepare(ctypes.byref(a), start, stop)

    def work(thread: int, start: int, stop: int) -> None:
        library.hat_sr_attend(ctypes.byref(a), scratch[thread].data_ptr(), start, stop)

    _shared_out(prepare, num_planes, num_threads)
    _shared_out(work, num_windows, num_threads)
    del kept  # the memory that `a` points to was needed until here
    return out


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _described(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, masks: Tensor | None
) -> tuple[_Attention, list[Tensor | None]]:
    """The structure for C, and the tensors whose memory it points to."""
    B, h, w, N, C = _shape("queries", q, 5)
    M, K = _shape("keys", k, 5)[3], _shape("bias", bias, 3)[0]
    expected = {"keys": (k, (B, h, w, M, C)), "values": (v, (B, h, w, M, C)), "bias": (bias, (K, N, M))}
    if masks is not None:
        expected["masks"] = masks, (3, N, M)
    for name, (x, shape) in expected.items():
        if x.shape != shape:
            raise ValueError(f"{name} have the shape {tuple(x.shape)}: {shape} is needed for the other tensors")
    if K == 0 or M == 0 or C % K:
        raise ValueError(f"{C} channels cannot be shared among {K} heads with {M} keys")
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"queries, keys and values have dtypes {q.dtype}, {k.dtype}, {v.dtype}: they must be the same")
    for x in (q, k, v, bias, *([] if masks is None else [masks])):
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"a tensor is {x.dtype} on {x.device}: float32 or bfloat16 on the CPU is needed")
    # Rows of numbers side by side are what is read; other tensors are copied.
    q, k, v, bias = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v, bias))
    a = _Attention(B=B, h=h, w=w, K=K, N=N, M=M, D=C // K)
    a.q, a.k, a.v, a.bias = (x.data_ptr() for x in (q, k, v, bias))
    a.q_strides, a.k_strides, a.v_strides, a.bias_strides = (x.stride()[:-1] for x in (q, k, v, bias))
    a.low, a.low_bias = (x.dtype == torch.bfloat16 for x in (q, bias))
    if masks is not None:
        masks = masks if masks.stride(-1) == 1 else masks.contiguous()
        a.masks, a.mask_strides = masks.data_ptr(), masks.stride()[:-1]
        a.low_masks = masks.dtype == torch.bfloat16
    return a, [q, k, v, bias, masks]


def _shape(name: str, x: Tensor, dimensions: int) -> torch.Size:
    if x.dim() != dimensions:
        raise ValueError(f"{name} have {x.dim()} dimensions: {dimensions} are needed")
    return x.shape


def _path(level: str) -> Path:
    return Path(__file__).with_name(f"{level}.so")


@lru_cache
def _library(level: str) -> ctypes.CDLL:
    library = ctypes.CDLL(str(_path(level)))  # lets go of Python's lock while it works
    sizes = library.hat_sr_prepared_size, library.hat_sr_scratch_size
    for size in sizes:
        size.argtypes, size.restype = (ctypes.POINTER(_Attention),), ctypes.c_int64
    library.hat_sr_prepare.argtypes = (ctypes.POINTER(_Attention), ctypes.c_int64, ctypes.c_int64)
    library.hat_sr_attend.argtypes = (ctypes.POINTER(_Attention), ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    library.hat_sr_prepare.restype = library.hat_sr_attend.restype = None
    return library


def _shared_out(work: Callable[[int, int, int], None], num_items: int, num_threads: int) -> None:
    """Call work(thread, start, stop) on each thread, with its share of the items; this thread takes the first."""
    bounds = [thread * num_items // num_threads for thread in range(num_threads + 1)]
    if num_threads == 1:
        return work(0, *bounds)
    others = _pool(os.getpid(), num_threads - 1)
    futures = [others.submit(work, thread, *bounds[thread : thread + 2]) for thread in range(1, num_threads)]
    try:
        work(0, *bounds[:2])
    finally:
        for future in futures:
            future.result()
    return None


@lru_cache(maxsize=1)
def _pool(process: int, num_threads: int) -> ThreadPoolExecutor:
    """Threads do not live on in a forked process, which therefore gets others."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="hat-sr-native")
