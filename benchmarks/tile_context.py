"""How near an image in tiles is to the whole one, by how much context tiles have and how large they are.

    python benchmarks/tile_context.py [--model hat-xs-x4] [--contexts 0 1 2 3] [--tiles 96 192]

The images are examples/*.jpg, as they are given to a network. Context is in windows on each side of a tile, tiles in
pixels with their context, and neighbours blend over a window, as in `hat_sr.Upscaler`, which has a context of two. The
first table is the PSNR of tiles against the whole image, of all values together, and the largest difference of a value
in levels of 255. The second is how much more is computed than without context. Single networks differ in how far they
look: whether the context is right for another one, this shows.
"""

import argparse
from pathlib import Path

import torch
from measuring import describe_machine, positive_integer
from torch import Tensor

from hat_sr.checkpoints.named import load_model
from hat_sr.image.convert import to_tensor
from hat_sr.image.io import read_image
from hat_sr.inference.tiling import plan_tiles, smallest_tile_size, tiled
from hat_sr.inference.upscale import Upscale, padded

EXAMPLES = Path(__file__).parents[1] / "examples"


@torch.inference_mode()
def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hat-xs-x4")
    parser.add_argument("--contexts", nargs="+", type=int, default=[0, 1, 2, 3], help="in windows")
    parser.add_argument("--tiles", nargs="+", type=positive_integer, default=[96, 192], help="in pixels")
    parser.add_argument("--threads", type=positive_integer, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("\n".join(f"{name}: {value}" for name, value in describe_machine(arguments.threads).items()))

    model = load_model(arguments.model)
    window = model.config.window_size
    upscale = padded(model, multiple=window, scale=model.config.upscale)
    images = [to_tensor(read_image(path).color) for path in sorted(EXAMPLES.glob("*.jpg"))]
    wholes = [upscale(x) for x in images]
    near, more = [], []
    for context in arguments.contexts:
        settings = {"tile_pad": context * window, "blend_size": window, "align": window}
        fitting = [tile if tile >= smallest_tile_size(**settings) else None for tile in arguments.tiles]
        near.append(
            [str(context), *("" if t is None else _near(upscale, images, wholes, t, settings) for t in fitting)]
        )
        more.append([str(context), *("" if t is None else _more(images, t, settings) for t in fitting)])
    for title, rows in (("dB (largest difference)", near), ("pixels computed for each of the image", more)):
        print(f"\n{title}\n\n| windows of context | {' | '.join(f'tiles of {tile}' for tile in arguments.tiles)} |")
        print("|---" * (1 + len(arguments.tiles)) + "|")
        print("\n".join(f"| {' | '.join(row)} |" for row in rows), flush=True)


def _near(upscale: Upscale, images: list[Tensor], wholes: list[Tensor], tile: int, settings: dict[str, int]) -> str:
    scale = wholes[0].shape[-1] // images[0].shape[-1]
    run = tiled(upscale, scale=scale, tile_size=tile, **settings)
    differences = torch.cat([(run(x) - whole).flatten() for x, whole in zip(images, wholes, strict=True)])
    decibels = -10 * differences.double().square().mean().log10()
    return f"{float(decibels):.1f} ({float(differences.abs().max()) * 255:.1f})"


def _more(images: list[Tensor], tile: int, settings: dict[str, int]) -> str:
    computed = sum(
        (row.stop - row.start) * (column.stop - column.start)
        for x in images
        for tiling in [plan_tiles(*x.shape[2:], scale=1, tile_size=tile, **settings)]
        for row in tiling.rows
        for column in tiling.columns
    )
    return f"{computed / sum(x[0, 0].numel() for x in images):.2f}"


if __name__ == "__main__":
    main()
