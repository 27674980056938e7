"""Measure the memory of whole images through `hat_sr.Upscaler`, beside its estimate and the project's targets.

    python benchmarks/memory.py [--cases …] [--threads 2]

Each case is a process of its own: the peak of the resident set, once in all and once above what the process had with
the network made, which is what `hat_sr.inference.memory.forward_bytes` estimates for the bands that were taken. All
images run whole, which gives exactly what the network gives. Linux only.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from inference_runs import make_network
from measuring import describe_machine, positive_integer, resident_mib

from hat_sr.allocator import keep_freed_memory
from hat_sr.inference.device import Precision
from hat_sr.inference.memory import forward_bytes
from hat_sr.inference.upscaler import Upscaler


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image through a network."""

    network: str
    width: int
    height: int
    precision: Precision
    target_mib: float | None = None
    """What the resident set should not be above."""


CASES = {
    "HAT-bf16": Case(network="HAT-x4", width=640, height=480, precision="bf16", target_mib=2.0e9 / 2**20),
    "HAT-fp32": Case(network="HAT-x4", width=640, height=480, precision="fp32", target_mib=3.2e9 / 2**20),
    "HAT-XS": Case(network="hat-xs-x4", width=2000, height=1500, precision="fp32", target_mib=4.0e9 / 2**20),
    "HAT-S-128": Case(network="HAT-S-x4", width=128, height=128, precision="bf16"),
    "HAT-S-256": Case(network="HAT-S-x4", width=256, height=256, precision="bf16"),
    "HAT-S-512": Case(network="HAT-S-x4", width=512, height=512, precision="bf16"),
    "HAT-S-1024": Case(network="HAT-S-x4", width=1024, height=1024, precision="bf16"),
}


def main() -> None:
    """Measure each case in a process of its own, and print a line of the table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--threads", type=positive_integer, default=2, help="threads of torch")
    parser.add_argument("--here", action="store_true", help="measure the one case in this process")
    arguments = parser.parse_args()
    if arguments.here:
        print(measure(CASES[arguments.cases[0]], arguments.threads))
        return
    print("\n".join(f"{name}: {value}" for name, value in describe_machine(arguments.threads).items()))
    names = "network|image|precision|rows of a band|peak in all, MiB|target|above the network|estimate|µs a pixel"
    print(f"\n| {names.replace('|', ' | ')} |\n{'|---' * (names.count('|') + 1)}|", flush=True)
    for name in arguments.cases:
        command = [sys.executable, __file__, "--here", "--cases", name, "--threads", str(arguments.threads)]
        print(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout, end="", flush=True)


def measure(case: Case, threads: int) -> str:
    """The case's line of the table."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # as `hat-sr` does
    network = make_network(case.network)
    upscaler = Upscaler(network, precision=case.precision, tile="off", device="cpu")
    del network
    upscaler(torch.rand(1, 3, 64, 64))  # makes what is made once
    x = torch.rand(1, 3, case.height, case.width)
    plan = upscaler.plan(case.height, case.width)
    # 5 sets the peak back to what is in use now (proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    built, since = resident_mib("VmRSS"), time.perf_counter()
    upscaler(x)
    seconds, peak = time.perf_counter() - since, resident_mib("VmHWM")
    estimate = forward_bytes(upscaler.config, upscaler.dtype, case.height, case.width, plan.band_rows) / 2**20
    cells = [
        case.network,
        f"{case.width}×{case.height}",
        case.precision,
        str(plan.band_rows),
        f"{peak:.0f}",
        "" if case.target_mib is None else f"{case.target_mib:.0f}{'' if peak <= case.target_mib else ', NOT met'}",
        f"{peak - built:.0f}",
        f"{estimate:.0f} ({estimate / (peak - built) - 1:+.0%})",
        f"{1e6 * seconds / (case.width * case.height):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
