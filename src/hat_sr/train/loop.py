"""The training loop: it orders, `train_step` computes."""

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr import __version__
from hat_sr.errors import TrainingError
from hat_sr.evaluate.benchmark import benchmark, mean_score
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.inference.pad import padded
from hat_sr.model.checkpoint import save_model
from hat_sr.train.config import Recipe
from hat_sr.train.data import open_data
from hat_sr.train.optim import learning_rate
from hat_sr.train.state import TrainState, resume_state, save_state, start_state

logger = logging.getLogger(__name__)

Progress = Callable[[int, dict[str, float]], None]
"""Called with the number of steps done and what is known then: loss, learning_rate, steps_per_second, psnr …"""


def train(recipe: Recipe, folder: Path, *, on_progress: Progress | None = None) -> TrainState:
    """Train by `recipe` in `folder`, going on from the state there if there is one.

    Writes state.pt (everything needed to go on), weights.safetensors (the averaged network) and log.jsonl into
    `folder`, and returns the last state. Resumed or not, the steps and their numbers are the same.

    Raises DataError for the data, WeightsError for a state of another recipe, and TrainingError if the loss is no
    longer a number; the last saved state is then still that of before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / "state.pt"
    state = start_state(recipe)
    if resume_state(state, state_file):
        logger.info("going on from step %d of %s", state.step, state_file)
    total_steps = recipe.optim.total_steps
    batches = open_data(
        recipe.data, scale=recipe.model.upscale, seed=recipe.seed, first_step=state.step, total_steps=total_steps
    )

    losses: list[float] = []
    since = time.monotonic()
    for lr, hr in batches:
        losses.append(train_step(state, recipe, lr, hr))
        record: dict[str, float] = {}
        if state.step % recipe.log.report_every == 0 or state.step == total_steps:
            record["loss"] = sum(losses) / len(losses)
            record["learning_rate"] = learning_rate(recipe.optim, state.step - 1)
            record["steps_per_second"] = len(losses) / (time.monotonic() - since)
            losses.clear()
            since = time.monotonic()
        if state.step % recipe.log.validate_every == 0 or state.step == total_steps:
            record |= validate(state, recipe)
        if state.step % recipe.log.save_every == 0 or state.step == total_steps:
            save_state(state, state_file)
            made = {"steps": str(state.step), "trained_by": f"hat-sr {__version__}"}
            save_model(state.averaged, folder / "weights.safetensors", provenance=recipe.provenance | made)
        if record:
            with (folder / "log.jsonl").open("a") as file:
                file.write(json.dumps({"step": state.step} | record) + "\n")
            if on_progress is not None:
                on_progress(state.step, record)
    return state


def train_step(state: TrainState, recipe: Recipe, lr: Tensor, hr: Tensor) -> float:
    """One step on one batch, (B, C, H, W) and (B, C, s·H, s·W) in [0, 1]: the L1 loss before the update."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe.optim, state.step)
    state.model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
        loss = F.l1_loss(state.model(lr), hr)
    if not math.isfinite(loss.item()):
        raise TrainingError(
            f"the loss of step {state.step} is {loss.item()}: lower optim.learning_rate and start again"
        )
    state.optimizer.zero_grad()
    loss.backward()
    if recipe.optim.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.optim.clip_norm)
    state.optimizer.step()
    state.ema.update_parameters(state.model)
    state.step += 1
    return loss.item()


def validate(state: TrainState, recipe: Recipe) -> dict[str, float]:
    """PSNR (dB) and SSIM on Y of the averaged weights on the validation folder; nothing if there is none."""
    if recipe.log.validation_folder is None:
        return {}
    model = state.averaged.eval()
    upscale = padded(model, multiple=model.config.window_size, scale=model.config.upscale)
    results = [
        result.model
        for dataset in find_datasets(Path(recipe.log.validation_folder), model.config.upscale)
        for result in benchmark(upscale, dataset)
    ]
    score = mean_score(results)
    return {"psnr": score.psnr, "ssim": score.ssim}
