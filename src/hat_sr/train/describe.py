"""What a recipe would do, without doing it."""

import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hat_sr.degradation.config import DegradationConfig
from hat_sr.errors import DataError
from hat_sr.model.config import HATConfig
from hat_sr.model.cost import multiply_adds
from hat_sr.train.config import Recipe, SourceConfig
from hat_sr.train.data.batches import Batches, open_data
from hat_sr.train.data.patches import Batch
from hat_sr.train.data.sources import open_source
from hat_sr.train.data.stream import list_shards
from hat_sr.train.distributed import Processes, open_processes
from hat_sr.train.loop import compute_gradients
from hat_sr.train.network import missing_start
from hat_sr.train.optim import learning_rate
from hat_sr.train.record import check_run
from hat_sr.train.state import TrainState, has_state, read_state, resume_state, start_state


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a recipe would do."""

    lines: tuple[str, ...]
    missing: tuple[str, ...]
    """A sentence for everything that the training needs and that is not there yet: data, weights to start from."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that a patch takes."""

    patch: float
    """Forward and backward."""
    reading: float | None = None
    """To read it; None if there is no data."""


def describe(recipe: Recipe, folder: Path, *, trust: bool = False, follows: bool = False) -> Description:
    """Build the network and its optimizer, open the data, time one patch, and say in lines what it would be.

    `folder` is where the training would be written; what is there already is read, nothing is written. Without
    `trust` nothing is imported that the recipe names, and nothing is built if it names code. Where data is missing, the
    patch is a random one. With `follows`, another stage comes first and writes the weights to start from. Raises what
    `train` would raise for the settings, or a state of another recipe.
    """
    missing: list[str] = []
    try:
        check_run(recipe, folder)
    except DataError as error:
        missing.append(str(error))
    counts = [_count(source, recipe, missing) for source in recipe.data.sources]
    resuming = has_state(folder / "state.pt")
    if not resuming and (start := missing_start(recipe)):
        if not follows:
            missing.append(start)
        recipe_to_build = replace(recipe, start_from=None)
    else:
        recipe_to_build = recipe
    with open_processes(recipe.device) as processes:
        if _names_code(recipe) and not trust:
            saved = read_state(folder / "state.pt", recipe)
            network = "not built: the recipe names code, which --trust runs"
            step, timing = 0 if saved is None else int(saved["step"]), None
        else:
            state = start_state(recipe_to_build, processes, resuming=resuming)
            resume_state(state, folder / "state.pt")
            network = f"{sum(weight.numel() for weight in state.network.parameters()):,} parameters"
            step, timing = state.step, Timing(patch=0.0)
            if step < recipe.optim.total_steps:
                timing = _timed(state, None if missing else _batches(recipe, state))
    if not processes.first:
        return Description(lines=(), missing=())
    lines = [
        f"network    {_name(recipe)}, {network}, ×{recipe.upscale}, {recipe.precision} on {processes.device}"
        + (f", {processes.size} processes ({recipe.distribution})" if processes.size > 1 else ""),
        *_cost(recipe),
        f"start      {_start(recipe)}",
        *(
            f"data       {source.path} ({source.kind}): {count}"
            for source, count in zip(recipe.data.sources, counts, strict=True)
        ),
        *_settings(recipe),
        *_time(recipe, processes, step, timing),
        f"validation {recipe.log.validation_folder or 'none: set log.validation_folder'}",
        f"folder     {folder}" + (f": would go on from step {step:,}" if resuming else ": a new training"),
    ]
    return Description(lines=tuple(lines), missing=tuple(missing))


def _settings(recipe: Recipe) -> list[str]:
    data, optim = recipe.data, recipe.optim
    rates = [learning_rate(optim, step) for step in (0, optim.total_steps // 2, optim.total_steps - 1)]
    return [
        f"batch      {data.batch_size} patches of {data.patch_size}×{data.patch_size} low-resolution pixels"
        + (f", in {optim.accumulate} parts" if optim.accumulate > 1 else ""),
        *([f"degraded   {_degraded(data.degradation)}"] if data.degradation is not None else []),
        f"loss       {optim.loss}" + (f" and {optim.frequency_weight} × frequencies" if optim.frequency_weight else ""),
        f"steps      {optim.total_steps:,}, which is {optim.total_steps * data.batch_size:,} patches",
        f"rate       {rates[0]:.3g} at the first step, {rates[1]:.3g} half-way, {rates[2]:.3g} at the last "
        f"({optim.schedule})",
    ]


def _cost(recipe: Recipe) -> list[str]:
    if not isinstance(recipe.architecture, HATConfig):
        return []
    cost = multiply_adds(recipe.architecture, recipe.data.patch_size, recipe.data.patch_size)
    return [f"cost       {cost / 1e9:.3g} G multiply-adds a patch forward, about three times that in a step"]


def _time(recipe: Recipe, processes: Processes, step: int, timing: Timing | None) -> list[str]:
    left = recipe.optim.total_steps - step
    if timing is None:
        return [f"time       not known, for the {left:,} steps to do"]
    total, reading = _hours(timing.patch * recipe.data.batch_size * left / processes.size), ""
    if timing.reading is not None:
        reading = f"; {1000 * timing.reading:.0f} ms more to read it"
        reading += f", in {recipe.data.num_workers} other processes" if recipe.data.num_workers else ""
    return [
        f"time       about {total} for the {left:,} steps to do, by the time of one patch here: "
        f"{1000 * timing.patch:.0f} ms{reading}",
        f"machine    {_machine(processes)}, torch {torch.__version__}",
    ]


def _machine(processes: Processes) -> str:
    """What a time was measured on."""
    if processes.device.type == "cuda":
        return torch.cuda.get_device_name(processes.device)
    names = []
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} threads"


def _batches(recipe: Recipe, state: TrainState) -> Batches:
    return open_data(
        replace(recipe.data, num_workers=0),
        scale=recipe.upscale,
        seed=recipe.seed,
        first_step=state.step,
        total_steps=state.step + 2,
        rank=state.processes.rank,
        num_ranks=state.processes.size,
    )


def _random_batch(recipe: Recipe) -> Batch:
    side = recipe.data.patch_size
    lr, hr = (torch.rand(1, 3, factor * side, factor * side) for factor in (1, recipe.upscale))
    teacher = hr if any(source.teacher_path for source in recipe.data.sources) else None
    return Batch(lr=lr, hr=hr, names=("random pixels",), skipped=(), teacher=teacher)


def _degraded(config: DegradationConfig) -> str:
    shares = {"mild": config.mild, "clean": config.clean}
    told = [f"{share:.0%} of the patches {name}" for name, share in shares.items() if share]
    return ", ".join([f"{len(config.passes)} passes", *told, *(["target sharpened"] if config.sharpen else [])])


def _timed(state: TrainState, batches: Batches | None) -> Timing:
    """Of the second batch, to read it; and of the second of two passes forward and backward.

    Their gradients are dropped. Without batches, of random pixels.
    """
    reading = None
    if batches is None:
        batch = _random_batch(state.recipe)
    else:
        items = iter(batches)
        batch = next(items)
        since = time.monotonic()
        next(items)
        reading = (time.monotonic() - since) / len(batch.names)
    teacher = None if batch.teacher is None else batch.teacher[:1]
    one = batch._replace(lr=batch.lr[:1], hr=batch.hr[:1], teacher=teacher)
    for _ in range(2):
        since = time.monotonic()
        compute_gradients(state, one)
        seconds = time.monotonic() - since
    return Timing(patch=seconds, reading=reading)


def _names_code(recipe: Recipe) -> bool:
    """True if the network or the extractor of features is one that the recipe names as module:name."""
    return recipe.network is not None or (recipe.perceptual is not None and ":" in recipe.perceptual.extractor)


def _hours(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _name(recipe: Recipe) -> str:
    return recipe.network.entry if recipe.network else "HAT"


def _start(recipe: Recipe) -> str:
    if recipe.start_from is not None:
        return f"from {recipe.start_from}"
    return "as a bicubic interpolator" if recipe.start == "interpolator" else "from random weights"


def _count(source: SourceConfig, recipe: Recipe, missing: list[str]) -> str:
    """How many images there are, in words; what is wrong with the source is added to `missing`."""
    root = Path(recipe.data.root)
    try:
        if source.kind == "webdataset":
            return f"{len(list_shards(source, root)):,} shards, a stream whose images are not counted"
        return f"{len(open_source(source, root, scale=recipe.upscale)):,} images"
    except DataError as error:
        missing.append(str(error))
        return "not there"
