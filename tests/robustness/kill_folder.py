"""Kill `hat-sr upscale FOLDER` with -9 at random moments, start it again until it comes to its end.

python tests/robustness/kill_folder.py --kills 50

Then every result must be there once, equal to that of an undisturbed run, made once, with nothing half made beside it.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hat_sr.batch.ledger import NAME
from hat_sr.files import PART_PREFIX
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.lines import read_lines

MODEL = "hat-xxs-x2"


@dataclass
class Found:
    """What was seen of runs with kills."""

    kills: int = 0
    in_work: int = 0
    """Kills while there were results, but not all."""
    finished: int = 0
    """Folders that came to their end."""
    results: int = 0
    wrong: int = 0
    """Results that are missing, half made or not equal to those of the undisturbed run."""
    twice: int = 0
    """Results that were made again, or that the ledger says were."""


def prepare(folder: Path, *, num_files: int) -> None:
    """Pictures in two folders, of different sizes; some are JPEG."""
    rng = np.random.default_rng(0)
    for number in range(num_files):
        place = folder / "in" / f"{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (64 + 4 * (number % 10), 120, 3)).astype(np.uint8)
        write_image(place / f"{number:03}.{'jpg' if number % 5 == 0 else 'png'}", Image(pixels))


def start(folder: Path, output: str) -> subprocess.Popen[bytes]:
    """The command, as a user starts it."""
    command = [sys.executable, "-m", "hat_sr", "upscale", "in", "-o", output, "--model", MODEL]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)


def results(folder: Path) -> dict[str, int]:
    """The results there are, and when each was made."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def compare(folder: Path, *, kills: int, seed: int, num_files: int = 40) -> Found:
    """Enlarge a folder undisturbed, and with kills into as many other folders as it takes."""
    prepare(folder, num_files=num_files)
    if start(folder, "undisturbed").wait() != 0:
        raise RuntimeError("the undisturbed run failed")
    right = {path: (folder / "undisturbed" / path).read_bytes() for path in results(folder / "undisturbed")}
    found, generator = Found(), random.Random(seed)
    while found.kills < kills:
        output = folder / f"killed-{found.finished}"
        first: dict[str, int] = {}
        while True:
            before = results(output)
            process = start(folder, output.name)
            if found.kills < kills:
                while process.poll() is None and results(output) == before and generator.random() > 0.005:
                    time.sleep(0.02)  # mostly until it is at work, sometimes not so long
                time.sleep(generator.random() * 0.5)
                process.kill()
            ended = process.wait() == 0
            there = results(output)
            found.twice += sum(there[name] != made for name, made in first.items())
            found.wrong += sum((output / name).read_bytes() != right[name] for name in there)
            first |= there
            if ended:
                break
            found.kills += 1
            found.in_work += 0 < len(there) < num_files
        done = Counter(line["done"] for line in read_lines(output / NAME) if "done" in line)
        found.wrong += len(right.keys() - there.keys()) + len(done.keys() ^ right.keys())
        found.twice += sum(number - 1 for number in done.values())
        hidden = {path.name for path in output.rglob(".*") if not path.name.startswith(PART_PREFIX)}
        found.wrong += len(hidden)
        found.finished, found.results = found.finished + 1, found.results + len(there)
    return found


def main() -> None:
    """Print what was seen; exit 1 if anything was lost, half made or done twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), kills=options.kills, seed=options.seed)
    print(
        f"{found.kills} kills, {found.in_work} of them in the middle of the work; {found.finished} folders came to "
        f"their end, {found.results} results: {found.wrong} wrong, {found.twice} made twice"
    )
    sys.exit(bool(found.wrong or found.twice))


if __name__ == "__main__":
    main()
