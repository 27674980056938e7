"""Where on Earth a GeoTIFF's pixels lie (OGC 19-008r4), updated for a larger picture."""

import struct

from hat_sr.image.exif import Scaling
from hat_sr.image.pixels import Carried
from hat_sr.image.tiff import ASCII, DOUBLE, SHORT

_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION, _KEYS = "33550", "33922", "34264", "34735"
GEO_TAGS = {
    33550: DOUBLE,
    33922: DOUBLE,
    34264: DOUBLE,
    34735: SHORT,
    34736: DOUBLE,
    34737: ASCII,
    42112: ASCII,
    42113: ASCII,
}
"""Tags of GeoTIFF, and two of GDAL's (notes, and the value that means nothing was measured), and their types."""
_RASTER_TYPE, _POINT = 1025, 2


def scaled(carried: Carried, scaling: Scaling) -> Carried:
    """The tags, by number and with little-endian values, with places in pixels and sizes of pixels changed."""
    keys = dict(carried).get(_KEYS, b"")
    entries = [struct.unpack_from("<4H", keys, at) for at in range(8, len(keys) - 7, 8)]
    # Where pixels are points, places are those of their centres, which do not lie on those of the larger picture.
    shift = 0.5 if (_RASTER_TYPE, 0, 1, _POINT) in entries else 0.0
    x, y = float(scaling.x), float(scaling.y)
    return tuple((name, _scaled(name, data, x, y, shift)) for name, data in carried)


def _scaled(name: str, data: bytes, x: float, y: float, shift: float) -> bytes:
    if name not in (_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION):
        return data
    values = list(struct.unpack(f"<{len(data) // 8}d", data))
    if name == _PIXEL_SCALE:
        values[:2] = [size / factor for size, factor in zip(values[:2], (x, y), strict=False)]
    elif name == _TIE_POINTS:  # column, row, level, and the place on Earth
        values[::6] = [(column + shift) * x - shift for column in values[::6]]
        values[1::6] = [(row + shift) * y - shift for row in values[1::6]]
    elif len(values) == 16:  # a matrix, row by row, that makes places on Earth of column, row, level and 1
        for row in range(0, 16, 4):
            across, down = values[row] / x, values[row + 1] / y
            values[row + 3] += shift * (across - values[row] + down - values[row + 1])
            values[row : row + 2] = across, down
    return struct.pack(f"<{len(values)}d", *values)
