"""`Upscaler`: a network as an Upscale for images of any size, within the memory there is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from typing import Literal

import torch
from torch import Tensor, nn

from hat_sr.errors import ConfigError, InputError
from hat_sr.inference.device import PRECISION_NAMES, Precision
from hat_sr.inference.engine import Network, engine_for
from hat_sr.inference.memory import is_out_of_memory
from hat_sr.inference.open import as_network
from hat_sr.inference.tiling import Tiling, plan_axis, plan_tiles, smallest_tile_size, tiled
from hat_sr.inference.upscale import Upscale, check_images, faithful, padded, self_ensemble
from hat_sr.model.banded import Report
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import Session

__all__ = ["ImagePlan", "Precision", "Progress", "Upscale", "Upscaler"]

logger = logging.getLogger(__name__)

_LARGEST_STREAMED = 512
"""Largest side of a tile, in LR pixels, of an image that is not in memory: larger ones save little (what tiles read
twice is a sixth with windows of 8), and more is lost when the program is stopped."""

Progress = Callable[[int, int], None]
"""Called after each forward pass with how many are done and how many there are."""


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """How an image will be run. str() of it is a phrase for people."""

    tile_size: int | None
    """Largest side of a tile in LR pixels, context included; None if the image is run whole."""
    num_rows: int
    num_columns: int
    num_views: int
    """8 with self-ensemble, else 1."""
    band_rows: int
    """LR rows that are worked on at once; the result does not depend on it."""

    @property
    def num_forwards(self) -> int:
        """Forward passes in all."""
        return self.num_rows * self.num_columns * self.num_views

    def __str__(self) -> str:
        num_tiles = self.num_rows * self.num_columns
        text = "whole image" if num_tiles == 1 else f"{num_tiles} tiles of up to {self.tile_size} pixels a side"
        return text if self.num_views == 1 else f"{text}, {self.num_views} views"


class Upscaler:
    """Runs a network on images of any size: padding, tiles if need be, self-ensemble, colours kept, device, precision.

    model: a name or a file (see `open_network`), or a network: a HAT, perhaps in DataParallel or torch.compile, which
        is copied if another device, precision or mode (eval) is needed, and never changed. Its parts are run band by
        band: what wraps it, such as torch.compile, is not called. Or an exported one, from
        `hat_sr.runtime.session.open_session`: it runs on the CPU, all rows at once, in the precision it was opened in.
        Or another `Network`, all rows at once; its module is moved and converted.
    tile: "auto" runs the image whole if the estimated memory allows, in bands of rows, which does not change the
        result, else in the largest tiles that fit; it takes smaller bands and then smaller tiles if memory runs out all
        the same. "off" always runs it whole; a number is the largest side of a tile in LR pixels, context included
        (rounded down to a multiple of window_size).
    memory: bytes to plan with, the result included; None is a share of what is free when it is needed. It is an
        estimate, and weights and the program itself come on top. There is none for networks other than HAT.
    precision: of the network's body; what holds the picture itself is in fp32. "auto" is what is fastest: fp16 on CUDA,
        bf16 on CPUs with AVX512-BF16 or AMX, and fp32 for networks other than HAT. If a HAT's result in fp16 or bf16 is
        not finite, it and all later ones are computed in fp32, with a warning in the log.
    self_ensemble: mean over the eight flips and turns; eight times the work.
    faithful: whether mean colours and flat borders are kept (`hat_sr.inference.upscale.faithful`), which a HAT shifts.
        False is the network's result as it is, which papers score, and which other networks always give.
    device: where to compute; "auto" is the accelerator torch finds (CUDA, MPS, XPU), else the CPU.

    Raises ConfigError for settings that cannot be, WeightsError for an exported network that is no HAT of ours, and as
    `open_network`.
    """

    def __init__(
        self,
        model: HAT | Session | Network | nn.Module | str | PathLike[str],
        *,
        tile: int | Literal["auto", "off"] = "auto",
        memory: int | None = None,
        precision: Precision = "fp32",
        self_ensemble: bool = False,
        faithful: bool = True,
        device: str | torch.device = "auto",
    ) -> None:
        self._engine = engine_for(as_network(model, precision=precision), device=device, precision=precision)
        self._precision = PRECISION_NAMES[self._engine.dtype]
        traits = self._engine.traits
        self._align = traits.align
        self._context = {"tile_pad": traits.tile_pad, "blend_size": traits.blend_size, "align": traits.align}
        self._smallest_tile = smallest_tile_size(**self._context)
        self._tile = self._checked_tile(tile)
        if memory is not None and memory < 1:
            raise ConfigError(f"memory {memory}: a number of bytes above 0 is accepted")
        if memory is not None and not self._engine.plans_memory:
            raise ConfigError(f"memory is planned for HAT, and {traits.title} is none: leave it out, or give tile")
        self._memory = memory
        self._self_ensemble, self._faithful = self_ensemble, faithful and traits.config is not None

    @property
    def scale(self) -> int:
        """Factor between input and output sides."""
        return self._engine.traits.scale

    @property
    def config(self) -> HATConfig:
        """A HAT's. Raises ConfigError for another network."""
        if self._engine.traits.config is None:
            raise ConfigError(f"{self._engine.traits.title} is no HAT, and has no HATConfig")
        return self._engine.traits.config

    @property
    def in_chans(self) -> int:
        """Image channels, in and out."""
        return self._engine.traits.in_chans

    @property
    def num_parameters(self) -> int:
        """How many numbers the network learnt."""
        return self._engine.traits.num_parameters

    @property
    def settings(self) -> dict[str, str]:
        """What the result depends on besides the network; how large tiles are that are "auto" is found each time."""
        return {
            "tile": str(self._tile),
            "precision": self._precision,
            "device": self.device.type,
            "self_ensemble": str(self._self_ensemble),
            "faithful": str(self._faithful),
        }

    @property
    def device(self) -> torch.device:
        """Where forward passes run."""
        return self._engine.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network's body computes in."""
        return self._engine.dtype

    def fingerprint(self) -> str:
        """Hash of network, config and runtime."""
        return self._engine.fingerprint()

    def plan(self, height: int, width: int, *, batch_size: int = 1) -> ImagePlan:
        """How an image of this size would be run now: with "auto" the answer depends on the memory that is free."""
        budget = self._budget(height, width, batch_size)
        tile = self._automatic_tile(height, width, budget) if self._tile == "auto" else self._tile
        whole = tile == "off" or max(height, width) <= tile
        return self._plan(None if whole else int(tile), height, width, budget)

    def plan_stream(self, height: int, width: int) -> ImagePlan:
        """How an image of this size would be run that is not in memory as a whole: in tiles that are not too large."""
        budget, largest = self._memory_budget(), _LARGEST_STREAMED // self._align * self._align
        square = min(self._engine.largest_square(budget), largest)
        tile = self._tile if isinstance(self._tile, int) else max(square, self._smallest_tile)
        return self._plan(tile, height, width, budget)

    def plan_tiling(self, height: int, width: int, plan: ImagePlan) -> Tiling:
        """The tiles into which the plan cuts an image of that size; one if it is run whole."""
        whole = max(-(-max(height, width) // self._align) * self._align, self._smallest_tile)
        return plan_tiles(height, width, scale=self.scale, tile_size=plan.tile_size or whole, **self._context)

    def __call__(self, x: Tensor, *, progress: Progress | None = None, report: Report = lambda part: None) -> Tensor:
        """Enlarge a batch of images: (B, in_chans, H, W) float in [0, 1], any size from 1×1, → float32, scale times it.

        The result is on the input's device and may leave [0, 1] a little. progress: see Progress; it starts again from
        1 when memory ran out, with another total if smaller tiles are taken. report: called many times in a forward
        pass with the part of the whole that is done, which starts again, too; what it raises ends the work.
        torch.autocast has no effect on it: `precision` has. Raises InputError for another shape, dtype or range, and
        when memory runs out and tiles cannot be smaller.
        """
        x = check_images(x, in_chans=self.in_chans)
        batch_size, _, height, width = x.shape
        plan = self.plan(height, width, batch_size=batch_size)
        while True:
            try:
                # Not inference_mode: its tensors refuse to be changed in place by the caller.
                with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                    return self._run(x.float(), plan, progress, report)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                plan = self._smaller(plan, height, width, error)
            logger.warning("out of memory: trying again with %s, in bands of %d rows", plan, plan.band_rows)

    def _run(self, x: Tensor, plan: ImagePlan, progress: Progress | None, report: Report) -> Tensor:
        upscale = self.for_tiles(plan, progress, report)
        if plan.tile_size is not None:
            upscale = tiled(upscale, scale=self.scale, tile_size=plan.tile_size, **self._context)
        return upscale(x)

    def for_tiles(
        self, plan: ImagePlan, progress: Progress | None = None, report: Report = lambda part: None
    ) -> Upscale:
        """What runs on each tile of an image that is run by this plan, or on the whole if there are no tiles."""
        num_done = 0

        def forward(x: Tensor) -> Tensor:
            nonlocal num_done
            out = self._engine.forward(
                x, band_rows=plan.band_rows, report=lambda part: report((num_done + part) / plan.num_forwards)
            )
            num_done += 1
            if progress is not None:
                progress(num_done, plan.num_forwards)
            return out

        upscale = padded(forward, multiple=self._engine.traits.multiple, scale=self.scale)
        if self._self_ensemble:
            upscale = self_ensemble(upscale)
        return faithful(upscale, scale=self.scale) if self._faithful else upscale

    def compute_in(self, dtype: torch.dtype) -> None:
        """Take this for the network's body from here on. Raises ConfigError if an exported one has another."""
        self._engine.compute_in(dtype)

    def _budget(self, height: int, width: int, batch_size: int) -> int:
        """Bytes for the forward pass of one image of a batch; put aside are results that are made of several."""
        budget = self._memory_budget()
        if self.device.type == "cpu":
            # The ensemble of a whole image holds a sum, two results and one turned back.
            num_results = 4 if self._self_ensemble else 1
            budget -= num_results * 4 * batch_size * self.in_chans * height * width * self.scale**2
        return budget // batch_size

    def _memory_budget(self) -> int:
        return self._engine.budget() if self._memory is None else self._memory

    def _automatic_tile(self, height: int, width: int, budget: int) -> int | Literal["off"]:
        if self._band_rows(height, width, budget) is not None:
            return "off"
        return max(self._engine.largest_square(budget), self._smallest_tile)

    def _plan(self, tile_size: int | None, height: int, width: int, budget: int) -> ImagePlan:
        rows, columns = 1, 1
        if tile_size is not None:
            rows, columns = (len(plan_axis(side, tile_size=tile_size, **self._context)) for side in (height, width))
            height, width = min(height, tile_size), min(width, tile_size)
        return ImagePlan(
            tile_size=tile_size,
            num_rows=rows,
            num_columns=columns,
            num_views=8 if self._self_ensemble else 1,
            band_rows=self._band_rows(height, width, budget) or self._align,
        )

    def _band_rows(self, height: int, width: int, budget: int) -> int | None:
        """How many rows fit; for an ensemble in either orientation, and the wider one is the larger band."""
        if self._self_ensemble:
            height, width = sorted((height, width))
        return self._engine.band_rows(height, width, budget)

    def _smaller(self, plan: ImagePlan, height: int, width: int, error: RuntimeError) -> ImagePlan:
        """The plan with bands of half the rows, or else tiles of half the side."""
        largest_side = min(plan.tile_size or max(height, width), max(height, width))
        num_rows = largest_side if self._self_ensemble else min(largest_side, height)
        num_windows = min(plan.band_rows, num_rows + self._align - 1) // self._align
        if num_windows > 1 and self._engine.has_bands:
            return replace(plan, band_rows=num_windows // 2 * self._align)
        tile_size = max(largest_side // 2 // self._align * self._align, self._smallest_tile)
        smaller = self._plan(tile_size, height, width, budget=0)
        if self._tile != "auto" or smaller.num_forwards == plan.num_forwards:
            raise InputError(
                f"memory ran out on {width}×{height} pixels ({plan}): free some, use tile='auto' or a smaller tile "
                f"(at least {self._smallest_tile}), or another device or precision"
            ) from error
        return smaller

    def _checked_tile(self, tile: int | str) -> int | Literal["auto", "off"]:
        if tile == "auto":
            return "auto"
        if tile == "off":
            return "off"
        if isinstance(tile, int) and tile >= self._smallest_tile:
            return tile // self._align * self._align
        raise ConfigError(
            f"tile {tile!r} is none of 'auto', 'off' and a number of pixels of at least {self._smallest_tile} "
            f"(for this network: a tile includes {self._context['tile_pad']} pixels of context on each side)"
        )
