"""Train one body for several tasks, each with a head and a tail of its own (as IPT and EDT are pre-trained)."""

import copy
import dataclasses
import logging
import operator
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hat_sr.checkpoints import storage
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.train.config import Recipe
from hat_sr.train.data.batches import open_data
from hat_sr.train.distributed import open_processes
from hat_sr.train.loop import Progress, train_step
from hat_sr.train.network import build_network, write_weights
from hat_sr.train.objective import Objective
from hat_sr.train.optim import learning_rate, make_optimizer
from hat_sr.train.record import RunRecord, check_run, written_to
from hat_sr.train.state import TrainState
from hat_sr.train.stop import stop_requests
from hat_sr.train.validate import validate

logger = logging.getLogger(__name__)

BODY = ("patch_embed", "layers", "norm", "conv_after_body")
"""What the tasks share: all but the first convolution and the reconstruction."""


class SharedBody(nn.Module):
    """Several HATs with one body; `task` is the number of the one that runs."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        first, *others = networks
        for network in others:
            for part in BODY:
                setattr(network, part, getattr(first, part))
        self.networks = nn.ModuleList(networks)
        self.task = 0

    def forward(self, x: Tensor) -> Tensor:
        """As the HAT of the current task."""
        out: Tensor = self.networks[self.task](x)
        return out


def check_tasks(recipes: Sequence[Recipe]) -> None:
    """Raise ConfigError unless the recipes are of HATs that can share a body and be trained here."""
    for recipe in recipes:
        if recipe.model is None or recipe.precision != "fp32" or recipe.start_from is not None:
            raise ConfigError("tasks are trained with [model], precision 'fp32' and without start_from")
        if dataclasses.replace(recipe.model, upscale=recipes[0].upscale) != recipes[0].model:
            raise ConfigError("tasks share the network's body: of [model], only upscale may differ")


def train_tasks(recipes: Sequence[Recipe], folder: Path, *, on_progress: Progress | None = None) -> TrainState:
    """Train step by step by one recipe after the other; what is written, and goes on, is as for `hat_sr.train.train`.

    Step n is of recipe n modulo their number; [optim], [log] and the network that is validated and written are the
    first's. In one process. Raises as `train`, and as `check_tasks`.
    """
    check_tasks(recipes)
    recipe, log = recipes[0], recipes[0].log
    with stop_requests() as request, open_processes(recipe.device) as processes:
        if processes.size > 1:
            raise ConfigError("tasks that share a body are trained in one process: start this without torchrun")
        check_run(recipe, folder)
        network = SharedBody([build_network(each) for each in recipes]).to(processes.device)
        averaged = copy.deepcopy(network).requires_grad_(False)
        state = TrainState(
            recipe=recipe,
            processes=processes,
            network=network,
            running=network,
            averaged=averaged,
            optimizer=make_optimizer(recipe.optim, network),
            objective=Objective(recipe, processes.device),
        )
        _resume(state, folder / "state.pt")
        total = recipe.optim.total_steps
        batches = [
            iter(
                open_data(
                    each.data,
                    scale=each.upscale,
                    seed=each.seed,
                    # How many of the steps before are of this task: those are its own numbers, from 0 on.
                    first_step=len(range(task, state.step, len(recipes))),
                    total_steps=total,
                )
            )
            for task, each in enumerate(recipes)
        ]
        record = RunRecord(folder, recipe, state.step)
        losses: list[float] = []
        since = time.perf_counter()
        try:
            while state.step < total and request.number is None:
                network.task = state.step % len(recipes)
                losses.append(train_step(state, next(batches[network.task])))
                step, last = state.step, state.step == total
                stepped = time.perf_counter()
                found: dict[str, float] = {}
                if step % log.report_every == 0 or last:
                    found = {
                        "loss": sum(losses) / len(losses),
                        "learning_rate": learning_rate(recipe.optim, step - 1),
                        "steps_per_second": len(losses) / (stepped - since),
                    }
                    losses, since = [], stepped
                if log.validation_folder is not None and (step % log.validate_every == 0 or last):
                    score, _ = validate(recipe, _first(averaged), Path(log.validation_folder), processes.device)
                    found |= {"psnr": score.psnr, "ssim": score.ssim}
                if found:
                    record.write(step, found)
                    if on_progress is not None:
                        on_progress(step, found)
                if step % log.save_every == 0 or last:
                    _save(state, folder)
                since += time.perf_counter() - stepped  # what is due after a step does not count as steps
            if state.step < total:
                _save(state, folder)
        finally:
            record.close()
        return state


def _first(shared: nn.Module) -> dict[str, Tensor]:
    """The whole state of the first task's network."""
    start = "networks.0."
    return {key.removeprefix(start): value for key, value in shared.state_dict().items() if key.startswith(start)}


def _save(state: TrainState, folder: Path) -> None:
    content = {
        "step": state.step,
        "network": state.network.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
    }
    with written_to(folder):
        storage.write_pickle(folder / "state.pt", content)
        write_weights(state.recipe, _first(state.averaged), folder / "weights.safetensors", state.recipe.provenance)


def _resume(state: TrainState, path: Path) -> None:
    if not path.exists():
        return
    try:
        content: Any = storage.read_file(path)[0]
        state.network.load_state_dict(content["network"])
        state.averaged.load_state_dict(content["averaged"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.step = operator.index(content["step"])
    except (WeightsError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} does not belong to these tasks: delete it to start anew. {error}") from error
    logger.info("going on from step %d of %s", state.step, path)
