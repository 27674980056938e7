"""Image files to pictures and back.

Reads what OpenImageIO reads, whatever the suffix says: JPEG, PNG, TIFF, WebP, BMP, EXR, GIF (first frame) and more.
Writes the kinds in `hat_sr.image.formats`. A file is written under another name and renamed: it is whole or not there.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813

from hat_sr.errors import ImageError, InputError, NoRoomError, OutputError
from hat_sr.files import replacing
from hat_sr.image.containers import is_whole
from hat_sr.image.decode import one_line, opened
from hat_sr.image.formats import Format, check_name, check_size, fit, format_for
from hat_sr.image.metadata import add_blocks, describe
from hat_sr.image.pixels import Image, Pixels

__all__ = ["Image", "read_image", "write_image", "write_rows"]

logger = logging.getLogger(__name__)

_OIIO_TYPES = {"uint8": oiio.UINT8, "uint16": oiio.UINT16, "float16": oiio.HALF, "float32": oiio.FLOAT}
_CHANNEL_NAMES = {1: ("Y",), 2: ("Y", "A"), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}
_ROOM_BESIDE_PIXELS = 1 << 20


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read a picture, upright, at the depth of the file (1, 2 and 4 bits as 8, double as float).

    Palettes become RGB or RGBA, or gray where BMP and GIF mean gray; CMYK becomes RGB, and the high range of an Ultra
    HDR photo and channels beyond colour and alpha are left out, each with a warning. Of several pages, the first.
    Raises ImageError if there is no such file, or it is empty, cut short, of an unknown kind, too large, or holds NaN
    or infinity.
    """
    with opened(path) as file:
        return file.picture(file.read())


def write_image(path: str | os.PathLike[str], image: Image, *, quality: int | None = None) -> None:
    """Write the picture, in the kind of file its suffix names, made to fit it as `hat_sr.image.formats.fit` says.

    `quality`: 1 to 100, for JPEG (default 95, always 4:4:4) and WebP (lossless by default); other kinds are lossless.
    An existing file is replaced, and only by a whole one. Raises ImageError for a suffix that is not written, a picture
    too large for the format, a missing folder, or a file that cannot be written; InputError for an impossible quality.
    """
    write_rows(path, [image], height=image.height, quality=quality)


def write_rows(
    path: str | os.PathLike[str], parts: Iterable[Image], *, height: int, quality: int | None = None
) -> None:
    """Write a picture of `height` rows that comes in parts, from top to bottom: the file that `write_image` writes.

    The parts, at least one, are alike in all but their rows. Memory is taken for one part, but WebP's encoder gathers
    all. Arguments and errors as for `write_image`.
    """
    path, parts = Path(path), iter(parts)
    kind, warn, first = format_for(path), _once(path), next(parts)
    check_output(path, height, first.width, quality=quality)
    fitting = (fit(image, kind, warn=warn) for image in chain([first], parts))
    try:
        with replacing(path) as part:
            _write(part, fitting, height, kind, quality, name=str(path))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def check_output(path: Path, height: int, width: int, *, quality: int | None) -> None:
    """Raise what `write_image` would raise of a picture of that size before it writes."""
    check_name(path)
    check_size(path, height, width)
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"quality {quality}: 1 to 100 is accepted")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}: make it first")


def _once(path: Path) -> Callable[[str], None]:
    """Warns of what is lost in the file, once for all parts of the picture."""
    said: set[str] = set()

    def warn(message: str) -> None:
        if message not in said:
            logger.warning("%s: %s", path, message)
        said.add(message)

    return warn


def _associated(pixels: Pixels) -> Pixels:
    """Float colours multiplied by alpha, as EXR has them."""
    if pixels.shape[2] not in (2, 4):
        return pixels
    values = pixels.astype(np.float32)
    values[..., :-1] *= values[..., -1:]
    return values.astype(pixels.dtype)


def _write(part: Path, images: Iterator[Image], height: int, kind: Format, quality: int | None, *, name: str) -> None:
    like = next(images)
    channels, width = like.pixels.shape[2], like.width
    spec = oiio.ImageSpec(width, height, channels, _OIIO_TYPES[like.pixels.dtype.name])
    spec.channelnames = _CHANNEL_NAMES[channels]
    spec.alpha_channel = channels - 1 if channels in (2, 4) else -1
    describe(spec, like.metadata, kind, linear=like.linear)
    spec.attribute("oiio:UnassociatedAlpha", 0 if kind.name == "openexr" else 1)
    spec.attribute("tiff:half", 1)
    if kind.name == "jpeg":
        spec.attribute("compression", f"jpeg:{quality or 95}")
        spec.attribute("jpeg:subsampling", "4:4:4")
    elif kind.name == "png":
        spec.attribute("compression", "rle")  # a quarter of the default's time, at about its size
    elif kind.name == "webp":
        spec.attribute("compression", "lossless" if quality is None else f"webp:{quality}")
    # On a full disk libjpeg ends the process, and libpng writes half a file and says nothing.
    room, needed = shutil.disk_usage(part.parent).free, spec.image_bytes() + _ROOM_BESIDE_PIXELS
    if room < needed:
        raise NoRoomError(f"{name}: {room >> 20} MB free there, and up to {1 + (needed >> 20)} MB may be needed")
    output = oiio.ImageOutput.create(kind.name)
    if output is None:
        raise ImageError(f"{name}: cannot be written: {one_line(oiio.geterror())}")
    done = output.open(str(part), spec)
    top = 0
    for image in chain([like], images):
        pixels = _associated(image.pixels) if kind.name == "openexr" else image.pixels
        done = done and output.write_scanlines(top, top + image.height, 0, np.ascontiguousarray(pixels))
        top += image.height
    reason = output.geterror()
    done = output.close() and done
    if not done:
        is_room = shutil.disk_usage(part.parent).free > _ROOM_BESIDE_PIXELS
        raise (OutputError if is_room else NoRoomError)(
            f"{name}: cannot be written: {one_line(reason + output.geterror())}"
        )
    if not is_whole(part):
        raise NoRoomError(f"{name}: only a part of it could be written: is the disk full?")
    if kind.blocks:
        add_blocks(part, like.metadata, kind, width=width, height=height, name=name)
