"""What the scripts beside this one share: the machine they ran on, and the memory of a process."""

import argparse
import datetime
import os
import platform
from importlib.util import find_spec
from pathlib import Path

import torch

FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")


def describe_machine(threads: int) -> dict[str, str]:
    """What the figures depend on besides the code."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = cpu.get("flags", "").split()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{cpu.get('model name', platform.machine())}, {os.cpu_count()} cores",
        "features": " ".join(feature for feature in FEATURES if feature in flags) or "none of note",
        "threads": str(threads),
        "torch": torch.__version__,
        "hat-sr-native": "installed" if find_spec("hat_sr_native") else "not installed",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def resident_mib(field: str) -> float:
    """VmRSS (memory in use) or VmHWM (its peak) of this process in MiB, as proc(5) has them."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def positive_integer(text: str) -> int:
    """For argparse, which has this name in its message."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value
