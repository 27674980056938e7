"""What files carry beside pixels, in blocks: taken out of one, put into another, byte for byte.

OpenImageIO reads EXIF and XMP into named attributes and writes new blocks from them, which loses rationals, ISO, user
comments and maker notes, writes none into WebP, and takes all text of PNG for UTF-8. So the blocks themselves are
carried over here.
"""

import logging
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hat_sr.files import replacing
from hat_sr.image import png, tiff
from hat_sr.image.geotiff import GEO_TAGS
from hat_sr.image.pixels import Carried
from hat_sr.image.signature import HEAD_BYTES, kind_of

logger = logging.getLogger(__name__)

JPEG_EXIF = b"Exif\0\0"
_JPEG_ICC = b"ICC_PROFILE\0"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_LONG_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404
_JPEG_SEGMENT_LIMIT = 65533  # the 16-bit length counts itself
_APP0, _APP1, _APP2, APP13, _SOS, _COM = 0xE0, 0xE1, 0xE2, 0xED, 0xDA, 0xFE
_XMP_TAG = 700


class Blocks(NamedTuple):
    """What a file carries beside pixels: an EXIF block from its TIFF header on, an XMP packet, `Carried` pieces.

    left: names of further content that is not read.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    carried: Carried = ()
    left: tuple[str, ...] = ()


class Segment(NamedTuple):
    """A segment of a JPEG file, and where it starts and ends there."""

    marker: int
    payload: bytes
    start: int
    end: int


def read_blocks(path: Path) -> Blocks:
    """What a JPEG, PNG, WebP or TIFF file carries in blocks.

    Other kinds of file give nothing, and so does a damaged one: reading its pixels will say what is wrong.
    """
    with path.open("rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
        try:
            if kind == "jpeg":
                return _read_jpeg(file)
            if kind == "png":
                return Blocks(*png.read(file))
            if kind == "webp":
                found = {name: file.read(length) for name, length in webp_chunks(file) if name in (b"EXIF", b"XMP ")}
                exif = found.get(b"EXIF")
                return Blocks(exif and exif.removeprefix(JPEG_EXIF), found.get(b"XMP "))
            if kind == "tiff":
                tags = tiff.read_tags(path, {_XMP_TAG: tiff.BYTE, **GEO_TAGS})
                xmp = tags.pop(_XMP_TAG, None)
                return Blocks(None, xmp, tuple((str(tag), data) for tag, data in tags.items()))
        except (struct.error, ValueError):  # lengths that cannot be
            pass
        return Blocks()


def write_blocks(path: Path, blocks: Blocks, *, png_icc: bytes | None = None, replace_carried: bool = True) -> None:
    """Put EXIF, XMP and what is carried into the JPEG, PNG, WebP or TIFF file, in place of what it has.

    A TIFF file takes no EXIF block, and keeps its tags. A PNG without a colour profile takes `png_icc`, too: libpng
    fails on profiles with small faults that others keep. replace_carried: else text and the like stay as they are in
    the file. A block too large for JPEG's 64 KB segments is left out with a warning. Raises ValueError for other kinds
    of file.
    """
    with path.open("rb") as source:
        kind = kind_of(source.read(HEAD_BYTES))
        if kind == "tiff":
            tags = {int(name): (GEO_TAGS[int(name)], data) for name, data in blocks.carried}
            if blocks.xmp is not None:
                tags[_XMP_TAG] = (tiff.BYTE, blocks.xmp)
            if tags:
                tiff.add_tags(path, tags)
            return
        carried = blocks.carried if replace_carried else None
        with replacing(path) as part, part.open("wb") as target:
            if kind == "jpeg":
                _rewrite_jpeg(source, target, blocks, carried)
            elif kind == "png":
                png.rewrite(source, target, exif=blocks.exif, xmp=blocks.xmp, icc=png_icc, carried=carried)
            elif kind == "webp":
                _rewrite_webp(source, target, blocks.exif, blocks.xmp)
            else:
                raise ValueError(f"{path.name} is not JPEG, PNG, WebP or TIFF")


def is_whole(path: Path) -> bool:
    """Whether a JPEG, PNG or WebP file, as written here, ends where it should. Other kinds count as whole."""
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        size = file.seek(0, 2)
        file.seek(max(0, size - 12))
        end = file.read()
    kind = kind_of(start)
    if kind == "jpeg":
        return end.endswith(b"\xff\xd9")
    if kind == "png":
        return end == png.END
    if kind == "webp":
        return bool(struct.unpack("<I", start[4:8])[0] + 8 == size)
    return size > 0


def is_lossy(path: Path) -> bool:
    """Whether the file is JPEG, or WebP with its picture compressed as a video frame (VP8), not without loss (VP8L).

    A frame of an animation that begins with an alpha channel (ALPH) has such a picture after it.
    """
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        if start[:4] != b"RIFF":
            return start[:2] == b"\xff\xd8"
        chunks = ((file.read(20)[16:] if kind == b"ANMF" else kind) for kind, _ in webp_chunks(file))
        return next((kind != b"VP8L" for kind in chunks if kind in (b"VP8 ", b"VP8L", b"ALPH")), False)


def bmp_resolution(path: Path) -> tuple[float, float] | None:
    """Pixels per meter, across and down, if it is a BMP file that says so."""
    with path.open("rb") as file:
        start = file.read(46)
    if kind_of(start) != "bmp" or len(start) < 46 or struct.unpack_from("<I", start, 14)[0] < 40:
        return None
    x, y = struct.unpack_from("<2i", start, 38)
    return (x, y) if x > 0 and y > 0 else None


def set_bmp_resolution(path: Path, x: float, y: float) -> None:
    """Write pixels per meter into a BMP file of ours."""
    with path.open("r+b") as file:
        file.seek(38)
        file.write(struct.pack("<2i", *(min(round(value), (1 << 31) - 1) for value in (x, y))))


def segments(file: BinaryIO) -> Iterator[Segment]:
    """The segments of a JPEG file before the compressed data; the file is left standing at the SOS marker."""
    at = 2
    while file.seek(at) == at and file.read(1) == b"\xff":
        marker = file.read(1)
        while marker == b"\xff":  # fill bytes may stand before any marker
            marker = file.read(1)
        if not marker or marker[0] == _SOS:
            break
        (length,) = struct.unpack(">H", file.read(2))
        yield Segment(marker[0], file.read(length - 2), at, end := file.tell())
        at = end
    file.seek(at)


def announces_gain_map(segment: Segment) -> bool:
    """Whether the segment may tell of a gain map: without such it reads as the plain picture that it also is."""
    return (segment.marker == _APP1 and segment.payload.startswith((_JPEG_XMP, _JPEG_LONG_XMP))) or (
        segment.marker == _APP2 and not segment.payload.startswith(_JPEG_ICC)
    )


def _read_jpeg(file: BinaryIO) -> Blocks:
    exif = xmp = None
    carried, left = [], []
    for marker, payload, _, _ in segments(file):
        if marker == _APP1 and payload.startswith(JPEG_EXIF):
            exif = exif or payload[len(JPEG_EXIF) :]
        elif marker == _APP1 and payload.startswith(_JPEG_XMP):
            xmp = xmp or payload[len(_JPEG_XMP) :]
        elif marker == _APP1 and payload.startswith(_JPEG_LONG_XMP):
            left.append("extended XMP")
        elif marker == _APP2 and payload.startswith(b"MPF\0"):
            left.append("more pictures (MPF)")
        elif marker == APP13 and (iptc := _iptc(payload)) is not None:
            carried.append(("APP13", iptc))
        elif marker == _COM:
            carried.append(("COM", payload))
    file.seek(max(0, file.seek(0, 2) - 4))
    if file.read() == b"SEFT":  # how Samsung ends what its cameras append
        left.append("data of the camera's maker after the picture")
    return Blocks(exif, xmp, tuple(carried), tuple(dict.fromkeys(left)))


def _iptc(payload: bytes) -> bytes | None:
    """The segment with nothing but the IPTC records of a Photoshop segment."""
    at = len(_PHOTOSHOP)
    while payload.startswith(_PHOTOSHOP) and payload[at : at + 4] == b"8BIM":
        number, name = struct.unpack_from(">HB", payload, at + 4)
        size_at = at + 6 + (name + 2) // 2 * 2  # the name's length byte and it, padded to an even number
        (size,) = struct.unpack_from(">I", payload, size_at)
        at = size_at + 4 + (size + 1) // 2 * 2
        if number == _IPTC_RESOURCE and at <= len(payload) + 1:  # the last byte may lack, which makes it even
            return _PHOTOSHOP + b"8BIM\x04\x04\0\0" + payload[size_at:at].ljust(at - size_at, b"\0")
    return None


def _rewrite_jpeg(source: BinaryIO, target: BinaryIO, blocks: Blocks, carried: Carried | None) -> None:
    replaced = (_COM, APP13) if carried is not None else ()
    kept = [
        (segment.marker, segment.payload)
        for segment in segments(source)
        if segment.marker not in replaced
        and not (segment.marker == _APP1 and segment.payload.startswith((JPEG_EXIF, _JPEG_XMP)))
    ]
    ours = []
    for name, prefix, block in (("EXIF", JPEG_EXIF, blocks.exif), ("XMP", _JPEG_XMP, blocks.xmp)):
        if block is None:
            continue
        if len(prefix + block) > _JPEG_SEGMENT_LIMIT:
            logger.warning("the %s block (%d bytes) is too large for JPEG and is left out", name, len(block))
            continue
        ours.append((_APP1, prefix + block))
    ours += [({"COM": _COM, "APP13": APP13}[name], payload) for name, payload in carried or ()]
    # EXIF asks to stand first; readers in the field accept it after the JFIF segment, which JFIF wants first.
    head = 1 if kept and kept[0][0] == _APP0 else 0
    target.write(b"\xff\xd8")
    for marker, payload in kept[:head] + ours + kept[head:]:
        target.write(struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload)
    shutil.copyfileobj(source, target)


def webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk, with the file standing at its payload."""
    at = 12
    while file.seek(at) == at and len(head := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        yield kind, length
        at += 8 + length + length % 2


def _rewrite_webp(source: BinaryIO, target: BinaryIO, exif: bytes | None, xmp: bytes | None) -> None:
    chunks = [(kind, source.read(n)) for kind, n in webp_chunks(source) if kind not in (b"EXIF", b"XMP ")]
    if chunks[0][0] != b"VP8X":
        chunks.insert(0, (b"VP8X", _webp_header(*chunks[0])))
    header = bytearray(chunks[0][1])
    header[0] = (header[0] & ~0x0C) | (0x08 if exif is not None else 0) | (0x04 if xmp is not None else 0)
    chunks[0] = (b"VP8X", bytes(header))
    if exif is not None:
        chunks.append((b"EXIF", exif))
    if xmp is not None:
        chunks.append((b"XMP ", xmp))
    body = b"".join(
        struct.pack("<4sI", kind, len(payload)) + payload + bytes(len(payload) % 2) for kind, payload in chunks
    )
    target.write(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)


def _webp_header(kind: bytes, payload: bytes) -> bytes:
    """The VP8X payload of a picture that has none yet: flags, three bytes of nothing, width − 1 and height − 1."""
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", payload, 1)
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bits >> 28 & 1
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", payload, 6))
        alpha = 0
    return struct.pack("<I", 0x10 * alpha) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
