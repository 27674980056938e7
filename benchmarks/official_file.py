"""A file of HAT's real size in the released format, there and back: written by the official network, read by ours.

    python benchmarks/official_file.py [--preset HAT-x4] [--size 64]

The released files cannot be downloaded everywhere, so one is made: the official network (spandrel's copy, installed as
by training.py) with random values, saved as the released files are. `load_model` must read it and compute the same;
what `save_model(format="official")` writes of it must be recognised by spandrel's loader, and compute the same again.
The exit code is 1 if an output differs by more than 1e-10 of its largest value, in float64.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import torch
from official_network import build_official, default_cache, install_official

from hat_sr import PRESETS, load_model, save_model

LARGEST_DIFFERENCE = 1e-10
"""Of the outputs in float64, as a share of the largest value."""


def main() -> int:
    """Go there and back, and say how far the outputs are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="HAT-x4", help="(default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=64, help="side of the input, a multiple of 16 (default: %(default)s)"
    )
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="where spandrel is put (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.size < 1 or arguments.size % 16:
        parser.error(f"--size {arguments.size} is no multiple of 16")
    sys.path.insert(0, str(install_official(arguments.cache)))
    spandrel = importlib.import_module("spandrel")

    torch.manual_seed(0)
    official = build_official(PRESETS[arguments.preset]).eval()
    for weight in official.parameters():  # so large that every part moves the output
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=(8 / weight[0].numel()) ** 0.5)
        else:
            weight.data += 0.1 * torch.randn_like(weight)
    lr = torch.rand(1, 3, arguments.size, arguments.size, dtype=torch.float64)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        released, again = Path(folder) / "released.pth", Path(folder) / "again.pth"
        torch.save({"params_ema": official.state_dict()}, released)
        expected = official.double()(lr)
        ours = load_model(released)
        save_model(ours, again, format="official")
        opened = spandrel.ModelLoader().load_from_file(again)
        outputs = {"ours": ours.double()(lr), "saved by ours, opened by spandrel": opened.model.double().eval()(lr)}
    print(f"{arguments.preset}: {sum(weight.numel() for weight in ours.parameters()):,} parameters, read from a file")
    print(f"spandrel takes what was saved for {opened.architecture.name} ×{opened.scale}")
    good = opened.architecture.name == "HAT" and opened.scale == PRESETS[arguments.preset].upscale
    for name, output in outputs.items():
        difference = float((output - expected).abs().max() / expected.abs().max())
        good = good and difference <= LARGEST_DIFFERENCE  # false for NaN
        print(f"{name}: differs from the official network by {difference:.1e} of the largest value")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
