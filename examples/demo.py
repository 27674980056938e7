"""What `make demo` runs: enlarge a photo four times with the bundled network, and show it beside bicubic.

Without an argument: an example photo is made small first, by exactly the bicubic that papers use, so that the result
can be compared with the original. With a photo: that photo is enlarged as it is.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hat_sr import Upscaler, enlarge_file, load_model, psnr
from hat_sr.checkpoints.named import bundled_for
from hat_sr.errors import HatError
from hat_sr.evaluate.metrics import to_uint8
from hat_sr.image.convert import to_pixels, to_tensor
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image
from hat_sr.image.resize import imresize, resize

EXAMPLE = Path(__file__).parent / "osprey.jpg"
FOLDER = Path("demo")
SCALE = 4
CROP_SIZE = 192
"""Side of the detail shown side by side, in pixels of the result."""
EXAMPLE_CORNER = (8, 207)
"""Row and column of the example's detail: the bird's head."""


def main(arguments: list[str]) -> None:
    """Run the demo on the example, or on the photo named."""
    FOLDER.mkdir(exist_ok=True)
    if arguments:
        enlarge(Path(arguments[0]))
    else:
        compare()


def compare() -> None:
    """Example photo → exact low-resolution image → ×4, with PSNR of ours and of bicubic."""
    model, scale = bundled_for(SCALE), SCALE
    upscaler = Upscaler(load_model(model))
    hr = to_tensor(read_image(EXAMPLE).pixels)
    lr = imresize(to_uint8(hr), 1 / scale).float() / 255
    sr = upscaler(lr)
    bicubic = imresize(to_uint8(lr), scale).float() / 255
    write_image(FOLDER / "osprey_small.png", Image(to_pixels(lr, "uint8")))
    write_image(FOLDER / "osprey_x4.png", Image(to_pixels(sr, "uint8")))
    side_by_side([bicubic, sr, hr], FOLDER / "osprey_comparison.png", corner=EXAMPLE_CORNER)
    print(f"{EXAMPLE.name}: {lr.shape[3]}×{lr.shape[2]} → {sr.shape[3]}×{sr.shape[2]} pixels with {model}")
    print(f"  result      {FOLDER / 'osprey_x4.png'}")
    print(f"  comparison  {FOLDER / 'osprey_comparison.png'} (a detail: bicubic, {model}, original)")
    for name, image in (("bicubic", bicubic), (model, sr)):
        print(f"  PSNR on Y   {psnr(image, hr, crop_border=scale):.2f} dB  {name}")


def enlarge(path: Path) -> None:
    """A person's photo → ×4 as `hat-sr upscale` makes it, beside bicubic."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)  # says which network the photo gets, and why
    output = FOLDER / f"{path.stem}_x4.png"
    comparison = FOLDER / f"{path.stem}_comparison.png"
    image = read_image(path)
    print(f"{path}: {image.width}×{image.height} pixels, ×{SCALE} …", flush=True)
    enlarge_file(path, output, scale=SCALE)
    result = read_image(output)
    sr = to_tensor(result.color)
    bicubic = resize(to_tensor(image.color), (result.height, result.width)).clamp(0, 1)
    side_by_side([bicubic, sr], comparison, corner=_most_detailed(bicubic))
    print(f"  result      {output}, {result.width}×{result.height} pixels")
    print(f"  comparison  {comparison} (a detail: bicubic, HAT-XS)")


def _most_detailed(image: Tensor) -> tuple[int, int]:
    """Row and column of the detail with the largest spread of values."""
    corners = [
        (y, x)
        for y in range(0, max(image.shape[2] - CROP_SIZE, 0) + 1, CROP_SIZE // 4)
        for x in range(0, max(image.shape[3] - CROP_SIZE, 0) + 1, CROP_SIZE // 4)
    ]
    return max(corners, key=lambda corner: float(_detail(image, corner).std(correction=0)))


def _detail(image: Tensor, corner: tuple[int, int]) -> Tensor:
    y, x = corner
    return image[..., y : y + CROP_SIZE, x : x + CROP_SIZE]


def side_by_side(images: list[Tensor], path: Path, *, corner: tuple[int, int]) -> None:
    """Write the detail at `corner` of each (1, C, H, W) image in [0, 1] next to each other, pixels doubled."""
    panels = []
    for image in images:
        detail = _detail(image, corner).expand(1, 3, -1, -1)
        panels.append(detail.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
        panels.append(torch.ones(1, 3, 2 * detail.shape[2], 8))
    write_image(path, Image(np.ascontiguousarray(to_pixels(torch.cat(panels[:-1], dim=3), "uint8"))))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except HatError as error:
        sys.exit(f"demo: {error}")
