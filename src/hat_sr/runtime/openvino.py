"""OpenVINO, on the CPU."""

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from hat_sr.errors import WeightsError, require


class _Stack(ctypes.Structure):
    """What sigaltstack(2) calls stack_t."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Set this thread's stack for handlers of signals back to what it is now. Does nothing elsewhere than on Linux.

    For libraries that set their own and free it as they please: the next signal that is handled ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)


_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_TELEMETRY = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The package `openvino`, without its telemetry, which on import would tell Google Analytics that it was imported.

    Raises MissingExtraError.
    """
    if _TELEMETRY in sys.modules:
        return require("openvino", extra="export")
    # OpenVINO does without where its telemetry is not installed, and a None here looks like that.
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return require("openvino", extra="export")
    finally:
        del sys.modules[_TELEMETRY]


def load(source: Path | bytes, precision: str) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    """A network as a function, and what is said of it in its file (of .xml alone); see `Session.run`.

    source: an .xml file, or the content of an ONNX file.
    Raises WeightsError for what is neither, MissingExtraError.
    """
    openvino = import_openvino()
    if isinstance(source, Path) and b"<net" not in source.read_bytes()[:200]:
        # OpenVINO would try whether it is one of other programs' files, and print why not.
        raise WeightsError(f"{source}: it is no network of OpenVINO")
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Never left to OpenVINO, which takes bfloat16 wherever the processor has it.
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
    }
    core = openvino.Core()
    try:
        model = core.read_model(source)
        with signal_stack_kept():
            compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        name = "these bytes" if isinstance(source, bytes) else source
        reason = str(error).strip().rpartition("\n")[2]  # before it stand the places in OpenVINO's source
        raise WeightsError(f"{name}: no network that OpenVINO can open ({reason})") from error

    def run(x: Tensor) -> Tensor:
        try:
            out = torch.from_numpy(compiled(x.contiguous().numpy())[0])
        except TypeError as error:  # numbers that torch does not have
            raise RuntimeError(f"OpenVINO: {error}") from error
        if out.numel() == 0:  # what it makes of sides that do not fit, without a word
            raise RuntimeError(f"OpenVINO makes nothing of {tuple(x.shape)}: sides are multiples of window_size")
        return out

    said = {name: getattr(value, "value", None) for name, value in model.rt_info.items()}  # some are dicts
    return run, {name: value for name, value in said.items() if isinstance(value, str)}


def write_xml(onnx: bytes, path: Path, *, metadata: Mapping[str, str], half: bool) -> None:
    """Write the network of an ONNX file as `path`, an .xml, and a .bin beside it; with `half`, weights in float16.

    `metadata` goes into the .xml, where OpenVINO calls it rt_info. Raises MissingExtraError.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(onnx)
    for name, text in metadata.items():
        model.set_rt_info(text, [name])
    openvino.save_model(model, path, compress_to_fp16=half)
