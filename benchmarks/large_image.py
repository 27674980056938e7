"""A picture of 7500×7500 pixels made of photos, and how its result agrees with small pieces of it enlarged alone.

python benchmarks/large_image.py make --photos DATA/train/photos -o big.png
hat-sr upscale big.png -o big.tif --model hat-xxs-x4
python benchmarks/large_image.py compare big.png big.tif --model hat-xxs-x4
"""

import argparse
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import torch

from hat_sr import Upscaler, load_model
from hat_sr.image.convert import to_pixels, to_tensor
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image
from hat_sr.image.resize import imresize

SQUARE = 2500
PIECE, CONTEXT = 64, 128


def make(photos: Path, output: Path) -> None:
    """The middles of the first nine photos, three by three, each as a square of SQUARE pixels."""
    squares = []
    for path in sorted(photos.glob("*.jp*g")):
        pixels = read_image(path).pixels
        height, width, channels = pixels.shape
        if channels == 3 and len(squares) < 9:
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            middle = torch.from_numpy(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
            squares.append(imresize(middle.permute(2, 0, 1), (SQUARE, SQUARE)).permute(1, 2, 0).numpy())
    rows = [np.concatenate(squares[number : number + 3], axis=1) for number in (0, 3, 6)]
    write_image(output, Image(np.concatenate(rows)))


def compare(source: Path, result: Path, model: str, *, num_pieces: int) -> None:
    """Print the differences, in 8-bit levels, over pieces at random places, each enlarged whole with CONTEXT around."""
    pixels, upscaler = read_image(source).pixels, Upscaler(load_model(model), tile="off")
    scale, window_size = upscaler.scale, upscaler.config.window_size
    file = oiio.ImageInput.open(str(result))
    generator = np.random.default_rng(0)
    means, largest = [], 0
    for _ in range(num_pieces):
        # With the window grid of the whole picture, and all of the context inside it.
        top, left = (
            int(generator.integers(CONTEXT // window_size, (side - PIECE - CONTEXT) // window_size)) * window_size
            for side in pixels.shape[:2]
        )
        around = pixels[top - CONTEXT : top + PIECE + CONTEXT, left - CONTEXT : left + PIECE + CONTEXT]
        alone = to_pixels(upscaler(to_tensor(around)), "uint8")
        alone = alone[CONTEXT * scale : (CONTEXT + PIECE) * scale, CONTEXT * scale : (CONTEXT + PIECE) * scale]
        rows = file.read_scanlines(top * scale, (top + PIECE) * scale, 0, 0, 3, oiio.UINT8)
        found = np.asarray(rows)[:, left * scale : (left + PIECE) * scale]
        difference = np.abs(found.astype(int) - alone)
        means.append(difference.mean())
        largest = max(largest, int(difference.max()))
    print(
        f"{num_pieces} pieces of {PIECE * scale}×{PIECE * scale} pixels: mean difference {np.mean(means):.3f} levels "
        f"(of a piece at most {max(means):.3f}), largest of a value {largest}"
    )


def main() -> None:
    """Make or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("--photos", type=Path, required=True)
    making.add_argument("-o", "--output", type=Path, required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("source", type=Path)
    comparing.add_argument("result", type=Path)
    comparing.add_argument("--model", required=True)
    comparing.add_argument("--pieces", type=int, default=20)
    options = parser.parse_args()
    if options.command == "make":
        make(options.photos, options.output)
    else:
        compare(options.source, options.result, options.model, num_pieces=options.pieces)


if __name__ == "__main__":
    main()
