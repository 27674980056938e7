"""PNG files by their chunks (PNG 3rd edition, §11): EXIF, XMP, text and colour taken out, and put in."""

import shutil
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from hat_sr.image.pixels import Carried

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = ("tEXt", "zTXt", "iTXt")
COLOR = ("cICP", "iCCP", "sRGB", "gAMA", "cHRM", "mDCV", "cLLI")
_CARRIED = (*TEXT, "cICP", "sRGB", "gAMA", "cHRM", "mDCV", "cLLI", "tIME")
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "
_SRGB = {"gAMA": (45455,), "cHRM": (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), "cICP": ()}
_SRGB_CODES = bytes((1, 13))  # primaries and transfer function in cICP
_MAX_TEXT = 1 << 24  # bytes; `within_bounds` lets no longer ones through


class Chunk(NamedTuple):
    """One chunk: where its payload starts in the file, and how long that is."""

    kind: str
    start: int
    length: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks of the file, in order, until it ends."""
    at = len(SIGNATURE)
    while file.seek(at) == at and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield Chunk(kind.decode("latin1"), at + 8, length)
        at += 12 + length


def read(file: BinaryIO) -> tuple[bytes | None, bytes | None, Carried, tuple[str, ...]]:
    """EXIF block, XMP packet, the chunks of text and colour, but the profile, as they are, and names of what is lost.

    That is text in which one program keeps blocks of EXIF, XMP or IPTC in hexadecimal digits.
    """
    exif = xmp = None
    carried, lost = [], list[str]()
    for kind, start, length in chunks(file):
        if kind != "eXIf" and kind not in _CARRIED:
            continue
        file.seek(start)
        payload = file.read(length)
        if kind == "eXIf":
            exif = payload
        elif kind == "iTXt" and payload.startswith(_XMP_KEYWORD + b"\0"):
            xmp = content(kind, payload, _MAX_TEXT)
        elif kind in TEXT and payload.startswith(_RAW_PROFILE):
            lost.append(f"text {payload.partition(bytes(1))[0][:80].decode('latin1')!r}")
        else:
            carried.append((kind, payload))
    return exif, xmp, tuple(carried), tuple(dict.fromkeys(lost))


def rewrite(
    source: BinaryIO,
    target: BinaryIO,
    *,
    exif: bytes | None,
    xmp: bytes | None,
    icc: bytes | None,
    carried: Carried | None,
) -> None:
    """Copy the PNG with these blocks in place of its own.

    icc: is added if there is one. carried: chunks of text and colour; None keeps the file's own, with text
    that OpenImageIO wrote as UTF-8 converted to Latin-1.
    """
    target.write(SIGNATURE)
    for kind, start, length in chunks(source):
        source.seek(start)
        if kind in ("IDAT", "IEND"):
            break
        payload = source.read(length)
        if kind in ("eXIf", "oFFs") or payload.startswith(_XMP_KEYWORD + b"\0"):
            continue
        if kind == "tEXt" and carried is None:
            target.write(_chunk(*text_chunk(*payload.decode(errors="replace").split("\0", 1))))
        elif carried is None or kind not in (*TEXT, *COLOR, "tIME"):
            target.write(_chunk(kind, payload))
        if kind == "IHDR":
            _write_color(target, icc, carried or ())
    for kind, payload in carried or ():
        if kind not in COLOR:
            target.write(_chunk(kind, payload))
    if xmp is not None:
        target.write(_chunk("iTXt", _XMP_KEYWORD + bytes(5) + xmp))
    if exif is not None:
        target.write(_chunk("eXIf", exif))
    source.seek(start - 8)
    shutil.copyfileobj(source, target, 1 << 20)


def text_chunk(keyword: str, text: str) -> tuple[str, bytes]:
    """Kind and payload of a text chunk: tEXt if Latin-1 has all of its letters, else iTXt."""
    key = keyword.encode("latin1", "replace")
    try:
        return "tEXt", key + b"\0" + text.encode("latin1")
    except UnicodeEncodeError:
        return "iTXt", key + bytes(5) + text.encode()


def texts(carried: Carried) -> list[tuple[str, str]]:
    """Keyword and text of every chunk of text; of what cannot be read, nothing."""
    found = []
    for kind, payload in carried:
        text = content(kind, payload, _MAX_TEXT) if kind in TEXT else None
        if text is not None:
            keyword = payload.partition(b"\0")[0].decode("latin1")
            found.append((keyword, text.decode("utf-8" if kind == "iTXt" else "latin1", "replace")))
    return found


def lost_colors(carried: Carried) -> list[str]:
    """The chunks that say that the picture's colours are not those of sRGB."""
    found = dict(carried)
    if "sRGB" in found or found.get("cICP", b"")[:2] == _SRGB_CODES:
        return []
    return [name for name, usual in _SRGB.items() if name in found and not _is_near(found[name], usual)]


def _is_near(payload: bytes, usual: tuple[int, ...]) -> bool:
    values = struct.unpack(f">{len(payload) // 4}I", payload[: len(payload) // 4 * 4])
    return len(values) == len(usual) and all(abs(a - b) <= 100 for a, b in zip(values, usual, strict=True))


def content(kind: str, payload: bytes, limit: int) -> bytes | None:
    """The content of a chunk of text or iCCP, inflated, without its keyword and other fields; None if it is damaged.

    At most `limit` + 1 bytes are inflated.
    """
    rest = payload.partition(b"\0")[2]
    if kind == "tEXt":
        return rest
    is_compressed, fields = kind != "iTXt" or rest[:1] == b"\1", rest[1:]  # behind the method, of which there is one
    if kind == "iTXt":  # a flag before the method; behind it language and translated keyword
        _, _, fields = fields[1:].partition(b"\0")
        _, _, fields = fields.partition(b"\0")
    if not is_compressed:
        return fields
    try:
        return zlib.decompressobj().decompress(fields, limit + 1)
    except zlib.error:
        return None


def _write_color(target: BinaryIO, icc: bytes | None, carried: Carried) -> None:
    if icc is not None:
        target.write(_chunk("iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    for kind, payload in carried:
        if kind in COLOR and not (icc is not None and kind == "sRGB"):  # only one of the two is allowed
            target.write(_chunk(kind, payload))


def _chunk(kind: str, payload: bytes) -> bytes:
    tagged = kind.encode("latin1") + payload
    return struct.pack(">I", len(payload)) + tagged + struct.pack(">I", zlib.crc32(tagged))


END = _chunk("IEND", b"")
"""How every PNG file ends."""
