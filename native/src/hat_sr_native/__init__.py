"""What torch is slow at in HAT on CPUs, in C: `attend`, attention in windows that may be views of a feature map, and
its `gradient`; `add_windows`, for windows that overlap; `layer_norm` and `layer_norm_gradient`; `gelu_gradient`;
`linear_gradient`.

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


INTERFACE = 1
"""Which functions there are and which parameters they take: raised here and in hat_sr.model.native when one changes."""


class _Windows(ctypes.Structure):
    """What windows.h calls Windows."""

    _fields_ = (("data", ctypes.c_void_p), ("strides", ctypes.c_int64 * 3), ("tokens", ctypes.c_void_p))


class _Attention(ctypes.Structure):
    """What windows.h calls Attention."""

    _fields_ = (
        *((name, _Windows) for name in ("q", "k", "v", "out")),
        *((name, ctypes.c_void_p) for name in ("bias", "masks", "prepared", "sums")),
        *((name, ctypes.c_int64) for name in ("B", "h", "w", "K", "N", "M", "D")),
        *((name, ctypes.c_int64 * 2) for name in ("bias_strides", "mask_strides")),
        *((name, ctypes.c_int32) for name in ("low", "low_bias", "low_masks")),
    )


class _Gradient(ctypes.Structure):
    """What gradient.c calls Gradient."""

    _fields_ = (
        ("attention", _Attention),
        *((name, _Windows) for name in ("q", "k", "v")),
        *((name, ctypes.c_void_p) for name in ("partial", "bias")),
    )


class _Norm(ctypes.Structure):
    """What norm.c calls Norm."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "grad", "out", "weight", "bias", "stats", "partial")),
        ("rows", ctypes.c_int64),
        ("C", ctypes.c_int64),
        ("eps", ctypes.c_float),
        ("low", ctypes.c_int32),
    )


class _Gelu(ctypes.Structure):
    """What gelu.c calls Gelu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "grad", "out")),
        ("count", ctypes.c_int64),
        ("low", ctypes.c_int32),
    )


class _Linear(ctypes.Structure):
    """What linear.c calls Linear."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "grad", "weight", "bias", "partial")),
        *((name, ctypes.c_int64) for name in ("rows", "I", "O")),
        ("low", ctypes.c_int32),
    )


class _Overlap(ctypes.Structure):
    """What overlap.c calls Overlap."""

    _fields_ = (
        ("windows", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("strides", ctypes.c_int64 * 3),
        *((name, ctypes.c_int64) for name in ("B", "h", "w", "H", "W", "C", "size", "step", "top", "left")),
        ("low", ctypes.c_int32),
    )


@lru_cache
def levels() -> tuple[str, ...]:
    """Those of LEVELS that are installed and that this processor can run."""
    best = _library(LEVELS[0]).hat_sr_cpu_level()
    return tuple(level for level in LEVELS[: best + 1] if _path(level).exists())


def check(interface: int) -> None:
    """Raise ImportError unless this is the package of that INTERFACE, and its library is of the same sources."""
    if interface != INTERFACE:
        raise ImportError(f"its interface is {INTERFACE}, and {interface} is needed")
    _library(levels()[-1])


def attend(
    q_BhwNC: Tensor,
    k_BhwMC: Tensor,
    v_BhwMC: Tensor,
    bias_KNM: Tensor,
    masks_3NM: Tensor | None = None,
    *,
    out: Tensor | None = None,
    sums: Tensor | None = None,
    level: str | None = None,
) -> Tensor:
    """softmax(QKᵀ/√D + bias)·V within each window: of the shape and dtype of the queries.

    Queries, keys and values are float32 or bfloat16, bias and masks either, all on the CPU. Tokens may have two axes,
    rows and columns of the window, instead of one. The masks are added for the last row of windows, the last column,
    and the corner. It adds up in float32. `out` is where the result is put, a new tensor by default; its last axis is
    contiguous. `sums` is where `gradient` finds what it needs: contiguous float32 (K, B, h, w, N). Runs on
    torch.get_num_threads() threads; the result does not depend on how many. `level` is one of `levels()`, the best by
    default. Raises ValueError for anything else. torch does not differentiate this.
    """
    if out is None:
        out = torch.empty(q_BhwNC.shape, dtype=q_BhwNC.dtype, device="cpu")
    a, kept = _described(q_BhwNC, k_BhwMC, v_BhwMC, bias_KNM, masks_3NM, out)
    if sums is not None:
        _check_floats("sums", sums, (a.K, a.B, a.h, a.w, a.N))
        a.sums = sums.data_ptr()
    library = _library(_known(level))
    if out.numel() == 0:
        return out
    num_threads = min(torch.get_num_threads(), a.B * a.h * a.w * a.K)
    prepared = _floats(library.hat_sr_prepared_size(ctypes.byref(a)))
    scratch = _floats(num_threads, library.hat_sr_scratch_size(ctypes.byref(a)))
    a.prepared = prepared.data_ptr()
    library.hat_sr_attend(ctypes.byref(a), scratch.data_ptr(), num_threads)
    del kept  # the memory that `a` points to was needed until here
    return out


def gradient(
    grad_BhwNC: Tensor,
    q_BhwNC: Tensor,
    k_BhwMC: Tensor,
    v_BhwMC: Tensor,
    bias_KNM: Tensor,
    masks_3NM: Tensor | None,
    sums: Tensor,
    *,
    grad_q: Tensor,
    grad_k: Tensor,
    grad_v: Tensor,
    level: str | None = None,
) -> Tensor:
    """The gradient of `attend` for that of its result: of the bias, (K, N, M) float32; the others are put into tensors.

    `sums` is what `attend` filled, the rest as there. Windows of `grad_k` and `grad_v` must not share memory; the last
    axis of each gradient is contiguous.
    """
    _check_like("the gradient", grad_BhwNC, q_BhwNC)
    grad_BhwNC = grad_BhwNC if grad_BhwNC.stride(-1) == 1 else grad_BhwNC.contiguous()
    a, kept = _described(q_BhwNC, k_BhwMC, v_BhwMC, bias_KNM, masks_3NM, grad_BhwNC)
    _check_floats("sums", sums, (a.K, a.B, a.h, a.w, a.N))
    a.sums = sums.data_ptr()
    g = _Gradient(attention=a)
    for name, x, like in (("q", grad_q, q_BhwNC), ("k", grad_k, k_BhwMC), ("v", grad_v, v_BhwMC)):
        _check_like(f"the gradient of {name}", x, like)
        if x.stride(-1) != 1:
            raise ValueError(f"the channels of the gradient of {name} are not side by side in memory, as they must be")
        windows, tokens = _windows(x)
        setattr(g, name, windows)
        kept.append(tokens)
    library = _library(_known(level))
    bias = torch.zeros(bias_KNM.shape, dtype=torch.float32, device="cpu")
    if grad_BhwNC.numel() == 0:
        grad_k.zero_()
        grad_v.zero_()
        return bias
    num_threads = min(torch.get_num_threads(), a.B * a.h * a.w * a.K)
    prepared = _floats(library.hat_sr_prepared_size(ctypes.byref(a)))
    partial = _floats(library.hat_sr_partial_size(ctypes.byref(a)))
    scratch = _floats(num_threads, library.hat_sr_gradient_scratch_size(ctypes.byref(a)))
    g.attention.prepared, g.partial, g.bias = prepared.data_ptr(), partial.data_ptr(), bias.data_ptr()
    library.hat_sr_gradient(ctypes.byref(g), scratch.data_ptr(), num_threads)
    del kept
    return bias


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, *, level: str | None = None
) -> tuple[Tensor, Tensor]:
    """Layer normalisation over the last axis: the result, like x, and each row's statistics for `layer_norm_gradient`.

    x is float32 or bfloat16, weight and bias either, all on the CPU; `level` as in `attend`. Raises ValueError for
    anything else. torch does not differentiate this.
    """
    g, x, kept = _norm(x, weight, bias)
    out, stats = torch.empty_like(x), _floats(g.rows, 2)
    g.eps, g.out, g.stats = eps, out.data_ptr(), stats.data_ptr()
    if x.numel():
        _library(_known(level)).hat_sr_norm(ctypes.byref(g), torch.get_num_threads())
    del kept
    return out, stats


def layer_norm_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stats: Tensor, *, level: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of `layer_norm` for that of its result: of x, like x, and of weight and bias, (C,) float32.

    `stats` is what `layer_norm` returned, the rest as there.
    """
    g, x, kept = _norm(x, weight, weight)
    _check_like("the gradient", grad, x)
    _check_floats("the statistics", stats, (g.rows, 2))
    library = _library(_known(level))
    grad, out = grad.contiguous(), torch.empty_like(x)
    partial = _floats(max(library.hat_sr_norm_partial_size(ctypes.byref(g)), 2 * g.C)).zero_()
    g.grad, g.out, g.stats, g.partial = (tensor.data_ptr() for tensor in (grad, out, stats, partial))
    if x.numel():
        library.hat_sr_norm_gradient(ctypes.byref(g), torch.get_num_threads())
    del kept
    return out, partial[: g.C].clone(), partial[g.C : 2 * g.C].clone()  # not to keep all of its memory


def gelu_gradient(grad: Tensor, x: Tensor, *, level: str | None = None) -> Tensor:
    """The gradient of x, of its shape and dtype, for that of torch.nn.functional.gelu(x).

    Both are float32 or bfloat16 on the CPU; `level` as in `attend`. Raises ValueError for anything else.
    """
    _check_like("the gradient", grad, x)
    _check_numbers("x", x)
    if not x.stride() == grad.stride() == torch.empty_like(x).stride():  # in whatever order, but dense and the same
        x, grad = x.contiguous(), grad.contiguous()
    out = torch.empty_like(x)
    g = _Gelu(x=x.data_ptr(), grad=grad.data_ptr(), out=out.data_ptr(), count=x.numel(), low=x.dtype == torch.bfloat16)
    _library(_known(level)).hat_sr_gelu_gradient(ctypes.byref(g), torch.get_num_threads())
    return out


def linear_gradient(grad: Tensor, x: Tensor, *, level: str | None = None) -> tuple[Tensor, Tensor]:
    """The gradient of a linear layer's weights, (O, I), and biases, (O,), in float32, for that of its result.

    grad is (…, O) and x (…, I), both float32 or both bfloat16, on the CPU; `level` as in `attend`. Raises ValueError
    for anything else.
    """
    if x.dim() == 0 or grad.dim() == 0 or x.shape[:-1] != grad.shape[:-1]:
        raise ValueError(
            f"x and the gradient have the shapes {tuple(x.shape)} and {tuple(grad.shape)}: all but the last axis must "
            "be the same"
        )
    _check_numbers("x", x)
    _check_numbers("the gradient", grad)
    if grad.dtype != x.dtype:
        raise ValueError(f"the gradient is {grad.dtype} and x {x.dtype}: they must be the same")
    x, grad = x.contiguous(), grad.contiguous()
    I, O = x.shape[-1], grad.shape[-1]  # noqa: E741 (as in linear.c)
    weight, bias = _floats(O, I).zero_(), _floats(O).zero_()
    g = _Linear(rows=x.shape[:-1].numel(), I=I, O=O, low=x.dtype == torch.bfloat16)
    library = _library(_known(level))
    partial = _floats(library.hat_sr_linear_partial_size(ctypes.byref(g)))
    g.x, g.grad, g.weight, g.bias, g.partial = (tensor.data_ptr() for tensor in (x, grad, weight, bias, partial))
    if grad.numel():
        library.hat_sr_linear_gradient(ctypes.byref(g), torch.get_num_threads())
    return weight, bias


def add_windows(
    windows_BhwrcC: Tensor, out_BHWC: Tensor, *, step: int, top: int, left: int, level: str | None = None
) -> None:
    """Set a map to what windows of size×size pixels that may overlap add up to, to 0 where there is none.

    The first window starts at row `top` and column `left` of the map, before which it may be, and the next ones `step`
    further. What lies beyond the map is left out. Both tensors are float32 or both bfloat16, on the CPU, the last axis
    of the map contiguous; `level` as in `attend`. Raises ValueError for anything else.
    """
    B, h, w, size, columns, C = windows_BhwrcC.shape if windows_BhwrcC.dim() == 6 else (0,) * 6
    if windows_BhwrcC.dim() != 6 or size != columns or out_BHWC.dim() != 4 or out_BHWC.shape[::3] != (B, C):
        raise ValueError(
            f"windows and the map have the shapes {tuple(windows_BhwrcC.shape)} and {tuple(out_BHWC.shape)}: "
            "(B, h, w, size, size, C) and (B, H, W, C) are needed"
        )
    _check_numbers("the tensor of windows", windows_BhwrcC)
    _check_numbers("the map", out_BHWC)
    if windows_BhwrcC.dtype != out_BHWC.dtype:
        raise ValueError(f"windows are {windows_BhwrcC.dtype} and the map {out_BHWC.dtype}: they must be the same")
    if step < 1 or (out_BHWC.stride(-1) != 1 and C != 1):
        raise ValueError(f"step is {step}, the map's last stride {out_BHWC.stride(-1)}: 1 or more, and 1, are needed")
    windows_BhwrcC = windows_BhwrcC.contiguous()
    g = _Overlap(windows=windows_BhwrcC.data_ptr(), out=out_BHWC.data_ptr(), strides=out_BHWC.stride()[:3])
    g.B, g.h, g.w, g.H, g.W, g.C, g.size, g.step, g.top, g.left = B, h, w, *out_BHWC.shape[1:], size, step, top, left
    g.low = out_BHWC.dtype == torch.bfloat16
    if out_BHWC.numel():
        _library(_known(level)).hat_sr_add_windows(ctypes.byref(g), torch.get_num_threads())


def _norm(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[_Norm, Tensor, list[Tensor]]:
    """The structure for C, x as it is read, and the tensors whose memory the structure points to."""
    for name, tensor, shape in (("weight", weight, x.shape[-1:]), ("bias", bias, x.shape[-1:]), ("x", x, x.shape)):
        if tensor.shape != shape or x.dim() == 0:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}: {tuple(shape)} is needed")
        _check_numbers(name, tensor)
    x, weight, bias = x.contiguous(), weight.float().contiguous(), bias.float().contiguous()
    C = x.shape[-1]
    g = _Norm(rows=x.numel() // max(C, 1), C=C, low=x.dtype == torch.bfloat16)
    g.x, g.weight, g.bias = (tensor.data_ptr() for tensor in (x, weight, bias))
    return g, x, [x, weight, bias]


def _known(level: str | None) -> str:
    if level is not None and level not in levels():
        raise ValueError(f"level {level!r}: this processor and installation have {', '.join(levels())}")
    return levels()[-1] if level is None else level


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _check_numbers(name: str, x: Tensor) -> None:
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"{name} is {x.dtype} on {x.device}: float32 or bfloat16 on the CPU is needed")


def _check_floats(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if x.shape != shape or x.dtype != torch.float32 or not x.is_contiguous() or x.device.type != "cpu":
        raise ValueError(
            f"{name} are {x.dtype} of {tuple(x.shape)} on {x.device}: contiguous float32 of {shape} on the CPU is "
            "needed"
        )


def _check_like(name: str, x: Tensor, like: Tensor) -> None:
    if x.shape != like.shape or x.dtype != like.dtype or x.device != like.device:
        raise ValueError(
            f"{name} is {x.dtype} of {tuple(x.shape)} on {x.device}: {like.dtype} of {tuple(like.shape)} on "
            f"{like.device} is needed"
        )


def _described(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, masks: Tensor | None, out: Tensor
) -> tuple[_Attention, list[Tensor | None]]:
    """The structure for C, and the tensors whose memory it points to."""
    B, h, w, N, C = _shape("queries", q)
    M = _shape("keys", k)[3]
    if bias.dim() != 3:
        raise ValueError(f"bias has {bias.dim()} dimensions: 3 are needed")
    K = len(bias)
    for name, found, shape in (
        ("keys", _shape("keys", k), (B, h, w, M, C)),
        ("values", _shape("values", v), (B, h, w, M, C)),
        ("bias", tuple(bias.shape), (K, N, M)),
        ("masks", (3, N, M) if masks is None else tuple(masks.shape), (3, N, M)),
        ("out", tuple(out.shape), tuple(q.shape)),
    ):
        if found != shape:
            raise ValueError(f"{name} have the shape {found}: {shape} is needed for the other tensors")
    if K == 0 or M == 0 or C % K:
        raise ValueError(f"{C} channels cannot be shared among {K} heads with {M} keys")
    if not q.dtype == k.dtype == v.dtype == out.dtype:
        raise ValueError(
            f"queries, keys, values and out have dtypes {q.dtype}, {k.dtype}, {v.dtype}, {out.dtype}: "
            "they must be the same"
        )
    for x in (q, k, v, bias, out, *([] if masks is None else [masks])):
        _check_numbers("a tensor", x)
    if out.stride(-1) != 1:
        raise ValueError("the channels of out are not side by side in memory, as they must be")
    # Rows of numbers side by side are what is read; other tensors are copied.
    q, k, v, bias = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v, bias))
    a = _Attention(B=B, h=h, w=w, K=K, N=N, M=M, D=C // K)
    kept: list[Tensor | None] = [q, k, v, bias]
    for name, x in (("q", q), ("k", k), ("v", v), ("out", out)):
        windows, tokens = _windows(x)
        setattr(a, name, windows)
        kept.append(tokens)
    a.bias, a.bias_strides = bias.data_ptr(), bias.stride()[:-1]
    a.low, a.low_bias = (x.dtype == torch.bfloat16 for x in (q, bias))
    if masks is not None:
        masks = masks if masks.stride(-1) == 1 else masks.contiguous()
        a.masks, a.mask_strides = masks.data_ptr(), masks.stride()[:-1]
        a.low_masks = masks.dtype == torch.bfloat16
    return a, [*kept, masks]


def _windows(x: Tensor) -> tuple[_Windows, Tensor]:
    """The structure for C, and the tensor whose memory it points to beside that of x."""
    tokens = _token_offsets(tuple(x.shape[3:-1]), x.stride()[3:-1], x.element_size())
    strides = (ctypes.c_int64 * 3)(*x.stride()[:3])
    return _Windows(data=x.data_ptr(), strides=strides, tokens=tokens.data_ptr()), tokens


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


_SIZES = {
    **dict.fromkeys(("prepared", "scratch", "partial", "gradient_scratch"), _Attention),
    "norm_partial": _Norm,
    "linear_partial": _Linear,
}
"""What says how much memory is needed, and the structure it is asked with."""

_WITH_SCRATCH = {"attend": _Attention, "gradient": _Gradient}
"""What works in memory of each thread, and the structure it takes."""

_WITHOUT_SCRATCH = {
    "add_windows": _Overlap,
    "norm": _Norm,
    "norm_gradient": _Norm,
    "gelu_gradient": _Gelu,
    "linear_gradient": _Linear,
}
"""All else that is called."""


_STRUCTURES = {"gradient": _Gradient, "norm": _Norm, "gelu": _Gelu, "linear": _Linear, "overlap": _Overlap}
"""All that are handed to C; attention and windows are within that of the gradient."""


@lru_cache
def _library(level: str) -> ctypes.CDLL:
    """The library for a kind of processor. Raises ImportError if its structures are not those of this file."""
    library = ctypes.CDLL(str(_path(level)))  # lets go of Python's lock while it works
    for name, structure in _STRUCTURES.items():
        function = getattr(library, f"hat_sr_{name}_bytes")
        function.argtypes, function.restype = (), ctypes.c_int64
        if function() != ctypes.sizeof(structure):
            raise ImportError(
                f"{level}.so has a structure {name} of {function()} bytes, not {ctypes.sizeof(structure)}"
            )
    for name, structure in _SIZES.items():
        function = getattr(library, f"hat_sr_{name}_size")
        function.argtypes, function.restype = (ctypes.POINTER(structure),), ctypes.c_int64
    for name, structure in (_WITH_SCRATCH | _WITHOUT_SCRATCH).items():
        function = getattr(library, f"hat_sr_{name}")
        scratch = (ctypes.c_void_p,) if name in _WITH_SCRATCH else ()
        function.argtypes, function.restype = (ctypes.POINTER(structure), *scratch, ctypes.c_int), None
    return library
