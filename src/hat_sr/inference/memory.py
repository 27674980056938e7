"""How much memory a forward pass takes, how much there is, and which errors mean that it was not enough."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hat_sr.model.banded import RECONSTRUCTION_REACH, overlap_reach
from hat_sr.model.config import HATConfig
from hat_sr.runtime.session import Runtime

_OWN, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class _Version:
    """Names of files, and of what of the usage the system gives up when memory is short."""

    limits: tuple[str, ...]
    usage: str
    reclaimable: str


_V1 = _Version(limits=("memory.limit_in_bytes",), usage="memory.usage_in_bytes", reclaimable="total_inactive_file")
_V2 = _Version(limits=("memory.max", "memory.high"), usage="memory.current", reclaimable="inactive_file")


def limited_memory() -> int | None:
    """Bytes that this process and others of its group may have; None without a limit, and elsewhere than on Linux."""
    return min((limit for limit, _ in _limits()), default=None)


def free_memory() -> int | None:
    """Bytes of those that are left, files in the cache counted as free; None as for `limited_memory`."""
    return min((max(limit - used, 0) for limit, used in _limits()), default=None)


def _limits() -> Iterator[tuple[int, int]]:
    """The limit and the usage of each group that has a limit: the process's own, and those around it."""
    for folder, version in _groups():
        limits = [limit for name in version.limits if (limit := _number(folder / name)) is not None]
        used = _number(folder / version.usage)
        if limits and used is not None:
            yield min(limits), used - _reclaimable(folder / "memory.stat", version.reclaimable)


def _groups() -> Iterator[tuple[Path, _Version]]:
    for line in _read(_OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, version = (_ROOT / "memory", _V1) if controllers else (_ROOT, _V2)
        # In a container the path may be the host's, of which only the part below the container's group is there.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts), -1, -1):
            yield root.joinpath(*parts[:length]), version


def _number(path: Path) -> int | None:
    """None for "max", which is no limit, and where there is no such file."""
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _reclaimable(path: Path, name: str) -> int:
    values = dict(line.split(" ", 1) for line in _read(path).splitlines() if " " in line)
    return int(values.get(name, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


FALLBACK_BYTES = 4 * 2**30
"""What is taken to be available where the system does not say."""

_SHARE = 0.7
"""Part of the available memory to plan with: the estimate is rough, and the machine does other work."""

_PIXELS_PER_BAND = 2**16
"""LR pixels of a band where memory allows: larger ones are no faster on a CPU, whose caches hold less."""

_WINDOWS_PER_BAND = 4
"""Rows of windows of a band, at least, where memory allows: an OCAB reads those above and below once more."""

_KEPT_OF_ONE_BAND, _KEPT_OF_SEVERAL, _MOST_KEPT_BYTES = 12, 22, 160 * 2**20
"""Maps of a band that the C library does not give back between blocks, and the most that is counted of them, since it
does give back large ones."""

_SESSION_FACTORS: dict[Runtime, tuple[float, float, float]] = {
    "onnxruntime": (3.0, 23.5, 9.6),
    "openvino": (0.17, 33.0, 4.0),
}
"""For each LR pixel, times attention's scores, times embed_dim, and times the channels of the reconstruction."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate memory")
"""Words of torch, and last of ONNX Runtime."""


def forward_bytes(config: HATConfig, dtype: torch.dtype, height: int, width: int, band_rows: int) -> int:
    """Peak memory of `forward_in_bands`, weights aside, for one float32 image of so many LR pixels, padded first.

    `dtype` is the body's. The sum of

    - the larger of two moments. In an OCAB three maps of the whole image are held, and of a band and the windows above
      and below it queries, keys and values (3 maps), then keys and values cut into larger windows: along the rows
      (2·Mo/M), these padded (as much again), and along the columns (2·Mo²/M²). At the end one map of the whole image is
      held, and the result; and of a band in float32 three maps of features, two of the reconstruction's channels, and
      its rows of the result three times;
    - the image padded, and without its mean;
    - what the C library keeps of a block that is done. It gives back only what lies at the end of its heap, where
      pieces of up to 32 MiB are, and bands, which read rows beyond their own, leave holes of many sizes. This part is
      fitted to the peaks in tests/inference/test_memory.py (AMD EPYC, 2026-11-26).

    The whole was within a fifth of each of those measurements. With hat-sr-native, which cuts nothing into
    windows, less is taken.
    """
    height, width = (-(-side // config.window_size) * config.window_size for side in (height, width))  # padded
    whole = height * width
    band, read_by_ocab, read_by_end = (
        width * min(band_rows + 2 * reach, height) for reach in (0, overlap_reach(config), RECONSTRUCTION_REACH)
    )
    of_map, of_result = config.embed_dim * dtype.itemsize, 4 * config.in_chans * config.upscale**2
    stretch = config.overlap_window_size / config.window_size
    ocab = 3 * whole * of_map + read_by_ocab * (3 + 4 * stretch + 2 * stretch**2) * of_map
    end = whole * (of_map + of_result) + read_by_end * (
        4 * (3 * config.embed_dim + 2 * config.num_feat) + 3 * of_result
    )
    kept = _KEPT_OF_ONE_BAND if band_rows >= height else _KEPT_OF_SEVERAL
    return int(max(ocab, end)) + 2 * 4 * config.in_chans * whole + min(kept * band * of_map, _MOST_KEPT_BYTES)


def largest_band(config: HATConfig, dtype: torch.dtype, height: int, width: int, budget: int) -> int | None:
    """How many rows a band may have so that the forward pass takes at most `budget` bytes; no more than is of use.

    A multiple of window_size. None if not even one row of windows fits.
    """
    num_windows = max(_PIXELS_PER_BAND // (width * config.window_size), _WINDOWS_PER_BAND)
    while num_windows:
        if forward_bytes(config, dtype, height, width, num_windows * config.window_size) <= budget:
            return num_windows * config.window_size
        num_windows //= 2
    return None


def session_bytes(config: HATConfig, runtime: Runtime, precision: str, height: int, width: int) -> int:
    """Peak memory of a runtime's pass over one float32 image of so many LR pixels, padded first, weights aside.

    A runtime works on the whole image at once, at its largest moment on attention's scores (in an OCAB Mo² for each
    pixel and head) and some maps, or on the reconstruction. The factors were fitted to the peak
    resident sizes in tests/inference/test_memory.py (one thread of an AMD EPYC, 2026-11-26).
    """
    of_scores, of_maps, of_reconstruction = _SESSION_FACTORS[runtime]
    scores = max(config.num_heads) * (config.overlap_window_size if config.use_ocab else config.window_size) ** 2
    pixel = max(
        of_scores * scores + of_maps * config.embed_dim, of_reconstruction * config.num_feat * config.upscale**2
    )
    height, width = (-(-side // config.window_size) * config.window_size for side in (height, width))  # padded
    return int(height * width * pixel * (2 if precision == "bf16" else 4))


def largest_square(window_size: int, budget: int, bytes_of_square: Callable[[int], int]) -> int:
    """Side, in LR pixels, of the largest square whose forward pass fits into `budget` bytes; a multiple of window_size.

    bytes_of_square: what a square of that side takes. 0 if none fits.
    """
    return window_size * bisect_right(range(window_size, 2**20, window_size), budget, key=bytes_of_square)


def picture_bytes(height: int, width: int, channels: int) -> int:
    """Memory, forward passes aside, for making a result of that size, alpha counted as a channel, and writing it.

    Some 17 bytes for a value (22 for gray through an RGB network, 20 for RGBA into EXR), measured as peak resident size
    (`python benchmarks/picture_memory.py`, AMD EPYC, 2026-11-26).
    """
    return 20 * height * width * channels


def memory_budget(device: torch.device) -> int:
    """Bytes to plan with on `device`: a share of what is free now, or of FALLBACK_BYTES where that is not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for later tensors counts as used for the driver, but is ours.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_SHARE * (free + kept))
    return int(_SHARE * _available_host_memory())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch or a runtime means that memory ran out: only CUDA has an error type for it."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(words in message for words in _OUT_OF_MEMORY)


def installed_memory() -> int | None:
    """Bytes that this process may have, swap included where that is known; None where the system does not say.

    That is what the machine has, or a container or service is limited to.
    """
    known = _meminfo()
    if "MemTotal" in known:
        return _smaller(known["MemTotal"], limited_memory()) + known.get("SwapTotal", 0)
    return _physical_memory()


def _available_host_memory() -> int:
    """Linux says how much can be had without swapping, of the machine and of a container; else half of all memory."""
    available = _meminfo().get("MemAvailable")
    if available is not None:
        return _smaller(available, free_memory())
    installed = _physical_memory()
    return FALLBACK_BYTES if installed is None else installed // 2


def _smaller(of_machine: int, of_group: int | None) -> int:
    return of_machine if of_group is None else min(of_machine, of_group)


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
