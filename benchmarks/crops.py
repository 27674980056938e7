"""Write a picture of details: bicubic, bundled networks and the original beside each other, one row for each image.

    python benchmarks/crops.py --data ROOT/Set14 --scale 4 --models hat-xxs-x4 hat-xs-x4 -o docs/pictures/set14.png

The low-resolution images are those that `hat-sr benchmark` would take. The picture
has no captions: the command prints what is where, with the PSNR (on Y) of each whole image.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from hat_sr import Upscaler, load_model, psnr
from hat_sr.evaluate.dataset import find_datasets
from hat_sr.evaluate.metrics import to_uint8
from hat_sr.evaluate.pairs import load_pair
from hat_sr.image.convert import to_pixels
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.image.resize import imresize

DETAILS = {"comic": (20, 90), "ppt3": (96, 140), "zebra": (130, 170), "monarch": (150, 330)}
"""Images of Set14, each with the row and column where its detail begins, in pixels of the original."""

SIDE = 96
"""Side of a detail, in pixels of the original."""

ENLARGED = 2
"""Pixels of the picture for each of a detail, each way."""

GAP = 6
"""White pixels between details."""


def main() -> None:
    """Write the picture and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of Set14")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--models", nargs="+", required=True, help="bundled names, or files of weights")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    (dataset,) = find_datasets(arguments.data, arguments.scale)
    upscalers = {Path(name).stem: Upscaler(load_model(name)) for name in arguments.models}
    pairs = {pair.name: pair for pair in dataset.pairs}
    print("columns: bicubic, " + ", ".join(upscalers) + ", original")
    rows = []
    for name, (top, left) in DETAILS.items():
        lr, hr = load_pair(pairs[name], dataset)
        results = {"bicubic": imresize(lr, arguments.scale)}
        results |= {model: to_uint8(upscale(lr.float() / 255)) for model, upscale in upscalers.items()}
        scores = ", ".join(f"{model} {psnr(sr, hr, crop_border=arguments.scale):.2f}" for model, sr in results.items())
        print(f"{name}: {scores} dB")
        details = [x[0, :, top : top + SIDE, left : left + SIDE] for x in (*results.values(), hr)]
        rows.append(joined([x.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2) for x in details], axis=2))
    picture = joined(rows, axis=1)
    write_image(arguments.output, Image(to_pixels(picture[None].float() / 255, "uint8")))


def joined(parts: list[Tensor], *, axis: int) -> Tensor:
    """Put (3, H, W) uint8 pictures beside or below each other, with white between them."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = torch.full(shape, 255, dtype=torch.uint8)
    return torch.cat([piece for part in parts for piece in (gap, part)][1:], dim=axis)


if __name__ == "__main__":
    main()
