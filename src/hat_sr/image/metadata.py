"""Metadata between OpenImageIO's image description and ours: what is kept, and what is no longer true."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813

from hat_sr.image.containers import is_lossy, read_blocks, write_blocks
from hat_sr.image.exif import upright, upright_xmp, with_size, xmp_with_size
from hat_sr.image.formats import Format
from hat_sr.image.icc import icc_fits, icc_is_linear
from hat_sr.image.pixels import Metadata

logger = logging.getLogger(__name__)

_COLOR_SPACE = "oiio:ColorSpace"
_RESOLUTION = ("XResolution", "YResolution", "ResolutionUnit")
# How the file was stored, the thumbnail, and OpenImageIO's reading of the colour profile: not about the picture.
_DROPPED_PREFIXES = ("oiio:", "jpeg:", "png:", "tiff:", "bmp:", "gif:", "webp:", "openexr:", "ICCProfile", "thumbnail")
_DROPPED = (
    "Orientation",
    "compression",
    "planarconfig",
    "screenWindowCenter",
    "screenWindowWidth",
    "Exif:YCbCrSubsampling",
)
_INCHES_PER_METER = 39.3700787


def read_metadata(spec: oiio.ImageSpec, path: Path, *, channels: int, name: Path) -> Metadata:
    """What the open file at `path` says about its picture of so many channels, as it will be once that is upright.

    A colour profile of another colour space (CMYK, now converted, say) and a damaged EXIF block are dropped, with a
    warning.
    """
    icc = _icc(spec)
    if icc is not None and not icc_fits(icc, channels):
        logger.warning(
            "%s: its colour profile (%s) does not fit the pixels and is dropped", name, icc[16:20].decode("latin1")
        )
        icc = None
    exif, xmp = read_blocks(path)
    return Metadata(
        icc=icc,
        exif=None if exif is None else _mended(upright, exif, name),
        xmp=None if xmp is None else upright_xmp(xmp),
        attributes=_kept_attributes(spec),
        lossy=is_stored_with_loss(spec, path),
    )


def is_stored_with_loss(spec: oiio.ImageSpec, path: Path) -> bool:
    """Whether the open file at `path` compresses its pixels with loss, as JPEG and some WebP and TIFF files do."""
    return is_lossy(path) or bool(spec.get_string_attribute("compression") == "jpeg")


def is_linear(spec: oiio.ImageSpec, icc: bytes | None) -> bool:
    """Whether values are proportional to light: by the profile, else by the colour space named, else floats are."""
    if icc is not None:
        return icc_is_linear(icc)
    space = spec.get_string_attribute(_COLOR_SPACE)
    if space:
        return space.startswith("lin") or space == "scene_linear"
    return spec.format.basetype in (oiio.HALF, oiio.FLOAT, oiio.DOUBLE)


def describe(spec: oiio.ImageSpec, metadata: Metadata, kind: Format, *, linear: bool) -> None:
    """Put the metadata of the picture into the description of a file about to be written.

    EXIF and XMP blocks go in afterwards (`add_blocks`) where the kind of file carries them, and the profile of a PNG.
    """
    in_blocks = kind.blocks and metadata.exif is not None
    for name, type_name, value in metadata.attributes:
        if not in_blocks or name in (*_RESOLUTION, _COLOR_SPACE):
            spec.attribute(name, oiio.TypeDesc(type_name), value)
    for name, size in (("Exif:PixelXDimension", spec.width), ("Exif:PixelYDimension", spec.height)):
        if spec.getattribute(name) is not None:
            spec.attribute(name, size)
    if kind.name in ("tiff", "openexr") and spec.getattribute("DateTime") is None:
        spec.attribute("DateTime", "")  # else OpenImageIO takes the time of writing, and no two files are the same
    if metadata.icc is not None and kind.name != "png":
        profile = np.frombuffer(metadata.icc, np.uint8)
        spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(profile)}]"), profile)
    _describe_color_space(spec, kind, linear=linear, has_icc=metadata.icc is not None)


def add_blocks(path: Path, metadata: Metadata, kind: Format, *, width: int, height: int, name: str) -> None:
    """Put what `describe` left out into the JPEG, PNG or WebP file at `path`: EXIF and XMP with the picture's size."""
    png_icc = metadata.icc if kind.name == "png" else None
    if metadata.exif is None and metadata.xmp is None and png_icc is None:
        return
    exif = metadata.exif and _mended(lambda block: with_size(block, width, height), metadata.exif, name)
    xmp = metadata.xmp and xmp_with_size(metadata.xmp, width, height)
    write_blocks(path, exif=exif, xmp=xmp, png_icc=png_icc)


def _describe_color_space(spec: oiio.ImageSpec, kind: Format, *, linear: bool, has_icc: bool) -> None:
    space = spec.get_string_attribute(_COLOR_SPACE)
    spec.erase_attribute(_COLOR_SPACE)
    if kind.name == "png":
        # "Unknown" keeps OpenImageIO from adding an sRGB chunk, which contradicts a profile.
        encoded = space if space.startswith("g") else "Unknown"
        spec.attribute(_COLOR_SPACE, "Unknown" if has_icc else "lin_rec709_scene" if linear else encoded)
    elif kind.name == "openexr" and space.startswith("lin"):
        spec.attribute(_COLOR_SPACE, space)


def _mended(mend: Callable[[bytes], bytes], exif: bytes, name: object) -> bytes | None:
    try:
        return mend(exif)
    except ValueError as error:
        logger.warning("%s: its EXIF block is damaged (%s) and is dropped", name, error)
        return None


def _icc(spec: oiio.ImageSpec) -> bytes | None:
    for attribute in spec.extra_attribs:
        if attribute.name == "ICCProfile":
            return np.asarray(attribute.value, np.uint8).tobytes()
    return None


def _kept_attributes(spec: oiio.ImageSpec) -> tuple[tuple[str, str, object], ...]:
    kept: dict[str, tuple[str, object]] = {}
    for attribute in spec.extra_attribs:
        name, value = _text(attribute.name), attribute.value
        if name in _DROPPED or isinstance(value, np.ndarray):
            continue
        if name.startswith(_DROPPED_PREFIXES) and name != _COLOR_SPACE:
            continue
        if name == "PixelAspectRatio" and value == 1:
            continue
        kept[name] = str(attribute.type), _text(value) if isinstance(value, str) else value
    _normalise_resolution(kept)
    return tuple((name, type_name, value) for name, (type_name, value) in kept.items())


def _text(value: str) -> str:
    """The text of an older camera or program, which is not UTF-8 and came with its bytes escaped."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="surrogateescape").decode("latin1")
    return value


def _normalise_resolution(attributes: dict[str, tuple[str, object]]) -> None:
    """Pixels per inch or centimetre, the units that every format knows; a resolution without a unit says nothing."""
    unit = attributes.get("ResolutionUnit", ("string", "none"))[1]
    if unit in ("m", "meter"):
        for name in _RESOLUTION[:2]:
            value = attributes.get(name, ("float", 0))[1]
            if isinstance(value, int | float):
                attributes[name] = "float", round(value / _INCHES_PER_METER, 2)
        attributes["ResolutionUnit"] = "string", "in"
    elif unit not in ("in", "inch", "cm"):
        for name in _RESOLUTION:
            attributes.pop(name, None)
