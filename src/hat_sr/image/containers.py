"""EXIF and XMP blocks as they lie in JPEG, PNG and WebP files: taken out of one, put into another, byte for byte.

OpenImageIO reads these blocks into named attributes and writes a new block from them, which loses rationals, ISO, user
comments and maker notes, and writes none into WebP. So the blocks themselves are carried over here.
"""

import logging
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hat_sr.files import replacing

logger = logging.getLogger(__name__)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_PNG_KEYWORD = b"XML:com.adobe.xmp"
_JPEG_EXIF = b"Exif\0\0"
_JPEG_ICC = b"ICC_PROFILE\0"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_SEGMENT_LIMIT = 65533  # the 16-bit length counts itself
_APP0, _APP1, _APP2, _SOS = 0xE0, 0xE1, 0xE2, 0xDA


def read_blocks(path: Path) -> tuple[bytes | None, bytes | None]:
    """The EXIF block (from its TIFF header on) and the XMP packet of a JPEG, PNG or WebP file, None for what it lacks.

    Other kinds of file give (None, None), and so does a damaged one: reading its pixels will say what is wrong.
    """
    with path.open("rb") as file:
        try:
            return _read_blocks(file)
        except (struct.error, ValueError):  # lengths that cannot be
            return None, None


def write_blocks(path: Path, *, exif: bytes | None, xmp: bytes | None, png_icc: bytes | None = None) -> None:
    """Put the EXIF block and the XMP packet into the JPEG, PNG or WebP file, in place of any it has.

    A PNG without a colour profile takes `png_icc`, too: libpng fails on profiles with small faults that others keep.

    A block too large for JPEG's 64 KB segments is left out with a warning. Raises ValueError for other kinds of file.
    """
    with replacing(path) as part, path.open("rb") as source, part.open("wb") as target:
        start = source.read(12)
        source.seek(0)
        if start[:2] == b"\xff\xd8":
            _rewrite_jpeg(source, target, exif, xmp)
        elif start[:8] == _PNG_SIGNATURE:
            _rewrite_png(source, target, exif, xmp, png_icc)
        elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
            _rewrite_webp(source, target, exif, xmp)
        else:
            raise ValueError(f"{path.name} is not JPEG, PNG or WebP")


def is_whole(path: Path) -> bool:
    """Whether a JPEG, PNG or WebP file, as written here, ends where it should. Other kinds count as whole."""
    with path.open("rb") as file:
        start = file.read(12)
        size = file.seek(0, 2)
        file.seek(max(0, size - 12))
        end = file.read()
    if start[:2] == b"\xff\xd8":
        return end.endswith(b"\xff\xd9")
    if start[:8] == _PNG_SIGNATURE:
        return end == _png_chunk(b"IEND", b"")
    if start[:4] == b"RIFF":
        return bool(struct.unpack("<I", start[4:8])[0] + 8 == size)
    return size > 0


def is_lossy(path: Path) -> bool:
    """Whether the file is JPEG, or WebP with its picture compressed as a video frame (VP8), not without loss (VP8L).

    A frame of an animation that begins with an alpha channel (ALPH) has such a picture after it.
    """
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] != b"RIFF":
            return start[:2] == b"\xff\xd8"
        chunks = ((payload[16:20] if kind == b"ANMF" else kind) for kind, payload in _webp_chunks(file))
        return next((kind != b"VP8L" for kind in chunks if kind in (b"VP8 ", b"VP8L", b"ALPH")), False)


def without_gain_map(source: Path, target: Path) -> None:
    """Copy a JPEG without the segments that announce a gain map, so that it reads as the plain picture it also is."""
    with source.open("rb") as reader, target.open("wb") as writer:
        reader.seek(2)
        writer.write(b"\xff\xd8")
        for marker, payload in _jpeg_segments(reader):
            announces = (marker == _APP1 and payload.startswith(_JPEG_XMP)) or (
                marker == _APP2 and not payload.startswith(_JPEG_ICC)
            )
            if not announces:
                writer.write(_jpeg_segment(marker, payload))
        shutil.copyfileobj(reader, writer)


def _read_blocks(file: BinaryIO) -> tuple[bytes | None, bytes | None]:
    exif = xmp = None
    start = file.read(12)
    if start[:2] == b"\xff\xd8":
        file.seek(2)
        for marker, payload in _jpeg_segments(file):
            if marker == _APP1 and payload.startswith(_JPEG_EXIF):
                exif = exif or payload[len(_JPEG_EXIF) :]
            elif marker == _APP1 and payload.startswith(_JPEG_XMP):
                xmp = xmp or payload[len(_JPEG_XMP) :]
    elif start[:8] == _PNG_SIGNATURE:
        file.seek(8)
        for kind, payload in _png_chunks(file):
            if kind == b"eXIf":
                exif = payload
            elif kind == b"iTXt" and payload.startswith(_XMP_PNG_KEYWORD + b"\0"):
                xmp = _png_text(payload)
    elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
        for kind, payload in _webp_chunks(file):
            if kind == b"EXIF":
                exif = payload.removeprefix(_JPEG_EXIF)
            elif kind == b"XMP ":
                xmp = payload
    return exif, xmp


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The segments before the compressed data; the file is left standing at the SOS marker."""
    while True:
        at = file.tell()
        prefix = file.read(1)
        if prefix != b"\xff":
            file.seek(at)
            return
        marker = file.read(1)[0:1]
        while marker == b"\xff":  # fill bytes may stand before any marker
            marker = file.read(1)
        if not marker or marker[0] == _SOS:
            file.seek(at)
            return
        (length,) = struct.unpack(">H", file.read(2))
        yield marker[0], file.read(length - 2)


def _jpeg_segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def _rewrite_jpeg(source: BinaryIO, target: BinaryIO, exif: bytes | None, xmp: bytes | None) -> None:
    source.seek(2)
    segments = [
        (marker, payload)
        for marker, payload in _jpeg_segments(source)
        if not (marker == _APP1 and payload.startswith((_JPEG_EXIF, _JPEG_XMP)))
    ]
    ours = []
    for name, prefix, block in (("EXIF", _JPEG_EXIF, exif), ("XMP", _JPEG_XMP, xmp)):
        if block is None:
            continue
        if len(prefix + block) > _JPEG_SEGMENT_LIMIT:
            logger.warning("the %s block (%d bytes) is too large for JPEG and is left out", name, len(block))
            continue
        ours.append((_APP1, prefix + block))
    # EXIF asks to stand first; readers in the field accept it after the JFIF segment, which JFIF wants first.
    head = 1 if segments and segments[0][0] == _APP0 else 0
    target.write(b"\xff\xd8")
    for marker, payload in segments[:head] + ours + segments[head:]:
        target.write(_jpeg_segment(marker, payload))
    shutil.copyfileobj(source, target)


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG from where the file stands; the payload of image data is passed over, and given as empty."""
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"fdAT"):
            file.seek(length, 1)
            payload = b""
        else:
            payload = file.read(length)
        file.seek(4, 1)  # the checksum
        yield kind, payload


def _png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _png_text(payload: bytes) -> bytes | None:
    """The text of an iTXt chunk: keyword, compression flag and method, language, translated keyword, text."""
    keyword, _, rest = payload.partition(b"\0")
    del keyword
    compressed, fields = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    if len(fields) != 3:
        return None
    if not compressed:
        return fields[2]
    try:
        return zlib.decompress(fields[2])
    except zlib.error:
        return None


def _rewrite_png(source: BinaryIO, target: BinaryIO, exif: bytes | None, xmp: bytes | None, icc: bytes | None) -> None:
    source.seek(8)
    target.write(_PNG_SIGNATURE)
    while True:
        at = source.tell()
        kind, payload = next(_png_chunks(source))
        if kind in (b"IDAT", b"IEND"):
            source.seek(at)
            break
        if kind != b"eXIf" and not payload.startswith(_XMP_PNG_KEYWORD):
            target.write(_png_chunk(kind, payload))
        if kind == b"IHDR" and icc is not None:
            target.write(_png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if xmp is not None:
        target.write(_png_chunk(b"iTXt", _XMP_PNG_KEYWORD + bytes(5) + xmp))
    if exif is not None:
        target.write(_png_chunk(b"eXIf", exif))
    shutil.copyfileobj(source, target)


def _webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        yield kind, file.read(length)
        file.seek(length % 2, 1)


def _rewrite_webp(source: BinaryIO, target: BinaryIO, exif: bytes | None, xmp: bytes | None) -> None:
    chunks = [(kind, payload) for kind, payload in _webp_chunks(source) if kind not in (b"EXIF", b"XMP ")]
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
