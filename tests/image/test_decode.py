"""Headers, and pixels by rows: the same as the whole picture that `read_image` gives."""

import struct
import zlib
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from hat_sr.errors import ImageError
from hat_sr.image import reader
from hat_sr.image.decode import Header, open_image, read_header
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image


def noise(height: int, width: int, channels: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).random((height, width, channels))
    return (values * np.iinfo(dtype).max if dtype.startswith("uint") else values).astype(dtype)


def write(path: Path, pixels: np.ndarray, **attributes: object) -> Path:
    """By OpenImageIO itself; `tile` is the side of tiles."""
    types = {"uint8": oiio.UINT8, "uint16": oiio.UINT16, "float16": oiio.HALF, "float32": oiio.FLOAT}
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], types[pixels.dtype.name])
    spec.tile_width = spec.tile_height = attributes.pop("tile", 0)
    for name, value in attributes.items():
        spec.attribute(name.replace("__", ":"), value)
    output = oiio.ImageOutput.create(str(path))
    assert output.open(str(path), spec), output.geterror()
    assert output.write_image(np.ascontiguousarray(pixels)), output.geterror()
    assert output.close()
    return path


def write_interlaced(path: Path, pixels: np.ndarray) -> Path:
    """RGB, 8 bit, in the seven passes of PNG (section 8.2 of the standard)."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = (row for top, left, down, right in passes for row in pixels[top::down, left::right])
    data = b"".join(b"\0" + row.tobytes() for row in rows if row.size)

    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 rows, or of a row of tiles."""
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 1)


def gathered(path: Path) -> tuple[np.ndarray, int]:
    """The picture put together from its blocks, and how many there were; each pixel is given once."""
    header = read_header(path)
    with open_image(path) as file:
        blocks = list(file.blocks())
    out = np.zeros((header.height, header.width, blocks[0][2].shape[2]), blocks[0][2].dtype)
    count = np.zeros(out.shape[:2], int)
    for top, left, pixels in blocks:
        place = slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
        out[place] = pixels
        count[place] += 1
    assert (count == 1).all()
    return out, len(blocks)


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "attributes", "num_blocks"),
    [
        ("a.png", 3, "uint8", {}, 3),
        ("a.png", 2, "uint16", {}, 3),
        ("a.jpg", 1, "uint8", {}, 3),
        ("a.webp", 4, "uint8", {"compression": "lossless"}, 3),
        ("a.bmp", 3, "uint8", {}, 3),
        ("a.bmp", 1, "uint8", {}, 1),
        ("a.gif", 3, "uint8", {}, 1),
        ("a.tif", 3, "float32", {}, 3),
        ("a.tif", 4, "uint8", {}, 3),
        ("a.tif", 4, "uint16", {"oiio__UnassociatedAlpha": 1}, 3),
        ("a.tif", 3, "uint8", {"tile": 32}, 5),
        ("a.tif", 3, "uint16", {"planarconfig": "separate"}, 3),
        ("a.tif", 3, "uint8", {"tiff__RowsPerStrip": 150}, 3),
        ("a.tif", 5, "uint8", {}, 3),
        ("a.exr", 4, "float16", {}, 3),
        ("a.exr", 4, "float32", {"tile": 32}, 5),
    ],
)
def test_blocks_are_the_picture(
    tmp_path: Path, name: str, channels: int, dtype: str, attributes: dict[str, object], num_blocks: int
) -> None:
    path = write(tmp_path / name, noise(150, 70, channels, dtype), **attributes)
    pixels, number = gathered(path)
    whole = read_image(path)
    assert np.array_equal(pixels, whole.pixels)
    assert number == num_blocks
    assert read_header(path) == Header(
        height=150,
        width=70,
        channels=read_header(path).channels if name == "a.gif" else whole.pixels.shape[2],
        dtype=whole.pixels.dtype.name,
        lossy=name == "a.jpg",
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_blocks_are_upright(tmp_path: Path, orientation: int) -> None:
    path = write(tmp_path / "a.tif", noise(150, 70, 3), Orientation=orientation)
    pixels, number = gathered(path)
    assert np.array_equal(pixels, read_image(path).pixels)
    assert pixels.shape == ((70, 150, 3) if orientation >= 5 else (150, 70, 3))
    assert number == 3


def test_an_interlaced_png_comes_in_rows(tmp_path: Path) -> None:
    pixels = noise(150, 70, 3)
    found, number = gathered(write_interlaced(tmp_path / "a.png", pixels))
    assert np.array_equal(found, pixels)
    assert number == 3


def test_a_picture_with_an_origin_elsewhere(tmp_path: Path) -> None:
    pixels = noise(150, 70, 3, "float16")
    spec = oiio.ImageSpec(70, 150, 3, oiio.HALF)
    spec.x, spec.y = 11, -20
    output = oiio.ImageOutput.create("exr")
    assert output.open(str(tmp_path / "a.exr"), spec) and output.write_image(pixels) and output.close()
    assert np.array_equal(gathered(tmp_path / "a.exr")[0], pixels)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_file_cut_short_is_noticed_by_rows(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, Image(noise(300, 70, 3)))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageError, match=name.replace(".", r"\.")), open_image(tmp_path / name) as file:
        list(file.blocks())


def test_what_is_no_image_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    for path, message in ((tmp_path / "a.png", "this is text"), (tmp_path / "b.png", "no such file")):
        with pytest.raises(ImageError, match=message):
            read_header(path)
