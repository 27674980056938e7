"""Networks by name: from a bundled name, a path, `hf://…`, an exported file or `bicubic` to what `Upscaler` runs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from hat_sr.checkpoints.named import DEFAULT_SCALE, load_model
from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.export import run_in
from hat_sr.image.resize import resize
from hat_sr.inference.device import Precision, RuntimeName
from hat_sr.inference.engine import Network
from hat_sr.inference.spandrel_networks import load_by_spandrel
from hat_sr.inference.upscale import type_name
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import Session, open_session, runtime_of

BICUBIC = "bicubic"
"""The name of bicubic interpolation, by any whole factor."""

_WRAPPED_IN = ("module", "_orig_mod")
"""Where torch's wrappers keep a network: DataParallel and DistributedDataParallel, torch.compile."""


def open_network(
    name: str | os.PathLike[str],
    *,
    scale: int = DEFAULT_SCALE,
    precision: Precision = "auto",
    runtime: RuntimeName = "auto",
    say: Callable[[str], None] = lambda sentence: None,
) -> HAT | Session | Network:
    """The network of that name: what `load_model` takes, an exported file, `bicubic`, or a file that spandrel opens.

    scale: bicubic's factor; a network has its own. precision: of an exported network. runtime: "auto" is an exported
    file's own, and torch for weights; weights for another one are exported first. say: told of that.

    Raises as `load_model` and `open_session`, WeightsError if spandrel cannot open the file, either; ConfigError if the
    runtime does not run this network, or for a scale below 1.
    """
    own = runtime_of(Path(name))
    if own is not None and runtime not in ("auto", own):
        raise ConfigError(f"runtime {runtime!r} does not run {name}, {own} does: leave --runtime out")
    if own is not None:
        return open_session(name, precision=precision)
    model = _opened(name, scale)
    if runtime == "auto" or runtime == "torch":
        return model
    if not isinstance(model, HAT):
        raise ConfigError(f"runtime {runtime!r} is for HAT, and {name} is none: leave --runtime out")
    say(f"exporting {name} (hat-sr export does so once and for all)")
    return run_in(model, runtime, precision=precision, name=str(name))


def as_network(model: object, *, precision: Precision) -> HAT | Session | Network:
    """The network that is meant: itself, what torch's wrappers hold, or by its name or file.

    Raises InputError for anything else, and as `open_network`.
    """
    if isinstance(model, str | os.PathLike):
        return open_network(model, precision=precision)
    network = model
    while isinstance(network, torch.nn.Module) and not _is_hat(network):
        network = next((getattr(network, name) for name in _WRAPPED_IN if hasattr(network, name)), None)
    if _is_hat(network) and any(weight.is_meta for weight in network.parameters()):
        raise InputError("the network is on the device meta, without values: make it on cpu, or load its weights")
    if isinstance(network, Session | Network) or _is_hat(network):
        return network
    raise InputError(
        f"Upscaler of {type_name(model)}: a HAT (load_model or HAT(config)), its name or file, or an exported one "
        "(open_session) is accepted; pictures are given to what it makes: Upscaler('hat-xs-x4')(x)"
    )


def bicubic(scale: int) -> Network:
    """Bicubic interpolation, the float form of MATLAB's (`hat_sr.image.resize`). Raises ConfigError below 1."""
    if scale < 1:
        raise ConfigError(f"scale {scale}: bicubic interpolation enlarges by 1 or more")

    def run(x: Tensor) -> Tensor:
        return resize(x, (scale * x.shape[-2], scale * x.shape[-1]))

    return Network(name=BICUBIC, title=BICUBIC, upscale=run, scale=scale, in_chans=3, size_multiple=1)


def _opened(name: str | os.PathLike[str], scale: int) -> HAT | Network:
    if name == BICUBIC:
        return bicubic(scale)
    try:
        return load_model(name)
    except WeightsError as error:
        return load_by_spandrel(str(name), error)


def _is_hat(network: object) -> TypeGuard[HAT]:
    """True for a module that says what HAT it is; what torch.compile returns does."""
    return isinstance(network, torch.nn.Module) and isinstance(getattr(network, "config", None), HATConfig)
