"""What a training needs to go on exactly where it stopped, and its file."""

import copy
import json
import logging
import math
import os
import shutil
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from hat_sr.checkpoints import storage
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.files import replacing
from hat_sr.model.hat import HAT
from hat_sr.train.config import Recipe
from hat_sr.train.distributed import (
    Processes,
    check_same,
    set_whole_optimizer_state,
    set_whole_state,
    shard,
    shared,
    whole_optimizer_state,
    whole_state,
)
from hat_sr.train.network import build_network
from hat_sr.train.objective import Objective
from hat_sr.train.optim import make_optimizer
from hat_sr.train.recipe import differences

logger = logging.getLogger(__name__)

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError)
"""What `zipfile` raises for a damaged file, besides RuntimeError, ValueError and OSError."""

_KINDS = {"step": int, "best_psnr": float, "recipe": dict, "network": dict, "averaged": dict, "optimizer": dict}
"""What a state's file holds."""


@dataclass
class TrainState:
    """Weights, their average, the optimizer, and how far the training is."""

    recipe: Recipe
    processes: Processes
    network: nn.Module
    """The weights in float32, which the optimizer changes."""
    running: nn.Module
    """What runs forward and backward: `network`, or its copy in bfloat16, wrapped if there are several processes."""
    averaged: nn.Module
    """The exponential moving average of the weights, which is what is validated and kept."""
    optimizer: Adam
    objective: Objective
    """The losses, and the discriminator if there is one."""
    step: int = 0
    """Steps done. The number of the next one, and with the seed all that its samples and random numbers depend on."""
    best_psnr: float = -math.inf
    """The highest PSNR of a validation so far, dB."""
    losses: dict[str, float] = field(default_factory=dict)
    """Those of the last step, by name, where there is more than one."""

    # Kept, since going through the modules takes a hundredth of a step of a small network.
    @cached_property
    def weights(self) -> list[Tensor]:
        """Those of `network`."""
        return list(self.network.parameters())

    @cached_property
    def running_weights(self) -> list[Tensor]:
        """Those of `running`."""
        return list(self.running.parameters())

    @cached_property
    def averaged_weights(self) -> list[Tensor]:
        """Those of `averaged`."""
        return list(self.averaged.parameters())


def start_state(recipe: Recipe, processes: Processes, *, resuming: bool = False) -> TrainState:
    """The state before the first step; the same for the same recipe, in every process.

    With `resuming` the weights are about to be replaced, and the file of `start_from` is not read.
    """
    network = build_network(replace(recipe, start_from=None) if resuming else recipe).to(processes.device)
    averaged = copy.deepcopy(network).requires_grad_(False)
    dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
    sharded = recipe.distribution == "fsdp" and processes.size > 1
    if sharded:
        shard(network, dtype)
        shard(averaged, dtype)
    copied = dtype != torch.float32 and not sharded
    running = _lowered(network, dtype) if copied else network
    if not sharded:
        running = shared(running, processes)
    optimizer = make_optimizer(recipe.optim, network)
    return TrainState(
        recipe=recipe,
        processes=processes,
        network=network,
        running=running,
        averaged=averaged,
        optimizer=optimizer,
        objective=Objective(recipe, processes.device),
    )


def _lowered(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy that computes in `dtype`; of a HAT, what holds the picture itself stays in float32."""
    lowered = copy.deepcopy(network)
    return lowered.cast_body(dtype) if isinstance(lowered, HAT) else lowered.to(dtype)


def save_state(state: TrainState, path: Path) -> None:
    """Write the state to `path`, whole or not at all; the file before it is kept as `<name>.previous`.

    To be called by every process; the first writes. The file does not depend on how many there are.
    """
    content = {
        "step": state.step,
        "best_psnr": state.best_psnr,
        "recipe": json.dumps(asdict(state.recipe)),
        "network": whole_state(state.network),
        "averaged": whole_state(state.averaged),
        "optimizer": whole_optimizer_state(state.network, state.optimizer),
    }
    if state.objective.adversary is not None:
        content["adversary"] = state.objective.adversary.state_dict()
    if not state.processes.first:
        return
    with replacing(path) as part:
        with part.open("wb") as file:
            storage.save_pickle(content, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            with replacing(previous(path)) as same:
                _link(path, same)


def _link(path: Path, other: Path) -> None:
    """Make `other` the same file as `path`, or a copy of it where there are no links: `path` is there all the time."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def previous(path: Path) -> Path:
    """Where the state before the one at `path` is kept."""
    return path.with_name(path.name + ".previous")


def has_state(path: Path) -> bool:
    """Whether there is a state at `path`, or the one before it."""
    return path.exists() or previous(path).exists()


def resume_state(state: TrainState, path: Path) -> bool:
    """Set `state` to what `path` holds, or to the state before it if that file is cut short; False if there is none.

    Settings that differ from those the state was saved with are logged; another network is refused. To be called by
    every process. Raises WeightsError for another network, and if files are there and none of them can be read;
    TrainingError if processes find different states.
    """
    content = read_state(path, state.recipe)
    check_same("the training they are in", zlib.crc32(repr((state.recipe.seed, state.recipe.optim)).encode()))
    check_same("the step they go on from", -1 if content is None else content["step"])
    if content is None:
        return False
    try:
        set_whole_state(state.network, content["network"])
        set_whole_state(state.averaged, content["averaged"])
        set_whole_optimizer_state(state.network, state.optimizer, content["optimizer"])
        if state.objective.adversary is not None and "adversary" in content:
            state.objective.adversary.load_state_dict(content["adversary"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise WeightsError(
            f"{path} does not hold a state of this recipe's network: delete it to start anew ({error})"
        ) from error
    for group in state.optimizer.param_groups:
        group["betas"], group["weight_decay"] = state.recipe.optim.betas, state.recipe.optim.weight_decay
    state.step = content["step"]
    state.best_psnr = content["best_psnr"]
    return True


def read_state(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """What the newest file holds that can be read, the one at `path` or the one before it; None if there is none.

    Settings that differ from those it was saved with are logged. Raises WeightsError as `resume_state`.
    """
    candidates = [file for file in (path, previous(path)) if file.exists()]
    reasons = []
    for file in candidates:
        try:
            content = _load(file)
        except (WeightsError, OSError, ValueError, RuntimeError, *_DAMAGED) as error:
            reasons.append(f"{file} cannot be read: {error}")
            continue
        if reasons:
            logger.warning("%s; going back to the state before it", reasons[0])
        _compare_recipes(file, content["recipe"], recipe)
        return content
    if reasons:
        raise WeightsError(f"{'; '.join(reasons)}. Delete what is named to start anew, or train into another folder")
    return None


def _load(file: Path) -> dict[str, Any]:
    """The content of a state's file, of the kinds that `save_state` writes.

    Raises WeightsError for another file, and one of _DAMAGED if a part has changed since, which torch does not see.
    """
    found, _ = storage.read_file(file)
    with zipfile.ZipFile(file) as archive:
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")
    content = found if isinstance(found, dict) else {}
    try:
        content["recipe"] = json.loads(content.get("recipe", ""))
    except (ValueError, TypeError, RecursionError):
        content = {}
    if not _is_state(content):
        raise WeightsError("it was not written by this version of hat-sr")
    return content


def _is_state(content: dict[str, Any]) -> bool:
    """Whether that is what a state's file holds."""
    if not all(isinstance(content.get(name), kind) for name, kind in _KINDS.items()):
        return False
    step, optimizer = content["step"], content["optimizer"]
    # Of a step there are averages of its gradients: torch would go on without them and say nothing.
    has_averages = step == 0 or bool(optimizer.get("state"))
    return step >= 0 and isinstance(optimizer.get("param_groups"), list) and has_averages


def _compare_recipes(file: Path, saved: dict[str, Any], recipe: Recipe) -> None:
    try:
        changes = differences(saved, recipe)
    except ConfigError as error:
        raise WeightsError(f"{file} was not written by this version of hat-sr ({error}): train elsewhere") from error
    if wrong := [change for name, change in changes.items() if name.split(".")[0] in ("model", "network")]:
        raise WeightsError(f"{file} belongs to another recipe; train into another folder. {'; '.join(wrong[:3])}")
    if changes:
        logger.warning("going on with other settings than before: %s", "; ".join(changes.values()))
