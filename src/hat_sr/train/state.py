"""What a training needs to go on exactly where it stopped, and its file."""

import logging
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hat_sr.errors import WeightsError
from hat_sr.model.hat import HAT
from hat_sr.model.initialise import initialise_as_interpolator
from hat_sr.train.config import Recipe
from hat_sr.train.optim import learning_rate

logger = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Weights, their average, the optimizer, and the number of steps done."""

    model: HAT
    ema: AveragedModel
    optimizer: Adam
    step: int = 0

    @property
    def averaged(self) -> HAT:
        """The network with the averaged weights."""
        model = self.ema.module
        if not isinstance(model, HAT):
            raise TypeError(f"{type(model).__name__} is averaged, not HAT")
        return model


def start_state(recipe: Recipe) -> TrainState:
    """The state before the first step; the same for the same recipe, whatever was drawn before."""
    torch.manual_seed(recipe.seed)
    model = HAT(recipe.model)
    if recipe.start == "interpolator":
        initialise_as_interpolator(model)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.optim.ema_decay))
    optimizer = Adam(model.parameters(), lr=learning_rate(recipe.optim, 0), betas=recipe.optim.betas)
    return TrainState(model=model, ema=ema, optimizer=optimizer)


def save_state(state: TrainState, path: Path) -> None:
    """Write the state to `path`, whole or not at all; the file before it is kept as `<name>.previous`."""
    content = {
        "step": state.step,
        "model": state.model.state_dict(),
        "ema": state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        path.replace(previous(path))
    part.replace(path)


def previous(path: Path) -> Path:
    """Where the state before the one at `path` is kept."""
    return path.with_name(path.name + ".previous")


def resume_state(state: TrainState, path: Path) -> bool:
    """Set `state` to what `path` holds, or to the state before it if that file is cut short; False if there is none.

    Raises WeightsError if files are there and none of them can be read, or they belong to another network.
    """
    candidates = [file for file in (path, previous(path)) if file.exists()]
    for file in candidates:
        try:
            content = torch.load(file, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            logger.warning("%s cannot be read, going back to the state before it: %s", file, error)
            continue
        try:
            state.model.load_state_dict(content["model"])
            state.ema.load_state_dict(content["ema"])
            state.optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
            raise WeightsError(f"{file} belongs to another recipe; train into another folder. {error}") from error
        torch.set_rng_state(content["random"])
        state.step = int(content["step"])
        return True
    if candidates:
        raise WeightsError(f"{path} and the state before it cannot be read: delete them to start anew")
    return False
