"""A picture as plain files, which two processes hand to each other: nothing in them can run, as a pickle could."""

import base64
import json
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hat_sr.errors import ImageError
from hat_sr.image.pixels import DTYPES, Image, Metadata

_PIXELS, _REST = "pixels", "picture.json"

_LARGEST_REST = 64 << 20
"""Bytes of a picture's metadata, written as JSON: a few times what is read of it."""


def put_picture(image: Image, folder: Path) -> None:
    """Write the picture into `folder`, in place of one that is there. Raises OSError as writing does."""
    pixels, known = np.ascontiguousarray(image.pixels), image.metadata
    (folder / _PIXELS).write_bytes(pixels.data)  # not numpy's functions, whose errors do not tell a full disk
    rest = {
        "shape": pixels.shape,
        "dtype": pixels.dtype.name,
        "linear": image.linear,
        "associated": image.associated,
        "lossy": known.lossy,
        "frame": known.frame,
        "attributes": known.attributes,
        "carried": [(name, _text(data)) for name, data in known.carried],
        "in_blocks": known.in_blocks,
        "size": known.size,
        **{name: _text(getattr(known, name)) for name in ("icc", "exif", "xmp")},
    }
    (folder / _REST).write_text(json.dumps(rest), encoding="ascii")


def take_picture(folder: Path, *, size: tuple[int, int] | None = None) -> Image:
    """Read what `put_picture` wrote. Raises ImageError if it is anything else.

    size: (height, width) that it must have; not more than that is read, whoever wrote it. None takes any.
    """
    try:
        with _open(folder / _REST) as file:
            text = file.read(_LARGEST_REST + 1)
        if len(text) > _LARGEST_REST:
            raise ImageError(f"the file holds more than {_LARGEST_REST >> 20} MB beside pixels: save it without that")
        rest = json.loads(text)
        height, width, channels = map(int, rest["shape"])
        if rest["dtype"] not in DTYPES or not 1 <= channels <= 4 or size not in (None, (height, width)):
            raise ValueError
        with _open(folder / _PIXELS) as file:
            pixels = np.fromfile(file, rest["dtype"], count=math.prod((height, width, channels)))
        metadata = Metadata(
            frame=None if rest["frame"] is None else _four(*map(float, rest["frame"])),
            lossy=bool(rest["lossy"]),
            attributes=tuple((str(name), str(kind), _value(value)) for name, kind, value in rest["attributes"]),
            icc=_bytes(rest["icc"]),
            exif=_bytes(rest["exif"]),
            xmp=_bytes(rest["xmp"]),
            carried=tuple((str(name), _bytes(data) or b"") for name, data in rest["carried"]),
            in_blocks=bool(rest["in_blocks"]),
            size=None if rest["size"] is None else (int(rest["size"][0]), int(rest["size"][1])),
        )
        return Image(
            pixels.reshape(height, width, channels),
            linear=bool(rest["linear"]),
            associated=bool(rest["associated"]),
            metadata=metadata,
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ImageError("what was read of the picture is damaged: send it again") from error


def _open(path: Path) -> BinaryIO:
    """The file to read; neither another one, to which it leads, nor a pipe, which would be waited for."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _value(value: object) -> object:
    """JSON has lists where a picture's attributes have tuples."""
    return tuple(value) if isinstance(value, list) else value


def _four(left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
    return left, top, width, height
