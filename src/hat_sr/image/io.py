"""Image files to pictures and back.

Reads what OpenImageIO reads, whatever the suffix says: JPEG, PNG, TIFF, WebP, BMP, EXR, GIF (first frame) and more.
Writes the kinds in `hat_sr.image.formats`. A file is written under another name and renamed: it is whole or not there.
"""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813

from hat_sr.errors import ImageError, InputError
from hat_sr.files import replacing
from hat_sr.image.containers import is_whole, without_gain_map
from hat_sr.image.formats import Format, check_size, fit, format_for
from hat_sr.image.metadata import add_blocks, describe, is_linear, read_metadata
from hat_sr.image.pixels import Image, Pixels

__all__ = ["Image", "read_image", "write_image"]

logger = logging.getLogger(__name__)

_OIIO_TYPES = {"uint8": oiio.UINT8, "uint16": oiio.UINT16, "float16": oiio.HALF, "float32": oiio.FLOAT}
_CHANNEL_NAMES = {1: ("Y",), 2: ("Y", "A"), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}
_FLOAT16_MAX = float(np.finfo(np.float16).max)
_ROOM_BESIDE_PIXELS = 1 << 20


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read a picture, upright, at the depth of the file (1, 2 and 4 bits as 8, double as float).

    Palettes become RGB or RGBA, or gray where BMP and GIF mean gray; CMYK becomes RGB, and the high range of an Ultra
    HDR photo and channels beyond colour and alpha are left out, each with a warning. Of several pages, the first.
    Raises ImageError if there is no such file, or it is empty, cut short, of an unknown kind, too large, or holds NaN
    or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: " + ("is a folder, not an image file" if path.is_dir() else "no such file"))
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        return _read(path, name=path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: too large for the memory there is") from error
    except (InputError, UnicodeError) as error:
        raise ImageError(f"{path}: {error}") from error


def write_image(path: str | os.PathLike[str], image: Image, *, quality: int | None = None) -> None:
    """Write the picture, in the kind of file its suffix names, made to fit it as `hat_sr.image.formats.fit` says.

    `quality`: 1 to 100, for JPEG (default 95, always 4:4:4) and WebP (lossless by default); other kinds are lossless.
    An existing file is replaced, and only by a whole one. Raises ImageError for a suffix that is not written, a picture
    too large for the format, a missing folder, or a file that cannot be written; InputError for an impossible quality.
    """
    path = Path(path)
    kind = format_for(path)
    check_size(path, image.height, image.width)
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"quality {quality}: 1 to 100 is accepted")
    if not path.parent.is_dir():
        raise ImageError(f"{path}: there is no folder {path.parent}: make it first")
    image = fit(image, kind, name=str(path))
    try:
        with replacing(path) as part:
            _write(part, image, kind, quality, name=str(path))
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {error.strerror}") from error


def _read(path: Path, *, name: Path) -> Image:
    """The picture in the file at `path`, called `name` in messages."""
    opened = _open(path, name=name)
    try:
        spec, kind = opened.spec(), opened.format_name()
        if kind == "jpeg" and spec.format.basetype == oiio.HALF and path == name:
            return _read_without_gain_map(path)
        pixels = _read_pixels(opened, path, name=name)
    finally:
        opened.close()
    space = spec.get_string_attribute(f"{kind}:ColorSpace")
    if space.endswith("LAB"):
        raise ImageError(f"{name}: its colours are Lab, which is not read: save it as RGB first")
    if space == "CMYK":
        logger.warning("%s: CMYK is converted to RGB, without regard to its colour profile", name)
    pixels = _known_channels(pixels, spec, name=name)
    if pixels.dtype == np.float64:
        pixels = pixels.astype(np.float32)
    if kind == "openexr" or (kind == "tiff" and not spec.get_int_attribute("oiio:UnassociatedAlpha")):
        pixels = _unassociated(pixels)
    # GIF and small BMP have no gray but palettes of it.
    if kind == "gif" or 0 < spec.get_int_attribute("bmp:bitsperpixel") <= 8:
        pixels = _without_padding(pixels)
    metadata = read_metadata(spec, path, channels=pixels.shape[2], name=name)
    pixels = _turned(pixels, spec.get_int_attribute("Orientation", 1))
    return Image(pixels, linear=is_linear(spec, metadata.icc), metadata=metadata)


def _read_without_gain_map(path: Path) -> Image:
    """The picture that an Ultra HDR photo shows on any screen: OpenImageIO insists on applying the gain map."""
    logger.warning("%s: an Ultra HDR photo: its gain map is left out, and the standard picture taken", path)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.jpg"
        without_gain_map(path, plain)
        return _read(plain, name=path)


def _open(path: Path, *, name: Path) -> oiio.ImageInput:
    wanted = oiio.ImageSpec()
    wanted.attribute("oiio:UnassociatedAlpha", 1)
    opened = oiio.ImageInput.open(str(path), wanted)
    reason = oiio.geterror()  # also clears what an earlier file left
    if opened is None:
        if "format reader" in reason:
            reason = "not a kind of image that is read here: convert it to PNG, TIFF or JPEG first"
        raise ImageError(f"{name}: {_one_line(reason) or 'not an image file'}")
    return opened


def _read_pixels(opened: oiio.ImageInput, path: Path, *, name: Path) -> Pixels:
    pixels = opened.read_image(oiio.UNKNOWN)
    reason = _one_line(opened.geterror())
    if pixels is None:
        raise ImageError(f"{name}: damaged or cut short: {reason or 'its pixels cannot be read'}")
    # libjpeg fills what is missing with gray and only mentions it. Stray bytes between segments are harmless, but hide
    # any later message, so the end of the picture is looked for.
    if reason and "extraneous bytes" in reason:
        data = path.read_bytes()
        if data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda"):
            logger.warning("%s: %s", name, reason)
            return np.asarray(pixels)
    if reason:
        raise ImageError(f"{name}: damaged or cut short: {reason}")
    return np.asarray(pixels)


def _known_channels(pixels: Pixels, spec: oiio.ImageSpec, *, name: Path) -> Pixels:
    """Gray or RGB, and alpha; the rest (depth, masks, print colours) is left out with a warning."""
    names = list(spec.channelnames)
    color = [names.index(name) for name in "RGB"] if {"R", "G", "B"} <= set(names) else [0]
    if len(color) == 1 and len(names) > 2 and "Y" not in names:
        raise ImageError(f"{name}: channels {', '.join(names)}: gray (Y) or R, G, B and perhaps A are accepted")
    wanted = color + ([names.index("A")] if "A" in names else [])
    if len(wanted) < len(names):
        left = ", ".join(name for i, name in enumerate(names) if i not in wanted)
        logger.warning("%s: the channels %s are left out", name, left)
        return pixels[..., wanted]
    return pixels


def _unassociated(pixels: Pixels) -> Pixels:
    """Colours divided by alpha. Where alpha is 0 they are light without a surface, and stay."""
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


def _associated(pixels: Pixels) -> Pixels:
    """Float colours multiplied by alpha, as EXR has them."""
    if pixels.shape[2] not in (2, 4):
        return pixels
    values = pixels.astype(np.float32)
    values[..., :-1] *= values[..., -1:]
    return values.astype(pixels.dtype)


def _without_padding(pixels: Pixels) -> Pixels:
    """Drop an alpha that hides nothing, and two of three equal channels."""
    if pixels.shape[2] == 4 and bool((pixels[..., 3] == 255).all()):
        pixels = pixels[..., :3]
    if bool((pixels[..., :3] == pixels[..., :1]).all()):
        pixels = pixels[..., [0, 3]] if pixels.shape[2] == 4 else pixels[..., :1]
    return pixels


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels as EXIF orientation 1 to 8 wants them shown; any other number means as they are."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _write(part: Path, image: Image, kind: Format, quality: int | None, *, name: str) -> None:
    pixels = _associated(image.pixels) if kind.name == "openexr" else image.pixels
    channels = pixels.shape[2]
    spec = oiio.ImageSpec(image.width, image.height, channels, _OIIO_TYPES[pixels.dtype.name])
    spec.channelnames = _CHANNEL_NAMES[channels]
    spec.alpha_channel = channels - 1 if channels in (2, 4) else -1
    describe(spec, image.metadata, kind, linear=image.linear)
    spec.attribute("oiio:UnassociatedAlpha", 0 if kind.name == "openexr" else 1)
    spec.attribute("tiff:half", 1)
    if kind.name == "jpeg":
        spec.attribute("compression", f"jpeg:{quality or 95}")
        spec.attribute("jpeg:subsampling", "4:4:4")
    elif kind.name == "webp":
        spec.attribute("compression", "lossless" if quality is None else f"webp:{quality}")
    # On a full disk libjpeg ends the process, and libpng writes half a file and says nothing.
    room, needed = shutil.disk_usage(part.parent).free, pixels.nbytes + _ROOM_BESIDE_PIXELS
    if room < needed:
        raise ImageError(f"{name}: {room >> 20} MB free there, and up to {1 + (needed >> 20)} MB may be needed")
    output = oiio.ImageOutput.create(kind.name)
    if output is None:
        raise ImageError(f"{name}: cannot be written: {_one_line(oiio.geterror())}")
    done = output.open(str(part), spec) and output.write_image(np.ascontiguousarray(pixels))
    reason = output.geterror()
    done = output.close() and done
    if not done:
        raise ImageError(f"{name}: cannot be written: {_one_line(reason + output.geterror())}")
    if not is_whole(part):
        raise ImageError(f"{name}: only a part of it could be written: is the disk full?")
    if kind.blocks:
        add_blocks(part, image.metadata, kind, width=image.width, height=image.height, name=name)


def _one_line(message: str) -> str:
    """The first line of OpenImageIO's message: the rest repeats it, once for each part of the file."""
    return message.strip().partition("\n")[0]
