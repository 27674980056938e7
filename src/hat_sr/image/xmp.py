"""XMP packets, changed in place: values in pixels, and pointers to other parts of the file."""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial

from hat_sr.image.exif import Scaling

_WIDTHS = ("tiff:ImageWidth", "exif:PixelXDimension")
_HEIGHTS = ("tiff:ImageLength", "exif:PixelYDimension")
_PANO_X = ("FullPanoWidthPixels", "CroppedAreaImageWidthPixels", "CroppedAreaLeftPixels")
_PANO_Y = ("FullPanoHeightPixels", "CroppedAreaImageHeightPixels", "CroppedAreaTopPixels")
_INSIDE_X = ("LargestValidInteriorRectLeft", "LargestValidInteriorRectWidth")
_INSIDE_Y = ("LargestValidInteriorRectTop", "LargestValidInteriorRectHeight")
_ABSENT = ("xmpNote:HasExtendedXMP", "Container:Directory", "hdrgm:Version", "HDRGainMap:HDRGainMapVersion")
_VIDEO = tuple(f"{prefix}:{name}" for prefix in ("GCamera", "Camera") for name in ("MotionPhoto", "MicroVideo"))


def upright(packet: bytes) -> bytes:
    """The XMP packet with `tiff:Orientation` 1."""
    return _replaced(packet, "tiff:Orientation", partial(_instead, "1"))


def scaled(packet: bytes, scaling: Scaling) -> bytes:
    """The XMP packet with its values in pixels, and its resolution, updated for the larger picture."""
    for names, size in ((_WIDTHS, scaling.width), (_HEIGHTS, scaling.height)):
        for name in names:
            packet = _replaced(packet, name, partial(_instead, str(size)))
    factors = dict.fromkeys([f"GPano:{name}" for name in _PANO_X + _INSIDE_X], scaling.x)
    factors |= dict.fromkeys([f"GPano:{name}" for name in _PANO_Y + _INSIDE_Y], scaling.y)
    factors |= {"exif:FocalPlaneXResolution": scaling.x, "exif:FocalPlaneYResolution": scaling.y}
    if _value(packet, "tiff:ResolutionUnit") != "1":
        factors |= dict(zip(("tiff:XResolution", "tiff:YResolution"), scaling.dpi, strict=True))
    if _value(packet, "stDim:unit") == "pixel":
        factors |= {"stDim:w": scaling.x, "stDim:h": scaling.y}
    if "0" in (_value(packet, "crs:CropUnit"), _value(packet, "crs:CropUnits")):  # pixels
        factors |= {"crs:CropWidth": scaling.x, "crs:CropHeight": scaling.y}
    for name, factor in factors.items():
        if factor != 1:
            packet = _replaced(packet, name, partial(_times, factor))
    return packet


def without_pointers(packet: bytes) -> tuple[bytes, bool]:
    """The XMP packet without what points to other parts of its file, such as a gain map, and whether there was any."""
    before = packet
    for absent in map(str.encode, _ABSENT):
        packet = re.sub(rb"\s%b\s*=\s*(?:\"[^\"]*\"|'[^']*')" % absent, b"", packet)
        packet = _without_elements(packet, absent)
    for name in _VIDEO:
        packet = _replaced(packet, name, partial(_instead, "0"))
    return packet, packet != before


def _without_elements(packet: bytes, name: bytes) -> bytes:
    """By hand, because a pattern would take quadratic time for elements that never end."""
    kept, at = [], 0
    while (start := packet.find(b"<" + name, at)) >= 0:
        end = packet.find(b">", start)
        if end > 0 and packet[end - 1 : end] != b"/":
            close = packet.find(b"</" + name, end)
            end = packet.find(b">", close) if close > 0 else -1
        if end < 0:
            break
        kept.append(packet[at:start])
        at = end + 1
    return b"".join(kept) + packet[at:]


def _pattern(name: str) -> re.Pattern[bytes]:
    # A property is an attribute, name="6", or an element, <name>6</name>; numbers may be fractions, 72/1.
    return re.compile(rb"(%b(?:\s*=\s*[\"']|\s*>)\s*)([\w.+/-]+)" % name.encode())


def _value(packet: bytes, name: str) -> str | None:
    found = _pattern(name).search(packet)
    return None if found is None else found[2].decode("latin1")


def _replaced(packet: bytes, name: str, change: Callable[[str], str]) -> bytes:
    if name.encode() not in packet:  # far quicker than the pattern
        return packet
    return _pattern(name).sub(lambda found: found[1] + change(found[2].decode("latin1")).encode(), packet)


def _instead(new: str, text: str) -> str:
    return new


def _times(factor: Fraction, text: str) -> str:
    """A number times the factor, written in the same way: whole, with a point, or as a fraction."""
    if not re.fullmatch(r"-?\d{1,15}(\.\d{1,15}|/0*[1-9]\d{0,14})?", text):
        return text
    value = Fraction(text) * factor
    if "/" in text:
        return f"{value.numerator}/{value.denominator}"
    return str(float(value)) if "." in text else str(round(value))
