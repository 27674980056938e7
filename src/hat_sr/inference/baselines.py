"""Other networks, and bicubic interpolation, as an Upscale: what HAT is measured against.

A file of weights that is not HAT's is opened by spandrel, from the extra `baselines`. spandrel asks for torchvision, so
it is best kept in an environment of its own.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from hat_sr.errors import ConfigError, InputError, MissingExtraError, WeightsError, require
from hat_sr.image.resize import resize
from hat_sr.inference.device import Precision, find_device, find_dtype
from hat_sr.inference.ensemble import self_ensemble as ensemble_of
from hat_sr.inference.pad import padded
from hat_sr.inference.tiling import tiled
from hat_sr.inference.upscale import Upscale
from hat_sr.model.checkpoint import NETWORK_KEY
from hat_sr.model.digest import weights_digest
from hat_sr.model.official import unwrap
from hat_sr.model.storage import read_file
from hat_sr.model.zoo import DEFAULT_SCALE, label, load_model, local_file

BICUBIC = "bicubic"
"""The name of bicubic interpolation, by any whole factor."""

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
        return _load_other(name, error)
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


def _load_other(name: str, error: WeightsError) -> Network:
    """What spandrel makes of a file that, as `error` says, is not HAT's."""
    try:
        content, metadata = read_file(local_file(name))
        state = unwrap(content)
    except WeightsError:
        raise error from None  # no weights at all
    stated = None
    if NETWORK_KEY in metadata:
        stated = _read_stated(name, metadata[NETWORK_KEY])
        error = WeightsError(f"{name}: it holds weights of {stated.entry}, not of HAT")
    try:
        spandrel = require("spandrel", extra="baselines")
    except MissingExtraError as missing:
        raise WeightsError(f"{error}; to run other networks: pip install 'hat-sr[baselines]'") from missing
    try:
        found = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except Exception as reason:  # it raises what comes
        raise WeightsError(f"{error}; nor does spandrel know it ({type(reason).__name__}: {reason})") from reason
    kind = found.architecture.name
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.purpose != "SR":
        raise WeightsError(f"{name}: spandrel opens it as {kind}, which is not for super-resolution")
    if found.input_channels != found.output_channels:
        raise WeightsError(f"{name}: {kind} makes {found.output_channels} channels of {found.input_channels}")
    if stated is not None:
        _make_as_stated(found.model, stated, state, name)
    supported = {torch.float32: True, torch.bfloat16: found.supports_bfloat16, torch.float16: found.supports_half}
    # Its call pads, which is wanted, and forbids gradients, which maps of attributions need: that wrapper is left out.
    call = inspect.unwrap(type(found).__call__)
    found.eval()

    def run(x: Tensor) -> Tensor:
        out: Tensor = call(found, x.clone())  # a copy: RCAN for one changes its input in place
        return out

    return Network(
        name=label(name),
        title=kind,
        upscale=run,
        scale=found.scale,
        in_chans=found.input_channels,
        size_multiple=found.size_requirements.multiple_of,
        module=found.model,
        dtypes=tuple(dtype for dtype, can in supported.items() if can),
    )


class _Stated(NamedTuple):
    """What the file of a recipe's [network] says of it."""

    entry: str
    """Module and class, as module:name."""
    arguments: dict[str, object]


def _read_stated(name: str, text: str) -> _Stated:
    try:
        content = json.loads(text)
        return _Stated(entry=str(content["entry"]), arguments=dict(content["arguments"]))
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{name}: its metadata, under {NETWORK_KEY!r}, is not as hat-sr writes it: {error}"
        ) from error


def _make_as_stated(module: nn.Module, stated: _Stated, state: Mapping[str, Tensor], name: str) -> None:
    """Make spandrel's network again by the file's own arguments: it guesses those that no shape tells (RCAN's range).

    Nothing is imported that a file names: its class must be the one that spandrel took by itself.
    """
    module_name, _, class_name = stated.entry.partition(":")
    kind = type(module)
    if kind.__name__ != class_name or not f"{kind.__module__}.".startswith(f"{module_name}."):
        raise WeightsError(
            f"{name}: it holds weights of {stated.entry}, which hat-sr trains and validates but does not run; spandrel "
            f"takes it for its own {kind.__name__}"
        )
    try:
        module.__init__(**stated.arguments)  # type: ignore[misc]
        module.load_state_dict(dict(state))
    except Exception as reason:  # a network's constructor raises what comes
        raise WeightsError(
            f"{name}: {stated.entry} cannot be made by the arguments that the file states ({type(reason).__name__}: "
            f"{reason})"
        ) from reason


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
        upscale: Upscale = self._forward
        if isinstance(tile, int):
            align = network.size_multiple
            size = tile // align * align
            upscale = tiled(upscale, scale=self.scale, tile_size=size, tile_pad=TILE_PAD, align=align)
        self._upscale = ensemble_of(upscale) if self_ensemble else upscale

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
        """Another one for another network."""
        return f"{self._network.title} ×{self.scale}, {weights_digest(self._network.module)}"

    def __call__(self, x: Tensor, *, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Enlarge images, (B, in_chans, H, W) float in [0, 1] → float32, scale times it, on the input's device.

        progress is called once, at the end. Raises InputError if the network makes another size.
        """
        with torch.no_grad():
            out = self._upscale(x.float())
        size = tuple(self.scale * side for side in x.shape[-2:])
        if tuple(out.shape[-2:]) != size:
            raise InputError(f"{self._network.title} made {tuple(out.shape[-2:])} pixels instead of {size}")
        if progress is not None:
            progress(1, 1)
        return out

    def _forward(self, x: Tensor) -> Tensor:
        return self._network.upscale(x.to(self._device, self._dtype)).to(x)
