"""Kill an enlargement on disk with -9 at random moments, start it again each time, compare with an undisturbed one.

python tests/robustness/kill_upscale.py --kills 10
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.journal import read_journal, unfinished_folder

MODEL = "hat-xs-x2"
NUM_STRIPS = 10


def prepare(folder: Path) -> None:
    """A picture with alpha, for NUM_STRIPS rows of two of the model's smallest tiles."""
    pixels = np.random.default_rng(0).integers(0, 256, (40 + 8 * NUM_STRIPS, 56, 4))
    pixels[50:80, 20:40, 3] = 0
    write_image(folder / "a.png", Image(pixels.astype(np.uint8)))


def start(folder: Path, output: str) -> subprocess.Popen[str]:
    """The command, as a user starts it, with too little memory for any picture."""
    command = [sys.executable, "-m", "hat_sr", "upscale", "a.png", "-o", output, "-m", MODEL, "--memory", "1"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def num_finished(output: Path) -> int:
    """How many strips the journal says are finished."""
    return max(len(read_journal(unfinished_folder(output))) - 1, 0)


def compare(folder: Path, *, kills: int, seed: int) -> tuple[list[int], bool]:
    """Enlarge once undisturbed and once with kills.

    Returns after how many finished strips it was killed, and whether the files are equal, nothing was left, and each
    run went on after the last strip that was finished.
    """
    prepare(folder)
    _, error = (process := start(folder, "undisturbed.tif")).communicate()
    if process.returncode != 0:
        raise RuntimeError(error)
    generator, output = random.Random(seed), folder / "killed.tif"
    killed: list[int] = []
    went_on: list[int] = []
    for number in range(kills):
        target = 1 + number * (NUM_STRIPS - 2) // kills
        process = start(folder, output.name)
        while process.poll() is None and num_finished(output) < target:
            time.sleep(0.001)
        time.sleep(generator.random() * 0.02)
        process.kill()
        _, said = process.communicate()
        went_on += [int(text) for text in re.findall(r"going on after strip (\d+)", said)]
        if output.exists():
            return killed, False  # it was faster
        killed.append(num_finished(output))
    _, said = (process := start(folder, output.name)).communicate()
    if process.returncode != 0:
        raise RuntimeError(said)
    went_on += [int(text) for text in re.findall(r"going on after strip (\d+)", said)]
    same = output.read_bytes() == (folder / "undisturbed.tif").read_bytes()
    names = sorted(path.name for path in folder.iterdir())
    return killed, same and went_on == killed and names == ["a.png", "killed.tif", "undisturbed.tif"]


def main() -> None:
    """Print the outcome; exit 1 if the files differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed, good = compare(Path(folder), kills=options.kills, seed=options.seed)
    good = good and len(killed) == options.kills
    outcome = (
        "equal to the undisturbed run, nothing done twice" if good else "NOT as the undisturbed run, or too few kills"
    )
    print(f"killed after strips {killed} of {NUM_STRIPS}: {outcome}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
