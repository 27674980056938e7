"""How long a patch takes to be cut and degraded, beside a step of training on one.

    python benchmarks/degradation.py [--patch-size 32] [--samples 100]

Patches are cut from examples/*.jpg, kept in memory, at ×4. The step is HAT-XS's, forward, backward and Muon, batch 8,
in bf16. Printed are milliseconds of processor time for one patch on one thread: other programs lengthen them all alike.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import describe_machine, positive_integer

from hat_sr.allocator import keep_freed_memory
from hat_sr.degradation.config import PRESETS
from hat_sr.train.config import DataConfig, OptimConfig, Recipe, SourceConfig
from hat_sr.train.data.batches import PatchDataset, open_data
from hat_sr.train.data.sources import FolderSource, KeptSource
from hat_sr.train.distributed import open_processes
from hat_sr.train.loop import compute_gradients
from hat_sr.train.recipe import load_recipe
from hat_sr.train.state import start_state

ROOT = Path(__file__).parents[1]
SCALE = 4
BATCH = 8


def main() -> None:
    """Print a row for each degradation, and the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch-size", type=positive_integer, default=32)
    parser.add_argument("--samples", type=positive_integer, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory(everything=True)
    print("\n".join(f"{name}: {value}" for name, value in describe_machine(1).items()))
    size = arguments.patch_size
    kept = KeptSource(FolderSource(ROOT / "examples", exclude=("SOURCES.tsv", "demo.py")), smallest=size * SCALE)
    for name, degradation in (("bicubic", None), *PRESETS.items()):
        samples = PatchDataset(kept, scale=SCALE, patch_size=size, seed=0, degradation=degradation)
        print(f"{name}: {_milliseconds(samples.__getitem__, arguments.samples):.1f} ms")
    print(f"step: {_step(size, arguments.samples // BATCH):.1f} ms")


def _step(size: int, count: int) -> float:
    model = load_recipe(ROOT / "recipes" / "hat-xs-x4-real.toml", stage="faithful").model
    data = DataConfig(
        root=str(ROOT),
        sources=(SourceConfig(path="examples", exclude=("SOURCES.tsv", "demo.py")),),
        patch_size=size,
        batch_size=BATCH,
    )
    optim = OptimConfig(total_steps=1, optimizer="muon")
    recipe = Recipe(model=model, data=data, optim=optim, precision="bf16", start="interpolator")
    with open_processes("cpu") as processes:
        state = start_state(recipe, processes, resuming=False)
        (batch,) = open_data(data, scale=SCALE, seed=0, first_step=0, total_steps=1)

        def step(number: int) -> None:
            compute_gradients(state, batch)
            state.optimizer.step()

        return _milliseconds(step, count) / BATCH


def _milliseconds(function: Callable[[int], object], count: int) -> float:
    """Of a call, on average, after one that is not counted."""
    function(0)
    since = time.process_time()
    for number in range(1, count + 1):
        function(number)
    return 1000 * (time.process_time() - since) / count


if __name__ == "__main__":
    main()
