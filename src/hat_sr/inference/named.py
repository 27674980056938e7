"""Networks by name, each as an `Upscale` that gradients pass through: for comparisons that take several."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hat_sr.errors import ConfigError
from hat_sr.inference.baselines import BICUBIC, load_upscale
from hat_sr.inference.device import find_device
from hat_sr.inference.upscale import Upscale
from hat_sr.model.zoo import label


@dataclass(frozen=True, kw_only=True)
class NamedUpscale:
    """A network under a label: takes RGB of any size, on any device, which the result has, too."""

    name: str
    scale: int
    upscale: Upscale


def load_upscales(names: Sequence[str], *, device: str | torch.device = "auto") -> tuple[NamedUpscale, ...]:
    """Load what `load_network` takes, and "bicubic", all of one factor, in the order of the names.

    Raises ConfigError if the factors differ or there is none, if two have one label, and as `load_network`.
    """
    loaded = {name: load_network(name, device=device) for name in names if name != BICUBIC}
    scales = {network.scale for network in loaded.values()}
    if not scales:
        raise ConfigError(f"models {', '.join(names) or '(none)'}: name a network; bicubic takes the factor of others")
    if len(scales) > 1:
        listed = ", ".join(f"{name} enlarges by {network.scale}" for name, network in loaded.items())
        raise ConfigError(f"{listed}: networks of one factor can be compared; make a call for each")
    labels = [network.name for network in loaded.values()]
    if len(set(labels)) < len(labels) or len(set(names)) < len(names):
        raise ConfigError(f"models {', '.join(names)}: each needs another name, folder and suffix left aside")
    (scale,) = scales
    return tuple(loaded[name] if name != BICUBIC else _bicubic(scale) for name in names)


def load_network(name: str, *, device: str | torch.device = "auto") -> NamedUpscale:
    """Load a network: whatever `load_upscale` takes. In float32.

    Raises as `load_upscale` does, and ConfigError for a network that is not for RGB, or an unknown device.
    """
    device = find_device(device)
    network = load_upscale(name)
    if network.in_chans != 3:
        raise ConfigError(f"{name} takes {network.in_chans} channels: networks for RGB are compared")
    network.module.to(device)
    return NamedUpscale(
        name=label(name), scale=network.scale, upscale=lambda x: network.upscale(x.to(device)).to(x.device)
    )


def _bicubic(scale: int) -> NamedUpscale:
    return NamedUpscale(name=BICUBIC, scale=scale, upscale=load_upscale(BICUBIC, scale=scale).upscale)
