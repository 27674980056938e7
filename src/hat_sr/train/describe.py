"""What a recipe would do, without doing it."""

import time
from dataclasses import replace
from pathlib import Path

from hat_sr.degradation.config import DegradationConfig
from hat_sr.model.config import HATConfig
from hat_sr.model.cost import multiply_adds
from hat_sr.train.config import Recipe, SourceConfig
from hat_sr.train.data.batches import Batches, open_data
from hat_sr.train.data.sources import open_source
from hat_sr.train.distributed import open_processes
from hat_sr.train.loop import compute_gradients
from hat_sr.train.optim import learning_rate
from hat_sr.train.record import check_run
from hat_sr.train.state import TrainState, has_state, resume_state, start_state


def describe(recipe: Recipe, folder: Path) -> list[str]:
    """Build the network and its optimizer, open the data, time one patch, and say in lines what it would be.

    `folder` is where the training would be written; what is there already is read, nothing is written. Raises what
    `train` would raise for the settings, the data, or a state of another recipe.
    """
    check_run(recipe, folder)
    data, optim = replace(recipe.data, num_workers=0), recipe.optim
    with open_processes(recipe.device) as processes:
        state = start_state(recipe, processes, resuming=has_state(folder / "state.pt"))
        resumed = resume_state(state, folder / "state.pt")
        counts = [_count(source, recipe) for source in data.sources]
        batches = open_data(
            data,
            scale=recipe.upscale,
            seed=recipe.seed,
            first_step=state.step,
            total_steps=state.step + 2,
            rank=processes.rank,
            num_ranks=processes.size,
        )
        reading, seconds = _seconds_a_patch(state, batches) if state.step < optim.total_steps else (0.0, 0.0)
    if not processes.first:
        return []
    num_weights = sum(weight.numel() for weight in state.network.parameters())
    left = optim.total_steps - state.step
    samples = optim.total_steps * data.batch_size
    rates = [learning_rate(optim, step) for step in (0, optim.total_steps // 2, optim.total_steps - 1)]
    lines = [
        f"network    {_name(recipe)}, {num_weights:,} parameters, ×{recipe.upscale}, {recipe.precision} on "
        f"{processes.device}" + (f", {processes.size} processes ({recipe.distribution})" if processes.size > 1 else ""),
        f"start      {_start(recipe)}",
        *(
            f"data       {source.path} ({source.kind}): {count}"
            for source, count in zip(data.sources, counts, strict=True)
        ),
        f"batch      {data.batch_size} patches of {data.patch_size}×{data.patch_size} low-resolution pixels"
        + (f", in {optim.accumulate} parts" if optim.accumulate > 1 else ""),
        *([f"degraded   {_degraded(data.degradation)}"] if data.degradation is not None else []),
        f"loss       {optim.loss}" + (f" and {optim.frequency_weight} × frequencies" if optim.frequency_weight else ""),
        f"steps      {optim.total_steps:,}, which is {samples:,} patches",
        f"time       about {_hours(seconds * data.batch_size * left / processes.size)} for the {left:,} steps to do, "
        f"by the time of one patch here: {1000 * seconds:.0f} ms; {1000 * reading:.0f} ms more to read it"
        + (f", in {recipe.data.num_workers} other processes" if recipe.data.num_workers else ""),
        f"rate       {rates[0]:.3g} at the first step, {rates[1]:.3g} half-way, {rates[2]:.3g} at the last "
        f"({optim.schedule})",
        f"validation {recipe.log.validation_folder or 'none: set log.validation_folder'}",
        f"folder     {folder}" + (f": would go on from step {state.step:,}" if resumed else ": a new training"),
    ]
    if isinstance(recipe.architecture, HATConfig):
        cost = multiply_adds(recipe.architecture, data.patch_size, data.patch_size)
        lines.insert(
            1, f"cost       {cost / 1e9:.3g} G multiply-adds a patch forward, about three times that in a step"
        )
    return lines


def _degraded(config: DegradationConfig) -> str:
    shares = {"mild": config.mild, "clean": config.clean}
    told = [f"{share:.0%} of the patches {name}" for name, share in shares.items() if share]
    return ", ".join([f"{len(config.passes)} passes", *told, *(["target sharpened"] if config.sharpen else [])])


def _seconds_a_patch(state: TrainState, batches: Batches) -> tuple[float, float]:
    """To read one, of the second batch; and of the second of two passes forward and backward, whose gradients are
    dropped."""
    items = iter(batches)
    batch = next(items)
    since = time.monotonic()
    next(items)
    reading = (time.monotonic() - since) / len(batch.names)
    one = batch._replace(lr=batch.lr[:1], hr=batch.hr[:1])
    for _ in range(2):
        since = time.monotonic()
        compute_gradients(state, one)
        seconds = time.monotonic() - since
    return reading, seconds


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


def _count(source: SourceConfig, recipe: Recipe) -> str:
    if source.kind == "webdataset":
        return "a stream, its images are not counted"
    return f"{len(open_source(source, Path(recipe.data.root), scale=recipe.upscale)):,} images"
