"""The three engines of `Upscaler`: a HAT in torch, in bands of rows; an exported HAT; any other network."""

import hashlib
import logging
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from hat_sr.checkpoints.checkpoint import METADATA_KEY, read_description, weights_digest
from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.inference.device import PRECISION_NAMES, Precision, find_device, find_dtype, prepared
from hat_sr.inference.memory import forward_bytes, largest_band, largest_square, memory_budget, session_bytes
from hat_sr.inference.upscale import Upscale
from hat_sr.model.banded import Report, forward_in_bands
from hat_sr.model.config import HATConfig
from hat_sr.model.cost import num_parameters
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import Session, check_claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Network:
    """Any network but HAT, or bicubic interpolation: it enlarges images of any size by a whole factor."""

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


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What one must know of a network to cut images for it. Lengths are in LR pixels."""

    title: str
    scale: int
    in_chans: int
    num_parameters: int
    multiple: int
    """Sides of the images that it takes are multiples of this; 1 if it pads them itself."""
    align: int
    """Tiles begin and end at multiples of this."""
    tile_pad: int
    """Context around a tile."""
    blend_size: int
    """Width of the strip in which two tiles are blended."""
    config: HATConfig | None = None
    """A HAT's."""


def _traits(config: HATConfig) -> Traits:
    window_size = config.window_size
    return Traits(
        title="HAT",
        scale=config.upscale,
        in_chans=config.in_chans,
        num_parameters=num_parameters(config),
        multiple=window_size,
        align=window_size,
        tile_pad=2 * window_size,
        blend_size=window_size,
        config=config,
    )


class Engine(Protocol):
    """A network for images whose sides are multiples of `traits.multiple`, and what memory they take."""

    traits: Traits
    device: torch.device
    dtype: torch.dtype
    """What the network's body computes in."""
    has_bands: bool
    """True if it can work on a part of the rows at a time."""
    plans_memory: bool
    """False if nothing is known of the memory that it takes."""

    def forward(self, x: Tensor, *, band_rows: int, report: Report = lambda part: None) -> Tensor:
        """Enlarge (B, in_chans, H, W) float32 in [0, 1] on any device, where the result is, too.

        report: as for `forward_in_bands`; an engine that has no bands calls it once.
        """

    def compute_in(self, dtype: torch.dtype) -> None:
        """Take this for the network's body from here on. Raises ConfigError if that cannot be."""

    def fingerprint(self) -> str:
        """Hash of network, config and runtime."""

    def budget(self) -> int:
        """Bytes of memory to plan with now."""

    def band_rows(self, height: int, width: int, budget: int) -> int | None:
        """Rows to work on at once for an image of this size within `budget` bytes; None if none fit."""

    def largest_square(self, budget: int) -> int:
        """Side of the largest square image within `budget` bytes; 0 if none fits."""


class TorchEngine:
    """A HAT in torch. If a result in low precision is not finite, it and all later ones are computed in fp32."""

    has_bands = plans_memory = True

    def __init__(self, model: HAT, *, device: str | torch.device, precision: Precision) -> None:
        self.config, self.traits = model.config, _traits(model.config)
        self.device = find_device(device)
        self.dtype = find_dtype(precision, self.device)
        self._source = model
        self._model = prepared(model, self.device, self.dtype)

    def forward(self, x: Tensor, *, band_rows: int, report: Report = lambda part: None) -> Tensor:
        """See Engine."""
        out = forward_in_bands(self._model, x.to(self.device), num_rows=band_rows, report=report).to(x)
        if self.dtype == torch.float32 or out.isfinite().all():
            return out
        logger.warning("the result in %s is not finite: computing in fp32 from here on", self.dtype)
        self.compute_in(torch.float32)
        return self.forward(x, band_rows=band_rows, report=report)

    def compute_in(self, dtype: torch.dtype) -> None:
        """See Engine."""
        self.dtype = dtype
        self._model = prepared(self._source, self.device, dtype)

    def fingerprint(self) -> str:
        """See Engine."""
        digest = hashlib.sha256(repr(self.config).encode())
        for tensor in self._source.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def budget(self) -> int:
        """See Engine."""
        return memory_budget(self.device)

    def band_rows(self, height: int, width: int, budget: int) -> int | None:
        """See Engine."""
        return largest_band(self.config, self.dtype, height, width, budget)

    def largest_square(self, budget: int) -> int:
        """See Engine."""
        rows = self.config.window_size
        return largest_square(rows, budget, lambda side: forward_bytes(self.config, self.dtype, side, side, rows))


class SessionEngine:
    """An exported HAT, on the CPU, all rows at once.

    Raises ConfigError for another device, or a low precision that is not the session's; WeightsError if its file does
    not say what it is, or if a small image shows that it is something else.
    """

    has_bands, plans_memory = False, True

    def __init__(self, session: Session, *, device: str | torch.device, precision: Precision) -> None:
        if str(device) not in ("auto", "cpu"):
            raise ConfigError(f"device {str(device)!r}: {session.name} runs on the CPU; leave it out")
        if precision not in ("auto", "fp32", session.precision):  # fp32 is what stands there if nothing was asked for
            raise ConfigError(f"precision {precision!r}: {session.name} was opened in {session.precision}: open it so")
        if METADATA_KEY not in session.metadata:
            raise WeightsError(
                f"{session.name}: it does not say what network it is: export it with hat_sr, which writes that into it"
            )
        try:
            self.config, _ = read_description(session.metadata[METADATA_KEY])
        except WeightsError as error:
            raise WeightsError(f"{session.name}: {error}") from error
        config = self.config
        self.traits = _traits(config)
        check_claim(session, scale=config.upscale, in_chans=config.in_chans, multiple=config.window_size)
        self.device = torch.device("cpu")
        self.dtype = torch.bfloat16 if session.precision == "bf16" else torch.float32
        self._session = session
        self._largest_budget = 0

    def forward(self, x: Tensor, *, band_rows: int, report: Report = lambda part: None) -> Tensor:
        """See Engine."""
        out = self._session.run(x.to(self.device)).to(x)
        report(1.0)
        return out

    def compute_in(self, dtype: torch.dtype) -> None:
        """See Engine."""
        if dtype != self.dtype:
            raise ConfigError(f"{self._session.name} was opened in {self._session.precision}: open it in another one")

    def fingerprint(self) -> str:
        """See Engine."""
        return f"{self._session.fingerprint}, {self._session.runtime}, {self._session.precision}"

    def budget(self) -> int:
        """See Engine."""
        # A runtime keeps memory for its next pass, which the system does not count as free.
        self._largest_budget = max(self._largest_budget, memory_budget(self.device))
        return self._largest_budget

    def band_rows(self, height: int, width: int, budget: int) -> int | None:
        """See Engine."""
        fits = self._bytes(height, width) <= budget
        return height + -height % self.config.window_size if fits else None

    def largest_square(self, budget: int) -> int:
        """See Engine."""
        return largest_square(self.config.window_size, budget, lambda side: self._bytes(side, side))

    def _bytes(self, height: int, width: int) -> int:
        return session_bytes(self.config, self._session.runtime, self._session.precision, height, width)


_TILE_PAD, _BLEND_SIZE = 32, 8
"""For networks that do not say how far they look: 32 is more than the reach of most networks' windows."""

_MODERATE_SIDE = 256
"""Side of the tiles in which a picture runs that does not fit into memory, where nothing is known of the network."""


class ModuleEngine:
    """Any other network in torch, all rows at once. Its module is moved and converted, not copied.

    precision: "auto" is fp32: not every network runs in less. Raises ConfigError for one in which it does not run.
    """

    has_bands = plans_memory = False

    def __init__(self, network: Network, *, device: str | torch.device, precision: Precision) -> None:
        self.traits = Traits(
            title=network.title,
            scale=network.scale,
            in_chans=network.in_chans,
            num_parameters=sum(weight.numel() for weight in network.module.parameters()),
            multiple=1,
            align=network.size_multiple,
            tile_pad=_TILE_PAD,
            blend_size=_BLEND_SIZE,
        )
        self._network = network
        self.device = find_device(device)
        self.compute_in(find_dtype("fp32" if precision == "auto" else precision, self.device))

    def forward(self, x: Tensor, *, band_rows: int, report: Report = lambda part: None) -> Tensor:
        """See Engine. Raises InputError if the network makes another size."""
        out = self._network.upscale(x.to(self.device, self.dtype)).to(x)
        size = tuple(self.traits.scale * side for side in x.shape[-2:])
        if tuple(out.shape[-2:]) != size:
            raise InputError(f"{self.traits.title} made {tuple(out.shape[-2:])} pixels instead of {size}")
        report(1.0)
        return out

    def compute_in(self, dtype: torch.dtype) -> None:
        """See Engine."""
        if dtype not in self._network.dtypes:
            raise ConfigError(f"{self.traits.title} does not run in {PRECISION_NAMES[dtype]}: use fp32")
        self.dtype = dtype
        self._network.module.to(self.device, dtype)

    def fingerprint(self) -> str:
        """See Engine."""
        return f"{self.traits.title} ×{self.traits.scale}, {weights_digest(self._network.module)}"

    def budget(self) -> int:
        """See Engine."""
        return memory_budget(self.device)

    def band_rows(self, height: int, width: int, budget: int) -> int | None:
        """All of them: see Engine."""
        return height + -height % self.traits.align

    def largest_square(self, budget: int) -> int:
        """See Engine."""
        return _MODERATE_SIDE


def engine_for(model: HAT | Session | Network, *, device: str | torch.device, precision: Precision) -> Engine:
    """What runs this network. Raises as the engines do, and ConfigError for a device that is not there."""
    if isinstance(model, Session):
        return SessionEngine(model, device=device, precision=precision)
    if isinstance(model, Network):
        return ModuleEngine(model, device=device, precision=precision)
    return TorchEngine(model, device=device, precision=precision)
