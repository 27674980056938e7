"""A network by its name, ready to enlarge images: a HAT, whatever else spandrel opens, or bicubic interpolation."""

from pathlib import Path
from typing import Literal

from rich.console import Console
from torch import nn

from hat_sr.cli.progress import status
from hat_sr.errors import ConfigError
from hat_sr.export import run_in
from hat_sr.inference.baselines import PlainUpscaler, load_upscale
from hat_sr.inference.device import Precision
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import Session, open_session, runtime_of

RuntimeName = Literal["auto", "torch", "onnxruntime", "openvino"]


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


def session_for(name: str, *, runtime: RuntimeName, precision: Precision) -> Session | None:
    """The network of that name in another runtime than torch, for `Upscaler`; None if torch is to run it.

    runtime: "auto" is an exported file's own, and torch for weights; weights for another are exported first.
    precision: what the runtime computes in.
    Raises ConfigError if the runtime does not run this file, or not in this precision, or if the network is no HAT;
    else as `load_upscale`, `run_in` and `open_session`.
    """
    own = runtime_of(Path(name))
    if own is not None:
        if runtime not in ("auto", own):
            raise ConfigError(f"runtime {runtime!r} does not run {name}, {own} does: leave --runtime out")
        return open_session(name, precision=precision)
    if runtime == "auto" or runtime == "torch":
        return None
    model = load_upscale(name).module
    if not isinstance(model, HAT):
        raise ConfigError(f"runtime {runtime!r} is for HAT, and {name} is none: leave --runtime out")
    with status(Console(stderr=True), f"exporting {name} (hat-sr export does so once and for all)"):
        return run_in(model, runtime, precision=precision, name=name)
