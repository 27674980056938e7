"""An image file, open: its pixels as `Image` has them, whole or in blocks of rows."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import OpenImageIO as oiio  # noqa: N813

from hat_sr.errors import ImageError, InputError
from hat_sr.image.containers import without_gain_map
from hat_sr.image.formats import check_name
from hat_sr.image.metadata import is_linear, is_stored_with_loss, read_metadata
from hat_sr.image.pixels import Image, Metadata, Pixels

logger = logging.getLogger(__name__)

_DTYPES = {oiio.UINT16: "uint16", oiio.HALF: "float16", oiio.FLOAT: "float32", oiio.DOUBLE: "float32"}
_FLOAT16_MAX = float(np.finfo(np.float16).max)
_BLOCK_BYTES = 1 << 24
"""About how much is read at once from a file that is read by rows."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself before a pixel is read. Sides are those of the upright picture.

    `channels` is an upper bound: a palette of grays counts as colours. `lossy`: see `Metadata`.
    """

    height: int
    width: int
    channels: int
    dtype: str
    lossy: bool


def read_header(path: str | os.PathLike[str]) -> Header:
    """Look at the file's header alone. Raises ImageError as `opened` does, for as much as a header shows."""
    path = Path(path)
    with _explained(path), ImageFile(path, name=path) as file:
        return file.header


@contextmanager
def opened(path: str | os.PathLike[str]) -> "Iterator[ImageFile]":
    """The image file, open while the block lasts. Warns of an Ultra HDR photo's gain map, which is left out.

    Raises ImageError, also for what goes wrong with the file in the block, if there is no such file, or it is empty,
    cut short, of an unknown kind, too large, or holds NaN or infinity.
    """
    path = Path(path)
    with _explained(path):
        with ImageFile(path, name=path) as file:
            if not file.has_gain_map:
                yield file
                return
        # OpenImageIO insists on applying the gain map; without it this is the picture that any screen shows.
        logger.warning("%s: an Ultra HDR photo: its gain map is left out, and the standard picture taken", path)
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain.jpg"
            without_gain_map(path, plain)
            with ImageFile(plain, name=path) as file:
                yield file


class ImageFile:
    """The file at `path`, called `name` in messages; made by `opened`."""

    def __init__(self, path: Path, *, name: Path) -> None:
        check_name(path)
        self._path, self._name = path, name
        wanted = oiio.ImageSpec()
        wanted.attribute("oiio:UnassociatedAlpha", 1)
        file = oiio.ImageInput.open(str(path), wanted)
        reason = oiio.geterror()  # also clears what an earlier file left
        if file is None:
            if "format reader" in reason:
                reason = "not a kind of image that is read here: convert it to PNG, TIFF or JPEG first"
            raise ImageError(f"{name}: {one_line(reason) or 'not an image file'}")
        self._file, self._spec, self._kind = file, file.spec(), file.format_name()
        if self._space.endswith("LAB"):
            raise ImageError(f"{name}: its colours are Lab, which is not read: save it as RGB first")
        self._channels = _known_channels(list(self._spec.channelnames), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def header(self) -> Header:
        """What is known without reading pixels."""
        height, width = self._spec.height, self._spec.width
        return Header(
            height=width if self._orientation >= 5 else height,
            width=height if self._orientation >= 5 else width,
            channels=len(self._channels),
            dtype=_DTYPES.get(self._spec.format.basetype, "uint8"),
            lossy=is_stored_with_loss(self._spec, self._path),
        )

    @property
    def has_gain_map(self) -> bool:
        """Whether it is a JPEG of which OpenImageIO would make a picture brighter than white."""
        return bool(self._kind == "jpeg" and self._spec.format.basetype == oiio.HALF)

    @property
    def by_rows(self) -> bool:
        """Whether `blocks` reads by rows. GIF and small BMP have no gray but palettes of it: all must be seen first."""
        return self._kind != "gif" and not 0 < self._spec.get_int_attribute("bmp:bitsperpixel") <= 8

    def picture(self, pixels: Pixels) -> Image:
        """These pixels, read from here or made of such, as a picture with what the file says about them."""
        metadata = self.metadata(pixels.shape[2])
        return Image(pixels, linear=is_linear(self._spec, metadata.icc), metadata=metadata)

    def metadata(self, channels: int) -> Metadata:
        """What the file says, for pixels of so many channels."""
        return read_metadata(self._spec, self._path, channels=channels, name=self._name)

    def read(self) -> Pixels:
        """The whole picture, upright. Warns of what is converted or left out."""
        self._warn()
        pixels = self._cleaned(self._checked(self._file.read_image(oiio.UNKNOWN)))
        return turned(pixels if self.by_rows else _without_padding(pixels), self._orientation)

    def blocks(self) -> Iterator[tuple[int, int, Pixels]]:
        """The picture in parts: (top, left, pixels) in the upright picture, all of it, in the file's order.

        As `read` gives them, with its warnings. In memory there is one part, unless the format's decoder itself holds
        the whole picture (interlaced PNG, progressive JPEG, WebP) or not `by_rows`.
        """
        if not self.by_rows:
            yield 0, 0, self.read()
            return
        self._warn()
        spec, height, orientation = self._spec, self._spec.height, self._orientation
        step = spec.tile_height or 64
        step *= max(1, _BLOCK_BYTES // (step * spec.scanline_bytes(True)))
        for start in range(0, height, step):
            stop = min(start + step, height)
            pixels = turned(self._cleaned(self._checked(self._read_rows(start, stop))), orientation)
            # The side that the file's first row comes to lie on.
            place = height - stop if orientation in (3, 4, 6, 7) else start
            yield (0, place, pixels) if orientation >= 5 else (place, 0, pixels)

    @property
    def _orientation(self) -> int:
        orientation = self._spec.get_int_attribute("Orientation", 1)
        return orientation if 1 <= orientation <= 8 else 1

    @property
    def _space(self) -> str:
        return str(self._spec.get_string_attribute(f"{self._kind}:ColorSpace"))

    def _warn(self) -> None:
        if self._space == "CMYK":
            logger.warning("%s: CMYK is converted to RGB, without regard to its colour profile", self._name)
        left = [name for i, name in enumerate(self._spec.channelnames) if i not in self._channels]
        if left:
            logger.warning("%s: the channels %s are left out", self._name, ", ".join(left))

    def _read_rows(self, start: int, stop: int) -> object:
        spec = self._spec
        top, bottom, channels = spec.y + start, spec.y + stop, spec.nchannels
        if not spec.tile_height:
            return self._file.read_scanlines(top, bottom, spec.z, 0, channels, oiio.UNKNOWN)
        left, right = spec.x, spec.x + spec.width
        pixels = self._file.read_tiles(left, right, top, bottom, spec.z, spec.z + 1, 0, channels, oiio.UNKNOWN)
        return None if pixels is None else np.asarray(pixels).reshape(stop - start, spec.width, channels)

    def _checked(self, pixels: object) -> Pixels:
        """The pixels if nothing was wrong with reading them."""
        reason = one_line(self._file.geterror())
        if pixels is None:
            raise ImageError(f"{self._name}: damaged or cut short: {reason or 'its pixels cannot be read'}")
        # libjpeg fills what is missing with gray and only mentions it. Stray bytes between segments are harmless, but
        # hide any later message, so the end of the picture is looked for.
        if reason and "extraneous bytes" in reason:
            data = self._path.read_bytes()
            if data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda"):
                logger.warning("%s: %s", self._name, reason)
                return np.asarray(pixels)
        if reason:
            raise ImageError(f"{self._name}: damaged or cut short: {reason}")
        return np.asarray(pixels)

    def _cleaned(self, pixels: Pixels) -> Pixels:
        if len(self._channels) < self._spec.nchannels:
            pixels = pixels[..., self._channels]
        if pixels.dtype == np.float64:
            pixels = pixels.astype(np.float32)
        associated = self._kind == "openexr" or (
            self._kind == "tiff" and not self._spec.get_int_attribute("oiio:UnassociatedAlpha")
        )
        return _unassociated(pixels) if associated else pixels


def one_line(message: str) -> str:
    """The first line of OpenImageIO's message: the rest repeats it, once for each part of the file."""
    return message.strip().partition("\n")[0]


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels as EXIF orientation 1 to 8 wants them shown."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says of an error in the block which file it is about, in our words."""
    if not path.is_file():
        raise ImageError(f"{path}: " + ("is a folder, not an image file" if path.is_dir() else "no such file"))
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        yield
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: too large for the memory there is") from error
    except (InputError, UnicodeError) as error:
        raise ImageError(f"{path}: {error}") from error


def _known_channels(names: list[str], name: Path) -> list[int]:
    """Gray or RGB, and alpha: where they stand. The rest is depth, masks, print colours."""
    color = [names.index(letter) for letter in "RGB"] if {"R", "G", "B"} <= set(names) else [0]
    if len(color) == 1 and len(names) > 2 and "Y" not in names:
        raise ImageError(f"{name}: channels {', '.join(names)}: gray (Y) or R, G, B and perhaps A are accepted")
    return color + ([names.index("A")] if "A" in names else [])


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


def _without_padding(pixels: Pixels) -> Pixels:
    """Drop an alpha that hides nothing, and two of three equal channels."""
    if pixels.shape[2] == 4 and bool((pixels[..., 3] == 255).all()):
        pixels = pixels[..., :3]
    if bool((pixels[..., :3] == pixels[..., :1]).all()):
        pixels = pixels[..., [0, 3]] if pixels.shape[2] == 4 else pixels[..., :1]
    return pixels
