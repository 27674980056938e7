"""A network in another runtime than its own, exported for it on the way."""

from pathlib import Path
from typing import Literal

from rich.console import Console

from hat_sr.cli.progress import status
from hat_sr.errors import ConfigError
from hat_sr.export import run_in
from hat_sr.inference.baselines import load_upscale
from hat_sr.inference.enlarge import Settings, open_network, upscaler_of
from hat_sr.inference.network import PlainUpscaler
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import runtime_of

RuntimeName = Literal["auto", "torch", "onnxruntime", "openvino"]


def open_in_runtime(name: str, settings: Settings, *, runtime: RuntimeName) -> Upscaler | PlainUpscaler:
    """The network of that name, run by that runtime; weights for another than torch are exported first.

    runtime: "auto" is an exported file's own, and torch for weights.
    Raises ConfigError if the runtime does not run this file, or not in this precision, or if the network is no HAT;
    else as `open_network` and `run_in`.
    """
    own = runtime_of(Path(name))
    if own is not None and runtime not in ("auto", own):
        raise ConfigError(f"runtime {runtime!r} does not run {name}, {own} does: leave --runtime out")
    if own is not None or runtime == "auto" or runtime == "torch":
        return open_network(name, settings)
    model = load_upscale(name).module
    if not isinstance(model, HAT):
        raise ConfigError(f"runtime {runtime!r} is for HAT, and {name} is none: leave --runtime out")
    with status(Console(stderr=True), f"exporting {name} (hat-sr export does so once and for all)"):
        session = run_in(model, runtime, precision=settings.precision, name=name)
    return upscaler_of(session, settings)
