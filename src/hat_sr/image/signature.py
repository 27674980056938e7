"""Which kind of file it is, by how it begins; why one cannot be read."""

from pathlib import Path

_HEAD_BYTES = 512
_CONVERT = "convert it to PNG, TIFF or JPEG first"
_RAW = f"a camera's raw file, which is not read: {_CONVERT}, with a raw developer"

_UNSUPPORTED = ("not configured", "not implemented")
"""What libtiff says of a compression that it was built without."""
_TIFF_COMPRESSIONS = {
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "JPEG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_READ = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
    (b"v/1\x01", "openexr"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
)
"""How files begin that are read; names as in `hat_sr.image.formats`."""
_BEGINNINGS = (
    (b"%PDF", f"a PDF document: {_CONVERT}"),
    (b"%!PS", f"a PostScript document: {_CONVERT}"),
    (b"\xc5\xd0\xd3\xc6", f"a PostScript document: {_CONVERT}"),
    (b"AT&TFORM", f"a DjVu document: {_CONVERT}"),
    (b"gimp xcf", f"a GIMP project, which is not read: {_CONVERT}"),
    (b"qoif", f"a QOI image, which is not read: {_CONVERT}"),
    (b"BPG\xfb", f"a BPG image, which is not read: {_CONVERT}"),
    (b"FLIF", f"a FLIF image, which is not read: {_CONVERT}"),
    (b"II\xbc\x01", f"a JPEG XR image, which is not read: {_CONVERT}"),
    (b"\xff\xd8\xff\xf7", f"a JPEG-LS image, which is not read: {_CONVERT}"),
    (b"\xff\x0a", f"a JPEG XL image that cannot be read here: {_CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"a JPEG XL image that cannot be read here: {_CONVERT}"),
    (b"\0\0\0\x0cjP  ", f"a JPEG 2000 image that cannot be read here: {_CONVERT}"),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIU\0", _RAW),
    (b"II\x1a\0\0\0HEAPCCDR", _RAW),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM): save its frames as images first"),
    (b"PK\x03\x04", "a ZIP archive, or a document packed as one: unpack it first"),
    (b"\x1f\x8b", "packed by gzip: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"7z\xbc\xaf'\x1c", "a 7z archive: unpack it first"),
    (b"\xfd7zXZ", "packed by xz: unpack it first"),
    (b"version https://git-lfs", "a pointer of Git LFS to an image, which git lfs pull puts in its place"),
)
_BRANDS = (
    ((b"avif", b"avis"), f"an AVIF image, which is not read: {_CONVERT}"),
    (
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        f"a HEIC image, which is not read: {_CONVERT}",
    ),
    ((b"crx ",), _RAW),
)
"""Of ISO media files (ISO/IEC 14496-12): brands in their first box."""
_TEXT_BYTES = bytes({*range(0x20, 0x7F), *b"\t\n\r\f", *range(0x80, 0x100)})


HEAD_BYTES = 12
"""How much of a file `kind_of` looks at."""


def kind_of(head: bytes) -> str | None:
    """The kind of file that begins with these bytes: jpeg, png, webp, tiff, openexr, bmp or gif; else None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for beginning, kind in _READ if head.startswith(beginning)), None)


def why_not_opened(path: Path, reason: str) -> str:
    """A sentence that says why OpenImageIO, with the message `reason`, does not open the file."""
    what = _what_it_is(path)
    if what is not None:
        return f"this is {what}"
    if not reason or "format reader" in reason or "magic number" in reason or reason.startswith("Not a "):
        return "not a kind of image that is read here, or damaged at its beginning: convert it to PNG, TIFF or JPEG"
    return f"damaged, cut short, or of a variant that is not read: {reason}"


def is_unsupported(reason: str) -> bool:
    """True if OpenImageIO's message means a kind of file that it cannot read, not a damaged one."""
    return any(words in reason for words in _UNSUPPORTED)


def compression(code: int) -> str:
    """The name of a TIFF compression, by its number."""
    return _TIFF_COMPRESSIONS.get(code, f"scheme {code}")


def _what_it_is(path: Path) -> str | None:
    """A phrase that says what the file is, and what to do; None if its beginning is of no kind known here."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip(b"\0"):
        return "nothing but zeros, at least at its beginning: its content was lost, so fetch it again"
    if head[4:8] == b"ftyp":
        return _of_iso_media(head)
    if head[:4] == b"RIFF" and head[8:12] != b"WEBP":
        return "a video or sound file (RIFF): save its frames as images first"
    for beginning, phrase in _BEGINNINGS:
        if head.startswith(beginning):
            return phrase
    return _of_text(head)


def _of_iso_media(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    brands = {head[at : at + 4] for at in (8, *range(16, min(size, len(head)), 4))}
    for names, phrase in _BRANDS:
        if brands.intersection(names):
            return phrase
    return "a video (MP4 or QuickTime): save its frames as images first"


def _of_text(head: bytes) -> str | None:
    if head.translate(None, _TEXT_BYTES):
        return None
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in begins:
        return "an SVG drawing, which is not read: export it as PNG, at the size that is wanted"
    if begins.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (HTML), not an image: fetch the image itself"
    return "text, not an image"
