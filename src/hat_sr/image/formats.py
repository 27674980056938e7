"""The kinds of file written, what each can hold, and a picture made to fit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hat_sr.errors import ConfigError, ImageError
from hat_sr.image.color import srgb_decode, srgb_encode
from hat_sr.image.convert import to_pixels, to_tensor
from hat_sr.image.icc import icc_fits
from hat_sr.image.pixels import Image, associated, unassociated

Warn = Callable[[str], None]
"""Told in a sentence what is lost."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file: OpenImageIO's name for it, its suffixes, and what it holds. `max_side` in pixels."""

    name: str
    suffixes: tuple[str, ...]
    dtypes: tuple[str, ...]
    max_side: int
    alpha: bool = True
    gray: bool = True
    gray_alpha: bool = True
    icc: bool = True
    blocks: bool = False
    """Carries EXIF and XMP as whole blocks."""
    pages: bool = False
    """Holds several pictures."""


_ALL = ("uint8", "uint16", "float16", "float32")
FORMATS = (
    Format(
        name="jpeg",
        suffixes=(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi"),
        dtypes=_ALL[:1],
        max_side=65500,
        alpha=False,
        gray_alpha=False,
        blocks=True,
    ),
    Format(name="png", suffixes=(".png",), dtypes=_ALL[:2], max_side=1 << 20, blocks=True),
    Format(name="tiff", suffixes=(".tif", ".tiff"), dtypes=_ALL, max_side=1 << 20, pages=True),
    Format(
        name="webp", suffixes=(".webp",), dtypes=_ALL[:1], max_side=16383, gray=False, gray_alpha=False, blocks=True
    ),
    # OpenImageIO writes four channels into BMP, but other readers take the fourth for padding.
    Format(
        name="bmp",
        suffixes=(".bmp", ".dib"),
        dtypes=_ALL[:1],
        max_side=1 << 16,
        alpha=False,
        gray_alpha=False,
        icc=False,
    ),
    Format(name="openexr", suffixes=(".exr",), dtypes=_ALL[2:], max_side=1 << 20, icc=False),
)
WRITABLE_SUFFIXES = tuple(suffix for kind in FORMATS for suffix in kind.suffixes)

READ_ONLY_SUFFIXES = (
    *(".gif", ".apng", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpx", ".jpf"),
    *(".jxl", ".avif", ".heic", ".heif", ".heics", ".hif"),
)
"""Image files that folders are searched for besides those that can be written; their results are PNG. Some are not read
(HEIC, AVIF, JPEG XL): these fail with a message, where leaving them out would go unnoticed."""

IMAGE_SUFFIXES = frozenset((*WRITABLE_SUFFIXES, *READ_ONLY_SUFFIXES))
"""What folders are searched for, in lower case."""


def format_for(path: Path) -> Format:
    """The kind of file that the name asks for. Raises ImageError for a suffix that is not written."""
    for kind in FORMATS:
        if path.suffix.lower() in kind.suffixes:
            return kind
    what = f"cannot write {path.suffix}" if path.suffix else "the name has no suffix to say what to write"
    raise ImageError(f"{path}: {what}; use one of {' '.join(WRITABLE_SUFFIXES)}")


def suffix_of(image_format: str) -> str:
    """The suffix of files of that format: jpg, .JPG. Raises ConfigError if they are not written."""
    suffix = "." + image_format.lower().removeprefix(".")
    if suffix not in WRITABLE_SUFFIXES:
        known = " ".join(known.removeprefix(".") for known in WRITABLE_SUFFIXES)
        raise ConfigError(f"format {image_format!r} cannot be written: use one of {known}")
    return suffix


def result_suffix(suffix: str, wanted: str | None) -> str:
    """The suffix of a result: `wanted`, or else its input's if such files are written, else that of PNG."""
    return wanted or (suffix if suffix.lower() in WRITABLE_SUFFIXES else ".png")


def check_name(path: Path) -> None:
    """Raise ImageError if OpenImageIO cannot open a file of that name: of bytes that are no UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ImageError(f"{path}: the name is no UTF-8, and image files of such names cannot be opened") from error


def check_size(path: Path, height: int, width: int) -> None:
    """Raise ImageError if a picture of `height` × `width` pixels cannot be written under that name."""
    kind = format_for(path)
    if max(height, width) > kind.max_side:
        fits = " ".join(other.suffixes[0] for other in FORMATS if other.max_side >= max(height, width))
        raise ImageError(
            f"{path}: {width}×{height} pixels, and {kind.suffixes[0]} holds up to {kind.max_side} a side; "
            + (f"use one of {fits}" if fits else "make it smaller")
        )


def fit(image: Image, kind: Format, *, warn: Warn) -> Image:
    """The picture as `kind` can hold it, telling `warn` of each loss.

    Depth is kept, or becomes the nearest one there is. Integer files hold display values: linear light is encoded by
    sRGB and clipped at white, unless it came as integers and goes into a PNG with a linear tag or a TIFF with a linear
    profile. EXR holds linear light: other values are decoded, and colours multiplied by alpha.
    Transparency is laid on white where there is no alpha. Gray becomes RGB where there is no gray.
    """
    if kind.name != "openexr":
        image = _without_what_exr_has(image, warn=warn)
    dtype = _nearest_dtype(image.pixels.dtype.name, kind)
    if kind.name == "openexr":
        linear = True
    elif dtype.startswith("float"):
        linear = image.linear
    else:
        says_so = kind.name == "png" or (kind.name == "tiff" and image.metadata.icc is not None)
        linear = image.linear and says_so and image.pixels.dtype.kind == "u"
    flatten = image.alpha is not None and not kind.alpha
    if dtype != image.pixels.dtype.name or linear != image.linear or flatten:
        image = _converted(image, dtype, linear=linear, flatten=flatten, warn=warn)
    if kind.name == "openexr" and not image.associated:
        image = replace(image, pixels=associated(image.pixels), associated=True)
    return _with_icc_that_fits(_with_channels_that_fit(image, kind), kind, warn=warn)


def _without_what_exr_has(image: Image, *, warn: Warn) -> Image:
    """Unassociated, and no part of a larger frame."""
    if image.metadata.frame is not None:
        warn("it is a part of a frame, or larger than it, and only EXR files keep its place there")
        image = replace(image, metadata=replace(image.metadata, frame=None))
    if image.associated:
        image = replace(image, pixels=unassociated(image.pixels), associated=False)
    return image


def _nearest_dtype(dtype: str, kind: Format) -> str:
    if dtype in kind.dtypes:
        return dtype
    if kind.name == "openexr":  # a half has 11 bits: enough for 8, not for 16
        return "float16" if dtype == "uint8" else "float32"
    return kind.dtypes[-1]


def _converted(image: Image, dtype: str, *, linear: bool, flatten: bool, warn: Warn) -> Image:
    color = to_tensor(image.color)
    alpha = None if image.alpha is None else to_tensor(image.alpha)
    if dtype != image.pixels.dtype.name and dtype.startswith("uint"):
        warn(f"{image.pixels.dtype} pixels are written as {dtype}")
    if dtype.startswith("uint") and bool(((color < 0) | (color > 1)).any()):
        warn("values outside black and white are clipped")
        color = color.clamp(0, 1)
    if image.linear and not linear:
        color = srgb_encode(color)
    elif linear and not image.linear:
        color = srgb_decode(color)
    if flatten and alpha is not None:
        if bool((alpha < 1).any()):
            warn("transparency is laid on white")
            color = color * alpha + (1 - alpha)
        alpha = None
    metadata = image.metadata
    if linear != image.linear and metadata.icc is not None:
        warn("the colour profile does not fit any more and is dropped")
        metadata = replace(metadata, icc=None)
    pixels = to_pixels(color if alpha is None else torch.cat([color, alpha], dim=1), dtype)
    return replace(image, pixels=pixels, linear=linear, metadata=metadata)


def _with_channels_that_fit(image: Image, kind: Format) -> Image:
    channels = image.pixels.shape[2]
    if channels == 1 and not kind.gray:
        return replace(image, pixels=image.pixels[..., [0, 0, 0]])
    if channels == 2 and not kind.gray_alpha:
        return replace(image, pixels=image.pixels[..., [0, 0, 0, 1]])
    return image


def _with_icc_that_fits(image: Image, kind: Format, *, warn: Warn) -> Image:
    icc = image.metadata.icc
    if icc is None or (kind.icc and icc_fits(icc, image.pixels.shape[2])):
        return image
    warn("the colour profile cannot be kept in this kind of file and is dropped")
    return replace(image, metadata=replace(image.metadata, icc=None))
