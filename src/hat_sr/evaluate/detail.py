"""A small square of each image, to look at: where it lies, and the picture of it."""

import torch.nn.functional as F
from torch import Tensor

from hat_sr.evaluate.metrics import to_uint8
from hat_sr.files import temporary
from hat_sr.image.color import rgb_to_y
from hat_sr.image.convert import to_pixels
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image

SIDE = 96
"""Pixels of a detail's side; less where the image is smaller."""

RULE = f"the square of {SIDE} pixels in which bicubic interpolation is furthest from the original (mean square on Y)"
"""Where a detail lies, in a phrase. It does not depend on the networks that are compared."""

_STEP = 4


def place_detail(bicubic: Tensor, hr: Tensor, *, crop_border: int) -> tuple[int, int]:
    """Top and left of the detail of an image, on a grid of four pixels inside the border that is not scored.

    bicubic, hr: uint8 (1, 3, H, W).
    """
    border = crop_border if min(hr.shape[-2:]) >= SIDE + 2 * crop_border else 0
    height, width = hr.shape[-2:]
    error = (rgb_to_y(bicubic.double() / 255) - rgb_to_y(hr.double() / 255)).square()
    error = error[..., border : height - border, border : width - border]
    sides = min(SIDE, error.shape[-2]), min(SIDE, error.shape[-1])
    means = F.avg_pool2d(error, sides, stride=_STEP)
    row, column = divmod(int(means.argmax()), means.shape[-1])
    return border + row * _STEP, border + column * _STEP


def cut_detail(image: Tensor, place: tuple[int, int]) -> bytes:
    """The detail at `place` of an image, (1, 3, H, W) uint8 or float in [0, 1], as a lossless WebP file.

    Raises ImageError or OSError if a temporary file cannot be written.
    """
    top, left = place
    piece = to_uint8(image[..., top : top + SIDE, left : left + SIDE])
    with temporary(".webp") as path:
        write_image(path, Image(to_pixels(piece.float() / 255, "uint8")))
        return path.read_bytes()
