"""Missing pixels of a TIFF where OpenImageIO does not report them, because libtiff converts the pixels."""

from collections.abc import Iterator
from pathlib import Path

from hat_sr.image.tiff import LONG, LONG8, SHORT, Directory, Tags, opened

_COMPRESSION, _PHOTOMETRIC = 259, 262
_CHUNKS = ((273, 279), (324, 325))
"""Tags that say where strips, or tiles, lie, and of how many bytes they are."""
_OLD_JPEG, _JPEG, _YCBCR = 6, 7, 6
_END_OF_JPEG = b"\xff\xd9"


def lacks_pixels(path: Path, page: int) -> bool:
    """Whether pixels of the page lie beyond the end of the file, or JPEG data of it has no end.

    Looks at JPEG and YCbCr alone; reading reports it for others, and for files whose tags make no sense: False.
    """
    try:
        with opened(path) as tags:
            return not all(_whole(tags, tags.page(page)))
    except ValueError:
        return False


def _whole(tags: Tags, page: Directory) -> Iterator[bool]:
    compression = tags.number(page.find(_COMPRESSION))
    if compression not in (_OLD_JPEG, _JPEG) and tags.number(page.find(_PHOTOMETRIC)) != _YCBCR:
        return
    for places, sizes in _CHUNKS:
        for start, size in zip(_numbers(tags, page, places), _numbers(tags, page, sizes), strict=False):
            stop = start + size
            yield stop <= len(tags.buffer)
            if compression == _JPEG and size > 2:  # a byte may follow, so that the next begins at an even place
                yield _END_OF_JPEG in bytes(tags.buffer[stop - 3 : stop])


def _numbers(tags: Tags, page: Directory, tag: int) -> list[int]:
    entry = page.find(tag)
    if entry is None or entry.kind not in (SHORT, LONG, LONG8):
        return []
    return [int(value) for value in tags.values(entry)]
