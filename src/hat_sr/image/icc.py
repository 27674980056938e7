"""Two facts of a colour profile (ICC.1): its colour space, and whether it is linear."""

import struct


def icc_fits(icc: bytes, channels: int) -> bool:
    """Whether the profile's colour space (§7.2.6) is that of pixels with so many channels, alpha counted."""
    return icc[16:20] == (b"GRAY" if channels < 3 else b"RGB ")


def icc_is_linear(icc: bytes) -> bool:
    """Whether the profile's tone curve is the identity, so that values are proportional to light.

    Looks at the red or gray curve: a `curv` (§10.6) without points or of gamma 1, or a `para` (§10.18) of gamma 1.
    A profile without one, or cut short, counts as not linear.
    """
    try:
        curve = _tag(icc, b"rTRC") or _tag(icc, b"kTRC")
        if curve[:4] == b"curv":
            (num_points,) = struct.unpack_from(">I", curve, 8)
            return bool(num_points == 0 or (num_points == 1 and struct.unpack_from(">H", curve, 12)[0] == 0x0100))
        if curve[:4] == b"para":
            function, gamma = struct.unpack_from(">H2xI", curve, 8)
            return bool(function == 0 and gamma == 0x0001_0000)
    except struct.error:
        pass
    return False


def _tag(icc: bytes, signature: bytes) -> bytes:
    (num_tags,) = struct.unpack_from(">I", icc, 128)
    for i in range(min(num_tags, 100)):
        name, start, length = struct.unpack_from(">4sII", icc, 132 + 12 * i)
        if name == signature:
            return icc[start : start + length]
    return b""
