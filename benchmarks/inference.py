"""Time forward passes of HAT in several runtimes: ours, the official network, OpenVINO, ONNX Runtime.

    python benchmarks/inference.py [--cases HAT HAT-S HAT-XS] [--threads 1 2] [--rounds 5] [--json FILE]

All have the same weights: ours runs them as `hat_sr.Upscaler` does, the official network is spandrel's copy of it
(in bf16 by autocast), and the two runtimes get an export of that one for the size of the image. "ours, native" is with
the package hat-sr-native, if it is installed. Each is a process of its own, and they take turns, so that what else the
machine does hits all; before the pass that is timed comes one that is not, since the others have emptied the caches.
glibc keeps freed memory in ours alone, since `hat-sr` tells it to. Medians, ratios of the same round, and how near each
result is to the same network in float64. The runtimes come with `pip install 'hat-sr[export]'`; `make benchmark` has
all.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from inference_runs import CASES, VARIANTS, Measured, variants_here
from measuring import describe_machine, positive_integer
from official_network import default_cache, install_official

TARGETS = {"ours": ("openvino", 1.9), "ours, bf16": ("openvino, bf16", 5.0)}
"""What ours should be faster than, and how many times as fast as the official network in fp32."""

LEAST_DECIBELS = 55.0
"""How near results must be to those in float64."""


def main() -> int:
    """Measure every case with every number of threads, and print a table for each."""
    arguments = _parse()
    packages = install_official(arguments.cache)
    results = {}
    for threads in arguments.threads:
        machine = describe_machine(threads)
        print("\n".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
        for name in arguments.cases:
            found = _measure(name, packages, threads=threads, rounds=arguments.rounds, variants=arguments.variants)
            case = CASES[name]
            print(f"\n{name} ({case.network}), {case.size}×{case.size}, threads: {threads}\n")
            print(to_table(found))
            print("\n" + "\n".join(to_verdicts(found)) + "\n", flush=True)
            results[f"{name}, {threads}"] = {"machine": machine, "found": found}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


def _measure(name: str, packages: Path, *, threads: int, rounds: int, variants: list[str]) -> dict[str, Measured]:
    """What a new process measures."""
    script = Path(__file__).resolve().with_name("inference_runs.py")
    command = [sys.executable, str(script), name, str(threads), str(rounds), *variants]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": str(threads),
    }
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{name}: the measurement ended with status {result.returncode}, see above")
    found: dict[str, Measured] = json.loads(result.stdout)
    return found


def to_table(found: dict[str, Measured]) -> str:
    """Medians over the rounds, as Markdown; how many times as fast as the official network, with its range."""
    lines = ["| network | seconds | times as fast | dB from float64 |", "|---|---|---|---|"]
    for name, one in found.items():
        cells = [name, f"{median(one['seconds']):.3f}", _speeds(found, name), f"{one['decibels']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def to_verdicts(found: dict[str, Measured]) -> list[str]:
    """For each of ours, whether it meets its target, in a sentence."""
    verdicts = []
    for name, one in found.items():
        if not name.startswith("ours"):
            continue
        rival, speed = TARGETS["ours, bf16" if "bf16" in name else "ours"]
        checks = []
        if rival in found:
            times = median(_ratios(found, rival, name))
            checks.append((f"{times:.2f} times as fast as {rival}", times > 1))
        if "official" in found:
            times = median(_ratios(found, "official", name))
            checks.append((f"{times:.2f} times as fast as the official network (target {speed})", times >= speed))
        checks.append((f"{one['decibels']:.1f} dB (target {LEAST_DECIBELS})", one["decibels"] >= LEAST_DECIBELS))
        verdicts.append(f"{name}: " + "; ".join(f"{what}{'' if met else ', NOT met'}" for what, met in checks))
    return verdicts


def _speeds(found: dict[str, Measured], name: str) -> str:
    if "official" not in found:
        return ""
    ratios = _ratios(found, "official", name)
    return f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _ratios(found: dict[str, Measured], slow: str, fast: str) -> list[float]:
    """How many times as fast `fast` is as `slow`, in each round."""
    return [a / b for a, b in zip(found[slow]["seconds"], found[fast]["seconds"], strict=True)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=variants_here(), help="default: all")
    parser.add_argument("--threads", nargs="+", type=positive_integer, default=[1, 2], help="default: 1 2")
    parser.add_argument("--rounds", type=positive_integer, default=5, help="how often each variant is timed")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="where spandrel is put (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.json is not None and not arguments.json.parent.is_dir():
        parser.error(f"--json {arguments.json}: no such folder")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
