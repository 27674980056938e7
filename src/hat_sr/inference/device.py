"""Where a network runs and in which precision, and the network made ready for it."""

import copy
from typing import TYPE_CHECKING, Literal

import torch

from hat_sr.errors import ConfigError

if TYPE_CHECKING:
    from hat_sr.model.hat import HAT

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    """The dtype of that name; "auto" is float16 on CUDA, else float32.

    Not bfloat16: its eight bits of mantissa would round the pixels of the result, near white, to steps of 1/256.
    Raises ConfigError for another name.
    """
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in _DTYPES:
        raise ConfigError(f"precision {precision!r} is none of {', '.join(('auto', *_DTYPES))}")
    return _DTYPES[precision]


def prepared(model: "HAT", device: torch.device, dtype: torch.dtype) -> "HAT":
    """The model in eval mode, on the device, in the dtype: itself if it is so already, else a copy."""
    ready = not model.training and all(
        parameter.device == device and parameter.dtype == dtype for parameter in model.parameters()
    )
    return model if ready else copy.deepcopy(model).eval().to(device, dtype)
