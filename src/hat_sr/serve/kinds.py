"""The kinds of image file that are taken from strangers, told by how they begin: a name says nothing."""

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
