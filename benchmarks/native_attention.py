"""Time attention, and forward passes of whole networks, with and without hat-sr-native, in turn, on one thread.

    python benchmarks/native_attention.py [--cases attention HAT HAT-S HAT-XS] [--rounds 9]

Times are the processor's seconds of this process, so that turns of other programs do not count (what those do to the
caches does): the least of all rounds, and the median of the ratios of a round.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from inference_runs import CASES, PHOTO
from measuring import describe_machine, positive_integer
from torch import Tensor, nn

from hat_sr.image.convert import to_tensor
from hat_sr.image.io import read_image
from hat_sr.model.attention import attend
from hat_sr.model.banded import forward_in_bands
from hat_sr.model.config import PRESETS
from hat_sr.model.hat import HAT
from hat_sr.model.native import native_attend, without_native
from hat_sr.model.window import shift_masks
from hat_sr.model.zoo import load_model

HEADS, QUERIES, CHANNELS = 6, 256, 180
"""Of HAT."""


@torch.inference_mode()
def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = ["attention", *CASES]
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases, help="default: all")
    parser.add_argument("--rounds", type=positive_integer, default=9, help="how often each is timed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if native_attend(*(torch.zeros(1, 1, 1, 1, 1) for _ in range(3)), torch.zeros(1, 1, 1), None) is None:
        parser.exit(1, "hat-sr-native is not installed, or does not work: pip install ./native\n")
    print("\n".join(f"{name}: {value}" for name, value in describe_machine(1).items()))
    print("\n| what | dtype | without, s | with, s | times as fast | largest difference |\n|---|---|---|---|---|---|")
    for case in arguments.cases:
        for dtype in (torch.float32, torch.bfloat16):
            for what, run in (_attention if case == "attention" else _network)(case, dtype).items():
                print(
                    f"| {what} | {str(dtype).removeprefix('torch.')} | {_compared(run, arguments.rounds)} |", flush=True
                )


def _attention(_: str, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """HAT's 16 windows of an image of 64×64."""
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 4, QUERIES, 3 * CHANNELS).to(dtype).chunk(3, dim=-1)
    far_k, far_v = torch.randn(1, 4, 4, 576, 2 * CHANNELS).to(dtype).chunk(2, dim=-1)
    bias, far_bias = (torch.randn(HEADS, QUERIES, keys).to(dtype) for keys in (QUERIES, 576))
    masks = shift_masks(16, 8)
    return {
        "attention, 256 keys": lambda: attend(q, k, v, bias, None),
        "attention, 256 keys, shifted": lambda: attend(q, k, v, bias, masks),
        "attention, 576 keys": lambda: attend(q, far_k, far_v, far_bias, None),
    }


def _network(name: str, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """A whole forward pass, as `hat_sr.Upscaler` does it."""
    case = CASES[name]
    network = _preset(case.network) if case.network in PRESETS else load_model(case.network)
    network.cast_body(dtype)
    x = to_tensor(read_image(PHOTO).color)[..., : case.size, : case.size].contiguous()
    return {f"{name}, {case.size}×{case.size}": lambda: forward_in_bands(network, x, num_rows=min(case.size, 128))}


def _preset(name: str) -> HAT:
    """A new network, with biases between tokens that matter."""
    torch.manual_seed(0)
    network = HAT(PRESETS[name]).eval()
    for key, weight in network.named_parameters():
        if key.endswith("relative_position_bias_table"):
            nn.init.normal_(weight)
    return network


def _compared(run: Callable[[], Tensor], rounds: int) -> str:
    """The cells of a row."""
    with without_native():
        expected = run()
    difference = (run().double() - expected.double()).abs().max()
    before, after = [], []
    for _ in range(rounds):
        with without_native():
            before.append(_seconds(run))
        after.append(_seconds(run))
    times = median(a / b for a, b in zip(before, after, strict=True))
    return f"{min(before):.4f} | {min(after):.4f} | {times:.2f} | {difference:.1e}"


def _seconds(run: Callable[[], Tensor]) -> float:
    since = time.process_time()
    run()
    return time.process_time() - since


if __name__ == "__main__":
    main()
