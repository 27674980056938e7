"""What stays of EXIF, XMP and colour profiles, in every container. The EXIF block is built here, byte by byte."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.image import xmp
from hat_sr.image.containers import Blocks, read_blocks, write_blocks
from hat_sr.image.exif import Scaling, scaled, upright
from hat_sr.image.icc import icc_fits, icc_is_linear
from hat_sr.image.io import read_image, write_image
from hat_sr.image.metadata import read_metadata
from hat_sr.image.pixels import Image, Metadata

THUMBNAIL = b"\xff\xd8 a small picture \xff\xd9"
NOTE = b"a note only its maker understands"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" tiff:ImageWidth="3">'
    b"<exif:PixelXDimension>3</exif:PixelXDimension><exif:PixelYDimension>2</exif:PixelYDimension>"
    b"</rdf:Description></x:xmpmeta>"
)


def exif(order: str = "<", *, orientation: int = 6) -> bytes:
    """IFD0 (orientation, camera IFD), IFD1 (thumbnail), camera IFD (exposure, sizes, maker note), their data."""

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        packed = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        return struct.pack(order + "HHI", tag, kind, count) + packed

    def directory(entries: list[bytes], following: int) -> bytes:
        return struct.pack(order + "H", len(entries)) + b"".join(entries) + struct.pack(order + "I", following)

    ifd1, camera = 8 + 2 + 24 + 4, 8 + 2 + 24 + 4 + 2 + 24 + 4
    data = camera + 2 + 48 + 4
    rational = struct.pack(order + "II", 1, 250)
    return (
        {"<": b"II", ">": b"MM"}[order]
        + struct.pack(order + "HI", 42, 8)
        + directory([entry(0x0112, 3, 1, orientation), entry(0x8769, 4, 1, camera)], ifd1)
        + directory([entry(0x0201, 4, 1, data + 8 + len(NOTE)), entry(0x0202, 4, 1, len(THUMBNAIL))], 0)
        + directory(
            [
                entry(0x829A, 5, 1, data),
                entry(0x927C, 7, len(NOTE), data + 8),
                entry(0xA002, 3, 1, 3),
                entry(0xA003, 4, 1, 2),
            ],
            0,
        )
        + rational
        + NOTE
        + THUMBNAIL
    )


def tags(block: bytes, start: int | None = None) -> dict[int, int]:
    """Tag → first number, of a directory and those it leads to: a reader of its own, to check the code against."""
    order = {b"II": "<", b"MM": ">"}[block[:2]]
    at = struct.unpack_from(order + "I", block, 4)[0] if start is None else start
    (count,) = struct.unpack_from(order + "H", block, at)
    found = {}
    for i in range(count):
        tag, kind = struct.unpack_from(order + "HH", block, at + 2 + 12 * i)
        (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), block, at + 10 + 12 * i)
    if start is None:
        (found[-1],) = struct.unpack_from(order + "I", block, at + 2 + 12 * count)
        if 0x8769 in found:
            found |= tags(block, found[0x8769])
    return found


def profile(space: bytes, curve: bytes) -> bytes:
    name = b"kTRC" if space == b"GRAY" else b"rTRC"
    curve += bytes(range(64))  # libpng passes over profiles that compress to less than about 80 bytes
    start = struct.pack(">I4xI4s4s4s", 144 + len(curve), 0x02100000, b"mntr", space, b"XYZ ")
    header = start + bytes(12) + b"acsp" + bytes(28) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D) + bytes(48)
    return header + struct.pack(">I4sII", 1, name, 144, len(curve)) + curve


GAMMA = profile(b"RGB ", b"curv" + struct.pack(">IIH", 0, 1, 0x0233))
GRAY_GAMMA = profile(b"GRAY", b"curv" + struct.pack(">IIH", 0, 1, 0x0233))


# EXIF and XMP blocks


@pytest.mark.parametrize("order", ["<", ">"])
def test_upright_sets_orientation_and_drops_the_thumbnail(order: str) -> None:
    assert THUMBNAIL in exif(order)
    block = upright(exif(order))
    assert tags(block)[0x0112] == 1
    assert tags(block)[-1] == 0
    assert THUMBNAIL not in block
    assert b"small picture" not in block
    assert NOTE in block
    assert block.index(NOTE) == exif(order).index(NOTE)  # maker notes hold offsets: nothing may move


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [(1, 1), (65535, 65536), (200000, 3)])
def test_scaled_sets_sizes(order: str, size: tuple[int, int]) -> None:
    found = tags(scaled(exif(order), Scaling(width=size[0], height=size[1])))
    assert (found[0xA002], found[0xA003]) == size
    assert found[0x0112] == 6


def test_a_block_without_a_thumbnail_only_changes_its_orientation() -> None:
    block = upright(exif())
    assert upright(block) == block


@given(st.binary(max_size=64) | st.binary(max_size=200).map(lambda tail: b"II*\0\x08\0\0\0" + tail))
def test_any_bytes_are_a_block_or_a_value_error(data: bytes) -> None:
    for change in (
        upright,
        lambda block: scaled(block, Scaling(width=70000, height=2, x=Fraction(3), y=Fraction(1, 3))),
    ):
        try:
            changed = change(data)
        except ValueError:
            continue
        assert len(changed) <= len(data)


def test_xmp() -> None:
    assert b'tiff:Orientation="1"' in xmp.upright(XMP)
    sized = xmp.scaled(XMP, Scaling(width=12, height=8))
    assert b'tiff:ImageWidth="12"' in sized
    assert b"<exif:PixelXDimension>12</exif:PixelXDimension><exif:PixelYDimension>8<" in sized
    assert b'tiff:Orientation="6"' in sized


# Containers


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_blocks_go_in_and_come_out_and_pixels_stay(tmp_path: Path, suffix: str, channels: int) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = np.random.default_rng(0).integers(1, 256, (3, 5, channels), dtype=np.uint8)
    write_image(path, Image(pixels))
    before = read_image(path).pixels
    write_blocks(path, Blocks(exif(), XMP))
    assert read_blocks(path) == Blocks(exif(), XMP)
    spec = oiio.ImageInput.open(str(path)).spec()  # an independent reader finds it too
    assert spec.get_int_attribute("Orientation") == 6
    write_blocks(path, Blocks(exif(orientation=1)))
    assert read_blocks(path) == Blocks(exif(orientation=1))
    assert np.array_equal(read_image(path).pixels, before)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("quality", [None, 80])
def test_webp_of_both_kinds(tmp_path: Path, quality: int | None) -> None:
    write_image(tmp_path / "a.webp", Image(np.full((3, 5, 3), 9, np.uint8)), quality=quality)
    write_blocks(tmp_path / "a.webp", Blocks(exif(orientation=1)))
    data = (tmp_path / "a.webp").read_bytes()
    assert data[12:16] == b"VP8X"
    assert data[24:30] == b"\x04\0\0\x02\0\0"
    assert read_image(tmp_path / "a.webp").pixels.shape == (3, 5, 3)


def test_a_block_too_large_for_jpeg_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "a.jpg", Image(np.zeros((3, 5, 3), np.uint8)))
    write_blocks(tmp_path / "a.jpg", Blocks(exif() + bytes(70000), XMP))
    assert read_blocks(tmp_path / "a.jpg") == Blocks(None, XMP)
    assert "too large for JPEG" in caplog.text


def test_a_segment_shorter_than_its_own_length_does_no_harm(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", Image(np.zeros((2, 3, 3), np.uint8)))
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xeb\0\0" + data[2:])
    assert read_blocks(tmp_path / "a.jpg") == Blocks()


def test_other_files_have_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    assert read_blocks(tmp_path / "a.txt") == Blocks()
    with pytest.raises(ValueError, match="not JPEG"):
        write_blocks(tmp_path / "a.txt", Blocks(exif()))
    assert (tmp_path / "a.txt").read_bytes() == b"hello"


@given(cut=st.integers(0, 400), suffix=st.sampled_from([".jpg", ".png", ".webp"]))
def test_reading_blocks_of_a_cut_file_never_fails(
    tmp_path_factory: pytest.TempPathFactory, cut: int, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("cut") / f"a{suffix}"
    write_image(path, Image(np.zeros((3, 5, 3), np.uint8), metadata=Metadata(exif=exif(), xmp=XMP)))
    whole = read_blocks(path)
    path.write_bytes(path.read_bytes()[:cut])
    found = read_blocks(path)
    assert whole.exif.startswith(found.exif or b"")
    assert whole.xmp.startswith(found.xmp or b"")


# The whole way


@pytest.mark.parametrize("target", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp"])
def test_exif_is_kept_upright_and_of_the_new_size(tmp_path: Path, source: str, target: str) -> None:
    write_image(tmp_path / f"a{source}", Image(np.zeros((2, 3, 3), np.uint8)))
    write_blocks(tmp_path / f"a{source}", Blocks(exif(), XMP))
    image = read_image(tmp_path / f"a{source}")
    assert (image.height, image.width) == (3, 2)  # orientation 6
    larger = Image(np.zeros((12, 8, 3), np.uint8), metadata=image.metadata)
    write_image(tmp_path / f"b{target}", larger)
    block, packet, *_ = read_blocks(tmp_path / f"b{target}")
    assert block is not None
    assert packet is not None
    found = tags(block)
    assert (found[0x0112], found[0xA002], found[0xA003]) == (1, 8, 12)
    assert NOTE in block
    assert struct.pack("<II", 1, 250) in block
    assert THUMBNAIL not in block
    assert b'tiff:Orientation="1"' in packet
    assert read_image(tmp_path / f"b{target}").pixels.shape == (12, 8, 3)


def test_tiff_keeps_its_tags_and_updates_sizes(tmp_path: Path) -> None:
    spec = oiio.ImageSpec(3, 2, 3, oiio.UINT8)
    for name, value in {
        "Make": "Camera",
        "Exif:PixelXDimension": 3,
        "Exif:PixelYDimension": 2,
        "Orientation": 6,
    }.items():
        spec.attribute(name, value)
    spec.attribute("GPS:Latitude", oiio.TypeDesc("float[3]"), (48.0, 51.0, 29.5))
    spec.attribute("XResolution", 300.0)
    spec.attribute("YResolution", 300.0)
    spec.attribute("ResolutionUnit", "in")
    output = oiio.ImageOutput.create("tiff")
    assert output.open(str(tmp_path / "a.tif"), spec)
    assert output.write_image(np.zeros((2, 3, 3), np.uint8))
    assert output.close()
    metadata = read_image(tmp_path / "a.tif").metadata
    for suffix in (".tif", ".jpg", ".png"):
        write_image(tmp_path / f"b{suffix}", Image(np.zeros((12, 8, 3), np.uint8), metadata=metadata))
        written = oiio.ImageInput.open(str(tmp_path / f"b{suffix}")).spec()
        assert written.get_string_attribute("Make") == "Camera"
        assert written.get_int_attribute("Exif:PixelXDimension") == 8
        assert written.get_int_attribute("Exif:PixelYDimension") == 12
        assert written.get_int_attribute("Orientation", 1) == 1
        assert written.get_float_attribute("XResolution") == pytest.approx(1200, abs=0.1)
        assert written.getattribute("GPS:Latitude")[2] == pytest.approx(29.5)


def test_names_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    spec = oiio.ImageSpec(4, 4, 3, oiio.HALF)
    spec.attribute("comment", "text")
    output = oiio.ImageOutput.create("exr")
    assert output.open(str(tmp_path / "a.exr"), spec)
    assert output.write_image(np.full((4, 4, 3), 0.5, np.float16)) and output.close()
    data = (tmp_path / "a.exr").read_bytes()
    assert b"comment\0" in data
    (tmp_path / "a.exr").write_bytes(data.replace(b"comment\0", b"\xe4omment\0"))
    image = read_image(tmp_path / "a.exr")
    for name in ("b.exr", "b.png", "b.tif"):
        write_image(tmp_path / name, image)


def test_text_that_is_not_utf8_does_no_harm(tmp_path: Path) -> None:
    artist = b"Jos\xe9\0\0\0\0"
    block = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x013B, 2, len(artist), 26) + bytes(4) + artist
    write_image(tmp_path / "a.jpg", Image(np.zeros((2, 3, 3), np.uint8)))
    write_blocks(tmp_path / "a.jpg", Blocks(block))
    image = read_image(tmp_path / "a.jpg")
    write_image(tmp_path / "b.tif", image)
    assert oiio.ImageInput.open(str(tmp_path / "b.tif")).spec().get_string_attribute("Artist") == "José"
    write_image(tmp_path / "b.jpg", image)
    assert b"Jos\xe9\0" in (tmp_path / "b.jpg").read_bytes()


def test_a_damaged_block_is_dropped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "a.png", Image(np.zeros((2, 3, 3), np.uint8)))
    write_blocks(tmp_path / "a.png", Blocks(b"II*\0\xff\xff\0\0"))
    assert read_image(tmp_path / "a.png").metadata.exif is None
    assert "EXIF block is damaged" in caplog.text


# Colour profiles


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_a_profile_that_fits_is_kept(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / f"a{suffix}", Image(np.zeros((2, 3, 3), np.uint8), metadata=Metadata(icc=GAMMA)))
    assert read_image(tmp_path / f"a{suffix}").metadata.icc == GAMMA
    assert not caplog.text


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_gray_profile_is_kept_with_gray(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", Image(np.zeros((2, 3, 1), np.uint8), metadata=Metadata(icc=GRAY_GAMMA)))
    assert read_image(tmp_path / f"a{suffix}").metadata.icc == GRAY_GAMMA


@pytest.mark.parametrize(
    ("name", "channels", "icc"),
    [("a.webp", 1, GRAY_GAMMA), ("a.bmp", 3, GAMMA), ("a.exr", 3, GAMMA), ("a.png", 1, GAMMA)],
)
def test_a_profile_that_does_not_fit_is_dropped_with_a_warning(
    tmp_path: Path, name: str, channels: int, icc: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / name, Image(np.zeros((2, 3, channels), np.uint8), metadata=Metadata(icc=icc)))
    assert "colour profile" in caplog.text
    assert read_image(tmp_path / name).metadata.icc is None


def test_a_cmyk_profile_is_dropped_on_reading(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = oiio.ImageSpec(3, 2, 3, oiio.UINT8)
    cmyk = np.frombuffer(profile(b"CMYK", b""), np.uint8)
    spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(cmyk)}]"), cmyk)
    output = oiio.ImageOutput.create("tiff")
    assert output.open(str(tmp_path / "a.tif"), spec)
    assert output.write_image(np.zeros((2, 3, 3), np.uint8))
    assert output.close()
    assert read_image(tmp_path / "a.tif").metadata.icc is None
    assert "CMYK) does not fit" in caplog.text


def test_a_profile_that_libpng_would_refuse_does_not_stop_a_png(tmp_path: Path) -> None:
    faulty = GAMMA + b"more than its header says"
    write_image(tmp_path / "a.png", Image(np.zeros((2, 3, 3), np.uint8), metadata=Metadata(icc=faulty)))
    assert read_image(tmp_path / "a.png").pixels.shape == (2, 3, 3)


def test_a_png_with_a_profile_makes_no_other_claim(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", Image(np.zeros((2, 3, 3), np.uint8), metadata=Metadata(icc=GAMMA)))
    data = (tmp_path / "a.png").read_bytes()
    assert b"iCCP" in data
    assert not any(chunk in data for chunk in (b"sRGB", b"gAMA", b"cHRM"))


@pytest.mark.parametrize(
    ("curve", "linear"),
    [
        (b"curv" + struct.pack(">II", 0, 0), True),
        (b"curv" + struct.pack(">IIH", 0, 1, 0x0100), True),
        (b"curv" + struct.pack(">IIH", 0, 1, 0x0233), False),
        (b"curv" + struct.pack(">IIHHH", 0, 3, 0, 9000, 65535), False),
        (b"para" + struct.pack(">IHHI", 0, 0, 0, 0x10000), True),
        (b"para" + struct.pack(">IHHI", 0, 3, 0, 0x10000), False),
        (b"cur", False),
        (b"", False),
    ],
)
def test_linear_profiles(curve: bytes, linear: bool) -> None:
    assert icc_is_linear(profile(b"RGB ", curve)) == linear
    assert icc_is_linear(profile(b"GRAY", curve)) == linear


def test_the_profile_decides_whether_floats_are_light(tmp_path: Path) -> None:
    light = profile(b"RGB ", b"curv" + struct.pack(">II", 0, 0))
    for icc, linear in ((GAMMA, False), (light, True)):
        pixels = np.zeros((2, 3, 3), np.float32)
        write_image(tmp_path / "a.tif", Image(pixels, linear=linear, metadata=Metadata(icc=icc)))
        assert read_image(tmp_path / "a.tif").linear == linear


def test_a_linear_profile_keeps_integer_tiff_linear(tmp_path: Path) -> None:
    light = profile(b"RGB ", b"curv" + struct.pack(">II", 0, 0))
    pixels = np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 3000
    write_image(tmp_path / "a.tif", Image(pixels, linear=True, metadata=Metadata(icc=light)))
    read = read_image(tmp_path / "a.tif")
    assert read.linear
    assert read.metadata.icc == light
    assert np.array_equal(read.pixels, pixels)


@pytest.mark.parametrize("data", [b"", bytes(20), bytes(200)])
def test_short_profiles(data: bytes) -> None:
    assert not icc_is_linear(data)
    assert not icc_fits(data, 3)


@pytest.mark.parametrize(
    ("name", "quality", "lossy"),
    [
        ("a.jpg", 100, True),
        ("a.webp", 90, True),
        ("a.webp", None, False),
        ("a.png", None, False),
        ("a.tif", None, False),
    ],
)
def test_loss_is_known(tmp_path, name, quality, lossy):
    write_image(tmp_path / name, Image(np.zeros((8, 8, 3), np.uint8)), quality=quality)
    assert read_image(tmp_path / name).metadata.lossy is lossy


def test_loss_in_a_webp_with_metadata(tmp_path):
    """Such a file begins with another chunk."""
    write_image(tmp_path / "a.webp", Image(np.zeros((8, 8, 3), np.uint8), metadata=Metadata(xmp=XMP)), quality=80)
    assert read_image(tmp_path / "a.webp").metadata.lossy


def test_loss_in_a_tiff(tmp_path):
    """OpenImageIO names the compression, but does not write this one."""
    path = tmp_path / "a.tif"
    write_image(path, Image(np.zeros((8, 8, 3), np.uint8)))
    spec = oiio.ImageSpec(8, 8, 3, oiio.UINT8)
    spec.attribute("compression", "jpeg")
    assert read_metadata(spec, path, channels=3, size=(8, 8), name=path).lossy
