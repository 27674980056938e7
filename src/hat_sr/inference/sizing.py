"""Any output size out of a network with one factor: how large, how many passes, and one resize at the end."""

import math
import re

from torch import Tensor

from hat_sr.errors import ConfigError, InputError
from hat_sr.image.resize import resize
from hat_sr.inference.memory import installed_memory
from hat_sr.inference.upscale import Upscale


def parse_size(text: str) -> tuple[int | None, int | None]:
    """Read `WxH`, `Wx` or `xH` in pixels: → (height, width), None for the side that is to follow the aspect ratio.

    Raises ConfigError for anything else.
    """
    match = re.fullmatch(r"(\d*)[x×](\d*)", text.strip().lower(), flags=re.ASCII)
    width, height = (int(side) if side else None for side in match.groups()) if match else (None, None)
    if (width is None and height is None) or width == 0 or height == 0:
        raise ConfigError(f"size {text!r} is none of WxH, Wx and xH: give pixels, such as 1920x1080, 1920x or x1080")
    return height, width


def format_size(size: tuple[int | None, int | None]) -> str:
    """(height, width) as `parse_size` reads it."""
    height, width = size
    return f"{width or ''}x{height or ''}"


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) of an image enlarged by `scale`, rounded to the nearest pixel, halves up.

    Raises ConfigError unless scale is finite and at least 1.
    """
    if not (math.isfinite(scale) and scale >= 1):
        raise ConfigError(f"scale {scale:g} must be a finite number of at least 1: to shrink an image, use a resizer")
    return math.floor(height * scale + 0.5), math.floor(width * scale + 0.5)


def fitted_size(height: int, width: int, size: tuple[int | None, int | None]) -> tuple[int, int]:
    """(height, width) of an image enlarged to `size`, as `parse_size` returns it.

    One side given: the other keeps the aspect ratio, rounded to the nearest pixel. Both given: exactly these, stretched
    if the aspect ratio is another. Raises InputError if a side would be smaller than the image's.
    """
    match size:
        case (None, None):
            raise ConfigError("size (None, None) names no side: give the height, the width or both")
        case (None, int(new_width)):
            new_height = _in_proportion(new_width, height, width)
        case (int(new_height), None):
            new_width = _in_proportion(new_height, width, height)
        case (int(new_height), int(new_width)):
            pass
    _check_not_smaller(height, width, (new_height, new_width))
    return new_height, new_width


def num_passes(height: int, width: int, size: tuple[int, int], *, scale: int) -> int:
    """How often a network of factor `scale` is applied to reach at least `size` = (height, width) on both sides.

    At least 1, so that scale 1 still restores. Raises InputError for a smaller size, ConfigError if a larger one is
    asked of a network that does not enlarge.
    """
    _check_not_smaller(height, width, size)
    if scale == 1 and size != (height, width):
        raise ConfigError(
            f"this network keeps the size (scale 1) and cannot enlarge {width}×{height} to {size[1]}×{size[0]}: "
            "use one with a larger scale, or ask for scale 1"
        )
    passes = 1
    while height * scale**passes < size[0] or width * scale**passes < size[1]:
        passes += 1
    return passes


def upscale_to(upscale: Upscale, x: Tensor, size: tuple[int, int], *, scale: int) -> Tensor:
    """Enlarge to exactly `size` = (height, width): passes of `upscale`, then one antialiased resize if need be.

    x: (B, C, H, W) float in [0, 1]. scale: the factor by which `upscale` enlarges. What goes from one step into the
    next is clamped to [0, 1]; the result is not. Raises as `num_passes`, and InputError if the result alone is
    more than the machine's memory.
    """
    passes = num_passes(x.shape[-2], x.shape[-1], size, scale=scale)
    _check_memory(x, passes, scale)
    out = upscale(x)
    for _ in range(passes - 1):
        out = upscale(out.clamp(0, 1))
    return out if tuple(out.shape[-2:]) == size else resize(out.clamp(0, 1), size)


def _check_memory(x: Tensor, passes: int, scale: int) -> None:
    """Refuse what cannot be: if the last pass's result and a copy of it are more than all the memory of the machine."""
    height, width = (side * scale**passes for side in x.shape[-2:])
    needed, there = 2 * x[..., 0, 0].numel() * height * width * x.element_size(), installed_memory()
    if there is not None and needed > there:
        raise InputError(
            f"to reach that size, {width}×{height} pixels are made, which take {needed / 2**30:.1f} GB of memory, and "
            f"the machine has {there / 2**30:.1f} GB: ask for a smaller size, or cut the image up first"
        )


def _in_proportion(new_side: int, other_side: int, side: int) -> int:
    return max(1, (2 * new_side * other_side + side) // (2 * side))


def _check_not_smaller(height: int, width: int, size: tuple[int, int]) -> None:
    if size[0] < height or size[1] < width:
        raise InputError(
            f"the target {size[1]}×{size[0]} (width×height) is smaller than the image, {width}×{height}: ask for a "
            "size at least as large on both sides, or shrink it with a resizer"
        )
