"""How much memory a forward pass takes, how much there is, and which errors mean that it was not enough."""

import os
from pathlib import Path

import torch

from hat_sr.model.config import HATConfig

FALLBACK_BYTES = 4 * 2**30
"""What is taken to be available where the system does not say."""

_SHARE = 0.7
"""Part of the available memory to plan with: the estimate is rough, and the machine does other work."""


def bytes_per_pixel(config: HATConfig, dtype: torch.dtype) -> int:
    """Peak memory of a forward pass, weights aside, per LR pixel of an image (batch of one).

    The largest moment is either an OCAB, which holds the input, the projections and the overlapping keys and values
    (each Mo²/M² times the map), or the reconstruction, which holds its widest map before and after the pixel shuffle.
    The factors were fitted from above to the peak resident size of forward passes in float32 on a CPU, with embed_dim
    48 and 180, with and without OCAB, upscale 1, 4 and 8, at 128×128 to 512×512.
    """
    overlap = (config.overlap_window_size / config.window_size) ** 2
    body = config.embed_dim * (10 + 6.5 * overlap)
    reconstruction = 2.25 * config.num_feat * config.upscale**2 + 2 * config.embed_dim
    return int(max(body, reconstruction) * dtype.itemsize)


def largest_square(config: HATConfig, dtype: torch.dtype, budget: int) -> int:
    """Side, in LR pixels, of the largest square whose forward pass takes `budget` bytes; a multiple of window_size."""
    side = int((max(budget, 0) / bytes_per_pixel(config, dtype)) ** 0.5)
    return side // config.window_size * config.window_size


def memory_budget(device: torch.device) -> int:
    """Bytes to plan with on `device`: a share of what is free now, or of FALLBACK_BYTES where that is not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for later tensors counts as used for the driver, but is ours.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_SHARE * (free + kept))
    return int(_SHARE * _available_host_memory())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch means that memory ran out: only CUDA has an error type for it."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in message for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def installed_memory() -> int | None:
    """Bytes that the machine has, swap included where that is known; None where the system does not say."""
    known = _meminfo()
    if "MemTotal" in known:
        return known["MemTotal"] + known.get("SwapTotal", 0)
    return _physical_memory()


def _available_host_memory() -> int:
    """Linux says how much can be had without swapping; elsewhere half of the memory installed is the guess."""
    available = _meminfo().get("MemAvailable")
    if available is not None:
        return available
    installed = _physical_memory()
    return FALLBACK_BYTES if installed is None else installed // 2


def _meminfo() -> dict[str, int]:
    """Linux's own account in bytes; empty elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
