"""EXIF blocks, changed in place so that every tag nobody understands, MakerNote included, stays as it was.

An EXIF block is a small TIFF file (EXIF 2.32, §4.5): `IFD0` describes the image, its successor `IFD1` the thumbnail,
and `IFD0` points at a directory of its own for the camera's tags.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction

from hat_sr.image.tiff import EXIF_IFD, LONG, RATIONAL, SHORT, UNDEFINED, Entry, Tags

_ORIENTATION = 0x0112
_WIDTH_TAGS = (0x0100, 0xA002)  # ImageWidth, PixelXDimension
_HEIGHT_TAGS = (0x0101, 0xA003)  # ImageLength, PixelYDimension
_RESOLUTION, _RESOLUTION_UNIT = (0x011A, 0x011B), 0x0128  # X, Y
_FOCAL_PLANE = (0xA20E, 0xA20F)  # pixels of the image for a length on the sensor
_SUBJECT = (0x9214, 0xA214)  # area, location: in pixels
_USER_COMMENT = 0x9286
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202
_STRIP_OFFSETS, _STRIP_BYTE_COUNTS = 0x0111, 0x0117
_NO_UNIT = 1
_EMPTY = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How much larger a picture became: its new sides in pixels, and the factors, for which a side may be unknown.

    keep_dpi: the picture's resolution in print is left as it was.
    """

    width: int
    height: int
    x: Fraction = Fraction(1)
    y: Fraction = Fraction(1)
    keep_dpi: bool = False

    @property
    def dpi(self) -> tuple[Fraction, Fraction]:
        """The factors of the resolution in print."""
        return (Fraction(1), Fraction(1)) if self.keep_dpi else (self.x, self.y)


def upright(block: bytes) -> bytes:
    """The EXIF block with orientation 1 and without its thumbnail: what belongs to pixels already turned.

    Raises ValueError if it is not an EXIF block.
    """
    out, tags = _opened(block)
    first = tags.first()
    orientation = first.find(_ORIENTATION)
    turned = tags.number(orientation) or 1
    if orientation is not None:
        _set(out, tags, orientation, 1)
    if 5 <= turned <= 8:
        entries = _entries(tags)
        for one, other in (_RESOLUTION, _FOCAL_PLANE):
            _swap(out, entries.get(one), entries.get(other))
    if 2 <= turned <= 8:
        for tag in _SUBJECT:  # places before turning
            _remove(out, tags, tag)
    thumbnail = tags.offset(first.next_at)
    if thumbnail:
        struct.pack_into(tags.order + "I", out, first.next_at, 0)
        _erase_thumbnail(out, tags, thumbnail)
    return bytes(out)


def scaled(block: bytes, scaling: Scaling) -> bytes:
    """The EXIF block with its values in pixels, and its resolution, updated for the larger picture.

    Raises ValueError if it is not an EXIF block.
    """
    out, tags = _opened(block)
    entries = _entries(tags)
    for names, value in ((_WIDTH_TAGS, scaling.width), (_HEIGHT_TAGS, scaling.height)):
        for entry in filter(None, map(entries.get, names)):
            _set(out, tags, entry, value)
    if tags.number(entries.get(_RESOLUTION_UNIT)) != _NO_UNIT:
        _scale_rationals(out, tags, entries, dict(zip(_RESOLUTION, scaling.dpi, strict=True)))
    _scale_rationals(out, tags, entries, dict(zip(_FOCAL_PLANE, (scaling.x, scaling.y), strict=True)))
    for entry in filter(None, map(entries.get, _SUBJECT)):
        if entry.kind == SHORT and 2 <= entry.num_values <= 4:
            factors = (scaling.x, scaling.y, scaling.x, scaling.y)
            values = [min(round(v * f), 65535) for v, f in zip(tags.values(entry), factors, strict=False)]
            struct.pack_into(f"{tags.order}{len(values)}H", out, entry.data_at, *values)
    return bytes(out)


def is_empty(block: bytes) -> bool:
    """Whether it has no entry at all, or is no EXIF block."""
    try:
        return not Tags(block).first().entries
    except ValueError:
        return True


def with_user_comment(block: bytes | None, text: str) -> bytes | None:
    """The EXIF block, or a new one, with the text as its UserComment; None if it has another one.

    Raises ValueError if it is not an EXIF block.
    """
    out, tags = _opened(block or _EMPTY)
    old = _entries(tags).get(_USER_COMMENT)
    if old is not None and tags.data(old)[8:].strip(b"\0 "):
        return None
    # Of the byte order in Unicode comments the standard says nothing; what reads them expects big-endian.
    comment = b"ASCII\0\0\0" + text.encode() if text.isascii() else b"UNICODE\0" + text.encode("utf-16-be", "replace")
    if tags.first().find(EXIF_IFD) is None:
        _extend(out, tags, tags.pointer_at, {EXIF_IFD: (LONG, bytes(4))})
    for entry in filter(None, [tags.first().find(EXIF_IFD)]):
        _extend(out, tags, entry.data_at, {_USER_COMMENT: (UNDEFINED, comment)})
    return bytes(out)


def with_resolution(x: float, y: float, unit: int) -> bytes:
    """A new EXIF block of a resolution alone. unit: 2 is inches, 3 centimetres."""
    out, tags = _opened(_EMPTY)
    values = {tag: (RATIONAL, _rational(tags, Fraction(value))) for tag, value in zip(_RESOLUTION, (x, y), strict=True)}
    _extend(out, tags, tags.pointer_at, {**values, _RESOLUTION_UNIT: (SHORT, tags.pack(SHORT, unit))})
    return bytes(out)


def _opened(block: bytes) -> tuple[bytearray, Tags]:
    """A copy to change, and access to it."""
    out = bytearray(block)
    tags = Tags(out)
    if tags.is_big:
        raise ValueError("it does not start like an EXIF block")
    return out, tags


def _entries(tags: Tags) -> dict[int, Entry]:
    """By tag, those of IFD0 and of the camera's directory. Raises ValueError if that is not whole."""
    found = {entry.tag: entry for entry in tags.first().entries}
    camera = tags.number(found.get(EXIF_IFD))
    return found if camera is None else found | {entry.tag: entry for entry in tags.directory(camera).entries}


def _set(out: bytearray, tags: Tags, entry: Entry, value: int) -> None:
    # LONG holds any size; orientation is SHORT by the standard, and readers are strict about it.
    if value < 1 << 16:
        struct.pack_into(tags.order + "HIHH", out, entry.at + 2, SHORT, 1, value, 0)
    else:
        struct.pack_into(tags.order + "HII", out, entry.at + 2, LONG, 1, value)


def _extend(out: bytearray, tags: Tags, pointer_at: int, new: dict[int, tuple[int, bytes]]) -> None:
    """Add entries to the directory whose offset stands there; nothing that is there moves."""
    tail, offset = tags.extended(pointer_at, new)
    out[pointer_at : pointer_at + 4] = offset
    out += tail


def _remove(out: bytearray, tags: Tags, tag: int) -> None:
    """Take an entry out of the camera's directory, in which those behind it move up."""
    camera = tags.number(tags.first().find(EXIF_IFD))
    if camera is None:
        return
    directory = tags.directory(camera)
    if (entry := directory.find(tag)) is not None:
        out[camera : directory.next_at + 4] = tags.without(directory, [entry])


def _scale_rationals(out: bytearray, tags: Tags, entries: dict[int, Entry], factors: dict[int, Fraction]) -> None:
    for tag, factor in factors.items():
        entry = entries.get(tag)
        if entry is None or entry.kind != RATIONAL or factor == 1:
            continue
        numerator, denominator = map(int, tags.values(entry))
        if denominator:
            out[entry.data_at : entry.data_at + 8] = _rational(tags, Fraction(numerator, denominator) * factor)


def _rational(tags: Tags, value: Fraction) -> bytes:
    if max(value.numerator, value.denominator) >= 1 << 32:
        value = value.limit_denominator(1 << 16)
    return tags.pack(LONG, min(value.numerator, (1 << 32) - 1), value.denominator)


def _swap(block: bytearray, one: Entry | None, other: Entry | None) -> None:
    """Let two rationals change places."""
    if one is not None and other is not None and one.kind == other.kind == RATIONAL:
        first, second = (slice(entry.data_at, entry.data_at + 8) for entry in (one, other))
        block[first], block[second] = block[second], block[first]


def _erase_thumbnail(block: bytearray, tags: Tags, start: int) -> None:
    """Overwrite the picture that IFD1 describes, and drop its bytes where they end the block, as they usually do."""
    try:
        entries = tags.directory(start).entries
    except ValueError:  # already unlinked, and there is no picture to find
        return
    # A thumbnail in several strips is not found this way; no camera was seen to write one.
    value = {entry.tag: tags.number(entry) or 0 for entry in entries if entry.num_values == 1}
    for offset_tag, length_tag in ((_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH), (_STRIP_OFFSETS, _STRIP_BYTE_COUNTS)):
        first, length = value.get(offset_tag, 0), value.get(length_tag, 0)
        end = min(first + length, len(block))
        if 8 <= first < end:
            block[first:end] = bytes(end - first)
            if end == len(block):
                del block[first:]
