"""A network by its name, ready to enlarge images: a HAT, whatever else spandrel opens, or bicubic interpolation."""

from typing import Literal

from torch import nn

from hat_sr.errors import ConfigError
from hat_sr.inference.baselines import PlainUpscaler, load_upscale
from hat_sr.inference.device import Precision
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.hat import HAT


def open_upscaler(
    name: str,
    *,
    scale: int,
    tile: int | Literal["auto", "off"],
    memory: int | None,
    precision: Precision,
    self_ensemble: bool,
    device: str,
) -> tuple[Upscaler | PlainUpscaler, nn.Module]:
    """What runs the network of that name, and the module that holds its weights.

    scale is bicubic's; the other settings are `Upscaler`'s. Raises as `load_upscale`, and ConfigError for settings that
    cannot be.
    """
    network = load_upscale(name, scale=scale)
    if isinstance(network.module, HAT):
        upscaler = Upscaler(
            network.module, tile=tile, memory=memory, precision=precision, self_ensemble=self_ensemble, device=device
        )
        return upscaler, network.module
    if memory is not None:
        raise ConfigError(f"--memory plans for HAT, and {name} is none: leave it out, or give --tile")
    plain = PlainUpscaler(network, tile=tile, precision=precision, self_ensemble=self_ensemble, device=device)
    return plain, network.module
