"""Training images as tensors: read from files of 8-bit gray and RGB, or from their bytes."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, from_numpy

from hat_sr.errors import DataError, ImageError
from hat_sr.files import temporary
from hat_sr.image.io import read_image


class Picture(NamedTuple):
    """One image, and its low-resolution image where there is one."""

    hr: Tensor
    """(3, H, W) uint8 RGB."""
    lr: Tensor | None = None
    """(3, H / s, W / s) uint8 RGB, s the scale. None: to be made from `hr`."""
    teacher: Tensor | None = None
    """(3, H, W) uint8 RGB: what a teacher makes of `lr`, where its answers are kept."""


def read_rgb(path: Path) -> Tensor:
    """Read a file of 8-bit gray or RGB: (3, H, W) uint8, a view. Raises ImageError for anything else.

    Alpha is dropped if it hides nothing; else the pixels below are no photograph, and the image is refused.
    """
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8:
        raise ImageError(f"{path} has {pixels.shape[2]} channels of {pixels.dtype}: training takes 8-bit gray and RGB")
    if pixels.shape[2] in (2, 4):
        if not bool((pixels[..., -1] == 255).all()):
            raise ImageError(f"{path} is transparent in places: training takes 8-bit gray and RGB")
        pixels = pixels[..., :-1]
    return from_numpy(pixels).permute(2, 0, 1).expand(3, -1, -1)


def read_rgb_bytes(data: bytes, name: str) -> Tensor:
    """Read the bytes of such a file, called `name` in messages. Raises ImageError as `read_rgb` does."""
    # OpenImageIO reads nothing but files from Python.
    try:
        with temporary() as path:
            path.write_bytes(data)
            try:
                return read_rgb(path)
            except ImageError as error:
                raise ImageError(str(error).replace(str(path), name)) from None
    except OSError as error:
        raise DataError(
            f"{name} could not be unpacked in {tempfile.gettempdir()} ({error.strerror}): set TMPDIR to a folder "
            "with room"
        ) from error


def check_sides(picture: Picture, name: str, *, smallest: int) -> None:
    """Raise ImageError if a side of the high-resolution image is below `smallest` pixels."""
    height, width = picture.hr.shape[1:]
    if min(height, width) < smallest:
        raise ImageError(f"{name} is {width}×{height}: a side is below {smallest} pixels")


def shrunk(image_CHW: Tensor, factor: float) -> Tensor:
    """The (3, H, W) uint8 image made smaller by `factor`, antialiased bicubic; at least one pixel is left."""
    if factor == 1:
        return image_CHW
    size = [max(round(side / factor), 1) for side in image_CHW.shape[1:]]
    return F.interpolate(image_CHW[None], size=size, mode="bicubic", antialias=True)[0]


@contextmanager
def without_warnings() -> Iterator[None]:
    """What a file says beside its pixels (CMYK, a gain map …) is not told: it would be each time an image is drawn."""
    image_logger = logging.getLogger("hat_sr.image")
    level = image_logger.level
    image_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        image_logger.setLevel(level)
