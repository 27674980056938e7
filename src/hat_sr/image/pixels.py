"""The picture that goes in and comes out: pixels as the file has them, and what the file says about them."""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hat_sr.errors import InputError

Pixels: TypeAlias = NDArray[np.generic]
"""HWC, uint8 (0…255), uint16 (0…65535), float16 or float32 (black 0, white 1, more is brighter than white)."""

DTYPES = ("uint8", "uint16", "float16", "float32")
_FLOAT16_MAX = float(np.finfo(np.float16).max)


Carried: TypeAlias = tuple[tuple[str, bytes], ...]
"""Pieces of a file that go into the next one of its kind as they are: chunks of text and colour (PNG), comments and
IPTC (JPEG), by name, and tags of GeoTIFF by number."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says about its pixels, apart from the pixels.

    `icc` is a colour profile that fits the pixels. `exif` (from its TIFF header on) and `xmp` are whole blocks, as
    JPEG, PNG and WebP carry them, without thumbnail and for pixels already upright. `attributes` are the rest as
    OpenImageIO names them: (name, type, value), such as ("XResolution", "float", 300.0). `in_blocks`: of these, `exif`,
    `xmp` and `carried` say all but the resolution, too. `size`: height and width of the pixels that the metadata
    describes. `lossy`: the pixels were compressed with loss in their file, as in JPEG. `frame` is the area that an EXR
    file shows (its display window), of which the pixels may be a part or more: left, top, width and height in units of
    the picture's width and height, from its upper left corner; None if it is the picture.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    carried: Carried = ()
    attributes: tuple[tuple[str, str, object], ...] = ()
    in_blocks: bool = False
    size: tuple[int, int] | None = None
    lossy: bool = False
    frame: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels and their metadata, the right way up.

    `pixels`: HWC; 1 channel is gray, 2 gray + alpha, 3 RGB, 4 RGBA; alpha is unassociated (colours are not multiplied
    by it) unless `associated`, as in EXR, where colours may have alpha 0. `linear`: values are
    proportional to light, not encoded for display as sRGB is.
    Raises InputError for another shape or dtype, no pixels at all, or a NaN or an infinity among them.
    """

    pixels: Pixels
    linear: bool = False
    associated: bool = False
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or not 1 <= shape[2] <= 4 or 0 in shape:
            raise InputError(f"pixels of shape {shape}: (height, width, 1 to 4 channels) is accepted, none of them 0")
        if dtype.name not in DTYPES:
            raise InputError(f"pixels of type {dtype}: {', '.join(DTYPES)} are accepted")
        if dtype.kind == "f":
            num_bad = self.pixels.size - int(np.isfinite(self.pixels.astype(np.float32)).sum())
            if num_bad:
                raise InputError(f"{num_bad} of {self.pixels.size} values are NaN or infinite: mend them first")

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.pixels.shape[1])

    @property
    def color(self) -> Pixels:
        """The pixels without alpha: HW1 gray or HW3 RGB."""
        return self.pixels[..., : 1 if self.pixels.shape[2] < 3 else 3]

    @property
    def alpha(self) -> Pixels | None:
        """The alpha channel, HW1, or None where there is none."""
        return self.pixels[..., -1:] if self.pixels.shape[2] in (2, 4) else None


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels as EXIF orientation 1 to 8 wants them shown."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def associated(pixels: Pixels) -> Pixels:
    """Float colours multiplied by alpha, if there is one."""
    if pixels.shape[2] not in (2, 4):
        return pixels
    values = pixels.astype(np.float32)
    values[..., :-1] *= values[..., -1:]
    return values.astype(pixels.dtype)


def unassociated(pixels: Pixels) -> Pixels:
    """Colours divided by alpha, if there is one. Where alpha is 0 they are light without a surface, and stay."""
    if pixels.shape[2] not in (2, 4):
        return pixels
    values = pixels.astype(np.float32)
    white = 1 if pixels.dtype.kind == "f" else 256**pixels.dtype.itemsize - 1
    alpha = values[..., -1:] / white
    values[..., :-1] /= np.where(alpha > 0, alpha, 1)
    if pixels.dtype.kind == "u":
        values = values.round().clip(0, white)
    elif pixels.dtype == np.float16:  # where alpha is all but 0 the quotient can be beyond its range
        values = values.clip(-_FLOAT16_MAX, _FLOAT16_MAX)
    return values.astype(pixels.dtype)


def without_padding(pixels: Pixels) -> Pixels:
    """Drop an alpha that hides nothing, and two of three equal channels, of 8-bit pixels."""
    if pixels.shape[2] == 4 and bool((pixels[..., 3] == 255).all()):
        pixels = pixels[..., :3]
    if bool((pixels[..., :3] == pixels[..., :1]).all()):
        pixels = pixels[..., [0, 3]] if pixels.shape[2] == 4 else pixels[..., :1]
    return pixels
