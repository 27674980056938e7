"""The networks that are compared on benchmarks, by their names and scales."""

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from hat_sr.checkpoints.named import AUTO, FOR_PHOTOS, bundled_for, label
from hat_sr.errors import ConfigError
from hat_sr.evaluate.cache import key_of
from hat_sr.evaluate.compare import ORIGINAL, Entrant
from hat_sr.inference.enlarge import Settings, open_upscaler
from hat_sr.inference.open import BICUBIC
from hat_sr.inference.sizing import upscale_to
from hat_sr.inference.upscaler import Upscaler


def open_entrants(
    names: list[str], scales: list[int], settings: Settings, *, lossy: bool = False
) -> dict[int, list[Entrant]]:
    """The networks for each scale; bicubic, which is always compared with, is not among them.

    lossy: "auto" means the network for pictures that were compressed with loss, whose results are resized to the scales
    that are not its own.
    Raises ConfigError for a network that enlarges by none of the scales or is not for RGB, and for a scale without any;
    otherwise as `open_upscaler`.
    """
    given = [bundled_for(scale, degraded=lossy) for scale in scales] if AUTO in names else []
    given = list(dict.fromkeys([*given, *(name for name in names if name not in (AUTO, BICUBIC))]))
    entrants: dict[int, list[Entrant]] = {scale: [] for scale in scales}
    for name, shown in zip(given, _labels(given), strict=True):
        upscaler = open_upscaler(name, settings)
        resized = lossy and AUTO in names and name == FOR_PHOTOS
        if upscaler.scale not in entrants and name in names and not resized:
            wanted = ", ".join(map(str, scales))
            raise ConfigError(f"{name} enlarges by {upscaler.scale}, but scale {wanted} was asked for")
        if upscaler.in_chans != 3:
            raise ConfigError(f"{name} takes {upscaler.in_chans} channels: the benchmark is defined for RGB networks")
        entrant = Entrant(
            name=shown,
            upscale=upscaler,
            num_parameters=upscaler.num_parameters,
            fingerprint=key_of(
                upscaler.fingerprint(),
                settings.tile,
                settings.self_ensemble,
                str(upscaler.dtype),
                upscaler.device.type,
            ),
            repeatable=partial(_repeatable, upscaler, upscaler.dtype, settings.tile),
        )
        if upscaler.scale in entrants:  # auto's may enlarge by less than is asked for: that is said below
            entrants[upscaler.scale].append(entrant)
        if resized:
            for scale in entrants:
                if scale < upscaler.scale:
                    entrants[scale].append(_resized(entrant, upscaler.scale, scale))
    for scale in scales:
        if not entrants[scale] and AUTO in names:
            raise ConfigError(f"no network in the package enlarges by {scale}: name a file of weights with --models")
        if not entrants[scale] and BICUBIC not in names:
            raise ConfigError(f"none of {', '.join(names)} enlarges by {scale}: name one that does, or leave it out")
    return entrants


def _labels(names: list[str]) -> list[str]:
    """The networks' labels; the whole name where another one has the same."""
    labels = [label(name) for name in names]
    taken = [*labels, BICUBIC, ORIGINAL]
    return [short if taken.count(short) == 1 else name for name, short in zip(names, labels, strict=True)]


def _resized(entrant: Entrant, own_scale: int, scale: int) -> Entrant:
    """The entrant with its results resized, so that it enlarges by `scale`."""

    def upscale(x: Tensor) -> Tensor:
        return upscale_to([(entrant.upscale, own_scale)], x, (scale * x.shape[-2], scale * x.shape[-1]))

    fingerprint = key_of(entrant.fingerprint, scale)
    return replace(entrant, name=f"{entrant.name}, resized", upscale=upscale, fingerprint=fingerprint)


def _repeatable(
    upscaler: Upscaler, dtype: torch.dtype, tile: int | Literal["auto", "off"], height: int, width: int
) -> bool:
    """Whether a result is not one of tiles for want of memory, or of another precision than was asked for."""
    if tile == "auto" and upscaler.plan(height, width).tile_size is not None:
        return False
    return upscaler.dtype == dtype
