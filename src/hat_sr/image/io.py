"""Image files to pictures and back.

Reads what OpenImageIO reads, whatever the suffix says: JPEG, PNG, TIFF, WebP, BMP, EXR, GIF and more.
Writes the kinds in `hat_sr.image.formats`. A file is written under another name and renamed: it is whole or not there.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813

from hat_sr.errors import ImageError, InputError, NoRoomError, OutputError
from hat_sr.files import replacing
from hat_sr.image.containers import is_whole
from hat_sr.image.decode import open_image
from hat_sr.image.description import fitted_description, is_note_of_tifffile
from hat_sr.image.formats import check_name, check_size, fit, format_for
from hat_sr.image.metadata import add_blocks, describe, for_file
from hat_sr.image.pixels import Image, Metadata
from hat_sr.image.reader import one_line

__all__ = ["Image", "read_image", "write_image", "write_pages", "write_rows"]

logger = logging.getLogger(__name__)

_OIIO_TYPES = {"uint8": oiio.UINT8, "uint16": oiio.UINT16, "float16": oiio.HALF, "float32": oiio.FLOAT}
_CHANNEL_NAMES = {1: ("Y",), 2: ("Y", "A"), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}
_ROOM_BESIDE_PIXELS = 1 << 20
_BIG_TIFF_BYTES = 4_000_000_000
"""Beyond that 32 bits do not hold the places of all pages."""


def read_image(path: str | os.PathLike[str], *, page: int | None = None) -> Image:
    """Read a picture, upright, at the depth of the file (1, 2 and 4 bits as 8, double as float).

    page: of a TIFF, counted from 0. None is the first picture of any kind of file, with a warning if it holds more.

    Palettes become RGB or RGBA, or gray where BMP and GIF mean gray; CMYK becomes RGB, and the high range of an Ultra
    HDR photo and channels beyond colour and alpha are left out, each with a warning.
    Raises ImageError if there is no such file, or it is empty, cut short, of an unknown kind, too large, or holds NaN
    or infinity.
    """
    with open_image(path, page=page) as file:
        return file.picture(file.read())


def write_image(
    path: str | os.PathLike[str], image: Image, *, quality: int | None = None, keep_dpi: bool = False
) -> None:
    """Write the picture, in the kind of file its suffix names, made to fit it as `hat_sr.image.formats.fit` says.

    `quality`: 1 to 100, for JPEG (default 95, always 4:4:4) and WebP (lossless by default); other kinds are lossless.
    `keep_dpi`: the resolution in print stays that of `metadata.size`; else it grows as the picture did since.
    An existing file is replaced, and only by a whole one. Raises ImageError for a suffix that is not written, a picture
    too large for the format, a missing folder, or a file that cannot be written; InputError for an impossible quality.
    """
    write_rows(path, [image], height=image.height, quality=quality, keep_dpi=keep_dpi)


def write_rows(
    path: str | os.PathLike[str],
    parts: Iterable[Image],
    *,
    height: int,
    quality: int | None = None,
    keep_dpi: bool = False,
) -> None:
    """Write a picture of `height` rows that comes in parts, from top to bottom: the file that `write_image` writes.

    The parts, at least one, are alike in all but their rows. Memory is taken for one part, but WebP's encoder gathers
    all. Arguments and errors as for `write_image`.
    """
    path, parts = Path(path), iter(parts)
    first = next(parts)
    check_output(path, height, first.width, quality=quality)
    _replace(path, [(height, chain([first], parts))], quality, keep_dpi=keep_dpi, num_pages=1)


def write_pages(
    path: str | os.PathLike[str],
    images: Iterable[Image],
    *,
    num_pages: int,
    num_bytes: int,
    keep_dpi: bool = False,
) -> None:
    """Write a TIFF of `num_pages` pages, which may differ in size and kind.

    Memory is taken for one page: each is asked for when the one before is written. num_bytes: about how many bytes of
    pixels they have together. keep_dpi and errors as for `write_image`, and ImageError for another kind of file.
    """
    path = Path(path)
    if not format_for(path).pages:
        raise ImageError(f"{path}: cannot hold {num_pages} pages: use .tif")
    made = ((image.height, [image]) for image in images)
    _replace(path, made, None, keep_dpi=keep_dpi, num_pages=num_pages, num_bytes=num_bytes)


def _replace(
    path: Path,
    pages: Iterable[tuple[int, Iterable[Image]]],
    quality: int | None,
    *,
    keep_dpi: bool,
    num_pages: int,
    num_bytes: int = 0,
) -> None:
    """Write a file whole. pages: the height of each, and its parts."""
    try:
        with replacing(path) as part:
            _Writer(part, path, quality, keep_dpi, num_pages=num_pages, num_bytes=num_bytes).write(pages)
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
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name too long, above all
        raise OutputError(f"{path}: no file can be written there: {error.strerror}; name another output") from error


def _once(path: Path) -> Callable[[str], None]:
    """Warns of what is lost in the file, once for all parts of the picture."""
    said: set[str] = set()

    def warn(message: str) -> None:
        if message not in said:
            logger.warning("%s: %s", path, message)
        said.add(message)

    return warn


class _Writer:
    """Writes a file at `part` that is to be at `path`."""

    def __init__(
        self, part: Path, path: Path, quality: int | None, keep_dpi: bool, *, num_pages: int, num_bytes: int
    ) -> None:
        self._part, self._path, self._quality, self._keep_dpi = part, path, quality, keep_dpi
        self._num_pages = num_pages
        self._is_large = num_bytes > _BIG_TIFF_BYTES
        self._kind, self._warn = format_for(path), _once(path)
        output = oiio.ImageOutput.create(self._kind.name)
        if output is None:
            raise ImageError(f"{path}: cannot be written: {one_line(oiio.geterror())}")
        self._output = output

    def write(self, pages: Iterable[tuple[int, Iterable[Image]]]) -> None:
        """Write all pages, and see that they are there."""
        mode, done, reason = "Create", True, ""
        for height, parts in pages:
            images = (fit(image, self._kind, warn=self._warn) for image in parts)
            like = next(images)
            check_size(self._path, height, like.width)
            metadata = for_file(
                like.metadata, self._kind, height=height, width=like.width, keep_dpi=self._keep_dpi, name=self._path
            )
            if mode == "Create":
                first_page = metadata
            spec = self._spec(like, metadata, height)
            self._check_room(spec)
            done = done and self._output.open(str(self._part), spec, mode) and self._put(spec, chain([like], images))
            reason = reason or self._output.geterror()
            mode = "AppendSubimage"
        done = self._output.close() and done
        if not done:
            is_room = shutil.disk_usage(self._part.parent).free > _ROOM_BESIDE_PIXELS
            raise (OutputError if is_room else NoRoomError)(
                f"{self._path}: cannot be written: {one_line(reason + self._output.geterror())}"
            )
        if not is_whole(self._part):
            raise NoRoomError(f"{self._path}: only a part of it could be written: is the disk full?")
        add_blocks(self._part, first_page, self._kind)

    def _spec(self, like: Image, metadata: Metadata, height: int) -> oiio.ImageSpec:
        channels, kind, quality = like.pixels.shape[2], self._kind, self._quality
        spec = oiio.ImageSpec(like.width, height, channels, _OIIO_TYPES[like.pixels.dtype.name])
        spec.channelnames = _CHANNEL_NAMES[channels]
        spec.alpha_channel = channels - 1 if channels in (2, 4) else -1
        describe(spec, metadata, kind, linear=like.linear)
        self._fit_description(spec)
        spec.attribute("oiio:UnassociatedAlpha", 0 if kind.name == "openexr" else 1)
        spec.attribute("tiff:half", 1)
        spec.attribute("tiff:bigtiff", int(self._is_large))
        if kind.name == "jpeg":
            spec.attribute("compression", f"jpeg:{quality or 95}")
            spec.attribute("jpeg:subsampling", "4:4:4")
        elif kind.name == "png":
            spec.attribute("compression", "rle")  # a quarter of the default's time, at about its size
        elif kind.name == "webp":
            spec.attribute("compression", "lossless" if quality is None else f"webp:{quality}")
        if metadata.frame is not None:
            _set_windows(spec, metadata.frame)
        return spec

    def _fit_description(self, spec: oiio.ImageSpec) -> None:
        text = spec.get_string_attribute("ImageDescription")
        fitted = fitted_description(
            text, width=spec.width, height=spec.height, channels=spec.nchannels, num_pages=self._num_pages
        )
        if fitted is None:
            spec.erase_attribute("ImageDescription")
            if not is_note_of_tifffile(text):
                self._warn("its description is about pages that are not there, and is dropped")
        elif fitted != text:
            spec.attribute("ImageDescription", fitted)

    def _check_room(self, spec: oiio.ImageSpec) -> None:
        # On a full disk libjpeg ends the process, and libpng writes half a file and says nothing.
        room, needed = shutil.disk_usage(self._part.parent).free, spec.image_bytes() + _ROOM_BESIDE_PIXELS
        if room < needed:
            raise NoRoomError(
                f"{self._path}: {room >> 20} MB free there, and up to {1 + (needed >> 20)} MB may be needed"
            )

    def _put(self, spec: oiio.ImageSpec, images: Iterable[Image]) -> bool:
        done, top = True, spec.y
        for image in images:
            pixels = np.ascontiguousarray(image.pixels)
            done = done and self._output.write_scanlines(top, top + image.height, 0, pixels)
            top += image.height
        return done


def _set_windows(spec: oiio.ImageSpec, frame: tuple[float, float, float, float]) -> None:
    """Make the file show `frame`, from 0, of which the pixels are a part. See `Metadata`."""
    left, top, width, height = frame
    spec.x, spec.y = round(-left * spec.width), round(-top * spec.height)
    spec.full_x = spec.full_y = 0
    spec.full_width, spec.full_height = max(1, round(width * spec.width)), max(1, round(height * spec.height))
