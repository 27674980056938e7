"""Kill one of two training processes with -9: the run must stop with an error, and go on when started again.

    python tests/robustness/kill_rank.py --times 5

Under torchrun (gloo, CPU). Prints how long the others took to stop, and whether the end equals an undisturbed run's.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_training import equal, prepare

STEPS = 40


def start(recipe: Path, folder: Path) -> subprocess.Popen[str]:
    """Two processes under torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*torchrun, "-m", "hat_sr", "train", str(recipe), "-o", str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ranks(torchrun: int) -> dict[int, int]:
    """The processes that torchrun started, by rank; found through /proc (Linux)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0") if parent == torchrun else []
        except OSError:
            continue
        for entry in environment:
            if entry.startswith(b"RANK="):
                found[int(entry.removeprefix(b"RANK="))] = int(folder.name)
    return found


def kill_one(recipe: Path, folder: Path, *, rank: int, after_step: int) -> tuple[float, int, str]:
    """Start, kill `rank` after a step; returns the seconds until all had ended, the exit status, what was printed."""
    output = []
    killed_at = None
    with start(recipe, folder) as process:
        for line in process.stdout or ():
            output.append(line)
            if killed_at is None and line.startswith(f"step {after_step} "):
                os.kill(ranks(process.pid)[rank], signal.SIGKILL)
                killed_at = time.monotonic()
    return time.monotonic() - (killed_at or time.monotonic()), process.returncode, "".join(output)


def main() -> None:
    """Print one line for each kill; exit 1 if one of them was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    failed = False
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        recipe = prepare(root, steps=STEPS)
        undisturbed = start(recipe, root / "undisturbed")
        undisturbed.communicate()
        for number in range(parser.parse_args().times):
            folder = root / str(number)
            seconds, status, printed = kill_one(recipe, folder, rank=number % 2, after_step=5 + 6 * number)
            again = start(recipe, folder)
            output, _ = again.communicate()
            same = again.returncode == 0 and equal(root / "undisturbed", folder)
            told = "another process of this training has ended" in printed
            failed |= seconds > 60 or status == 0 or not same or not told
            print(
                f"rank {number % 2} killed after step {5 + 6 * number}: stopped after {seconds:.1f} s with status "
                f"{status}{', and said why' if told else ''}; started again: "
                f"{'equal to the undisturbed run' if same else 'NOT EQUAL ' + output}",
                flush=True,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
