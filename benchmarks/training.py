"""Measure one training step of HAT, ours against the official network: time and peak memory.

    python benchmarks/training.py [--rounds 3] [--steps 5] [--threads 2] [--cases hat-s-x4 hat-xs-x4] [--json FILE]

A step is forward, L1 loss, backward, Adam, and the moving average of the weights. Ours is `train_step` of
`hat-sr train` itself; "ours, native" is with the package hat-sr-native, if it is installed. The official network is
spandrel's copy of it, with torch's Adam at its defaults and an AveragedModel, as its own training has them; bf16 is
autocast there. Both read the same file of weights and see the same batch, and no path is dropped. The exit code is 1 if
the losses of the first step differ (in bf16: by more than rounding explains), so that different things are not
compared. Below each table stands whether the project's target is met.

Each measurement is a process of its own, and the variants take turns, so that what else the machine does hits all of
them. Memory is the peak of the resident set above that of the process once network, average and optimizer are made
(Adam makes its two moments in the first step, so they count for both). Linux only.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from measuring import describe_machine, positive_integer
from official_network import default_cache, install_official
from training_step import CASES, VARIANTS, Measured, available, write_weights

LARGEST_DIFFERENCE = {"fp32": 1e-6, "bf16": 1e-3}
"""How far the loss of the first step may be from that of the official network in fp32."""

TARGETS = {"hat-s-x4": (2.5, 0.5), "hat-xs-x4": (4.0, math.inf)}
"""For each case: how many times as fast as the official network ours should be, at most at what share of its memory."""

Runs = dict[str, list[Measured]]
"""For each variant, what each round measured."""


def main() -> int:
    """Measure every case and print a table for each; 1 if the losses differ, else 0."""
    arguments = _parse()
    machine = describe_machine(arguments.threads)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))
    packages = install_official(arguments.cache)
    results, faults = {}, []
    for name in arguments.cases:
        runs = run_case(name, packages, rounds=arguments.rounds, steps=arguments.steps, threads=arguments.threads)
        case = CASES[name]
        print(f"\n{name}, batch {case.batch_size}, low-resolution patch {case.patch_size}×{case.patch_size}:\n")
        print(to_table(runs))
        print(f"\n{to_verdict(name, runs)}")
        faults += [f"{name}, {fault}" for fault in find_faults(runs)]
        results[name] = runs
    print("\n" + ("\n".join(faults) or "the losses of the first step agree"))
    if arguments.json is not None:
        content = {"machine": machine, "steps": arguments.steps, "faults": faults, "cases": results}
        part = arguments.json.with_name(arguments.json.name + ".part")
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        part.replace(arguments.json)
    return 1 if faults else 0


def run_case(name: str, packages: Path, *, rounds: int, steps: int, threads: int) -> Runs:
    """Measure the variants in turn, `rounds` times over."""
    runs: Runs = {variant: [] for variant in available()}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        write_weights(CASES[name], weights)
        for number in range(rounds):
            for variant, measured in runs.items():
                print(f"{name}, round {number + 1} of {rounds}: {variant}", file=sys.stderr, flush=True)
                measured.append(_measure(name, variant, weights, packages, steps=steps, threads=threads))
    return runs


def _measure(name: str, variant: str, weights: Path, packages: Path, *, steps: int, threads: int) -> Measured:
    """What a new process measures."""
    script = Path(__file__).resolve().with_name("training_step.py")
    command = [sys.executable, str(script), name, variant, str(weights), str(steps), str(threads)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",  # the official network's
        "OMP_NUM_THREADS": str(threads),
    }
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{name}, {variant}: the measurement ended with status {result.returncode}, see above")
    measured: Measured = json.loads(result.stdout)
    return measured


def find_faults(runs: Runs) -> list[str]:
    """Which variants do not compute what the official network does."""
    expected = runs["official"][0]["losses"][0]
    faults = []
    for name, measured in runs.items():
        difference = max(abs(run["losses"][0] - expected) for run in measured)
        # Put so that a loss that is no number is a fault.
        if not difference <= LARGEST_DIFFERENCE[VARIANTS[name].precision]:
            faults.append(f"{name}: the loss of the first step DIFFERS from the official one by {difference:.1e}")
    return faults


def to_table(runs: Runs) -> str:
    """Medians over the rounds, as Markdown. Ratios are of measurements of the same round, with their range."""
    lines = [
        "| network | s a step | times as fast | memory, MiB | of the official | highest in all, MiB | first loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, measured in runs.items():
        speeds, shares = _ratios(runs, name)
        cells = [
            name,
            f"{median(map(_seconds, measured)):.3f}",
            f"{median(speeds):.2f} ({min(speeds):.2f}–{max(speeds):.2f})",
            f"{median(map(_memory, measured)):.0f}",
            f"{median(shares):.2f}",
            f"{median(run['peak_mib'] for run in measured):.0f}",
            f"{measured[0]['losses'][0]:.7f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def to_verdict(case: str, runs: Runs) -> str:
    """Whether our fastest variant within the target's memory reaches its speed, in a sentence."""
    wanted_speed, largest_share = TARGETS[case]
    medians = {name: tuple(map(median, _ratios(runs, name))) for name in runs if name.startswith("ours")}
    fitting = {name: (speed, share) for name, (speed, share) in medians.items() if share <= largest_share}
    limit = "" if math.isinf(largest_share) else f" at {largest_share} of its memory at most"
    target = f"target: {wanted_speed} times as fast as the official network{limit}"
    if not fitting:
        return f"{target}. NOT met: none of ours takes so little memory"
    name, (speed, share) = max(fitting.items(), key=lambda item: item[1][0])
    return f"{target}. {'Met' if speed >= wanted_speed else 'NOT met'}: {name}, {speed:.2f} times at {share:.2f}"


def _ratios(runs: Runs, name: str) -> tuple[list[float], list[float]]:
    """How many times as fast as the official network, and with what share of its memory, in each round."""
    pairs = list(zip(runs["official"], runs[name], strict=True))
    speeds = [_seconds(official) / _seconds(run) for official, run in pairs]
    return speeds, [_memory(run) / _memory(official) for official, run in pairs]


def _seconds(run: Measured) -> float:
    return float(median(run["seconds"]))


def _memory(run: Measured) -> float:
    return float(run["peak_mib"] - run["built_mib"])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive_integer, default=3, help="how often each variant is measured")
    parser.add_argument("--steps", type=positive_integer, default=5, help="timed steps of a measurement")
    parser.add_argument("--threads", type=positive_integer, default=2, help="threads of torch")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
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
