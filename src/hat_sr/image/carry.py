"""Metadata adapted to what is written: another size of picture, another kind of file."""

import logging
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from hat_sr.image import exif, geotiff, png, xmp
from hat_sr.image.exif import Scaling
from hat_sr.image.pixels import Metadata

logger = logging.getLogger(__name__)

RESOLUTION = ("XResolution", "YResolution", "ResolutionUnit")
_TAGS_OF_TIFF = frozenset(("Author", "Copyright", "Description", "Software", "Title"))
"""Keywords of texts for which TIFF has tags."""
_HOMES = {"text": "png", "color": "png", "comment": "jpeg", "iptc": "jpeg", "geo": "tiff"}
"""The kind of file that holds each group of `Metadata.carried` as it is."""
_ROOM_IN_JPEG = 64_000
"""Bytes of an EXIF block that texts may make of it."""


def scaled(metadata: Metadata, height: int, width: int, *, keep_dpi: bool, name: object) -> Metadata:
    """The metadata for a picture of that size. keep_dpi: its resolution in print stays, so that it prints larger."""
    old = metadata.size or (height, width)
    scaling = Scaling(
        width=width, height=height, x=Fraction(width, old[1]), y=Fraction(height, old[0]), keep_dpi=keep_dpi
    )
    return replace(
        metadata,
        exif=metadata.exif and mended(lambda block: exif.scaled(block, scaling), metadata.exif, name),
        xmp=metadata.xmp and xmp.scaled(metadata.xmp, scaling),
        carried=geotiff.scaled(metadata.carried, scaling),
        attributes=tuple((key, kind, _scaled(key, value, scaling)) for key, kind, value in metadata.attributes),
        size=(height, width),
    )


def _scaled(key: str, value: object, scaling: Scaling) -> object:
    sizes = {"Exif:PixelXDimension": scaling.width, "Exif:PixelYDimension": scaling.height}
    factors = dict(zip(RESOLUTION[:2], scaling.dpi, strict=True))
    factors |= {"Exif:FocalPlaneXResolution": scaling.x, "Exif:FocalPlaneYResolution": scaling.y}
    factors["PixelAspectRatio"] = scaling.dpi[1] / scaling.dpi[0]
    if key in factors and isinstance(value, int | float):
        return float(value * factors[key])
    return sizes.get(key, value)


def fitted(metadata: Metadata, kind: str, *, name: object) -> Metadata:
    """The metadata as that kind of file (OpenImageIO's name) can hold it. Warns of what it cannot.

    Texts of PNG go into the user comment of EXIF where there is none, comments of JPEG become texts of PNG.
    """
    pieces = {group: tuple(one for one in metadata.carried if _group(one[0]) == group) for group in _HOMES}
    carried = tuple(one for group, home in _HOMES.items() if home == kind for one in pieces[group])
    texts = [] if kind == "png" else png.texts(pieces["text"])
    texts += [] if kind == "jpeg" else [("Comment", _decoded(payload)) for _, payload in pieces["comment"]]
    block, left = metadata.exif, texts
    if kind == "png":
        carried, left = carried + tuple(png.text_chunk(*text) for text in texts), []
    elif kind in ("jpeg", "webp"):
        block, left = _with_texts(block, texts, kind)
    elif kind in ("tiff", "openexr"):  # as attributes
        left = [text for text in texts if kind == "tiff" and text[0] not in _TAGS_OF_TIFF]
    lost = [
        what
        for what, there, kinds in (
            ("EXIF", metadata.exif, ("bmp",)),
            ("XMP", metadata.xmp, ("bmp", "openexr")),
            ("IPTC", pieces["iptc"], ("bmp", "png", "webp")),
            ("GeoTIFF tags", pieces["geo"], ("bmp", "jpeg", "openexr", "png", "webp")),
        )
        if there and kind in kinds
    ]
    if kind != "png" and metadata.icc is None:
        lost += png.lost_colors(pieces["color"])
    lost += [f"text {keyword!r}" for keyword, _ in left]
    if lost:
        logger.warning("%s: dropped, for this kind of file cannot hold it: %s", name, ", ".join(lost))
    return replace(metadata, exif=block, carried=carried)


def mended(mend: Callable[[bytes], bytes], block: bytes, name: object) -> bytes | None:
    """The EXIF block changed; None, with a warning, if it is damaged."""
    try:
        return mend(block)
    except ValueError as error:
        logger.warning("%s: its EXIF block is damaged (%s) and is dropped", name, error)
        return None


def _group(piece: str) -> str:
    if piece in png.TEXT:
        return "text"
    return {"COM": "comment", "APP13": "iptc"}.get(piece, "geo" if piece.isdigit() else "color")


def _with_texts(
    block: bytes | None, texts: list[tuple[str, str]], kind: str
) -> tuple[bytes | None, list[tuple[str, str]]]:
    """The EXIF block with the texts, and what could not be put there."""
    if not texts:
        return block, []
    # One that pictures' generators write, and look for as it is; of others it must be said what they are.
    plain = len(texts) == 1 and texts[0][0] in ("parameters", "Comment")
    comment = texts[0][1] if plain else "\n".join(f"{keyword}: {text}" for keyword, text in texts)
    try:
        larger = exif.with_user_comment(block, comment)
    except ValueError:  # damaged, which is said elsewhere
        larger = None
    if larger is None or (kind == "jpeg" and len(larger) > _ROOM_IN_JPEG):
        return block, texts
    return larger, []


def _decoded(comment: bytes) -> str:
    """The text of a JPEG comment, whose encoding the standard leaves open."""
    try:
        return comment.decode().rstrip("\0")
    except UnicodeDecodeError:
        return comment.decode("latin1").rstrip("\0")
