"""Where a network runs and in which precision, and the network made ready for it."""

import copy
from typing import TYPE_CHECKING, Any, Literal

import torch

from hat_sr.errors import ConfigError

if TYPE_CHECKING:
    from hat_sr.model.hat import HAT

Precision = Literal["auto", "fp32", "bf16", "fp16"]

RuntimeName = Literal["auto", "torch", "onnxruntime", "openvino"]
"""What runs a network; "auto" is an exported file's own runtime, and torch for weights."""

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISION_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


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
    """The dtype of that name for a network's body; "auto" is what is fastest on `device`, by what kind it is.

    That is float16 on CUDA, bfloat16 on a CPU that multiplies it, and else float32. Nothing is measured, so that all
    processes on a machine take the same. Raises ConfigError for another name.
    """
    if precision == "auto":
        if device.type == "cpu":
            return torch.bfloat16 if multiplies_bf16() else torch.float32
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in _DTYPES:
        raise ConfigError(f"precision {precision!r} is none of {', '.join(('auto', *_DTYPES))}")
    return _DTYPES[precision]


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16, AVX512-BF16 or AMX, and torch makes use of them.

    With others bfloat16 is emulated, up to ten times slower than float32. torch uses neither if it was built without
    oneDNN, or is held to AVX2 (ATEN_CPU_CAPABILITY). Versions of torch that do not tell what the CPU has take float32.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return (
        bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    )


def prepared(model: "HAT", device: torch.device, dtype: torch.dtype) -> "HAT":
    """The model in eval mode on the device, its body in the dtype and the rest in float32.

    Itself if it is so already, with all of it in float32; else a copy.
    """
    weights = list(model.parameters())
    if dtype == torch.float32 and not model.training and all((w.device, w.dtype) == (device, dtype) for w in weights):
        return model
    return copy.deepcopy(model).eval().to(device, torch.float32).cast_body(dtype)
