"""Files to pictures and back. Files are made here by OpenImageIO or by hand; three tiny ones were saved by Pillow."""

import base64
import itertools
import logging
import os
import struct
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from hat_sr.errors import ImageError, InputError
from hat_sr.image.formats import check_size
from hat_sr.image.io import read_image, write_image, write_rows
from hat_sr.image.pixels import DTYPES, Image, Metadata

# Pillow: Image.fromarray(cmyk).save(..., "JPEG", quality=100, optimize=True), left half red, right half white.
LAB_TIFF = base64.b64decode(
    "SUkqAAgAAAAKAAABBAABAAAAAgAAAAEBBAABAAAAAQAAAAIBAwADAAAAhgAAAAMBAwABAAAAAQAAAAYBAwABAAAACAAAABEBBAABAAAAjAAAABUBAwAB"
    "AAAAAwAAABYBBAABAAAAAQAAABcBBAABAAAABgAAABwBAwABAAAAAQAAAAAAAAAIAAgACACAipSAipQ="
)
"""Two pixels, by Pillow."""

CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwABAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
    "/8AAFAgACAAQBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAsACv/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMATQBZAEsAAD8A38D/AMf+"
    "38I/wf4T/9k="
)
# Pillow: 3×2 pixels of red, green and a transparent third colour; then 2×1 pixels of gray 0 and 200.
TRANSPARENT_GIF = base64.b64decode("R0lGODlhAwACAIEAAP8AAAD/AAoUHgAAACH5BAEAAAIALAAAAAADAAIAAAgJAAEEECAgAICAADs=")
GRAY_GIF = base64.b64decode("R0lGODdhAgABAIEAAAAAAMjIyAAAAAAAACwAAAAAAgABAAAIBQABBAgIADs=")

MAX = {"uint8": 255, "uint16": 65535}


def ramp(dtype: str, channels: int) -> np.ndarray:
    """Every value of an integer type, black and white included; floats from 0 to 3; alpha from 0."""
    if dtype == "uint16":
        return np.stack([np.roll(np.arange(65536).reshape(256, 256), i) for i in range(channels)], -1).astype(dtype)
    values = np.stack([np.roll(np.arange(256).reshape(16, 16), i) for i in range(channels)], -1)
    return values.astype(dtype) if dtype == "uint8" else (values / 85).astype(dtype)


def save(path: Path, pixels: np.ndarray, kind: str, **attributes: object) -> Path:
    """Write through OpenImageIO itself, so that what `read_image` sees does not depend on `write_image`."""
    types = {"uint8": oiio.UINT8, "uint16": oiio.UINT16, "float16": oiio.HALF, "float32": oiio.FLOAT}
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], types[pixels.dtype.name])
    for name, value in attributes.items():
        spec.attribute(name.replace("__", ":"), value)
    output = oiio.ImageOutput.create(kind)
    assert output.open(str(path), spec), output.geterror()
    assert output.write_image(np.ascontiguousarray(pixels)), output.geterror()
    assert output.close()
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def png(path: Path, header: bytes, chunks: list[tuple[bytes, bytes]], rows: bytes) -> Path:
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(p)) + k + p + struct.pack(">I", zlib.crc32(k + p)) for k, p in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


# Depth, channels, exact values


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"),
    [(s, d, c) for s, d, c in itertools.product([".png", ".tif", ".exr"], DTYPES, [1, 2, 3, 4])
     if d in {".png": DTYPES[:2], ".tif": DTYPES, ".exr": DTYPES[2:]}[s]]
    + [(".bmp", "uint8", 1), (".bmp", "uint8", 3), (".webp", "uint8", 3)],
)  # fmt: skip
def test_lossless_formats_keep_every_value(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    pixels = ramp(dtype, channels)
    if suffix == ".exr" and channels in (2, 4):
        pixels[..., -1] = 1  # stored multiplied by alpha: below
    write_image(tmp_path / f"a{suffix}", Image(pixels, linear=dtype.startswith("float")))
    image = read_image(tmp_path / f"a{suffix}")
    assert image.pixels.dtype == pixels.dtype
    assert np.array_equal(image.pixels, pixels)
    assert image.linear == dtype.startswith("float")


def test_lossless_webp_keeps_colour_under_low_alpha(tmp_path: Path) -> None:
    pixels = np.maximum(ramp("uint8", 4), 1)
    write_image(tmp_path / "a.webp", Image(pixels))
    assert np.array_equal(read_image(tmp_path / "a.webp").pixels, pixels)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_colour_under_alpha_3_is_read_as_stored(tmp_path: Path, kind: str) -> None:
    pixels = ramp("uint8", 4)
    pixels[..., 3] = 3
    path = save(tmp_path / "a", pixels, kind, oiio__UnassociatedAlpha=1)
    assert np.array_equal(read_image(path).pixels, pixels)


def test_associated_tiff_is_divided_by_alpha(tmp_path: Path) -> None:
    straight = np.array([[[200, 100, 0, 128], [255, 255, 255, 255], [0, 0, 0, 0]]], np.uint8)
    stored = straight.copy()
    stored[..., :3] = np.round(straight[..., :3] * (straight[..., 3:] / 255))
    read = read_image(save(tmp_path / "a.tif", stored, "tiff", oiio__UnassociatedAlpha=0)).pixels
    assert np.abs(read.astype(int) - straight).max() <= 1
    assert np.array_equal(read[..., 3], straight[..., 3])


def test_exr_is_associated_on_disk_and_in_memory(tmp_path: Path) -> None:
    straight = np.array([[[0.5, 1.0, 2.0, 0.25], [1, 1, 1, 0]]], np.float32)
    write_image(tmp_path / "a.exr", Image(straight, linear=True))
    stored = oiio.ImageInput.open(str(tmp_path / "a.exr")).read_image(oiio.UNKNOWN)
    assert stored.tolist() == [[[0.125, 0.25, 0.5, 0.25], [0, 0, 0, 0]]]
    read = read_image(tmp_path / "a.exr")
    assert read.associated
    assert read.pixels.tolist() == stored.tolist()
    write_image(tmp_path / "a.tif", read)
    assert read_image(tmp_path / "a.tif").pixels[0, 0].tolist() == straight[0, 0].tolist()


def test_light_of_which_alpha_is_0_stays_in_exr(tmp_path: Path) -> None:
    stored = np.array([[[3.0, 2.0, 1.0, 0], [0.5, 0.5, 0.5, 1]]], np.float32)
    path = save(tmp_path / "a.exr", stored, "openexr")
    write_image(tmp_path / "b.exr", read_image(path))
    assert oiio.ImageInput.open(str(tmp_path / "b.exr")).read_image(oiio.UNKNOWN).tolist() == stored.tolist()


def test_half_exr_with_almost_no_alpha_stays_finite(tmp_path: Path) -> None:
    stored = np.array([[[60000, 0, 0, 1e-4]]], np.float16)
    write_image(tmp_path / "a.tif", read_image(save(tmp_path / "a.exr", stored, "openexr")))
    assert read_image(tmp_path / "a.tif").pixels[0, 0, 0] == np.finfo(np.float16).max


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_close_and_keeps_gray_and_ends_of_the_scale(tmp_path: Path, channels: int) -> None:
    pixels = np.repeat(np.repeat(np.array([[0, 64], [128, 255]], np.uint8), 8, 0), 8, 1)[..., None]
    pixels = np.repeat(pixels, channels, 2)
    write_image(tmp_path / "a.jpg", Image(pixels))
    read = read_image(tmp_path / "a.jpg").pixels
    assert read.shape == pixels.shape
    assert np.abs(read.astype(int) - pixels).max() <= 2
    assert read.min() == 0
    assert read.max() == 255


def test_jpeg_has_full_chroma_and_quality_counts(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_image(tmp_path / "a.jpg", Image(pixels))
    write_image(tmp_path / "b.jpg", Image(pixels), quality=50)
    data = (tmp_path / "a.jpg").read_bytes()
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x11  # luma sampled 1×1, as chroma always is
    assert (tmp_path / "b.jpg").stat().st_size < 0.6 * len(data)
    with pytest.raises(InputError, match="quality 101"):
        write_image(tmp_path / "c.jpg", Image(pixels), quality=101)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 300)])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp", ".bmp", ".exr"])
def test_any_size(tmp_path: Path, suffix: str, shape: tuple[int, int]) -> None:
    write_image(tmp_path / f"a{suffix}", Image(np.full((*shape, 3), 255, np.uint8)))
    read = read_image(tmp_path / f"a{suffix}").pixels
    assert read.shape == (*shape, 3)
    assert (read == (1 if suffix == ".exr" else 255)).all()


# What people have


def test_palette_png_with_transparency(tmp_path: Path) -> None:
    chunks = [(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 9, 8, 7])), (b"tRNS", bytes([255, 3]))]
    path = png(tmp_path / "a.png", struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0), chunks, b"\0\0\1\2")
    assert read_image(path).pixels.tolist() == [[[255, 0, 0, 255], [0, 255, 0, 3], [9, 8, 7, 255]]]


def test_one_bit_png_is_8_bit_gray(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", struct.pack(">IIBBBBB", 3, 1, 1, 0, 0, 0, 0), [], b"\0\xa0")
    image = read_image(path)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.tolist() == [[[255], [0], [255]]]


def test_one_bit_bmp_is_8_bit_gray(tmp_path: Path) -> None:
    palette = bytes([0, 0, 0, 0, 255, 255, 255, 0])
    info = struct.pack("<IiiHHIIiiII", 40, 3, 1, 1, 1, 0, 4, 2835, 2835, 2, 2)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 66, 0, 0, 62) + info + palette + b"\xa0\0\0\0")
    assert read_image(tmp_path / "a.bmp").pixels.tolist() == [[[255], [0], [255]]]


def test_gif_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(TRANSPARENT_GIF)
    pixels = read_image(tmp_path / "a.gif").pixels
    assert pixels[..., 3].tolist() == [[255, 255, 0], [0, 255, 255]]
    assert pixels[0, :2, :3].tolist() == [[255, 0, 0], [0, 255, 0]]
    (tmp_path / "b.gif").write_bytes(GRAY_GIF)
    assert read_image(tmp_path / "b.gif").pixels.tolist() == [[[0], [200]]]


def test_cmyk_jpeg_becomes_rgb_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.jpg").write_bytes(CMYK_JPEG)
    pixels = read_image(tmp_path / "a.jpg").pixels
    assert pixels.shape == (8, 16, 3)
    assert np.abs(pixels[4, 3].astype(int) - (255, 0, 0)).max() <= 3
    assert (pixels[4, 12] >= 253).all()
    assert "CMYK is converted" in caplog.text


def test_lab_tiff_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(LAB_TIFF)
    with pytest.raises(ImageError, match="its colours are Lab"):
        read_image(tmp_path / "a.tif")


def test_ultra_hdr_photo_is_read_as_its_standard_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    light = np.zeros((48, 64, 3), np.float16)
    light[..., 0] = np.linspace(0, 8, 64)
    path = save(tmp_path / "a.jpg", light, "jpeg", jpeg__ultrahdr=1, oiio__ColorSpace="lin_rec709_scene")
    assert oiio.ImageInput.open(str(path)).spec().format.basetype == oiio.HALF  # what must not happen to us
    image = read_image(path)
    assert image.pixels.shape == (48, 64, 3)
    assert image.pixels.dtype == np.uint8
    assert not image.linear
    assert image.metadata.xmp is None  # it would announce the gain map that is gone
    assert "Ultra HDR" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpeg", ""])
def test_content_decides_not_the_suffix(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / "a.png", Image(ramp("uint16", 3)))
    path = (tmp_path / "a.png").rename(tmp_path / f"b{suffix}")
    assert np.array_equal(read_image(path).pixels, ramp("uint16", 3))


def test_extra_channels_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = oiio.ImageSpec(2, 1, 5, oiio.FLOAT)
    spec.channelnames = ("R", "G", "B", "A", "Z")
    output = oiio.ImageOutput.create("openexr")
    assert output.open(str(tmp_path / "a.exr"), spec)
    assert output.write_image(np.array([[[1, 2, 3, 1, 99], [4, 5, 6, 1, 99]]], np.float32))
    assert output.close()
    assert read_image(tmp_path / "a.exr").pixels.tolist() == [[[1, 2, 3, 1], [4, 5, 6, 1]]]
    assert "the channel Z is left out" in caplog.text


def test_double_becomes_float_and_other_types_are_refused(tmp_path: Path) -> None:
    for kind, fill in ((oiio.DOUBLE, 0.5), (oiio.INT16, 7)):
        spec = oiio.ImageSpec(2, 1, 1, kind)
        output = oiio.ImageOutput.create("tiff")
        assert output.open(str(tmp_path / f"{kind}.tif"), spec)
        dtype = np.float64 if kind == oiio.DOUBLE else np.int16
        assert output.write_image(np.full((1, 2, 1), fill, dtype))
        assert output.close()
    assert read_image(tmp_path / f"{oiio.DOUBLE}.tif").pixels.dtype == np.float32
    with pytest.raises(ImageError, match="int16"):
        read_image(tmp_path / f"{oiio.INT16}.tif")


# EXIF orientation: the corner pixel must land where the standard's figure has it


@pytest.mark.parametrize("orientation", range(10))
def test_orientation_is_applied_once(tmp_path: Path, orientation: int) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    shown = {
        2: [[2, 1, 0], [5, 4, 3]],
        3: [[5, 4, 3], [2, 1, 0]],
        4: [[3, 4, 5], [0, 1, 2]],
        5: [[0, 3], [1, 4], [2, 5]],
        6: [[3, 0], [4, 1], [5, 2]],
        7: [[5, 2], [4, 1], [3, 0]],
        8: [[2, 5], [1, 4], [0, 3]],
    }.get(orientation, pixels.tolist())
    path = save(tmp_path / "a.png", pixels[..., None], "png", Orientation=orientation)
    image = read_image(path)
    assert image.pixels[..., 0].tolist() == shown
    write_image(tmp_path / "b.png", image)
    again = read_image(tmp_path / "b.png")
    assert again.pixels[..., 0].tolist() == shown
    assert oiio.ImageInput.open(str(tmp_path / "b.png")).spec().get_int_attribute("Orientation") == 1


# Fitting a format


def test_16_bit_into_8_bit_is_rounded_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.array([0, 128, 129, 257, 65535], np.uint16).reshape(1, 5, 1)
    write_image(tmp_path / "a.bmp", Image(pixels))
    assert read_image(tmp_path / "a.bmp").pixels.ravel().tolist() == [0, 0, 1, 1, 255]
    assert "uint16 pixels are written as uint8" in caplog.text


def test_transparency_is_laid_on_white_in_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.zeros((8, 8, 2), np.uint8)
    write_image(tmp_path / "a.jpg", Image(pixels))
    read = read_image(tmp_path / "a.jpg").pixels
    assert read.shape == (8, 8, 1)
    assert (read == 255).all()
    assert "laid on white" in caplog.text
    caplog.clear()
    pixels[..., 1] = 255
    write_image(tmp_path / "a.jpg", Image(pixels))
    assert (read_image(tmp_path / "a.jpg").pixels == 0).all()
    assert not caplog.text


@pytest.mark.parametrize("channels", [1, 2])
def test_gray_becomes_rgb_in_webp(tmp_path: Path, channels: int) -> None:
    pixels = np.maximum(ramp("uint8", channels), 1)
    write_image(tmp_path / "a.webp", Image(pixels))
    read = read_image(tmp_path / "a.webp").pixels
    assert read.shape[2] == channels + 2
    assert np.array_equal(read[..., [0, 3] if channels == 2 else [0]], pixels)


def test_light_is_encoded_into_png_and_clipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # IEC 61966-2-1: linear 0.2140 is code value 0.5.
    pixels = np.array([[[0.0], [0.21404114], [1.0], [4.0]]], np.float32)
    write_image(tmp_path / "a.png", Image(pixels, linear=True))
    image = read_image(tmp_path / "a.png")
    assert image.pixels.ravel().tolist() == [0, 32768, 65535, 65535]
    assert not image.linear
    assert "clipped" in caplog.text


def test_codes_are_decoded_into_exr(tmp_path: Path) -> None:
    write_image(tmp_path / "a.exr", Image(np.array([[[0], [188], [255]]], np.uint8)))
    image = read_image(tmp_path / "a.exr")
    assert image.linear
    assert image.pixels.dtype == np.float16
    assert image.pixels.ravel().tolist() == pytest.approx([0, 0.5029, 1], abs=1e-3)


def test_linear_png_stays_linear(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", ramp("uint8", 1), "png", oiio__ColorSpace="lin_rec709_scene")
    image = read_image(path)
    assert image.linear
    write_image(tmp_path / "b.png", image)
    again = read_image(tmp_path / "b.png")
    assert again.linear
    assert np.array_equal(again.pixels, image.pixels)


# Refusals: each says what and which file, and nothing is left behind


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "no such file"),
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"hello, I am text\n" * 20, "text.jpg"),
        ("text.weird", b"hello, I am text\n" * 20, "this is text, not an image"),
        ("noise.png", bytes(range(256)) * 4, "not a kind of image"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "photo.heic"),
    ],
)
def test_not_an_image(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no such names")
def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.png"))
    path.write_bytes(b"x")
    with pytest.raises(ImageError, match="the name is no UTF-8"):
        read_image(path)
    with pytest.raises(ImageError, match="the name is no UTF-8"):
        write_image(path, Image(np.zeros((1, 1, 3), np.uint8)))


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("keep", [0.99, 0.6, 0.2])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp", ".exr"])
def test_a_truncated_file_is_an_error_never_a_half_gray_picture(tmp_path: Path, suffix: str, keep: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(pixels))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ImageError, match=f"a{suffix}"):
        read_image(path)


def test_a_progressive_jpeg_without_its_last_scans_is_an_error(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", pixels, "jpeg", jpeg__progressive=1)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    with pytest.raises(ImageError, match="its last scans are missing"):
        read_image(path)


@pytest.mark.parametrize("whole", [True, False])
def test_stray_bytes_in_a_jpeg_hide_no_truncation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, whole: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_image(tmp_path / "a.jpg", Image(pixels))
    data = (tmp_path / "a.jpg").read_bytes()
    scan = data.index(b"\xff\xda")
    data = data[:scan] + bytes(3) + data[scan:]
    (tmp_path / "b.jpg").write_bytes(data if whole else data[: len(data) * 2 // 3])
    if whole:
        assert np.array_equal(read_image(tmp_path / "b.jpg").pixels, read_image(tmp_path / "a.jpg").pixels)
        assert "extraneous" in caplog.text
    else:
        with pytest.raises(ImageError, match="cut short"):
            read_image(tmp_path / "b.jpg")


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0), [], b"\0")
    with pytest.raises(ImageError, match=r"a\.png"):
        read_image(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["openexr", "tiff"])
def test_nan_and_infinity_are_errors(tmp_path: Path, kind: str, bad: float) -> None:
    pixels = np.ones((2, 2, 3), np.float32)
    pixels[1, 1, 1] = bad
    with pytest.raises(ImageError, match="1 of 12 values are NaN or infinite"):
        read_image(save(tmp_path / "a", pixels, kind))


@pytest.mark.parametrize("name", ["a.gif", "a.heic", "a", "a.jp2"])
def test_unknown_suffix_for_writing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"use one of \.jpg"):
        write_image(tmp_path / name, Image(ramp("uint8", 3)))
    assert names(tmp_path) == []


def test_missing_folder_and_a_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="make it first"):
        write_image(tmp_path / "no" / "a.png", Image(ramp("uint8", 3)))
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "a.png", Image(ramp("uint8", 3)))
    assert names(tmp_path) == ["a.png"]


def test_too_large_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"16383 a side; use one of \.jpg \.png"):
        write_image(tmp_path / "a.webp", Image(np.zeros((1, 16384, 1), np.uint8)))
    with pytest.raises(ImageError, match="65500 a side"):
        check_size(tmp_path / "a.jpg", 65501, 1)
    with pytest.raises(ImageError, match="make it smaller"):
        check_size(tmp_path / "a.png", 1, 1 << 21)
    check_size(tmp_path / "a.webp", 16383, 16383)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp", ".exr"])
def test_no_date_is_made_up(tmp_path: Path, suffix: str) -> None:
    """So that the same picture is the same file, whenever it is written."""
    write_image(tmp_path / f"a{suffix}", Image(ramp("uint8", 3)))
    attributes = {name: value for name, _, value in read_image(tmp_path / f"a{suffix}").metadata.attributes}
    assert "DateTime" not in attributes
    assert time.strftime("%Y:%m:%d").encode() not in (tmp_path / f"a{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".tif", ".exr"])
def test_a_date_is_kept(tmp_path: Path, suffix: str) -> None:
    dated = Metadata(attributes=(("DateTime", "string", "2001:02:03 04:05:06"),))
    write_image(tmp_path / f"a{suffix}", Image(ramp("float16", 3), metadata=dated))
    assert dated.attributes[0] in read_image(tmp_path / f"a{suffix}").metadata.attributes


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp", ".exr"])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_picture_in_parts_is_the_same_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, channels: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 70, channels), dtype=np.uint8)
    write_image(tmp_path / f"a{suffix}", Image(pixels))
    num_warnings = len(caplog.records)
    parts = (Image(pixels[top : top + 37]) for top in range(0, 150, 37))
    write_rows(tmp_path / f"b{suffix}", parts, height=150)
    assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"a{suffix}").read_bytes()
    assert len(caplog.records) == 2 * num_warnings == (2 if suffix in (".jpg", ".bmp") and channels == 4 else 0)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.jpg", Image(ramp("uint8", 1)))
    before = (tmp_path / "a.jpg").read_bytes()

    def fails(path: Path, *_: object, **__: object) -> None:
        assert path.exists()  # the half-made file is there, under another name
        raise KeyboardInterrupt

    monkeypatch.setattr("hat_sr.image.io.add_blocks", fails)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.jpg", Image(ramp("uint8", 3)))
    assert names(tmp_path) == ["a.jpg"]
    assert (tmp_path / "a.jpg").read_bytes() == before


def test_a_full_disk_is_an_error_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ImageError, match="0 MB free there, and up to 2 MB"):
        write_image(tmp_path / "a.jpg", Image(ramp("uint8", 3)))
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_file_cut_short_while_writing_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    real = oiio.ImageOutput.create

    class CutShort:
        def __init__(self, kind: str) -> None:
            self.output = real(kind)

        def open(self, path: str, spec: oiio.ImageSpec, mode: str) -> bool:
            self.path = Path(path)
            return self.output.open(path, spec, mode)

        def close(self) -> bool:
            self.output.close()
            self.path.write_bytes(self.path.read_bytes()[:-5])
            return True

        def __getattr__(self, name: str) -> object:
            return getattr(self.output, name)

    monkeypatch.setattr("hat_sr.image.io.oiio.ImageOutput", type("Fake", (), {"create": CutShort}))
    with pytest.raises(ImageError, match="only a part"):
        write_image(tmp_path / f"a{suffix}", Image(ramp("uint8", 3)))
    assert names(tmp_path) == []


def test_a_new_file_is_readable_by_whom_the_umask_says(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_image(tmp_path / "a.png", Image(ramp("uint8", 1)))
    finally:
        os.umask(old)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o644


# The picture itself


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((2, 2), np.uint8), r"shape \(2, 2\)"),
        (np.zeros((2, 2, 5), np.uint8), "1 to 4 channels"),
        (np.zeros((0, 2, 3), np.uint8), "none of them 0"),
        (np.zeros((2, 2, 3), np.int32), "int32"),
        (np.full((2, 2, 3), np.nan, np.float16), "12 of 12 values"),
    ],
)
def test_impossible_pixels(pixels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Image(pixels)


def test_parts_of_a_picture() -> None:
    image = Image(np.arange(2 * 3 * 2, dtype=np.uint8).reshape(2, 3, 2))
    assert (image.height, image.width) == (2, 3)
    assert image.color.tolist() == image.pixels[..., :1].tolist()
    assert image.alpha is not None
    assert image.alpha.tolist() == image.pixels[..., 1:].tolist()
    assert Image(np.zeros((1, 1, 3), np.uint8)).alpha is None
    assert image.metadata == Metadata()


def test_a_good_file_warns_of_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for suffix in (".jpg", ".png", ".tif", ".webp", ".bmp"):
            write_image(tmp_path / f"a{suffix}", Image(ramp("uint8", 3)))
            read_image(tmp_path / f"a{suffix}")
    assert not caplog.text
