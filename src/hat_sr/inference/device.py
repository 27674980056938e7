"""Where a network runs and in which precision, and the network made ready for it."""

import copy
import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch

from hat_sr.errors import ConfigError
from hat_sr.model.linear import Linear

if TYPE_CHECKING:
    from hat_sr.model.hat import HAT

logger = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISION_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

LEAST_GAIN = 1.3
"""How many times as fast as fp32 bf16 must be for "auto" to take it."""


def find_device(name: str | torch.device) -> torch.device:
    """The device of that name; "auto" is the accelerator that torch finds (CUDA, MPS, XPU), else the CPU.

    Raises ConfigError if torch does not know it or it is not there.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        name = accelerator or "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device {name!r} is not known: use 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu'"
        ) from error
    if device.type == "cpu":
        return device
    if accelerator is None or device.type != accelerator.type:
        raise ConfigError(
            f"device '{device}' is not there: torch finds {accelerator or 'no accelerator'}; use 'auto' or 'cpu'"
        )
    return torch.empty(0, device=device).device  # with its number: "cuda" is not equal to "cuda:0"


def find_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of that name for a network's body; "auto" is what is fastest on `device`.

    That is float16 on CUDA, on a CPU bfloat16 if this one multiplies it much faster, measured once, and else float32.
    Raises ConfigError for another name.
    """
    if precision == "auto":
        if device.type == "cpu":
            return _fastest_on_this_cpu()
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in _DTYPES:
        raise ConfigError(f"precision {precision!r} is none of {', '.join(('auto', *_DTYPES))}")
    return _DTYPES[precision]


@cache
def _fastest_on_this_cpu() -> torch.dtype:
    """By a linear layer and a convolution of usual size, which takes some 30 ms."""
    seconds = {dtype: min(_seconds(dtype) for _ in range(3)) for dtype in (torch.float32, torch.bfloat16)}
    gain = seconds[torch.float32] / seconds[torch.bfloat16]
    logger.info("bf16 is %.1f times as fast as fp32 here: %s", gain, "taken" if gain > LEAST_GAIN else "not taken")
    return torch.bfloat16 if gain > LEAST_GAIN else torch.float32


@torch.no_grad()
def _seconds(dtype: torch.dtype) -> float:
    x = torch.ones(1, 64, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    linear, convolution = Linear(64, 192).to(dtype), torch.nn.Conv2d(64, 64, 3, padding=1).to(dtype)
    since = time.perf_counter()
    linear(convolution(x).permute(0, 2, 3, 1))
    return time.perf_counter() - since


def prepared(model: "HAT", device: torch.device, dtype: torch.dtype) -> "HAT":
    """The model in eval mode on the device, its body in the dtype and the rest in float32.

    Itself if it is so already, with all of it in float32; else a copy.
    """
    weights = list(model.parameters())
    if dtype == torch.float32 and not model.training and all((w.device, w.dtype) == (device, dtype) for w in weights):
        return model
    return copy.deepcopy(model).eval().to(device, torch.float32).cast_body(dtype)
