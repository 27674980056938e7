"""Pages of a TIFF of which pixels are missing, where OpenImageIO does not tell."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hat_sr.errors import ImageError
from hat_sr.image.decode import read_header
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image

ROWS, WIDTH = 16, 64


def strips(folder: Path, count: int) -> Iterator[bytes]:
    """JPEG files of 16 rows of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, ROWS, WIDTH, 3), dtype=np.uint8)
    for image in pixels:
        write_image(folder / "strip.jpg", Image(image))
        yield (folder / "strip.jpg").read_bytes()


def tiff(strips: list[bytes]) -> bytes:
    """YCbCr compressed by JPEG, its tags in front of its pixels."""
    count = len(strips)
    tags = [
        (256, 3, [WIDTH]), (257, 3, [ROWS * count]), (258, 3, [8] * 3), (259, 3, [7]), (262, 3, [6]),
        (273, 4, [0] * count),
        (277, 3, [3]), (278, 3, [ROWS]), (279, 4, [len(strip) for strip in strips]), (530, 3, [1, 1]),
    ]  # fmt: skip
    at = 8 + 2 + 12 * len(tags) + 4
    pixels = at + 8 + 8 * count
    tags[5] = (273, 4, [pixels + sum(map(len, strips[:number])) for number in range(count)])
    entries, values = b"", b""
    for tag, kind, numbers in tags:
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", at + len(values))
        values += packed.ljust(-(-len(packed) // 2) * 2, b"\0") if len(packed) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + place
    head = b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(4) + values
    return head.ljust(pixels, b"\0") + b"".join(strips)


def test_a_jpeg_in_a_tiff_that_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(list(strips(tmp_path, 4))))
    assert read_image(tmp_path / "a.tif").pixels.shape == (4 * ROWS, WIDTH, 3)
    assert read_header(tmp_path / "a.tif").lossy


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("fill", [b"", b"\0"])
def test_a_jpeg_in_a_tiff_that_is_cut_short_is_never_a_half_gray_picture(
    tmp_path: Path, keep: float, fill: bytes
) -> None:
    data = tiff(list(strips(tmp_path, 4)))
    (tmp_path / "a.tif").write_bytes(data[: int(keep * len(data))].ljust(len(data) * len(fill), fill or b" "))
    with pytest.raises(ImageError, match=r"a\.tif: damaged or cut short"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("keep", range(8, 170, 7))
def test_tags_that_are_cut_short_are_an_error_of_the_image(tmp_path: Path, keep: int) -> None:
    data = tiff(list(strips(tmp_path, 2)))
    (tmp_path / "a.tif").write_bytes(data[:keep])
    with pytest.raises(ImageError, match=r"a\.tif"):
        read_image(tmp_path / "a.tif")
