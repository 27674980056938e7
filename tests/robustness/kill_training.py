"""Kill a training with -9 at random moments, start it again each time, and compare with an undisturbed one.

python tests/robustness/kill_training.py --kills 10
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image

RECIPE = """
seed = 3
[model]
upscale = 2
embed_dim = 12
depths = [2]
num_heads = [2]
window_size = 4
compress_ratio = 3
squeeze_factor = 4
num_feat = 8
drop_path_rate = 0.3
[data]
root = "{root}"
patch_size = 8
batch_size = 2
num_workers = 1
[[data.sources]]
path = "photos"
[optim]
total_steps = {steps}
learning_rate = 1e-3
[log]
report_every = 1
save_every = 2
"""


def prepare(root: Path, *, steps: int) -> Path:
    """Three made-up photographs and a recipe below `root`; returns the recipe's path."""
    generator = np.random.default_rng(0)
    (root / "photos").mkdir()
    for number in range(3):
        write_image(root / "photos" / f"{number}.png", Image(generator.integers(0, 256, (48, 40, 3)).astype(np.uint8)))
    recipe = root / "recipe.toml"
    recipe.write_text(RECIPE.format(root=root, steps=steps), encoding="utf-8")
    return recipe


def start(recipe: Path, folder: Path) -> subprocess.Popen[str]:
    """The command, as a user starts it, in a process group of its own."""
    command = [sys.executable, "-m", "hat_sr", "train", str(recipe), "-o", str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def kill_at_random_moments(recipe: Path, folder: Path, *, kills: int, steps: int, seed: int) -> list[int]:
    """Train to the end, killed `kills` times on the way; returns after which steps.

    The step is drawn, and a wait of up to two steps after it was reported, so that a kill hits a step, a report or the
    writing of a state.
    """
    generator = random.Random(seed)
    killed: list[int] = []
    for low in (steps * number // (kills + 1) for number in range(kills)):
        target = low + generator.randint(1, max(steps // (kills + 1) - 1, 1))
        since, length = time.monotonic(), 0.0
        with start(recipe, folder) as process:
            for line in process.stdout or ():
                if not line.startswith("step "):
                    continue
                length, since = time.monotonic() - since, time.monotonic()
                if int(line.split()[1]) >= target:
                    time.sleep(generator.random() * min(2 * length, 0.1))
                    os.killpg(process.pid, signal.SIGKILL)
                    killed.append(int(line.split()[1]))
                    break
    process = start(recipe, folder)
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(output)
    return killed


def equal(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, average, optimizer and step, bit for bit."""
    states = [torch.load(folder / "state.pt") for folder in (one, other)]
    files = [(folder / "weights.safetensors").read_bytes() for folder in (one, other)]
    return _same(*states) and files[0] == files[1]


def _same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def compare(root: Path, *, kills: int, steps: int, seed: int) -> tuple[list[int], bool]:
    """Train once undisturbed and once with kills; returns the steps of the kills, and whether the ends are equal."""
    recipe = prepare(root, steps=steps)
    output, _ = (process := start(recipe, root / "undisturbed")).communicate()
    if process.returncode != 0:
        raise RuntimeError(output)
    killed = kill_at_random_moments(recipe, root / "killed", kills=kills, steps=steps, seed=seed)
    return killed, equal(root / "undisturbed", root / "killed")


def main() -> None:
    """Print the outcome; exit 1 if the ends differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed, same = compare(Path(folder), kills=options.kills, steps=options.steps, seed=options.seed)
    same = same and len(killed) == options.kills
    outcome = "equal to the undisturbed run" if same else "NOT EQUAL to the undisturbed run, or too few kills"
    print(f"killed after steps {killed}: {outcome}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
