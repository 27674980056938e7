"""An image file, open: its pixels as `Image` has them, whole or in blocks of rows."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import OpenImageIO as oiio  # noqa: N813

from hat_sr.errors import ImageError, InputError
from hat_sr.image.channels import bmp_order, declares_alpha, known_channels
from hat_sr.image.description import promised_pages
from hat_sr.image.formats import check_name
from hat_sr.image.frames import count_frames, pictures
from hat_sr.image.metadata import is_linear, is_stored_with_loss, read_metadata
from hat_sr.image.pixels import Image, Metadata, Pixels, turned, unassociated, without_padding
from hat_sr.image.signature import compression, is_unsupported, why_not_opened
from hat_sr.image.tiff import lacks_pixels

logger = logging.getLogger(__name__)

_DTYPES = {oiio.UINT16: "uint16", oiio.HALF: "float16", oiio.FLOAT: "float32", oiio.DOUBLE: "float32"}
_BLOCK_BYTES = 1 << 24
"""About how much is read at once from a file that is read by rows."""
_NUM_BANDS, _BAND_ROWS, _BAND_COLUMNS = 16, 64, 4096
"""What is looked at of a large file to know how noisy it is."""
_EXTRANEOUS = "extraneous bytes before marker"
"""What libjpeg says, if all was well before, of a scan that goes on after its last pixel."""
_TARGA_PREMULTIPLIED = 4
_LARGEST_SIDE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself before a pixel is read. Sides are those of the upright picture.

    `channels` is an upper bound: a palette of grays counts as colours. `lossy`: see `Metadata`. `num_pages`: of a TIFF,
    without smaller copies of other pages; 1 for other kinds.
    """

    height: int
    width: int
    channels: int
    dtype: str
    lossy: bool
    num_pages: int = 1


class ImageFile:
    """The file at `path`, called `name` in messages, at a page of it (see `open_image`, which makes this)."""

    def __init__(self, path: Path, *, name: Path, page: int | None) -> None:
        check_name(path)
        self._path, self._name = path, name
        wanted = oiio.ImageSpec()
        wanted.attribute("oiio:UnassociatedAlpha", 1)
        file = oiio.ImageInput.open(str(path), wanted)
        reason = oiio.geterror()  # also clears what an earlier file left
        if file is None:
            raise ImageError(f"{name}: {why_not_opened(path, self._said(reason))}")
        self._file, self._kind = file, file.format_name()
        self._pages = pictures(file)
        if (page or 0) >= len(self._pages):
            raise ImageError(f"{name}: there is no such page: the file has {len(self._pages)}")
        self._subimage = self._pages[page or 0]
        if self._subimage and not file.seek_subimage(self._subimage, 0):
            raise ImageError(f"{name}: {self._said(file.geterror()) or 'it cannot be read'}")
        self._spec = file.spec()
        if self._kind == "tiff" and lacks_pixels(path, self._subimage):
            raise ImageError(f"{name}: damaged or cut short: not all of its pixels are there")
        if self._space.endswith("LAB"):
            raise ImageError(f"{name}: its colours are Lab, which is not read: save it as RGB first")
        self._padding: int | None = None
        self._channels = self._known_channels()

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
            num_pages=len(self._pages) if self._kind == "tiff" else 1,
        )

    @property
    def has_gain_map(self) -> bool:
        """Whether it is a JPEG of which OpenImageIO would make a picture brighter than white."""
        return bool(self._kind == "jpeg" and self._spec.format.basetype == oiio.HALF)

    @property
    def is_associated(self) -> bool:
        """Whether colours come multiplied by alpha."""
        return bool(self._kind == "openexr")

    @property
    def by_rows(self) -> bool:
        """False for GIF and BMP with a palette: only the whole picture shows whether it is gray."""
        return self._kind != "gif" and not 0 < self._spec.get_int_attribute("bmp:bitsperpixel") <= 8

    def warn_of_others(self) -> None:
        """Say so if the file holds more pictures than this one."""
        promised = promised_pages(self._spec.get_string_attribute("ImageDescription"))
        count = max(count_frames(self._path, self._kind), len(self._pages), promised)
        if count > 1:
            logger.warning("%s: it holds %d pictures: the first of %d is taken", self._name, count, count)

    def picture(self, pixels: Pixels) -> Image:
        """A picture of these pixels, read from the file or made from its pixels, with the file's metadata."""
        metadata = self.metadata(pixels.shape[2])
        linear = is_linear(self._spec, metadata.icc)
        return Image(pixels, linear=linear, associated=self.is_associated, metadata=metadata)

    def metadata(self, channels: int) -> Metadata:
        """The file's metadata, for pixels of so many channels."""
        size = self.header.height, self.header.width
        metadata = read_metadata(self._spec, self._path, channels=channels, size=size, name=self._name)
        return replace(metadata, frame=_frame(self._spec) if self._kind == "openexr" else None)

    def read(self) -> Pixels:
        """The whole picture, upright. Warns of what is converted or left out."""
        self._warn()
        pixels = self._cleaned(self._checked(self._file.read_image(oiio.UNKNOWN)))
        return turned(pixels if self.by_rows else without_padding(pixels), self._orientation)

    def blocks(self) -> Iterator[tuple[int, int, Pixels]]:
        """The picture in parts: (top, left, pixels) in the upright picture, all of it, in the file's order.

        As `read` gives them, with its warnings. In memory there is one part, unless the format's decoder itself holds
        the whole picture (interlaced PNG, progressive JPEG, WebP) or not `by_rows`.
        """
        if not self.by_rows:
            yield 0, 0, self.read()
            return
        self._warn()
        height, orientation = self._spec.height, self._orientation
        for start, stop in self._row_ranges():
            pixels = turned(self._cleaned(self._checked(self._read_rows(start, stop))), orientation)
            # The side that the file's first row comes to lie on.
            place = height - stop if orientation in (3, 4, 6, 7) else start
            yield (0, place, pixels) if orientation >= 5 else (place, 0, pixels)

    def sample(self) -> Iterator[Pixels]:
        """Some rows, as they lie in the file, in bands from its top to its bottom; of wide ones the middle.

        All of a file of up to 16 bands. Pixels and errors as of `read`, but nothing is warned of.
        """
        height, step = self._spec.height, self._spec.tile_height or _BAND_ROWS
        number = -(-height // step)
        left = max(0, self._spec.width - _BAND_COLUMNS) // 2
        whole = None if self.by_rows else self._checked(self._file.read_image(oiio.UNKNOWN))
        for index in sorted({index * number // _NUM_BANDS for index in range(_NUM_BANDS)}):
            start, stop = index * step, min((index + 1) * step, height)
            rows = self._checked(self._read_rows(start, stop)) if whole is None else whole[start:stop]
            yield self._cleaned(rows[:_BAND_ROWS, left : left + _BAND_COLUMNS])

    @property
    def _orientation(self) -> int:
        orientation = self._spec.get_int_attribute("Orientation", 1)
        return orientation if 1 <= orientation <= 8 else 1

    @property
    def _space(self) -> str:
        return str(self._spec.get_string_attribute(f"{self._kind}:ColorSpace"))

    def _known_channels(self) -> list[int]:
        names = list(self._spec.channelnames)
        channels = known_channels(names, self._kind)
        if self._kind == "bmp" and len(names) == 4:
            channels = bmp_order(self._path)
        if "A" in names and names.index("A") in channels and self._is_padding(channels[-1]):
            self._padding = channels.pop()
        return channels

    def _is_padding(self, alpha: int) -> bool:
        """Whether the channel called alpha is none: nothing in the header says that it is, or it is 0 everywhere in a
        kind of file where that means that whoever wrote it knew of no alpha.
        """
        means_nothing = self._spec.get_int_attribute("targa:alpha_type") in (1, 2)
        if means_nothing or not declares_alpha(self._path, self._kind, page=self._subimage):
            return True
        return self._kind in ("bmp", "targa") and self._constant(alpha) == 0

    def _constant(self, channel: int) -> float | None:
        """The value that the channel has everywhere, if it is the same; no more is read than that takes."""
        values: set[float] = set()
        for start, stop in self._row_ranges():
            rows = self._read_rows(start, stop)
            if rows is None:
                break  # damaged, which reading will tell
            part = np.asarray(rows)[..., channel]
            values |= {float(part.min()), float(part.max())}
            if len(values) > 1:
                return None
        self._file.geterror()
        return values.pop() if values else None

    def _warn(self) -> None:
        if self._space == "CMYK":
            logger.warning("%s: CMYK is converted to RGB, without regard to its colour profile", self._name)
        used = {*self._channels, self._padding}
        left = [name for i, name in enumerate(self._spec.channelnames) if i not in used]
        if left:
            words = "channel %s is" if len(left) == 1 else "channels %s are"
            logger.warning(f"%s: the {words} left out", self._name, ", ".join(left))
        elif self._kind == "bmp" and "A" not in self._spec.channelnames and declares_alpha(self._path, "bmp"):
            logger.warning("%s: its transparency is left out, which is not read of a BMP of 16 bits", self._name)
        if self._padding is not None and self._constant(self._padding) is None:
            logger.warning("%s: a channel that the header does not call alpha is left out", self._name)

    def _row_ranges(self) -> Iterator[tuple[int, int]]:
        """Rows to be read together, (from, to before), as tiles and memory have it."""
        step = self._spec.tile_height or 64
        step *= max(1, _BLOCK_BYTES // (step * self._spec.scanline_bytes(True)))
        for start in range(0, self._spec.height, step):
            yield start, min(start + step, self._spec.height)

    def _read_rows(self, start: int, stop: int) -> object:
        spec = self._spec
        top, bottom, channels = spec.y + start, spec.y + stop, spec.nchannels
        if not spec.tile_height:
            return self._file.read_scanlines(top, bottom, spec.z, 0, channels, oiio.UNKNOWN)
        left, right = spec.x, spec.x + spec.width
        pixels = self._file.read_tiles(left, right, top, bottom, spec.z, spec.z + 1, 0, channels, oiio.UNKNOWN)
        return None if pixels is None else np.asarray(pixels).reshape(stop - start, spec.width, channels)

    def _said(self, message: str) -> str:
        """The first line of OpenImageIO's message, without the name of the file, which may be that of a copy."""
        return one_line(message).replace(f' ("{self._path}")', "").replace(str(self._path), str(self._name))

    def _checked(self, pixels: object) -> Pixels:
        """The pixels if nothing was wrong with reading them."""
        reason = self._said(self._file.geterror())
        if is_unsupported(reason):
            code = self._spec.get_int_attribute("tiff:Compression")
            raise ImageError(f"{self._name}: compressed by {compression(code)}, which is not read: save it with LZW")
        if _EXTRANEOUS in reason:
            logger.warning("%s: extraneous bytes behind the pixels are passed over", self._name)
            reason = ""
        if pixels is None or reason:
            raise ImageError(f"{self._name}: damaged or cut short: {reason or 'its pixels cannot be read'}")
        return np.asarray(pixels)

    def _cleaned(self, pixels: Pixels) -> Pixels:
        if self._channels != list(range(self._spec.nchannels)):
            pixels = pixels[..., self._channels]
        if pixels.dtype == np.float64:
            pixels = pixels.astype(np.float32)
        is_associated = (self._kind == "tiff" and not self._spec.get_int_attribute("oiio:UnassociatedAlpha")) or (
            self._kind == "targa" and self._spec.get_int_attribute("targa:alpha_type") == _TARGA_PREMULTIPLIED
        )
        return unassociated(pixels) if is_associated else pixels


def one_line(message: str) -> str:
    """The first line of OpenImageIO's message: the rest repeats it, once for each part of the file."""
    return message.strip().partition("\n")[0]


def _frame(spec: oiio.ImageSpec) -> tuple[float, float, float, float] | None:
    """The display window, as `Metadata` has it."""
    pixels = spec.x, spec.y, spec.width, spec.height
    frame = spec.full_x, spec.full_y, spec.full_width, spec.full_height
    if frame == pixels:
        return None
    if not all(-_LARGEST_SIDE <= value <= _LARGEST_SIDE for value in pixels + frame):
        raise InputError(f"its windows make no sense: pixels at {pixels}, shown {frame}")
    left, top = (frame[0] - pixels[0]) / pixels[2], (frame[1] - pixels[1]) / pixels[3]
    return left, top, frame[2] / pixels[2], frame[3] / pixels[3]
