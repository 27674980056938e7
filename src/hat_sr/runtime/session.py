"""An exported network, opened: a function from tensors to tensors, whatever runs it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.runtime import onnxruntime, openvino

Runtime = Literal["onnxruntime", "openvino"]

SUFFIXES: dict[str, Runtime] = {".onnx": "onnxruntime", ".xml": "openvino"}
"""What runs a file of that name. An .xml has its weights in a .bin beside it."""

PRECISIONS: dict[Runtime, tuple[str, ...]] = {"onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}
"""What each can compute in on a CPU, whatever the file stores."""

LARGEST_PIXEL = 16
"""What no network makes of an image in [0, 1], even at a bad start: 255 would be another range of pixels."""

_LOADERS = {"onnxruntime": onnxruntime.load, "openvino": openvino.load}


@dataclass(frozen=True, kw_only=True)
class Session:
    """A network that a runtime has loaded."""

    name: str
    """Of the file or the network, for messages."""
    runtime: Runtime
    precision: str
    """What it computes in."""
    metadata: Mapping[str, str]
    """What the file says of the network."""
    fingerprint: str
    """Hash of the file."""
    run: Callable[[Tensor], Tensor] = field(repr=False)
    """(B, C, H, W) float32 on the CPU, sides as the network takes them → float32, enlarged. With as many threads as
    torch had when it was opened. Raises RuntimeError as the runtime does, with its message."""


def runtime_of(path: Path) -> Runtime | None:
    """What runs a file of that name; None if no runtime does."""
    return SUFFIXES.get(path.suffix.lower())


def checked_precision(precision: str, runtime: Runtime) -> str:
    """What a runtime computes in: "auto" is fp32. Raises ConfigError for what it does not have."""
    if precision == "auto":
        return "fp32"
    if precision not in PRECISIONS[runtime]:
        raise ConfigError(
            f"precision {precision!r} is none that {runtime} computes in here: use {' or '.join(PRECISIONS[runtime])}"
        )
    return precision


def open_session(path: str | PathLike[str], *, precision: str = "auto") -> Session:
    """Open an exported file, .onnx or .xml (with its .bin), in its runtime, on the CPU.

    precision: what to compute in; "auto" is fp32, and OpenVINO has bf16, too.
    Raises InputError for another name, WeightsError if the file is not there or not what its name says, ConfigError for
    a precision that the runtime does not have, MissingExtraError if it is not installed.
    """
    path = Path(path)
    runtime = runtime_of(path)
    if runtime is None:
        raise InputError(f"{path}: exported networks are {' and '.join(SUFFIXES)} files")
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    if path.suffix.lower() == ".xml" and not path.with_suffix(".bin").is_file():
        raise WeightsError(f"{path}: its weights, {path.with_suffix('.bin').name}, are not beside it")
    precision = checked_precision(precision, runtime)
    run, metadata = _LOADERS[runtime](path, precision)
    digest = hashlib.sha256(path.read_bytes())
    if runtime == "openvino":
        digest.update(path.with_suffix(".bin").read_bytes())
    return Session(
        name=str(path),
        runtime=runtime,
        precision=precision,
        metadata=metadata,
        fingerprint=digest.hexdigest(),
        run=run,
    )


def check_claim(session: Session, *, scale: int, in_chans: int, multiple: int) -> None:
    """Run two small images, and raise WeightsError unless the results are what a network of that kind makes.

    They are finite float32 numbers near [0, 1], `scale` times as large, and not the same for an image and its negative.
    multiple: what sides of images are multiples of.
    """
    height, width = multiple, 2 * multiple
    slope = torch.linspace(0, 1, height * width).view(1, 1, height, width).expand(1, in_chans, height, width)
    wanted = (2, in_chans, scale * height, scale * width)
    try:
        out = session.run(torch.cat([slope, 1 - slope]))
    except RuntimeError as error:
        raise WeightsError(f"{session.name}: it does not run as a ×{scale} network ({error})") from error
    found = None
    if tuple(out.shape) != wanted or out.dtype != torch.float32:
        found = f"makes {tuple(out.shape)} {out.dtype} of {(2, in_chans, height, width)}, not {wanted} torch.float32"
    elif not out.isfinite().all():
        found = "makes NaN or infinity"
    elif out.abs().max() > LARGEST_PIXEL:
        found = f"makes numbers up to {out.abs().max():.3g} of images in [0, 1]"
    elif torch.equal(out[0], out[1]):
        found = "makes the same of every image"
    if found is not None:
        raise WeightsError(
            f"{session.name}: it says that it is a ×{scale} network, and {found}: it is damaged, or of another "
            "network. Export it again (hat-sr export)"
        )


def session_of(
    onnx: bytes, *, name: str, metadata: Mapping[str, str], runtime: Runtime, precision: str = "auto"
) -> Session:
    """The same for the content of an ONNX file, which both runtimes take. Errors are those of `open_session`."""
    precision = checked_precision(precision, runtime)
    run, _ = _LOADERS[runtime](onnx, precision)
    return Session(
        name=name,
        runtime=runtime,
        precision=precision,
        metadata=metadata,
        fingerprint=hashlib.sha256(onnx).hexdigest(),
        run=run,
    )
