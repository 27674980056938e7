"""Take training steps of one network in this process, and print what they took as JSON; training.py runs this.

    python benchmarks/training_step.py CASE VARIANT WEIGHTS STEPS THREADS

CASE and VARIANT are names in CASES and VARIANTS, WEIGHTS is a file by `write_weights`.
"""

import contextlib
import importlib.util
import json
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from measuring import resident_mib
from official_network import build_official
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hat_sr.allocator import keep_freed_memory
from hat_sr.checkpoints.checkpoint import save_model
from hat_sr.model.config import PRESETS, HATConfig
from hat_sr.model.hat import HAT
from hat_sr.model.native import without_native
from hat_sr.train.config import DataConfig, OptimConfig, Recipe, SourceConfig
from hat_sr.train.data.patches import Batch
from hat_sr.train.distributed import Processes
from hat_sr.train.loop import train_step
from hat_sr.train.state import start_state

XS_RECIPE = Path(__file__).parents[1] / "recipes/hat-xs-x4.toml"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained: a network, and the shape of its batch, (batch_size, 3, patch_size, patch_size)."""

    config: HATConfig
    batch_size: int
    patch_size: int


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Whose network, and how it runs."""

    network: Literal["official", "ours"]
    precision: Literal["fp32", "bf16"] = "fp32"
    """The official network runs in bf16 by autocast, ours as the recipe's precision says."""
    checkpointing: bool = False
    """activation_checkpointing of ours, use_checkpoint of the official network."""
    native: bool = False
    """Whether ours takes hat-sr-native, if that is installed."""


CASES = {
    "hat-s-x4": Case(config=PRESETS["HAT-S-x4"], batch_size=1, patch_size=64),
    "hat-xs-x4": Case(
        config=HATConfig(**tomllib.loads(XS_RECIPE.read_text(encoding="utf-8"))["model"]), batch_size=8, patch_size=48
    ),
}

VARIANTS = {
    "official": Variant(network="official"),
    "ours": Variant(network="ours"),
    "ours, checkpointing": Variant(network="ours", checkpointing=True),
    "ours, bf16": Variant(network="ours", precision="bf16"),
    "ours, bf16, checkpointing": Variant(network="ours", precision="bf16", checkpointing=True),
    "ours, native": Variant(network="ours", native=True),
    "ours, native, bf16": Variant(network="ours", precision="bf16", native=True),
    "ours, native, bf16, checkpointing": Variant(network="ours", precision="bf16", checkpointing=True, native=True),
    "official, bf16": Variant(network="official", precision="bf16"),
    "official, use_checkpoint": Variant(network="official", checkpointing=True),
}


def available() -> list[str]:
    """The variants that can be measured here: those with hat-sr-native where it is installed."""
    installed = importlib.util.find_spec("hat_sr_native") is not None
    return [name for name, variant in VARIANTS.items() if installed or not variant.native]


Step = Callable[[], float]
"""Takes one step and returns its loss."""

Measured = dict[str, Any]
"""losses: of all steps. seconds: of all but the first. built_mib, peak_mib: the process's memory before the steps, and
its highest during them."""


def write_weights(case: Case, path: Path) -> None:
    """Write weights so large that every part moves the loss; those of a fresh HAT would hide even a missing mask."""
    torch.manual_seed(0)
    network = HAT(_config(case))
    for name, weight in network.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(weight)
        elif name.startswith("layers.") and weight.dim() > 1:
            nn.init.normal_(weight, std=(8 / weight[0].numel()) ** 0.5)
    save_model(network, path, format="official")


def measure(case: Case, variant: Variant, weights: Path, *, steps: int, threads: int) -> Measured:
    """Take 1 + `steps` steps on the same batch; the first one is not timed."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch_size, 3, case.patch_size, case.patch_size)
    lr = torch.rand(shape, generator=generator)
    hr = torch.rand(*shape[:2], *(case.config.upscale * side for side in shape[2:]), generator=generator)
    recipe = _recipe(case, variant, weights)
    if variant.network == "ours":
        keep_freed_memory(everything=True)  # as `hat-sr train` does
        state = start_state(recipe, Processes(device=torch.device("cpu")))
        step: Step = partial(train_step, state, Batch(lr=lr, hr=hr, names=(), skipped=()))
    else:
        step = _official_step(recipe, variant, weights, lr, hr)

    # 5 sets the peak back to what is in use now (proc(5)): to make the networks took more for a moment.
    Path("/proc/self/clear_refs").write_text("5")
    built = resident_mib("VmRSS")
    with contextlib.nullcontext() if variant.native else without_native():
        losses, seconds = [step()], []
        for _ in range(steps):
            since = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - since)
    return {"losses": losses, "seconds": seconds, "built_mib": built, "peak_mib": resident_mib("VmHWM")}


def _official_step(recipe: Recipe, variant: Variant, weights: Path, lr: torch.Tensor, hr: torch.Tensor) -> Step:
    network = build_official(recipe.architecture, use_checkpoint=variant.checkpointing)
    network.load_state_dict(torch.load(weights, weights_only=True)["params_ema"])
    network.train()
    ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.optim.ema_decay))
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.optim.learning_rate, betas=recipe.optim.betas)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=variant.precision == "bf16"):
            sr = network(lr)
        loss = F.l1_loss(sr.float(), hr)
        loss.backward()
        optimizer.step()
        ema.update_parameters(network)
        return float(loss.detach())

    return step


def _recipe(case: Case, variant: Variant, weights: Path) -> Recipe:
    return Recipe(
        model=_config(case),
        data=DataConfig(sources=(SourceConfig(path="none"),), patch_size=case.patch_size, batch_size=case.batch_size),
        optim=OptimConfig(total_steps=1000),
        start_from=str(weights),
        device="cpu",
        precision=variant.precision,
        activation_checkpointing=variant.checkpointing and variant.network == "ours",
    )


def _config(case: Case) -> HATConfig:
    # The two networks would drop other paths.
    return replace(case.config, drop_path_rate=0.0)


if __name__ == "__main__":
    case_name, variant_name, weights_file, num_steps, num_threads = sys.argv[1:]
    measured = measure(
        CASES[case_name], VARIANTS[variant_name], Path(weights_file), steps=int(num_steps), threads=int(num_threads)
    )
    print(json.dumps(measured))
