"""Networks by name, HAT's and others', and bicubic interpolation: what is measured against each other."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hat_sr.checkpoints.named import DEFAULT_SCALE, label, load_model
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.image.resize import resize
from hat_sr.inference.device import find_device
from hat_sr.inference.network import Network
from hat_sr.inference.spandrel_networks import load_by_spandrel
from hat_sr.inference.upscale import Upscale, padded

BICUBIC = "bicubic"
"""The name of bicubic interpolation, by any whole factor."""


def load_upscale(name: str, *, scale: int = DEFAULT_SCALE) -> Network:
    """The network of that name: `bicubic`, what `load_model` takes, or such a file of another network.

    scale: bicubic's factor; a network has its own. Bicubic is the float form of MATLAB's (`hat_sr.image.resize`).
    Raises as `load_model`, WeightsError if spandrel cannot open the file, either; ConfigError for a scale below 1.
    """
    if name == BICUBIC:
        return _bicubic(scale)
    try:
        model = load_model(name)
    except WeightsError as error:
        return load_by_spandrel(name, error)
    multiple, factor = model.config.window_size, model.config.upscale
    return Network(
        name=label(name),
        title="HAT",
        upscale=padded(model, multiple=multiple, scale=factor),
        scale=factor,
        in_chans=model.config.in_chans,
        size_multiple=multiple,
        module=model,
    )


def _bicubic(scale: int) -> Network:
    if scale < 1:
        raise ConfigError(f"scale {scale}: bicubic interpolation enlarges by 1 or more")

    def run(x: Tensor) -> Tensor:
        return resize(x, (scale * x.shape[-2], scale * x.shape[-1]))

    return Network(name=BICUBIC, title=BICUBIC, upscale=run, scale=scale, in_chans=3, size_multiple=1)


def load_upscales(names: Sequence[str], *, device: str | torch.device = "auto") -> tuple[Network, ...]:
    """Load what `load_upscale` takes, all of one factor and for RGB, in the order of the names; in float32.

    Images may be on any device: each network's `upscale` takes them to `device`, and its result back.
    Raises ConfigError if the factors differ or there is none, if two have one name, for a network that is not for RGB
    or an unknown device, and as `load_upscale`.
    """
    device = find_device(device)
    loaded = {name: load_upscale(name) for name in names if name != BICUBIC}
    scales = {network.scale for network in loaded.values()}
    if not scales:
        raise ConfigError(f"models {', '.join(names) or '(none)'}: name a network; bicubic takes the factor of others")
    if len(scales) > 1:
        listed = ", ".join(f"{name} enlarges by {network.scale}" for name, network in loaded.items())
        raise ConfigError(f"{listed}: networks of one factor can be compared; make a call for each")
    for name, network in loaded.items():
        if network.in_chans != 3:
            raise ConfigError(f"{name} takes {network.in_chans} channels: networks for RGB are compared")
        network.module.to(device)
    loaded[BICUBIC] = load_upscale(BICUBIC, scale=scales.pop())
    networks = [loaded[name] for name in names]
    if len({network.name for network in networks}) < len(networks):
        raise ConfigError(f"models {', '.join(names)}: each needs another name, folder and suffix left aside")
    return tuple(replace(network, upscale=_on_device(network.upscale, device)) for network in networks)


def _on_device(upscale: Upscale, device: torch.device) -> Upscale:
    return lambda x: upscale(x.to(device)).to(x.device)
