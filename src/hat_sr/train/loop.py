"""The training loop: it orders, `train_step` computes."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hat_sr import __version__
from hat_sr.errors import HatError, TrainingError
from hat_sr.train.config import Recipe
from hat_sr.train.data.batches import Batch, open_data
from hat_sr.train.distributed import (
    Processes,
    all_of,
    mean_and_any,
    open_processes,
    whole,
    whole_state,
    without_exchange,
)
from hat_sr.train.network import write_weights
from hat_sr.train.optim import ema_decay, learning_rate
from hat_sr.train.record import RunRecord, check_run, written_to
from hat_sr.train.state import TrainState, has_state, read_state, resume_state, save_state, start_state
from hat_sr.train.stop import stop_requests
from hat_sr.train.validate import validate

logger = logging.getLogger(__name__)

Progress = Callable[[int, dict[str, float]], None]
"""Called with the number of steps done and what is known then: loss, learning_rate, steps_per_second, psnr …"""


def train(recipe: Recipe, folder: Path, *, on_progress: Progress | None = None) -> TrainState:
    """Train by `recipe` in `folder`, going on from the state there if there is one; alone or under torchrun.

    Writes into `folder`: state.pt (everything needed to go on) and the one before it, weights.safetensors (the averaged
    network), best.safetensors (that of the best validation), recipe.toml, log.jsonl, pictures, TensorBoard's files,
    and, after a loss or gradient that is no number, stopped.pt and stopped.safetensors (as state.pt and
    weights.safetensors, of the step before).
    Resumed or not, the weights after each step are the same, bit for bit. SIGINT, SIGTERM and SIGHUP save the state
    first.

    Returns the last state. Raises ConfigError, DataError for the data, WeightsError for a state of another recipe, and
    TrainingError if the loss is no longer a number or another process has ended.
    """
    with stop_requests() as request, open_processes(recipe.device) as processes:
        run = _Run(recipe, folder, processes, on_progress)
        try:
            for batch in run.batches:
                run.advance(batch)
                if mean_and_any(0.0, request.number is not None)[1]:
                    run.save()
                    logger.warning("stopped after step %d, which is saved: the same command goes on", run.state.step)
                    break
        finally:
            run.close()
        return run.state


def is_finished(recipe: Recipe, folder: Path) -> bool:
    """True if all steps of `recipe` are done in `folder` and the weights are there.

    Raises WeightsError for a state of another recipe.
    """
    saved = read_state(folder / "state.pt", recipe)
    done = saved is not None and int(saved["step"]) >= recipe.optim.total_steps
    return done and (folder / "weights.safetensors").exists()


class _Run:
    """One training under way: the state, and what has gathered since the last report."""

    def __init__(self, recipe: Recipe, folder: Path, processes: Processes, on_progress: Progress | None) -> None:
        check_run(recipe, folder)
        self.recipe, self.folder, self.processes, self.on_progress = recipe, folder, processes, on_progress
        self.state = start_state(recipe, processes, resuming=has_state(self.state_file))
        if resume_state(self.state, self.state_file):
            logger.info("going on from step %d of %s", self.state.step, self.state_file)
        if self.state.step >= recipe.optim.total_steps:
            logger.warning("all of optim.total_steps %d are done: nothing is trained", recipe.optim.total_steps)
            self._write_weights("weights.safetensors", whole_state(self.state.averaged))
        self.batches = open_data(
            recipe.data,
            scale=recipe.upscale,
            seed=recipe.seed,
            first_step=self.state.step,
            total_steps=recipe.optim.total_steps,
            rank=processes.rank,
            num_ranks=processes.size,
        )
        self.record = RunRecord(folder, recipe, self.state.step) if processes.first else None
        self.losses: list[dict[str, float]] = []
        self.waited = 0.0
        self.since = self.ready = time.perf_counter()

    @property
    def state_file(self) -> Path:
        return self.folder / "state.pt"

    def advance(self, batch: Batch) -> None:
        """One step, and whatever is due after it."""
        self.waited += time.perf_counter() - self.ready
        try:
            loss = train_step(self.state, batch)
            self.losses.append({"loss": loss, **self.state.losses})
        except TrainingError:
            # Not in place of the last saved state: the fault may be in the weights that gave this loss.
            try:
                save_state(self.state, self.folder / "stopped.pt")
                self._write_weights("stopped.safetensors", whole_state(self.state.averaged))
            except OSError as error:
                logger.error("the state before it cannot be kept: %s", error)
            raise
        log, step = self.recipe.log, self.state.step
        last = step == self.recipe.optim.total_steps
        stepped = time.perf_counter()
        record = self._report() if step % log.report_every == 0 or last else {}
        if log.validation_folder is not None and (step % log.validate_every == 0 or last):
            try:
                record |= self._validate(Path(log.validation_folder))
            except HatError:
                if self.processes.size == 1:  # of several, the others do not know of it, and saving needs all
                    self.save()
                raise
        if record and self.record is not None:
            self.record.write(step, record)
        if step % log.save_every == 0 or last:
            self.save()
        if record and self.record is not None and self.on_progress is not None:
            self.on_progress(step, record)
        self.ready = time.perf_counter()
        self.since += self.ready - stepped  # what is due after a step does not count as steps

    def save(self) -> None:
        """Write the state and the averaged weights."""
        with written_to(self.folder):
            save_state(self.state, self.state_file)
            self._write_weights("weights.safetensors", whole_state(self.state.averaged))

    def close(self) -> None:
        """Let go of the run's folder, and of what wraps the network for several processes, before they part."""
        self.state = replace(self.state, running=self.state.network)
        if self.record is not None:
            self.record.close()

    def _report(self) -> dict[str, float]:
        now = time.perf_counter()
        elapsed = now - self.since
        record = {
            **{name: sum(losses[name] for losses in self.losses) / len(self.losses) for name in self.losses[0]},
            "learning_rate": learning_rate(self.recipe.optim, self.state.step - 1),
            "steps_per_second": len(self.losses) / elapsed,
            "waiting_for_data": self.waited / elapsed,
        }
        self.losses, self.waited, self.since = [], 0.0, now
        return record

    def _validate(self, folder: Path) -> dict[str, float]:
        weights = whole_state(self.state.averaged)
        if self.record is None:
            return {}
        score, pictures = validate(self.recipe, weights, folder, self.processes.device)
        self.record.write_pictures(self.state.step, pictures)
        if score.psnr > self.state.best_psnr:
            self.state.best_psnr = score.psnr
            with written_to(self.folder):
                self._write_weights("best.safetensors", weights)
        return {"psnr": score.psnr, "ssim": score.ssim}

    def _write_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        if self.processes.first:
            made = {"steps": str(self.state.step), "trained_by": f"hat-sr {__version__}"}
            write_weights(self.recipe, weights, self.folder / name, self.recipe.provenance | made)


def train_step(state: TrainState, batch: Batch) -> float:
    """One step: the loss of the whole batch before the update.

    Raises TrainingError, naming the images, if it is no number or above optim.largest_loss, or the gradient is not
    finite; the weights are then as they were.
    """
    optim, rank = state.recipe.optim, state.processes.rank
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(optim, state.step)
    # What drop path draws depends on the step alone, so a training that goes on draws the same.
    torch.manual_seed(int(np.random.SeedSequence((state.recipe.seed, state.step, rank)).generate_state(1)[0]))
    loss, _ = mean_and_any(compute_gradients(state, batch, num_parts=optim.accumulate), False)
    if not loss <= optim.largest_loss:
        raise _unusable(state, batch, "loss", f"{loss}, above optim.largest_loss {optim.largest_loss} or no number")
    norm = torch.nn.utils.clip_grad_norm_(state.weights, optim.clip_norm or math.inf)
    if not math.isfinite(whole(norm).item()):
        raise _unusable(state, batch, "gradient", "not finite")
    if state.objective.adversary is not None:
        state.objective.adversary.step(state.step)
    if state.objective.trains_network(state.step):
        state.optimizer.step()
    get_ema_multi_avg_fn(ema_decay(optim, state.step))(state.averaged_weights, state.weights, state.step)
    if state.recipe.network is not None:  # running statistics and the like; HAT has none
        for running, own, averaged in zip(
            *(m.buffers() for m in (state.running, state.network, state.averaged)), strict=True
        ):
            own.copy_(running)
            averaged.copy_(running)
    state.step += 1
    return loss


def _unusable(state: TrainState, batch: Batch, what: str, found: str) -> TrainingError:
    """The error for a step that cannot be done; its gradients are dropped."""
    state.optimizer.zero_grad()
    return TrainingError(
        f"the {what} of step {state.step + 1} is {found}. If a state has been saved, the same command goes on from "
        "it; the averaged weights just before this step are in stopped.safetensors, their state in stopped.pt. Lower "
        "optim.learning_rate, or look at the "
        f"images of the batch: {', '.join(dict.fromkeys(all_of(batch.names)))}"
    )


def compute_gradients(state: TrainState, batch: Batch, *, num_parts: int = 1) -> float:
    """Set the gradients of `state.network` to those of the loss of one batch, in parts; returns the loss.

    The discriminator's are set, too, if there is one. `state.losses` has the losses by name if there are several.
    """
    weights, running = state.weights, state.running_weights
    copied = running[0] is not weights[0]
    if copied:
        with torch.no_grad():
            torch._foreach_copy_(running, weights)
        state.optimizer.zero_grad()
    state.running.train()
    _drop_gradients(running)
    if state.objective.adversary is not None:
        state.objective.adversary.optimizer.zero_grad()
    found: Counter[str] = Counter()
    lrs, hrs = batch.lr.chunk(num_parts), batch.hr.chunk(num_parts)
    teachers = [None] * len(lrs) if batch.teacher is None else batch.teacher.chunk(num_parts)
    device = running[0].device
    for number, (lr, hr, teacher) in enumerate(zip(lrs, hrs, teachers, strict=True)):
        lr, hr, teacher = lr.to(device), hr.to(device), None if teacher is None else teacher.to(device)
        if state.recipe.network is not None:  # HAT takes images that are finer than its weights
            lr = lr.to(running[0].dtype)
        share = len(lr) / len(batch.lr)
        with without_exchange(state.running, when=number < len(lrs) - 1 and not copied):
            sr = state.running(lr).float()
            losses = state.objective.losses(sr, hr, teacher)
            loss = torch.stack(list(losses.values())).sum() if len(losses) > 1 else next(iter(losses.values()))
            loss = loss * share
            loss.backward()
        found.update({"loss": loss.item()})
        if len(losses) > 1:
            found.update({name: share * value.item() for name, value in losses.items()})
        found.update(state.objective.learn(sr, hr, teacher, share=share))
        if copied:  # summed in float32
            for weight, copy in zip(weights, running, strict=True):
                if copy.grad is not None:
                    weight.grad = copy.grad.float() if weight.grad is None else weight.grad.add_(copy.grad)
            _drop_gradients(running)
    total = found.pop("loss")
    state.losses = dict(found)
    return total if math.isfinite(total + sum(found.values())) else math.nan


def _drop_gradients(weights: list[Tensor]) -> None:
    for weight in weights:
        weight.grad = None
