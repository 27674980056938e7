"""The C library's memory: kept for the next layer instead of given back."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""

_KEPT_BYTES, _EVERYTHING = 64 * 2**20, -1  # 256 MiB is as fast, and takes 250 MiB more for large images (2026-11-26)
_LARGEST_BYTES = 32 * 2**20
"""glibc refuses more."""


def keep_freed_memory(*, everything: bool = False) -> bool:
    """Make glibc keep up to 64 MiB that are free, and take pieces up to 32 MiB from it; False where that is not so.

    It otherwise gives the maps of each layer back, and the system clears those of the next: a tenth of a network's
    time. For whoever owns the process, before the first network runs: a library leaves this alone. So does this where
    the environment says how (variables such as MALLOC_TRIM_THRESHOLD_, GLIBC_TUNABLES).

    everything: keep all that is free, as training should, each step of which takes the same hundreds of MiB.
    """
    if any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    kept = _EVERYTHING if everything else _KEPT_BYTES
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, kept))
