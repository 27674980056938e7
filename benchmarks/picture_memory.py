"""What making and writing a picture takes besides the network: `hat_sr.inference.memory.picture_bytes` is set by it.

python benchmarks/picture_memory.py --channels 3 --in-chans 3 --suffix .png

One call measures one kind: it is the peak of a process.
"""

import argparse
import resource
import tempfile
from pathlib import Path

import numpy as np
from torch import Tensor

from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.picture import upscale_image
from hat_sr.inference.tiling import tiled

SIDE, SCALE = 1500, 4


def nearest(x: Tensor) -> Tensor:
    """The cheapest upscaler."""
    return x.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)


def peak() -> int:
    """Largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print how many bytes a pixel of the result took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--in-chans", type=int, default=3)
    parser.add_argument("--dtype", choices=["uint8", "uint16", "float32"], default="uint8")
    parser.add_argument("--suffix", default=".png")
    options = parser.parse_args()
    values = np.random.default_rng(0).random((SIDE, SIDE, options.channels), dtype=np.float32)
    white = np.iinfo(options.dtype).max if options.dtype.startswith("uint") else 1
    image = Image((values * white).astype(options.dtype))
    del values
    upscale = tiled(nearest, scale=SCALE, tile_size=96, tile_pad=16, blend_size=8, align=8)
    upscale_image(Image(image.pixels[:32, :32]), upscale, in_chans=options.in_chans)  # loads what is loaded late
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        write_image(Path(folder) / f"a{options.suffix}", upscale_image(image, upscale, in_chans=options.in_chans))
    print(f"{(peak() - before) / (SIDE * SCALE) ** 2:.1f} bytes a pixel")


if __name__ == "__main__":
    main()
