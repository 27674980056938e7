"""Which channels of a file are its colour, and whether a fourth one is alpha or padding."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hat_sr.errors import InputError
from hat_sr.image.tiff import open_tags

_ACCEPTED = "gray (Y) or R, G, B and perhaps A are accepted"
_BI_BITFIELDS = (3, 6)  # BI_ALPHABITFIELDS is 6
_BMP_MASKS = 54
"""Where the masks of R, G, B and alpha stand: behind the first 40 bytes of the header, in all its versions."""
_EXTRA_SAMPLES = 338
"""The TIFF tag that says what a channel beyond the colours is."""


def known_channels(names: Sequence[str], kind: str) -> list[int]:
    """Indices of gray or R, G, B, and then of alpha; other channels (depth, masks, print colours) are left out.

    kind: OpenImageIO's name of the format. In EXR files a channel has a meaning by its name alone, and may be in a
    layer, as in `beauty.R`: the first layer with colours is taken. Raises InputError if there are no such channels.
    """
    if kind == "openexr":
        return _of_exr(names)
    color = [names.index(letter) for letter in "RGB"] if {"R", "G", "B"} <= set(names) else [0]
    if len(color) == 1 and len(names) > 2 and "Y" not in names:
        raise InputError(f"channels {', '.join(names)}: {_ACCEPTED}")
    return color + ([names.index("A")] if "A" in names else [])


def _of_exr(names: Sequence[str]) -> list[int]:
    for layer in dict.fromkeys(["", *(name.rpartition(".")[0] for name in names)]):
        prefix = f"{layer}." if layer else ""
        inside = {name[len(prefix) :].upper(): i for i, name in enumerate(names) if name.rpartition(".")[0] == layer}
        alpha = [inside["A"]] if "A" in inside else []
        if {"R", "G", "B"} <= inside.keys():
            return [inside[letter] for letter in "RGB"] + alpha
        if {"Y", "RY", "BY"} <= inside.keys():
            raise InputError("its colours are luminance and chroma (Y, RY, BY), which is not read: save it as RGB")
        if "Y" in inside and not {"X", "Z"} <= inside.keys():  # else a direction or a place in space
            return [inside["Y"], *alpha]
    raise InputError(f"channels {', '.join(names)}: {_ACCEPTED}, in a layer of their own or in none")


def declares_alpha(path: Path, kind: str, *, page: int = 0) -> bool:
    """Whether the file's header says that its fourth channel is alpha. True where the format leaves no doubt.

    BMP: a mask for alpha that is not 0 (`BITMAPV4HEADER`). Targa: bits of alpha in the image descriptor. TIFF: the tag
    ExtraSamples. page: of a TIFF, counted from 0.
    """
    with path.open("rb") as file:
        try:
            if kind == "bmp":
                return bool(_bmp_masks(file)[3])
            if kind == "targa":
                return bool(file.read(18)[17] & 0x0F)
            if kind != "tiff":
                return True
            with open_tags(path) as tags:
                return tags.page(page).find(_EXTRA_SAMPLES) is not None
        except (struct.error, IndexError, ValueError):  # cut short, which reading its pixels will tell
            return True


def bmp_order(path: Path) -> list[int]:
    """Which of the channels R, G, B, A, as OpenImageIO orders a BMP of 32 bits, are really R, G, B and A.

    It takes the bytes of a pixel for B, G, R, A whatever the header's masks say. Raises InputError for masks that are
    not of one byte each.
    """
    with path.open("rb") as file:
        masks = _bmp_masks(file)
    if not any(masks):
        return [0, 1, 2, 3]
    places = {0xFF << 8 * byte: channel for byte, channel in enumerate((2, 1, 0, 3))}
    if not set(masks[:3]) <= places.keys() or masks[3] not in (0, *places):
        raise InputError("its colours are not of 8 bits each, which is not read: save it as a BMP of 24 bits, or PNG")
    order = [places[mask] for mask in masks if mask]
    return order if len(order) == 4 else [*order, *{0, 1, 2, 3}.difference(order)]


def _bmp_masks(file: BinaryIO) -> tuple[int, int, int, int]:
    """The masks of R, G, B and alpha; 0 where the header has none."""
    head = file.read(_BMP_MASKS + 16)
    size, bits, compression = *struct.unpack_from("<I", head, 14), *struct.unpack_from("<HI", head, 28)
    if size < 40 or bits not in (16, 32) or compression not in _BI_BITFIELDS:
        return 0, 0, 0, 0
    red, green, blue, alpha = struct.unpack_from("<4I", head, _BMP_MASKS)
    # With the oldest header three masks stand in front of the pixels, and what follows is a pixel already.
    return red, green, blue, alpha if size >= 56 or compression == 6 else 0
