"""Any output size out of networks with whole factors: how large, which of them in turn, and one resize at the end."""

import math
import re
from collections.abc import Collection, Sequence
from itertools import combinations_with_replacement, count, product

from torch import Tensor

from hat_sr.errors import ConfigError, InputError
from hat_sr.image.resize import resize
from hat_sr.inference.memory import installed_memory
from hat_sr.inference.upscale import Upscale

LARGEST_SCALE = 65_536
"""No file that is written has as many pixels on a side."""

_LARGEST_STRETCH = 1.5
"""By how much one resize enlarges what networks made, rather than another network."""


def parse_scale(text: str) -> float:
    """Read a factor, such as `2`, `1.5`, `2x` or `x2`. Raises ConfigError for anything else."""
    try:
        return float(text.strip().strip("xX×"))
    except ValueError as error:
        raise ConfigError(f"scale {text!r} is no factor: give a number of at least 1, such as 2, 1.5 or 4x") from error


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

    Raises ConfigError unless scale is from 1 to LARGEST_SCALE.
    """
    check_scale(scale)
    return math.floor(height * scale + 0.5), math.floor(width * scale + 0.5)


def check_scale(scale: float) -> None:
    """Raise ConfigError unless scale is from 1 to LARGEST_SCALE."""
    if not 1 <= scale <= LARGEST_SCALE:
        raise ConfigError(
            f"scale {scale:g} must be a number from 1 to {LARGEST_SCALE:,}: to shrink an image, use a resizer"
        )


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


def reached_by(height: int, width: int, size: tuple[int, int]) -> float:
    """The factor that takes an image to at least `size` = (height, width) on both sides.

    Raises InputError for a smaller size.
    """
    _check_not_smaller(height, width, size)
    return max(size[0] / height, size[1] / width)


def chain(factor: float, *, first: Collection[int], then: Collection[int]) -> tuple[int, ...]:
    """Factors of the networks that an image goes through, one after the other, to become larger by `factor`.

    first, then: the factors on offer, for the image itself and for what a network made. As few networks as come to
    `factor` or so near that one resize by up to 1.5 does the rest; of these the smallest product that reaches it, else
    the largest, with the large factors first. At least one network, so that factor 1 still restores. Raises ConfigError
    if the networks do not enlarge and `factor` is above 1.
    """
    if max(first) == max(then) == 1 and factor > 1:
        raise ConfigError(f"this network keeps the size and cannot enlarge by {factor:g}: use another, or scale 1")
    for num_more in count():
        rests = combinations_with_replacement(sorted(then, reverse=True), num_more)
        found = [(one, *rest) for one, rest in product(first, rests)]
        if _LARGEST_STRETCH * max(map(math.prod, found)) >= factor:
            break
    reaching = [factors for factors in found if math.prod(factors) >= factor]
    if reaching:
        return min(reaching, key=lambda factors: (math.prod(factors), [-one for one in factors]))
    return max(found, key=lambda factors: (math.prod(factors), factors))


def upscale_to(steps: Sequence[tuple[Upscale, int]], x: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge to exactly `size` = (height, width): through one network after the other, then one resize if need be.

    steps: at least one network, with its factor. x: (B, C, H, W) float in [0, 1]. What goes from one step into the next
    is clamped to [0, 1]; the result is not. Raises InputError for a smaller size, or if what the last network makes is
    alone more than the machine's memory.
    """
    _check_not_smaller(x.shape[-2], x.shape[-1], size)
    _check_memory(x, math.prod(scale for _, scale in steps))
    out = x
    for number, (upscale, _) in enumerate(steps):
        out = upscale(out.clamp(0, 1) if number else out)
    return out if tuple(out.shape[-2:]) == size else resize(out.clamp(0, 1), size)


def _check_memory(x: Tensor, factor: int) -> None:
    """Refuse what cannot be: if the last network's result and a copy of it are more than the machine's memory."""
    height, width = (side * factor for side in x.shape[-2:])
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
