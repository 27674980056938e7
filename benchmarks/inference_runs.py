"""Time one network on one image in every runtime, in turn, and print what was found as JSON; inference.py runs this.

    python benchmarks/inference_runs.py CASE THREADS ROUNDS [VARIANT …]

CASE is a name in CASES, VARIANTs are names in VARIANTS (all if none is given).
"""

import contextlib
import copy
import importlib.util
import json
import math
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypedDict

import torch
from official_network import build_official
from torch import Tensor, nn

from hat_sr.allocator import keep_freed_memory
from hat_sr.checkpoints.named import load_model
from hat_sr.image.convert import to_tensor
from hat_sr.image.io import read_image
from hat_sr.inference.device import Precision
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.banded import forward_in_bands
from hat_sr.model.config import PRESETS
from hat_sr.model.hat import HAT
from hat_sr.model.initialise import initialise_as_interpolator
from hat_sr.model.native import without_native

PHOTO = Path(__file__).parents[1] / "examples/casa-mila.jpg"

Run = Callable[[Tensor], Tensor]
"""One forward pass."""


class Measured(TypedDict):
    """Of one variant: the seconds of each round, and how near the result is to that in float64."""

    seconds: list[float]
    decibels: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, and the side of the square that it enlarges."""

    network: str
    """A preset, with random values for weights, or a bundled network."""
    size: int


CASES = {
    "HAT": Case(network="HAT-x4", size=64),
    "HAT-S": Case(network="HAT-S-x4", size=128),
    "HAT-XS": Case(network="hat-xs-x4", size=512),
}


def make_network(name: str) -> HAT:
    """The network of a case; a preset interpolates, and random values of its body move the result a little."""
    if name not in PRESETS:
        return load_model(name)
    torch.manual_seed(0)
    network = HAT(PRESETS[name]).eval()
    initialise_as_interpolator(network)
    for key, weight in network.named_parameters():
        if key.endswith("relative_position_bias_table"):
            nn.init.normal_(weight)
        elif key.startswith("layers.") and weight.dim() > 1:
            nn.init.normal_(weight, std=(2 / weight[0].numel()) ** 0.5)
        elif key == "conv_after_body.weight":  # 0 so far: the body would not be seen in the result
            nn.init.normal_(weight, std=0.02 / weight[0].numel() ** 0.5)
    return network


def _ours(network: HAT, precision: Precision, *, native: bool) -> Run:
    upscaler = Upscaler(network, precision=precision, tile="off", device="cpu")

    def run(x: Tensor) -> Tensor:
        with contextlib.nullcontext() if native else without_native():
            return upscaler(x)

    return run


def _official(network: HAT, precision: str) -> Run:
    official = build_official(network.config).eval()
    official.load_state_dict(network.state_dict(), strict=False)  # but for the constants that it keeps there

    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            out: Tensor = official(x)
        return out.float()

    return run


def _openvino(exported: Path, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(exported), "CPU", settings)
    return lambda x: torch.from_numpy(compiled(x.numpy())[0])


def _onnxruntime(exported: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Else its threads go on turning for a while after each run, and slow the next variant.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


VARIANTS: dict[str, Callable[[HAT, Path], Run]] = {
    "official": lambda network, _: _official(network, "fp32"),
    "ours": lambda network, _: _ours(network, "fp32", native=False),
    "ours, native": lambda network, _: _ours(network, "fp32", native=True),
    "openvino": lambda _, exported: _openvino(exported, "fp32"),
    "onnxruntime": lambda _, exported: _onnxruntime(exported),
    "official, bf16": lambda network, _: _official(network, "bf16"),
    "ours, bf16": lambda network, _: _ours(network, "bf16", native=False),
    "ours, native, bf16": lambda network, _: _ours(network, "bf16", native=True),
    "openvino, bf16": lambda _, exported: _openvino(exported, "bf16"),
}
"""How to make each; the runtimes get an export of the official network with the same weights. Native is with the
package hat-sr-native, without which it is nothing else than ours."""


def variants_here() -> list[str]:
    """The names of those that can be measured with the packages that are installed."""
    return [name for name in VARIANTS if "native" not in name or importlib.util.find_spec("hat_sr_native")]


def measure(case: Case, names: list[str], *, threads: int, rounds: int) -> dict[str, Measured]:
    """For each variant, the seconds of each round, and how near its result is to that in float64, in dB.

    Decibels are of the range of the float64 result against the root mean square of the difference. Each variant is a
    process of its own, as whoever uses it has it; they take turns.
    """
    network, x = make_network(case.network), _photo(case)
    expected = forward_in_bands(copy.deepcopy(network).double(), x.double(), num_rows=case.size)
    span = expected.max() - expected.min()
    found: dict[str, Measured] = {}
    pipes: dict[str, Connection] = {}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "official.onnx"
        if any("openvino" in name or "onnxruntime" in name for name in names):
            _export(network, x, exported)
        for name in names:
            pipes[name], end = context.Pipe()
            context.Process(target=_take_turns, args=(end, case, name, exported, threads, rounds), daemon=True).start()
            end.close()  # else this process would wait for ever if that one died
            difference = torch.from_numpy(pipes[name].recv()).double() - expected
            decibels = 20 * math.log10(span / difference.square().mean().sqrt())
            found[name] = Measured(seconds=[], decibels=decibels)
        for _ in range(rounds):
            for name, pipe in pipes.items():
                pipe.send("your turn")
                found[name]["seconds"].append(pipe.recv())
    return found


def _take_turns(pipe: Connection, case: Case, name: str, exported: Path, threads: int, rounds: int) -> None:
    """Send the result of a first run, then, each time after a message, the seconds of the second of two more."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    if name.startswith("ours"):
        keep_freed_memory()  # as `hat-sr` does
    run, x = VARIANTS[name](make_network(case.network), exported), _photo(case)
    with torch.inference_mode():
        pipe.send(run(x).numpy())
        for _ in range(rounds):
            pipe.recv()
            run(x)  # the others have emptied the caches
            since = time.perf_counter()
            run(x)
            pipe.send(time.perf_counter() - since)


def _photo(case: Case) -> Tensor:
    return to_tensor(read_image(PHOTO).color)[..., : case.size, : case.size].contiguous()


def _export(network: HAT, x: Tensor, path: Path) -> None:
    """The official network with these weights, for images of this size alone, which is best for the runtimes."""
    official = build_official(network.config).eval()
    official.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
        torch.onnx.export(official, (x,), path, dynamo=True, verbose=False)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the official network's and the exporter's
    case_name, num_threads, num_rounds, *variant_names = sys.argv[1:]
    measured = measure(
        CASES[case_name], variant_names or variants_here(), threads=int(num_threads), rounds=int(num_rounds)
    )
    print(json.dumps(measured))
