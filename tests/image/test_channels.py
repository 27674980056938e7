"""Which channels of files are colour and alpha. BMP, Targa and TIFF files are made here byte by byte."""

import struct
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from hat_sr.errors import ImageError
from hat_sr.image.decode import open_image, read_header
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image

HEIGHT, WIDTH = 70, 5
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
RAMP = np.tile(np.arange(WIDTH, dtype=np.uint8) * 50, (HEIGHT, 1))
NONE, OPAQUE = np.zeros_like(RAMP), np.full_like(RAMP, 255)
BGR_MASKS = (0xFF0000, 0xFF00, 0xFF)


def bgra(fourth: np.ndarray) -> np.ndarray:
    return np.dstack([RGB[..., ::-1], fourth])


def bmp(path: Path, pixels: np.ndarray, *, header: int = 40, compression: int = 0, masks: tuple[int, ...] = ()) -> Path:
    rows, bits = pixels[::-1].tobytes(), 8 * pixels.nbytes // (HEIGHT * WIDTH)
    packed = struct.pack(f"<{len(masks)}I", *masks)
    head = struct.pack("<IiiHHIIiiII", header, WIDTH, HEIGHT, 1, bits, compression, len(rows), 2835, 2835, 0, 0)
    head += packed if header == 40 else packed.ljust(header - 40, b"\0")
    path.write_bytes(b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows)
    return path


def targa(path: Path, pixels: np.ndarray, *, alpha_bits: int, alpha_type: int | None = None) -> Path:
    data = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, WIDTH, HEIGHT, 32, 0x20 | alpha_bits) + pixels.tobytes()
    if alpha_type is not None:
        extension = struct.pack("<H", 495).ljust(494, b"\0") + bytes([alpha_type])
        data += extension + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"
    path.write_bytes(data)
    return path


def tiff(path: Path, pixels: np.ndarray, *, extra: int | None, big: bool = False) -> Path:
    """RGB and a fourth channel in one strip. extra: the value of ExtraSamples; None leaves the tag out."""
    tags = [(256, 3, WIDTH), (257, 3, HEIGHT), (259, 3, 1), (262, 3, 2), (273, 4, 0), (277, 3, 4), (278, 3, HEIGHT)]
    tags += [(279, 4, pixels.nbytes)] + ([] if extra is None else [(338, 3, extra)])
    tags.insert(2, (258, 3, 8))
    start, entry, count = (16, "<HHQQ", "<Q") if big else (8, "<HHII", "<H")
    end = "<Q" if big else "<I"
    body = start + struct.calcsize(count) + len(tags) * struct.calcsize(entry) + struct.calcsize(end)
    entries = b""
    for tag, kind, value in tags:
        if tag == 258:  # four shorts, which stand behind the tags where they do not fit into one
            short = struct.unpack("<Q", struct.pack("<4H", 8, 8, 8, 8))[0]
            entries += struct.pack(entry, tag, kind, 4, short if big else body)
        else:
            entries += struct.pack(entry, tag, kind, 1, body + 8 if tag == 273 else value)
    head = b"II" + (struct.pack("<HHHQ", 43, 8, 0, 16) if big else struct.pack("<HI", 42, 8))
    parts = [head, struct.pack(count, len(tags)), entries, struct.pack(end, 0), struct.pack("<4H", 8, 8, 8, 8)]
    path.write_bytes(b"".join(parts) + pixels.tobytes())
    return path


def assert_read(path: Path, alpha: np.ndarray | None, rgb: np.ndarray = RGB) -> None:
    """As a whole and by rows."""
    pixels = read_image(path).pixels
    assert np.array_equal(pixels[..., :3], rgb)
    assert pixels.shape[2] == read_header(path).channels == (3 if alpha is None else 4)
    if alpha is not None:
        assert np.array_equal(pixels[..., 3], alpha)
    with open_image(path) as file:
        assert np.array_equal(np.concatenate([part for _, _, part in file.blocks()]), pixels)


@pytest.mark.parametrize("fourth", [NONE, OPAQUE, RAMP])
@pytest.mark.parametrize(
    ("header", "compression", "masks"),
    [(40, 0, ()), (40, 3, BGR_MASKS), (52, 3, BGR_MASKS), (108, 3, BGR_MASKS), (124, 3, BGR_MASKS), (124, 0, ())],
)
def test_bmp_without_a_mask_for_alpha_has_none(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fourth: np.ndarray,
    header: int,
    compression: int,
    masks: tuple[int, ...],
) -> None:
    assert_read(bmp(tmp_path / "a.bmp", bgra(fourth), header=header, compression=compression, masks=masks), None)
    assert ("a channel that the header does not call alpha" in caplog.text) == (fourth is RAMP)


@pytest.mark.parametrize("header", [56, 108, 124])
@pytest.mark.parametrize("fourth", [NONE, OPAQUE, RAMP])
def test_bmp_with_a_mask_for_alpha_has_one_unless_all_of_it_is_0(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fourth: np.ndarray, header: int
) -> None:
    path = bmp(tmp_path / "a.bmp", bgra(fourth), header=header, compression=3, masks=(*BGR_MASKS, 0xFF000000))
    assert_read(path, None if fourth is NONE else fourth)
    assert not caplog.text


def test_bmp_with_bytes_in_another_order(tmp_path: Path) -> None:
    pixels = np.dstack([RAMP, RGB[..., ::-1]])
    masks = (0xFF000000, 0xFF0000, 0xFF00, 0xFF)
    assert_read(bmp(tmp_path / "a.bmp", pixels, header=108, compression=3, masks=masks), RAMP)
    assert_read(bmp(tmp_path / "b.bmp", pixels, header=108, compression=3, masks=(*masks[:3], 0)), None)


def test_bmp_of_10_bits_is_refused(tmp_path: Path) -> None:
    path = bmp(tmp_path / "a.bmp", bgra(NONE), compression=3, masks=(0x3FF00000, 0xFFC00, 0x3FF))
    with pytest.raises(ImageError, match=r"a\.bmp: its colours are not of 8 bits each"):
        read_image(path)


@pytest.mark.parametrize(
    ("compression", "masks", "shifts"),
    [(0, (), (10, 5, 0)), (3, (0x7C00, 0x3E0, 0x1F), (10, 5, 0)), (3, (0xF800, 0x7E0, 0x1F), (11, 5, 0))],
)
def test_bmp_of_16_bits(tmp_path: Path, compression: int, masks: tuple[int, ...], shifts: tuple[int, int, int]) -> None:
    white = np.full((HEIGHT, WIDTH), 0x7FFF if shifts[0] == 10 else 0xFFFF, "<u2")
    white[:, 1:] = 0
    white[:, 3] = 0x1F << shifts[0]
    # Rows end at multiples of four bytes.
    rows = np.concatenate([white, np.zeros((HEIGHT, 1), "<u2")], axis=1)
    path = bmp(tmp_path / "a.bmp", rows, compression=compression, masks=masks)
    data = bytearray(path.read_bytes())
    data[28:30] = struct.pack("<H", 16)
    path.write_bytes(data)
    assert read_image(path).pixels[7].tolist() == [[255] * 3, [0] * 3, [0] * 3, [255, 0, 0], [0] * 3]


@pytest.mark.parametrize("fourth", [NONE, RAMP])
def test_targa_without_bits_of_alpha_has_none(tmp_path: Path, fourth: np.ndarray) -> None:
    assert_read(targa(tmp_path / "a.tga", bgra(fourth), alpha_bits=0), None)


@pytest.mark.parametrize(
    ("fourth", "alpha_type", "alpha"),
    [(RAMP, None, RAMP), (NONE, None, None), (RAMP, 1, None), (RAMP, 2, None), (RAMP, 3, RAMP)],
)
def test_alpha_of_targa(tmp_path: Path, fourth: np.ndarray, alpha_type: int | None, alpha: np.ndarray | None) -> None:
    assert_read(targa(tmp_path / "a.tga", bgra(fourth), alpha_bits=8, alpha_type=alpha_type), alpha)


def test_targa_whose_colours_are_multiplied_by_alpha(tmp_path: Path) -> None:
    half = np.full_like(RAMP, 51)
    pixels = np.dstack([RGB[..., ::-1] // 5, half])
    assert_read(targa(tmp_path / "a.tga", pixels, alpha_bits=8, alpha_type=4), half, RGB // 5 * 5)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("extra", "alpha"), [(None, None), (0, None), (2, RAMP)])
def test_tiff_has_alpha_where_its_tag_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, big: bool, extra: int | None, alpha: np.ndarray | None
) -> None:
    assert_read(tiff(tmp_path / "a.tif", np.dstack([RGB, RAMP]), extra=extra, big=big), alpha)
    assert ("left out" in caplog.text) == (alpha is None)


def test_wholly_transparent_png_stays_so(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", Image(np.dstack([RGB, NONE])))
    assert_read(tmp_path / "a.png", NONE)


# EXR


def exr(path: Path, names: tuple[str, ...], **sides: int) -> np.ndarray:
    spec = oiio.ImageSpec(4, 3, len(names), oiio.HALF)
    spec.channelnames = names
    for name, value in sides.items():
        setattr(spec, name, value)
    pixels = np.arange(12 * len(names)).reshape(3, 4, -1).astype(np.float16)
    output = oiio.ImageOutput.create("exr")
    assert output.open(str(path), spec) and output.write_image(pixels) and output.close(), output.geterror()
    return pixels


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("Y",), (0,)),
        (("Y", "A"), (0, 1)),
        (("R", "G", "B", "A", "Z"), (0, 1, 2, 3)),
        (("beauty.R", "beauty.G", "beauty.B", "beauty.A", "depth.Z"), (0, 1, 2, 3)),
        (("left.R", "left.G", "left.B", "right.R", "right.G", "right.B"), (0, 1, 2)),
        (("mask.Y", "depth.Z"), (0,)),
    ],
)
def test_exr_colours_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], taken: tuple[int, ...]
) -> None:
    stored = exr(tmp_path / "a.exr", names)
    assert np.array_equal(read_image(tmp_path / "a.exr").pixels, stored[..., list(taken)])
    for name in names[len(taken) :]:
        assert name in caplog.text


@pytest.mark.parametrize("names", [("Z",), ("u", "v"), ("A",), ("R",), ("normal.X", "normal.Y", "normal.Z")])
def test_exr_without_colours_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    exr(tmp_path / "a.exr", names)
    with pytest.raises(ImageError, match=rf"channels {', '.join(names)}: gray \(Y\) or R, G, B"):
        read_image(tmp_path / "a.exr")


def test_exr_of_luminance_and_chroma_is_refused(tmp_path: Path) -> None:
    exr(tmp_path / "a.exr", ("Y", "BY", "RY"))
    with pytest.raises(ImageError, match="luminance and chroma"):
        read_image(tmp_path / "a.exr")


@pytest.mark.parametrize(
    ("window", "written"),
    [
        ({"x": 3, "y": 2, "full_width": 20, "full_height": 16}, (6, 4, 0, 0, 40, 32)),
        ({"x": -2, "y": -1, "full_width": 1, "full_height": 1}, (-4, -2, 0, 0, 2, 2)),
        ({"x": 5, "y": 5, "full_x": 5, "full_y": 5, "full_width": 4, "full_height": 3}, (0, 0, 0, 0, 8, 6)),
    ],
)
def test_exr_keeps_its_place_in_the_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, window: dict[str, int], written: tuple[int, ...]
) -> None:
    exr(tmp_path / "a.exr", ("R", "G", "B"), **window)
    image = read_image(tmp_path / "a.exr")
    larger = Image(image.pixels.repeat(2, 0).repeat(2, 1), linear=True, metadata=image.metadata)
    write_image(tmp_path / "b.exr", larger)
    spec = oiio.ImageInput.open(str(tmp_path / "b.exr")).spec()
    assert (spec.x, spec.y, spec.full_x, spec.full_y, spec.full_width, spec.full_height) == written
    assert np.array_equal(read_image(tmp_path / "b.exr").pixels, larger.pixels)
    assert not caplog.text
    write_image(tmp_path / "b.png", image)
    assert ("only EXR files keep its place" in caplog.text) == ("full_x" not in window)
