"""The optional package hat-sr-native: window attention in C, for CPUs and where no gradient is wanted.

It is used if it is installed; torch does the same without it.
Layout in names: B batch, h w rows and columns of windows, N query and M key tokens of a window, C channels, K heads.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""As `hat_sr.model.attention.attend`."""

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


def native_attend(
    q_BhwNC: Tensor, k_BhwMC: Tensor, v_BhwMC: Tensor, bias_KNM: Tensor, masks_3NM: Tensor | None
) -> Tensor | None:
    """The same as `hat_sr.model.attention.attend`, or None where that has to do it."""
    if torch.compiler.is_compiling() or _tracing() or not _wanted.get():
        return None
    tensors = [q_BhwNC, k_BhwMC, v_BhwMC, bias_KNM, *([] if masks_3NM is None else [masks_3NM])]
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return None
    # Other types than Tensor are stand-ins without memory, such as those by which torch traces a network.
    if any(type(x) is not Tensor or x.device.type != "cpu" or x.dtype not in TOLERANCES for x in tensors):
        return None
    if len({x.dtype for x in tensors[:3]}) > 1 or q_BhwNC.numel() == 0:
        return None
    attend = _checked()
    return None if attend is None else attend(q_BhwNC, k_BhwMC, v_BhwMC, bias_KNM, masks_3NM)


def _tracing() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


@lru_cache(maxsize=1)
def _checked() -> Attend | None:
    """The package's function, if it is installed and right about a small example; if it is not right, one warning."""
    try:
        import hat_sr_native

        attend: Attend = hat_sr_native.attend
        differences = {dtype: _difference(attend, dtype) for dtype in TOLERANCES}
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError, AttributeError, ValueError) as error:
        logger.warning("hat-sr-native does not work, torch does its work: %s", error)
        return None
    for dtype, tolerance in TOLERANCES.items():
        if not differences[dtype] <= tolerance:  # nor if it is not a number
            logger.warning("hat-sr-native is wrong by %.2g in %s, torch does its work", differences[dtype], dtype)
            return None
    return attend


@torch.no_grad()
def _difference(attend: Attend, dtype: torch.dtype) -> float:
    """The largest one from the equation, for two heads of four channels, in four windows of 9 queries and 5 keys."""

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
    return float((attend(q, k, v, bias, masks).double() - wanted).abs().max())
