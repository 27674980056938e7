"""The kinds of image file that are taken from strangers, told by how they begin: a name says nothing."""

import re
from pathlib import Path

from hat_sr.errors import ImageError
from hat_sr.image.formats import WRITABLE_SUFFIXES
from hat_sr.serve.settings import RefusedError

HEAD_BYTES = 12
"""How much of a file `kind_of` looks at."""

_BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),  # BigTIFF
    (b"MM\0+", ".tif"),
    (b"BM", ".bmp"),
    (b"v/1\x01", ".exr"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
)
MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".exr": "image/x-exr",
}
"""Of the kinds that are written, by the suffix that results have here."""

_MOST_SCANS = 100
"""Of a JPEG: each goes over the whole picture, and takes a few bytes of the file. Programs write about ten."""
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
_MARKER_IN_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")

_ACCEPTED = "JPEG, PNG, TIFF, WebP, BMP, EXR and GIF"


def kind_of(head: bytes) -> str:
    """The suffix of files that begin with these bytes. Raises RefusedError (415) if it is no kind that is taken."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    for beginning, suffix in _BEGINNINGS:
        if head.startswith(beginning):
            return suffix
    what = "the file is empty" if not head else "the file is no image of a kind that is taken here"
    raise RefusedError(415, f"{what}: {_ACCEPTED} are accepted")


def kind_of_result(wanted: str | None, source: str) -> str:
    """The suffix of a result: of the format `wanted`, or of the `source`'s, .png where such files are not written.

    Raises RefusedError (415) for a format that is not written.
    """
    if not wanted:
        return source if source in WRITABLE_SUFFIXES else ".png"
    suffix = "." + wanted.lower().removeprefix(".")
    suffix = {".jpeg": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)
    if suffix not in MEDIA_TYPES:
        known = ", ".join(name.removeprefix(".") for name in MEDIA_TYPES)
        raise RefusedError(415, f"format {wanted!r} is not written here: {known} are accepted")
    return suffix


def check_scans(source: Path) -> None:
    """Raise ImageError for a JPEG of so many scans that decoding it would take far longer than its size suggests."""
    data = source.read_bytes()
    position, num_scans = 2, 0
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            return
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker == _START_OF_SCAN:
            num_scans += 1
            if num_scans > _MOST_SCANS:
                raise ImageError(f"{source}: a JPEG of more than {_MOST_SCANS} scans: save it anew and try again")
            found = _MARKER_IN_SCAN.search(data, position)
            position = len(data) if found is None else found.start()
