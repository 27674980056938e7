"""By how much networks shift flat colours, and the mean of gray with noise: alone, and as `hat-sr upscale` runs them.

    python benchmarks/colours.py [MODEL …]

Of each network the largest deviation of twenty colours in levels of 255: inside, within 8 LR pixels of the border, and
in the corners of 2×2 LR pixels; and what is added to the mean of gray 30 and 240 with noise of σ 4.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from hat_sr import Upscaler, load_model
from hat_sr.checkpoints.named import bundled_names

GRAYS = [(value,) * 3 for value in (0, 1, 30, 64, 128, 192, 240, 254, 255)]
SATURATED = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
OTHERS = [(200, 30, 30), (30, 120, 200), (250, 220, 180), (20, 60, 20), (120, 80, 40)]
BORDER, CORNER = 8, 2


def levels(upscaler: Upscaler, x: Tensor) -> Tensor:
    """The result in levels, as it is written."""
    return (upscaler(x / 255).clamp(0, 1) * 255).round()


def deviations(upscaler: Upscaler) -> tuple[float, float, float]:
    """The largest of all colours: inside, at the border, in the corners."""
    colours = torch.tensor(GRAYS + SATURATED + OTHERS, dtype=torch.float32)[:, :, None, None]
    off = (levels(upscaler, colours.expand(-1, -1, 48, 56)) - colours).abs().amax((0, 1))
    border, corner = BORDER * upscaler.scale, CORNER * upscaler.scale
    inside = off[border:-border, border:-border].max().item()
    corners = [off[rows, columns] for rows in _ends(corner) for columns in _ends(corner)]
    in_corners = max(one.max().item() for one in corners)
    for one in corners:
        one.zero_()
    return inside, off.max().item(), in_corners


def cast(upscaler: Upscaler, level: int) -> float:
    """What is added to the mean of gray with noise, borders aside."""
    noise = np.random.default_rng(0).normal(level, 4, (96, 96)).clip(0, 255).round()
    x = torch.tensor(noise, dtype=torch.float32).expand(1, 3, -1, -1)
    inside = slice(BORDER * upscaler.scale, -BORDER * upscaler.scale)
    means = levels(upscaler, x)[..., inside, inside].mean(), x[..., BORDER:-BORDER, BORDER:-BORDER].mean()
    return (means[0] - means[1]).item()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=bundled_names())
    for name in parser.parse_args().models:
        for faithful in (False, True):
            upscaler = Upscaler(load_model(name), faithful=faithful, precision="auto")
            inside, border, corners = deviations(upscaler)
            casts = ", ".join(f"{cast(upscaler, level):+.2f}" for level in (30, 240))
            how = "as run  " if faithful else "alone   "
            print(f"{name:16} {how} inside {inside:3.0f}  border {border:3.0f}  corners {corners:3.0f}  noise {casts}")


def _ends(length: int) -> tuple[slice, slice]:
    return slice(None, length), slice(-length, None)


if __name__ == "__main__":
    main()
