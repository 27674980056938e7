"""The networks that `hat-sr benchmark` compares, out of the names and scales on its command line."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from hat_sr.errors import ConfigError
from hat_sr.evaluate.cache import key_of
from hat_sr.evaluate.compare import ORIGINAL, Entrant
from hat_sr.inference.baselines import BICUBIC
from hat_sr.inference.enlarge import Settings, open_upscaler
from hat_sr.inference.network import PlainUpscaler
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.digest import weights_digest
from hat_sr.model.hat import HAT
from hat_sr.model.zoo import AUTO, bundled_for, label


def parse_names(texts: Sequence[str]) -> list[str]:
    """What stands between commas, once each; but a file whose name has a comma is one name.

    Raises ConfigError if there is nothing.
    """
    parts = [part for text in texts for part in ([text] if Path(text).is_file() else text.split(","))]
    names = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not names:
        raise ConfigError(f"nothing is named in {', '.join(map(repr, texts))}: give one or more, with commas between")
    return names


def parse_scales(text: str) -> list[int]:
    """Whole numbers with commas between them. Raises ConfigError for anything else."""
    parts = parse_names([text])
    try:
        return [int(part) for part in parts]
    except ValueError as error:
        raise ConfigError(f"scale {text!r}: whole numbers are accepted, with commas between them: 2,3,4") from error


def open_entrants(
    names: list[str], scales: list[int], settings: Settings, *, lossy: bool = False
) -> dict[int, list[Entrant]]:
    """The networks for each scale; bicubic, which is always compared with, is not among them.

    lossy: "auto" means the network for pictures that were compressed with loss.
    Raises ConfigError for a network that enlarges by none of the scales or is not for RGB, and for a scale without any;
    otherwise as `open_upscaler`.
    """
    given = [bundled_for(scale, lossy=lossy) for scale in scales] if AUTO in names else []
    given = list(dict.fromkeys([*given, *(name for name in names if name not in (AUTO, BICUBIC))]))
    entrants: dict[int, list[Entrant]] = {scale: [] for scale in scales}
    for name, shown in zip(given, _labels(given), strict=True):
        upscaler, module = open_upscaler(name, settings)
        if upscaler.scale not in entrants and name in names:
            wanted = ", ".join(map(str, scales))
            raise ConfigError(f"{name} enlarges by {upscaler.scale}, but scale {wanted} was asked for")
        if upscaler.in_chans != 3:
            raise ConfigError(f"{name} takes {upscaler.in_chans} channels: the benchmark is defined for RGB networks")
        entrant = Entrant(
            name=shown,
            upscale=upscaler,
            num_parameters=sum(parameter.numel() for parameter in module.parameters()),
            fingerprint=key_of(
                weights_digest(module),
                repr(module.config) if isinstance(module, HAT) else type(module).__name__,
                settings.tile,
                settings.self_ensemble,
                str(upscaler.dtype),
                upscaler.device.type,
            ),
            repeatable=partial(_repeatable, upscaler, upscaler.dtype, settings.tile),
        )
        if upscaler.scale in entrants:  # auto's may enlarge by less than is asked for: that is said below
            entrants[upscaler.scale].append(entrant)
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


def _repeatable(
    upscaler: Upscaler | PlainUpscaler, dtype: torch.dtype, tile: int | Literal["auto", "off"], height: int, width: int
) -> bool:
    """Whether a result is not one of tiles for want of memory, or of another precision than was asked for."""
    if isinstance(upscaler, Upscaler) and tile == "auto" and upscaler.plan(height, width).tile_size is not None:
        return False
    return upscaler.dtype == dtype
