"""Several networks by name, to be compared."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from hat_sr.errors import ConfigError
from hat_sr.inference.baselines import BICUBIC, load_upscale
from hat_sr.inference.device import find_device
from hat_sr.inference.network import Network
from hat_sr.inference.upscale import Upscale


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
