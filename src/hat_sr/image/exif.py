"""EXIF and XMP blocks, changed in place so that every tag nobody understands, MakerNote included, stays as it was.

An EXIF block is a small TIFF file (EXIF 2.32, §4.5): a header, then directories of 12-byte entries. `IFD0` describes
the image, its successor `IFD1` the thumbnail, and `IFD0` points at a directory of its own for the camera's tags.
Offsets count from the start of the block, so nothing here moves a byte.
"""

import re
import struct
from dataclasses import dataclass

_ORIENTATION = 0x0112
_EXIF_IFD = 0x8769
_WIDTH_TAGS = (0x0100, 0xA002)  # ImageWidth, PixelXDimension
_HEIGHT_TAGS = (0x0101, 0xA003)  # ImageLength, PixelYDimension
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_STRIP_OFFSETS, _STRIP_BYTE_COUNTS = 0x0111, 0x0117
_SHORT, _LONG = 3, 4


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One directory entry: `at` is where it starts in the block, `value` its first number (SHORT and LONG only)."""

    tag: int
    at: int
    count: int
    value: int


def upright(block: bytes) -> bytes:
    """The EXIF block with orientation 1 and without its thumbnail: what belongs to pixels already turned.

    Raises ValueError if it is not an EXIF block.
    """
    out = bytearray(block)
    order, entries, next_at = _first_directory(out)
    for entry in entries:
        if entry.tag == _ORIENTATION:
            _set(out, order, entry, 1)
    thumbnail = struct.unpack_from(order + "I", out, next_at)[0]
    if thumbnail:
        struct.pack_into(order + "I", out, next_at, 0)
        _erase_thumbnail(out, order, thumbnail)
    return bytes(out)


def with_size(block: bytes, width: int, height: int) -> bytes:
    """The EXIF block with its size tags, where it has them, set to `width` and `height` in pixels.

    Raises ValueError if it is not an EXIF block.
    """
    out = bytearray(block)
    order, entries, _ = _first_directory(out)
    for entry in list(entries):
        if entry.tag == _EXIF_IFD:
            entries += _directory(out, order, entry.value)[0]
    for entry in entries:
        if entry.tag in _WIDTH_TAGS:
            _set(out, order, entry, width)
        elif entry.tag in _HEIGHT_TAGS:
            _set(out, order, entry, height)
    return bytes(out)


def upright_xmp(packet: bytes) -> bytes:
    """The XMP packet with `tiff:Orientation` 1."""
    return _set_xmp(packet, b"tiff:Orientation", 1)


def xmp_with_size(packet: bytes, width: int, height: int) -> bytes:
    """The XMP packet with its size properties, where it has them, set to `width` and `height` in pixels."""
    for name, value in (
        (b"tiff:ImageWidth", width),
        (b"tiff:ImageLength", height),
        (b"exif:PixelXDimension", width),
        (b"exif:PixelYDimension", height),
    ):
        packet = _set_xmp(packet, name, value)
    return packet


def _set_xmp(packet: bytes, name: bytes, value: int) -> bytes:
    # A property is an attribute, name="6", or an element, <name>6</name>.
    pattern = re.compile(rb"(\b" + name + rb"(?:\s*=\s*[\"']|\s*>))\s*\d+")
    return pattern.sub(lambda match: match[1] + str(value).encode(), packet)


def _first_directory(block: bytearray) -> tuple[str, list[_Entry], int]:
    """Byte order for `struct`, the entries of IFD0, and where the offset of the next directory stands."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None or len(block) < 8:
        raise ValueError("it does not start like an EXIF block")
    return order, *_directory(block, order, struct.unpack_from(order + "I", block, 4)[0])


def _directory(block: bytearray, order: str, start: int) -> tuple[list[_Entry], int]:
    try:
        (count,) = struct.unpack_from(order + "H", block, start)
        entries = [_entry(block, order, start + 2 + 12 * i) for i in range(count)]
        next_at = start + 2 + 12 * count
        struct.unpack_from(order + "I", block, next_at)
    except struct.error as error:
        raise ValueError("one of its directories points outside it") from error
    return entries, next_at


def _entry(block: bytearray, order: str, at: int) -> _Entry:
    tag, kind, count = struct.unpack_from(order + "HHI", block, at)
    (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), block, at + 8)
    return _Entry(tag=tag, at=at, count=count, value=value)


def _set(block: bytearray, order: str, entry: _Entry, value: int) -> None:
    # LONG holds any size; orientation is SHORT by the standard, and readers are strict about it.
    if value < 1 << 16:
        struct.pack_into(order + "HIHH", block, entry.at + 2, _SHORT, 1, value, 0)
    else:
        struct.pack_into(order + "HII", block, entry.at + 2, _LONG, 1, value)


def _erase_thumbnail(block: bytearray, order: str, start: int) -> None:
    """Overwrite the picture that IFD1 describes, and drop its bytes where they end the block, as they usually do."""
    try:
        entries, _ = _directory(block, order, start)
    except ValueError:  # already unlinked, and there is no picture to find
        return
    # A thumbnail in several strips is not found this way; no camera was seen to write one.
    value = {entry.tag: entry.value for entry in entries if entry.count == 1}
    for offset_tag, length_tag in ((_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH), (_STRIP_OFFSETS, _STRIP_BYTE_COUNTS)):
        first, length = value.get(offset_tag, 0), value.get(length_tag, 0)
        end = min(first + length, len(block))
        if 8 <= first < end:
            block[first:end] = bytes(end - first)
            if end == len(block):
                del block[first:]
