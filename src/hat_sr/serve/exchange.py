"""A picture as plain files, which two processes hand to each other: nothing in them can run, as a pickle could."""

import base64
import json
from pathlib import Path

import numpy as np

from hat_sr.errors import ImageError
from hat_sr.image.pixels import Image, Metadata

_PIXELS, _REST = "pixels.npy", "picture.json"


def put_picture(image: Image, folder: Path) -> None:
    """Write the picture into `folder`, in place of one that is there. Raises OSError as writing does."""
    np.save(folder / _PIXELS, image.pixels, allow_pickle=False)
    known = image.metadata
    rest = {
        "linear": image.linear,
        "lossy": known.lossy,
        "attributes": known.attributes,
        **{name: _text(getattr(known, name)) for name in ("icc", "exif", "xmp")},
    }
    (folder / _REST).write_text(json.dumps(rest), encoding="ascii")


def take_picture(folder: Path) -> Image:
    """Read what `put_picture` wrote. Raises ImageError if it is anything else."""
    try:
        pixels = np.load(folder / _PIXELS, allow_pickle=False)
        rest = json.loads((folder / _REST).read_text(encoding="ascii"))
        metadata = Metadata(
            lossy=bool(rest["lossy"]),
            attributes=tuple((str(name), str(kind), _value(value)) for name, kind, value in rest["attributes"]),
            **{name: _bytes(rest[name]) for name in ("icc", "exif", "xmp")},
        )
        return Image(pixels, linear=bool(rest["linear"]), metadata=metadata)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ImageError("what was read of the picture is damaged: send it again") from error


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _value(value: object) -> object:
    """JSON has lists where a picture's attributes have tuples."""
    return tuple(value) if isinstance(value, list) else value
