"""The network that a recipe trains: a HAT or another, fresh or from a file of weights, and its file."""

import importlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hat_sr.checkpoints import official, storage
from hat_sr.checkpoints.checkpoint import NETWORK_KEY, save_model
from hat_sr.checkpoints.hub import is_hub_name
from hat_sr.checkpoints.named import local_file, read_source
from hat_sr.checkpoints.wrappers import read_state
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.model.initialise import initialise_as_interpolator
from hat_sr.train.config import NetworkConfig, Recipe

logger = logging.getLogger(__name__)

UPSAMPLING = "upsample."
"""How the keys begin that differ between HATs for different scales."""


def build_network(recipe: Recipe) -> nn.Module:
    """The network as it is before the first step, float32 on the CPU; the same for the same recipe.

    Raises ConfigError if another network cannot be made as the recipe says, WeightsError if `start_from` does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = _fresh_network(recipe)
    if recipe.start_from is None:
        return network
    if missing := missing_start(recipe):
        raise WeightsError(missing)
    if isinstance(network, HAT):
        load_what_fits(network, recipe.start_from)
    else:
        _load_other(network, local_file(recipe.start_from))
    return network


def missing_start(recipe: Recipe) -> str | None:
    """What to do if `start_from` is the path of a file that is not there; None if it is there, or no path."""
    path = Path(recipe.start_from or "")
    is_path = recipe.start_from not in (None, path.name) and not is_hub_name(str(recipe.start_from))
    if not is_path or path.exists():
        return None
    return f"start_from {path} is not there: run the training that writes it, or give --start-from FILE"


def _fresh_network(recipe: Recipe) -> nn.Module:
    config = recipe.architecture
    if not isinstance(config, HATConfig):
        return _other_network(config)
    model = HAT(config, activation_checkpointing=recipe.activation_checkpointing)
    if recipe.start == "interpolator":
        initialise_as_interpolator(model)
    return model


def load_what_fits(model: HAT, source: str) -> list[str]:
    """Take the weights of `source` over: all, or, from a HAT for another scale, all but upsampling convolutions.

    Returns the keys that keep their start, which are logged too. Raises WeightsError if the networks differ in anything
    else that matters.
    """
    checkpoint = read_source(source)
    own = model.state_dict()
    fitting = {key: value for key, value in checkpoint.state.items() if key in own and value.shape == own[key].shape}
    new = [key for key in own if key not in fitting]
    unfit = [key for key in (*new, *checkpoint.state) if key not in fitting and not key.startswith(UPSAMPLING)]
    faults = [f"{key} is not there in the same shape" for key in dict.fromkeys(unfit)]
    if checkpoint.format == "safetensors":  # the released format does not state these
        faults += [
            f"{name} is {getattr(checkpoint.config, name)} instead of {getattr(model.config, name)}"
            for name in official.UNSEEN_IN_SHAPES
            if getattr(checkpoint.config, name) != getattr(model.config, name)
        ]
    if faults:
        raise WeightsError(
            f"{source} is of another network than the recipe's [model]: {'; '.join(faults[:3])}. Only upscale and "
            "drop_path_rate may differ"
        )
    model.load_state_dict(fitting, strict=False)
    if new:
        logger.info("from %s, which is for ×%d; new: %s", source, checkpoint.config.upscale, ", ".join(new))
    if unused := [key for key in checkpoint.state if key not in fitting]:
        logger.info("from %s, which is for ×%d; not used: %s", source, checkpoint.config.upscale, ", ".join(unused))
    return new


def write_weights(recipe: Recipe, state: Mapping[str, Tensor], path: Path, provenance: Mapping[str, str]) -> None:
    """Write trained weights as safetensors: a HAT's as `load_model` reads it, another network's under its own keys.

    spandrel opens the latter if it knows the network.
    """
    config = recipe.architecture
    if isinstance(config, HATConfig):
        with torch.device("meta"):  # no weights are made, they are all in `state`
            model = HAT(config)
        model.load_state_dict(dict(state), assign=True)
        save_model(model, path, provenance=provenance)
        return
    content = {
        "entry": config.entry,
        "arguments": config.arguments,
        "provenance": dict(provenance),
    }
    weights = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    storage.write_safetensors(path, weights, {NETWORK_KEY: json.dumps(content, ensure_ascii=False)})


def filled_network(recipe: Recipe, state: Mapping[str, Tensor]) -> nn.Module:
    """The recipe's network in eval mode on the CPU, with the values of `state`."""
    network = build_network(replace(recipe, start_from=None))
    network.load_state_dict(dict(state))
    return network.eval()


def _other_network(config: NetworkConfig) -> nn.Module:
    module_name, name = config.entry.split(":")
    try:
        make = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"network.entry {config.entry}: {error}. Install the package that has it, or put its folder on PYTHONPATH"
        ) from error
    try:
        network = make(**config.arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config.entry} does not take network.arguments {config.arguments}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{config.entry} makes {type(network).__name__}: it must make a torch.nn.Module")
    side = config.size_multiple * -(-16 // config.size_multiple)
    with torch.no_grad():
        out = network.eval()(torch.zeros(1, 3, side, side))
    wanted = (1, 3, side * config.upscale, side * config.upscale)
    if tuple(getattr(out, "shape", ())) != wanted:
        raise ConfigError(
            f"{config.entry} makes {tuple(getattr(out, 'shape', ()))} of (1, 3, {side}, {side}): it must make {wanted} "
            "to be trained; see network.upscale and network.arguments"
        )
    return network


def _load_other(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(read_state(path)[0])
    except (WeightsError, RuntimeError) as error:
        raise WeightsError(f"{path} does not fit the recipe's [network]: {error}") from error
