"""Networks for other runtimes: written as ONNX or OpenVINO files, and compared with torch before they are kept.

The graph takes batches of any size, of images whose sides are any multiples of window_size; padding and cropping stay
outside (`hat_sr.inference.upscale.padded`), tiles too.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hat_sr.checkpoints.checkpoint import METADATA_KEY, description
from hat_sr.errors import ExportError, InputError, require
from hat_sr.files import arriving
from hat_sr.model.hat import HAT
from hat_sr.runtime import openvino
from hat_sr.runtime.session import SUFFIXES, Runtime, Session, checked_precision, open_session, runtime_of, session_of

Stored = Literal["fp32", "fp16"]

TOLERANCES: dict[str, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""By how much a result may differ from torch's in float32, for images in [0, 1] of random pixels."""

INPUT, OUTPUT = "lr", "sr"
"""Names of the graph's input, (batch, in_chans, height, width), and of its output."""


def export_model(
    model: HAT,
    path: str | PathLike[str],
    *,
    precision: Stored = "fp32",
    provenance: Mapping[str, str] | None = None,
) -> float:
    """Write a network as `path`: .onnx, or .xml with a .bin beside it for OpenVINO. It appears if it is right, only.

    precision: fp16 stores weights in half the size; an ONNX file then computes the network's body in float16, while
        OpenVINO computes in what it is told to when it runs.
    provenance: what the file says of the weights, besides the config.
    Returns the largest difference between torch and the runtime, at three sizes. Takes minutes for published sizes.

    Raises ExportError if that is above TOLERANCES, InputError if the name has another ending or its folder does not
    exist, MissingExtraError if the `export` extra is not installed.
    """
    path = Path(path)
    runtime = runtime_of(path)
    if runtime is None:
        raise InputError(f"{path}: exported networks are {' and '.join(SUFFIXES)} files")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist: create it first")
    metadata = {METADATA_KEY: description(model.config, provenance or {})}
    original = _plain(model)
    half = precision == "fp16"
    with arriving(path.parent) as folder:
        part = folder / path.name
        if runtime == "openvino":
            openvino.write_xml(_onnx_of(original), part, metadata=metadata, half=half)
        else:
            stored = copy.deepcopy(original).cast_body(torch.float16) if half else original
            part.write_bytes(_onnx_of(stored, metadata))
        return _checked(original, open_session(part), TOLERANCES[precision], name=str(path))


def run_in(model: HAT, runtime: Runtime, *, precision: str = "auto", name: str = "the network") -> Session:
    """The network in another runtime, without a file; `hat_sr.Upscaler` takes it as it takes the network.

    precision: what to compute in, as for `open_session`. Raises ExportError, ConfigError and MissingExtraError as that
    and `export_model` do.
    """
    precision = checked_precision(precision, runtime)  # before the long work
    original = _plain(model)
    metadata = {METADATA_KEY: description(model.config, {})}
    session = session_of(_onnx_of(original), name=name, metadata=metadata, runtime=runtime, precision=precision)
    _checked(original, session, TOLERANCES[session.precision], name=name)
    return session


def to_onnx(
    module: nn.Module, *, window_size: int, in_chans: int = 3, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The content of an ONNX file of any network that takes (B, in_chans, H, W) float32 images, on the CPU.

    H and W are multiples of `window_size`, and B, H and W are open in the graph. Nothing is compared here: see
    `largest_difference`. Raises ExportError if torch cannot export it, MissingExtraError.
    """
    for name in ("onnx", "onnxscript"):
        require(name, extra="export")
    example = torch.rand(2, in_chans, 2 * window_size, 3 * window_size)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch {torch.__version__} cannot export this network: {error}") from error
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # the lines of source they come from, with the paths of this machine
    program.model.metadata_props.update(metadata or {})
    content: bytes = program.model_proto.SerializeToString()
    return content


def largest_difference(
    module: nn.Module, run: Callable[[Tensor], Tensor], *, window_size: int, in_chans: int = 3
) -> float:
    """Between a network on the CPU and `run`, over three images of random pixels of sizes that no export has seen.

    They are of one window, of 3×5, and a batch of three of 4×1. NaN or infinity if a result has some.
    """
    generator = torch.Generator().manual_seed(0)
    largest = torch.zeros(())
    for B, h, w in ((1, 1, 1), (1, 3, 5), (3, 4, 1)):
        x = torch.rand(B, in_chans, h * window_size, w * window_size, generator=generator)
        with torch.no_grad():
            largest = torch.maximum(largest, (run(x) - module(x)).abs().max())  # which NaN passes through
    return largest.item()


def _onnx_of(model: HAT, metadata: Mapping[str, str] | None = None) -> bytes:
    return to_onnx(model, window_size=model.config.window_size, in_chans=model.config.in_chans, metadata=metadata)


def _checked(model: HAT, session: Session, tolerance: float, *, name: str) -> float:
    """The largest difference of a session from the model. Raises ExportError if it is above the tolerance."""
    config = model.config
    difference = largest_difference(model, session.run, window_size=config.window_size, in_chans=config.in_chans)
    if not difference <= tolerance:
        raise ExportError(
            f"{name}: {session.runtime} differs from torch by {difference:.2g} where {tolerance:g} is tolerated, so "
            "that it is not kept: another version of the runtime or of torch may do better"
        )
    return difference


def _plain(model: HAT) -> HAT:
    """A copy in eval mode, on the CPU, in float32."""
    return copy.deepcopy(model).eval().to("cpu", torch.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about itself: of packages it could use, of what it will change, and of
    constants that it leaves for the runtime to compute.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
