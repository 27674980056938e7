"""Local attribution maps of a picture file: the low-resolution image, the map, the scores, and both as text."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hat_sr.checkpoints.named import label
from hat_sr.errors import ConfigError
from hat_sr.evaluate.metrics import psnr
from hat_sr.evaluate.pairs import read_rgb
from hat_sr.image.resize import imresize
from hat_sr.inference.device import find_device
from hat_sr.inference.engine import Network
from hat_sr.inference.open import BICUBIC, bicubic, open_network
from hat_sr.inference.upscale import Upscale, padded
from hat_sr.lam.attribution import EPSILON, KERNEL_SIZE, SIGMA, STEPS, Attribution, Window, local_attribution_map
from hat_sr.runtime.session import Session

SHARES = (0.9, 0.95, 0.99)
"""Of the map's sum, for which the area is told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A low-resolution image and, if it is known, what it was made from. uint8, (1, 3, h, w) and (1, 3, s·h, s·w)."""

    lr: Tensor
    hr: Tensor | None

    @classmethod
    def of_hr(cls, hr: Tensor, scale: int) -> "Scene":
        """Make the low-resolution image as benchmarks do: cut to a multiple of the scale, MATLAB's bicubic.

        hr: uint8, (1, 3, H, W). Raises InputError if nothing is left of it.
        """
        height, width = (side // scale * scale for side in hr.shape[-2:])
        hr = hr[..., :height, :width]
        return cls(lr=imresize(hr, 1 / scale), hr=hr)

    @classmethod
    def read(cls, path: Path, scale: int, *, is_lr: bool = False) -> "Scene":
        """Read a file: the high-resolution image, or with is_lr the low-resolution one.

        Raises as `read_rgb` and `of_hr`.
        """
        image = read_rgb(path)
        return cls(lr=image, hr=None) if is_lr else cls.of_hr(image, scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """What one network made of a scene, from which pixels, and how well."""

    name: str
    attribution: Attribution
    psnr: float | None
    """Of the whole result, in dB, as benchmarks measure it; None if the ground truth is not known."""
    window_psnr: float | None
    """Of the window alone."""


def open_explained(names: Sequence[str], *, device: str | torch.device = "auto") -> tuple[Network, ...]:
    """What `open_network` opens, but no exported files: all of one factor, for RGB, in float32, in the names' order.

    Images may be on any device: each network's `upscale` takes them to `device`, and its result back.
    Raises ConfigError if the factors differ or there is none, if two have one name, for a network that is not for RGB
    or an unknown device, and as `open_network`.
    """
    device = find_device(device)
    loaded = {name: _differentiable(name) for name in names if name != BICUBIC}
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
    loaded[BICUBIC] = bicubic(scales.pop())
    networks = [loaded[name] for name in names]
    if len({network.name for network in networks}) < len(networks):
        raise ConfigError(f"models {', '.join(names)}: each needs another name, folder and suffix left aside")
    return tuple(replace(network, upscale=_on_device(network.upscale, device)) for network in networks)


def _differentiable(name: str) -> Network:
    """The network of that name, for images of any size, with gradients. Raises ConfigError for an exported one."""
    found = open_network(name)
    if isinstance(found, Network):
        return found
    if isinstance(found, Session):
        raise ConfigError(f"{name} is exported, and has no gradients: name the weights that it was made from")
    multiple, scale = found.config.window_size, found.config.upscale
    return Network(
        name=label(name),
        title="HAT",
        upscale=padded(found, multiple=multiple, scale=scale),
        scale=scale,
        in_chans=found.config.in_chans,
        size_multiple=multiple,
        module=found,
    )


def _on_device(upscale: Upscale, device: torch.device) -> Upscale:
    return lambda x: upscale(x.to(device)).to(x.device)


def explain(
    network: Network,
    scene: Scene,
    window: Window,
    *,
    steps: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> Explained:
    """Run `local_attribution_map`, whose errors it raises, on a network for RGB, and score its result."""
    found = local_attribution_map(network.upscale, scene.lr.float() / 255, window, steps=steps, progress=progress)
    if scene.hr is None:
        return Explained(name=network.name, attribution=found, psnr=None, window_psnr=None)
    rows, columns = (slice(start, start + window.size) for start in (window.y, window.x))
    return Explained(
        name=network.name,
        attribution=found,
        psnr=psnr(found.sr, scene.hr, crop_border=network.scale),
        window_psnr=psnr(found.sr[..., rows, columns], scene.hr[..., rows, columns], crop_border=0),
    )


def settings(steps: int) -> dict[str, float | str]:
    """What the maps were made with, as `hat_sr.lam.attribution` defines it."""
    return {
        "steps": steps,
        "sigma": SIGMA,
        "kernel_size": KERNEL_SIZE,
        "epsilon": EPSILON,
        "quadrature": "trapezoid",
    }


def as_dict(explained: Explained) -> dict[str, object]:
    """The figures of one network for JSON. Infinite ones are None."""
    found = explained.attribution
    return {
        "model": explained.name,
        "diffusion_index": found.diffusion_index,
        "contribution_area": {f"{share:.0%}": found.contribution_area(share) for share in SHARES},
        "psnr": _finite(explained.psnr),
        "window_psnr": _finite(explained.window_psnr),
        "completeness_error": _finite(found.completeness_error),
        "detected": found.detected,
        "baseline_detected": found.baseline_detected,
    }


def to_json(results: Sequence[Explained], scene: Scene, *, image: Path, scale: int, window: Window, steps: int) -> str:
    """All figures of one picture as a JSON object."""
    return (
        json.dumps(
            {
                "image": str(image),
                "given": "lr" if scene.hr is None else "hr",
                "lr_size": {"width": scene.lr.shape[-1], "height": scene.lr.shape[-2]},
                "scale": scale,
                "window": asdict(window),
                "settings": settings(steps),
                "models": [as_dict(each) for each in results],
            },
            indent=2,
        )
        + "\n"
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
