"""Any network, or bicubic interpolation, as an Upscale with what is known of it, and what runs it."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from hat_sr.checkpoints.checkpoint import weights_digest
from hat_sr.errors import ConfigError, InputError
from hat_sr.inference.device import Precision, find_device, find_dtype
from hat_sr.inference.tiling import plan_axis, tiled
from hat_sr.inference.upscale import Upscale
from hat_sr.inference.upscale import self_ensemble as ensemble_of
from hat_sr.model.banded import Report

TILE_PAD = 32
"""LR pixels of context around a tile: more than the reach of most networks' windows."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """Something that enlarges images of any size by a whole factor."""

    name: str
    """What tables call it."""
    title: str
    """Its kind, such as HAT or DAT."""
    upscale: Upscale
    """Takes images of any size from 1×1, in the dtype and on the device of its module; differentiable."""
    scale: int
    in_chans: int
    """Image channels, in and out; bicubic takes any number."""
    size_multiple: int
    """Images whose sides are multiples of this are not padded."""
    module: nn.Module = field(default_factory=nn.Module)
    """What holds the weights, in eval mode, as it was loaded in float32 on the CPU; empty if there are none."""
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16, torch.float16)
    """What it runs in, once its module is converted."""


class PlainUpscaler:
    """Runs any `Network` as `Upscaler` runs a HAT, but whole: in tiles only where a size is given.

    network: its module is moved and converted, not copied.
    tile: the largest side of a tile in LR pixels, context included; "auto" and "off" run the image whole.
    precision: "auto" is fp32: not every network runs in less. self_ensemble, device: as for `Upscaler`.

    Raises ConfigError for settings that cannot be.
    """

    def __init__(
        self,
        network: Network,
        *,
        tile: int | Literal["auto", "off"] = "auto",
        precision: Precision = "fp32",
        self_ensemble: bool = False,
        device: str | torch.device = "auto",
    ) -> None:
        self._network = network
        self._device = find_device(device)
        self._dtype = find_dtype("fp32" if precision == "auto" else precision, self._device)
        if self._dtype not in network.dtypes:
            raise ConfigError(f"{network.title} does not run in {precision}: use fp32")
        network.module.to(self._device, self._dtype)
        self._num_views = 8 if self_ensemble else 1
        self._tiling: dict[str, int] | None = None
        if isinstance(tile, int):
            align = network.size_multiple
            size = tile // align * align
            self._tiling = {"tile_size": size, "tile_pad": TILE_PAD, "blend_size": 8, "align": align}
            plan_axis(1, **self._tiling)  # refuses a size that is too small

    @property
    def scale(self) -> int:
        """Factor between input and output sides."""
        return self._network.scale

    @property
    def in_chans(self) -> int:
        """Image channels, in and out."""
        return self._network.in_chans

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._dtype

    def fingerprint(self) -> str:
        """The network's title and factor, and a hash of its weights."""
        return f"{self._network.title} ×{self.scale}, {weights_digest(self._network.module)}"

    def __call__(self, x: Tensor, *, report: Report = lambda part: None) -> Tensor:
        """Enlarge images, (B, in_chans, H, W) float in [0, 1] → float32, scale times it, on the input's device.

        report: called after each tile of each view with the part of the whole that is done. Raises InputError if the
        network makes another size.
        """
        num_forwards, num_done = self._num_forwards(*x.shape[-2:]), 0

        def forward(part: Tensor) -> Tensor:
            nonlocal num_done
            out = self._network.upscale(part.to(self._device, self._dtype)).to(part)
            num_done += 1
            report(num_done / num_forwards)
            return out

        upscale = forward if self._tiling is None else tiled(forward, scale=self.scale, **self._tiling)
        with torch.no_grad():
            out = (ensemble_of(upscale) if self._num_views > 1 else upscale)(x.float())
        size = tuple(self.scale * side for side in x.shape[-2:])
        if tuple(out.shape[-2:]) != size:
            raise InputError(f"{self._network.title} made {tuple(out.shape[-2:])} pixels instead of {size}")
        return out

    def _num_forwards(self, height: int, width: int) -> int:
        """How often the network runs on an image of that size."""
        if self._tiling is None:
            return self._num_views
        rows, columns = (len(plan_axis(side, **self._tiling)) for side in (height, width))
        return rows * columns * self._num_views
