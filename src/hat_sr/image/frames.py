"""How many pictures a file holds."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import OpenImageIO as oiio  # noqa: N813

from hat_sr.image import png
from hat_sr.image.containers import webp_chunks

_STACKS = ("tiff", "openexr", "ico")
"""Kinds whose pictures OpenImageIO counts by their headers alone."""
_REDUCED, _MASK = 1, 4
"""Bits of TIFF's NewSubfileType: a smaller copy of another page, and where another one is transparent."""
_GIF_IMAGE, _GIF_EXTENSION = b"\x2c", b"\x21"


def pictures(file: oiio.ImageInput) -> list[int]:
    """Numbers of the pages of a TIFF or parts of an EXR, without masks and smaller copies; [0] for other kinds."""
    if file.format_name() not in _STACKS:
        return [0]
    pages, number = [], 0
    while file.seek_subimage(number, 0):
        if not file.spec().get_int_attribute("tiff:subfiletype") & (_REDUCED | _MASK):
            pages.append(number)
        number += 1
    file.seek_subimage(0, 0)
    file.geterror()  # of the picture after the last
    return pages or [0]


def count_frames(path: Path, kind: str) -> int:
    """The frames of an animation in GIF, WebP or PNG, by the file's structure alone.

    1 for other kinds, and for a file that is cut short. kind: OpenImageIO's name of the format.
    """
    with path.open("rb") as file:
        try:
            if kind == "gif":
                return max(1, sum(1 for _ in _gif_images(file)))
            if kind == "webp":
                return max(1, sum(name == b"ANMF" for name, _ in webp_chunks(file)))
            if kind == "png":
                return _png_frames(file)
        except (struct.error, IndexError):
            pass
    return 1


def _png_frames(file: BinaryIO) -> int:
    """By the chunk acTL, which stands in front of the pixels."""
    for kind, start, _ in png.chunks(file):
        if kind == "acTL":
            file.seek(start)
            return max(1, int(struct.unpack(">I", file.read(4))[0]))
        if kind == "IDAT":
            break
    return 1


def _gif_images(file: BinaryIO) -> Iterator[None]:
    """One for each image descriptor (GIF89a, section 20)."""
    _skip_gif_palette(file, file.read(13)[10])
    while (introducer := file.read(1)) in (_GIF_IMAGE, _GIF_EXTENSION):
        if introducer == _GIF_IMAGE:
            _skip_gif_palette(file, file.read(9)[8])
            yield
        file.seek(1, 1)  # the size of LZW's codes, or the extension's label
        while (size := file.read(1)) not in (b"", b"\0"):
            file.seek(size[0], 1)


def _skip_gif_palette(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << 1 + (flags & 7), 1)
