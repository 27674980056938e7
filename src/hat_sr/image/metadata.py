"""Metadata between OpenImageIO's image description and ours: what is kept, and what is no longer true."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813

from hat_sr.files import temporary
from hat_sr.image import exif, xmp
from hat_sr.image.carry import RESOLUTION, fitted, mended, scaled
from hat_sr.image.containers import (
    Blocks,
    bmp_resolution,
    is_lossy,
    read_blocks,
    set_bmp_resolution,
    write_blocks,
)
from hat_sr.image.formats import Format, format_for
from hat_sr.image.icc import icc_fits, icc_is_linear
from hat_sr.image.pixels import Metadata
from hat_sr.image.signature import HEAD_BYTES, kind_of

logger = logging.getLogger(__name__)

_COLOR_SPACE = "oiio:ColorSpace"
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


def read_metadata(spec: oiio.ImageSpec, path: Path, *, channels: int, size: tuple[int, int], name: Path) -> Metadata:
    """What the open file at `path` says about its picture of so many channels, as it will be once that is upright.

    size: height and width of the upright picture. A colour profile of another colour space (CMYK, now converted, say),
    a damaged EXIF block, and what points to parts of the file that are not read are dropped, with a warning.
    """
    icc = _icc(spec)
    if icc is not None and not icc_fits(icc, channels):
        logger.warning(
            "%s: its colour profile (%s) does not fit the pixels and is dropped", name, icc[16:20].decode("latin1")
        )
        icc = None
    block, packet, carried, left = read_blocks(path)
    with path.open("rb") as file:
        in_blocks = kind_of(file.read(HEAD_BYTES)) in ("jpeg", "png", "webp")
    if packet is not None:
        packet, has_pointers = xmp.without_pointers(xmp.upright(packet))
        left += ("what its XMP points to",) if has_pointers else ()
    if spec.get_int_attribute("Orientation", 1) != 1 and any(piece.isdigit() for piece, _ in carried):
        carried, left = (), (*left, "GeoTIFF tags, which told of the picture before it was turned")
    if left:
        logger.warning("%s: left out: %s", name, ", ".join(left))
    return Metadata(
        icc=icc,
        exif=None if block is None else mended(exif.upright, block, name),
        xmp=packet,
        carried=carried,
        attributes=_kept_attributes(spec, path),
        in_blocks=in_blocks,
        size=size,
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


def for_file(metadata: Metadata, kind: Format, *, height: int, width: int, keep_dpi: bool, name: object) -> Metadata:
    """The metadata of a picture of that size in that kind of file. Warns of what it cannot hold.

    keep_dpi: the resolution in print stays as it was, so that the picture prints larger.
    """
    metadata = scaled(metadata, height, width, keep_dpi=keep_dpi, name=name)
    if kind.name == "webp" and metadata.exif is None and metadata.attributes:
        metadata = replace(metadata, exif=_exif_of(metadata))
    return fitted(metadata, kind.name, name=name)


def describe(spec: oiio.ImageSpec, metadata: Metadata, kind: Format, *, linear: bool) -> None:
    """Put the metadata of the picture into the description of a file about to be written.

    EXIF, XMP and what is carried go in afterwards (`add_blocks`), and the profile of a PNG.
    """
    if kind.name in ("tiff", "openexr"):  # else OpenImageIO takes the time of writing; what is no text is not written
        spec.attribute("DateTime", oiio.TypeDesc("int[2]"), (0, 0))
    for name, type_name, value in metadata.attributes:
        if not (kind.blocks and metadata.in_blocks) or name in (*RESOLUTION, _COLOR_SPACE):
            spec.attribute(name, oiio.TypeDesc(type_name), value)
    across, down = (spec.get_float_attribute(name) for name in RESOLUTION[:2])
    if across > 0 and down > 0:  # from which OpenImageIO takes the second, in JPEG files the other way round
        spec.attribute("PixelAspectRatio", across / down if kind.name == "jpeg" else down / across)
    if metadata.icc is not None and kind.name != "png":
        profile = np.frombuffer(metadata.icc, np.uint8)
        spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(profile)}]"), profile)
    _describe_color_space(spec, kind, linear=linear, has_icc=metadata.icc is not None)


def add_blocks(path: Path, metadata: Metadata, kind: Format) -> None:
    """Put what `describe` left out into the file at `path`, and take out what OpenImageIO wrote of its own accord."""
    if kind.name == "bmp" and (meters := _per_meter(metadata)) is not None:
        set_bmp_resolution(path, *meters)
    if kind.name == "tiff":
        write_blocks(path, Blocks(None, metadata.xmp, metadata.carried))
    if not kind.blocks:
        return
    found = Blocks() if metadata.in_blocks else read_blocks(path)
    exif_block = metadata.exif if metadata.exif is not None else found.exif
    blocks = Blocks(
        None if exif_block is None or exif.is_empty(exif_block) else exif_block,
        metadata.xmp if metadata.xmp is not None else found.xmp,
        metadata.carried,
    )
    if kind.name == "webp" and blocks.exif is None and blocks.xmp is None:
        return  # it holds nothing else
    png_icc = metadata.icc if kind.name == "png" else None
    write_blocks(path, blocks, png_icc=png_icc, replace_carried=metadata.in_blocks)


def _exif_of(metadata: Metadata) -> bytes | None:
    """The attributes as an EXIF block, which OpenImageIO makes for JPEG files, but not for WebP."""
    spec = oiio.ImageSpec(1, 1, 3, oiio.UINT8)
    describe(spec, replace(metadata, icc=None), format_for(Path("a.jpg")), linear=False)
    with temporary(".jpg") as path:
        output = oiio.ImageOutput.create("jpeg")
        if output is None or not (
            output.open(str(path), spec) and output.write_image(np.zeros((1, 1, 3), np.uint8)) and output.close()
        ):
            return None
        block = read_blocks(path).exif
    return None if block is None or exif.is_empty(block) else block


def _per_meter(metadata: Metadata) -> tuple[float, float] | None:
    """The resolution in pixels per meter."""
    values = {name: value for name, _, value in metadata.attributes if name in RESOLUTION}
    x, y = values.get(RESOLUTION[0]), values.get(RESOLUTION[1])
    unit = 100 if values.get(RESOLUTION[2]) == "cm" else _INCHES_PER_METER
    return (x * unit, y * unit) if isinstance(x, float) and isinstance(y, float) else None


def _describe_color_space(spec: oiio.ImageSpec, kind: Format, *, linear: bool, has_icc: bool) -> None:
    space = spec.get_string_attribute(_COLOR_SPACE)
    spec.erase_attribute(_COLOR_SPACE)
    if kind.name == "png":
        # "Unknown" keeps OpenImageIO from adding an sRGB chunk, which contradicts a profile.
        encoded = space if space.startswith("g") else "Unknown"
        spec.attribute(_COLOR_SPACE, "Unknown" if has_icc else "lin_rec709_scene" if linear else encoded)
    elif kind.name == "openexr" and space.startswith("lin"):
        spec.attribute(_COLOR_SPACE, space)


def _icc(spec: oiio.ImageSpec) -> bytes | None:
    for attribute in spec.extra_attribs:
        if attribute.name == "ICCProfile":
            return np.asarray(attribute.value, np.uint8).tobytes()
    return None


def _kept_attributes(spec: oiio.ImageSpec, path: Path) -> tuple[tuple[str, str, object], ...]:
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
    if (meters := bmp_resolution(path)) is not None:
        kept |= dict(zip(RESOLUTION, (("float", meters[0]), ("float", meters[1]), ("string", "m")), strict=True))
    _normalise_resolution(kept)
    if spec.get_int_attribute("Orientation", 1) >= 5:
        for one, other in (RESOLUTION[:2], ("Exif:FocalPlaneXResolution", "Exif:FocalPlaneYResolution")):
            if one in kept and other in kept:
                kept[one], kept[other] = kept[other], kept[one]
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
        for name in RESOLUTION[:2]:
            value = attributes.get(name, ("float", 0))[1]
            if isinstance(value, int | float):
                attributes[name] = "float", round(value / _INCHES_PER_METER, 2)
        attributes["ResolutionUnit"] = "string", "in"
    elif unit not in ("in", "inch", "cm"):
        for name in RESOLUTION:
            attributes.pop(name, None)
