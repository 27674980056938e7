"""What metadata tells in pixels grows with the picture; what a kind of file cannot hold is named. Read by Pillow."""

import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import PIL.Image
import pytest
from PIL.ImageCms import ImageCmsProfile, createProfile

from hat_sr.image import geotiff, xmp
from hat_sr.image.containers import Blocks, read_blocks, write_blocks
from hat_sr.image.exif import Scaling, scaled, upright, with_user_comment
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image, Metadata
from hat_sr.image.tiff import DOUBLE, Tags, add_tags, read_tags

SMALL, LARGE = np.zeros((2, 3, 3), np.uint8), np.zeros((8, 12, 3), np.uint8)
DPI = (("XResolution", "float", 150.0), ("YResolution", "float", 75.0), ("ResolutionUnit", "string", "in"))
EXIF, USER_COMMENT = 0x8769, 0x9286
P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, *chunks: bytes) -> Path:
    write_image(path, Image(SMALL))
    data = path.read_bytes()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    return path


def kinds(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append(kind)
        at += 12 + length
    return found


def larger(source: Path, target: Path, *, keep_dpi: bool = False) -> Path:
    """Four times as large, with what the source says."""
    image = read_image(source)
    pixels = np.zeros((4 * image.height, 4 * image.width, image.pixels.shape[2]), image.pixels.dtype)
    write_image(target, replace(image, pixels=pixels), keep_dpi=keep_dpi)
    return target


def block(order: str, entries: dict[int, tuple[int, bytes]]) -> bytes:
    """An EXIF block with these in the camera's directory, and a resolution of 72 by 144 dpi."""
    start = {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}[order] + bytes(6)

    def grown(data: bytes, at: int, new: dict[int, tuple[int, bytes]]) -> bytes:
        tail, offset = Tags(data).extended(at, new)
        return data[:at] + offset + data[at + len(offset) :] + tail

    pair = struct.Struct(order + "II")
    first = {0x011A: (5, pair.pack(72, 1)), 0x011B: (5, pair.pack(144, 1)), 0x0128: (3, struct.pack(order + "H", 2))}
    data = grown(start, 4, first | {EXIF: (4, bytes(4))})
    camera = Tags(data).first().find(EXIF)
    assert camera is not None
    return grown(data, camera.data_at, entries)


def opened(path: Path) -> PIL.Image.Image:
    return PIL.Image.open(BytesIO(path.read_bytes()))


def tiff_dpi(path: Path) -> tuple[float, float]:
    found = opened(path).getexif()
    return float(found[0x011A]), float(found[0x011B])


# Resolution


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("keep", [False, True])
def test_dpi_grows_with_the_picture(tmp_path: Path, suffix: str, keep: bool) -> None:
    write_image(tmp_path / f"a{suffix}", Image(SMALL, metadata=Metadata(attributes=DPI)))
    path = larger(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", keep_dpi=keep)
    dpi = tiff_dpi(path) if suffix == ".webp" else opened(path).info["dpi"]
    assert dpi == pytest.approx((150, 75) if keep else (600, 300), rel=1e-3)


def test_dpi_of_exr(tmp_path: Path) -> None:
    write_image(tmp_path / "a.exr", Image(np.zeros((2, 3, 3), np.float16), metadata=Metadata(attributes=DPI)))
    path = larger(tmp_path / "a.exr", tmp_path / "b.exr")
    assert b"xDensity\0float\0\4\0\0\0" + struct.pack("<f", 600) in path.read_bytes()
    assert b"pixelAspectRatio\0float\0\4\0\0\0" + struct.pack("<f", 0.5) in path.read_bytes()


def test_sides_may_grow_by_different_factors(tmp_path: Path) -> None:
    metadata = Metadata(attributes=DPI, size=(2, 3))
    write_image(tmp_path / "a.tif", Image(np.zeros((4, 9, 3), np.uint8), metadata=metadata))
    assert opened(tmp_path / "a.tif").info["dpi"] == (450, 150)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_resolution_and_places(order: str) -> None:
    entries = {
        0x9214: (3, struct.pack(order + "4H", 1, 2, 3, 40000)),  # subject area
        0xA20E: (5, struct.pack(order + "II", 3000000, 7)),  # focal plane
    }
    growing = Scaling(width=12, height=6, x=Fraction(4), y=Fraction(3), keep_dpi=False)
    tags = Tags(scaled(block(order, entries), growing))
    first, camera = next(tags.all())[:2]
    assert [tags.values(first.find(tag)) for tag in (0x011A, 0x011B)] == [(288, 1), (432, 1)]
    assert tags.values(camera.find(0x9214)) == (4, 6, 12, 65535)
    assert tags.values(camera.find(0xA20E)) == (12000000, 7)
    kept = Tags(scaled(block(order, entries), replace(growing, keep_dpi=True)))
    assert kept.values(kept.first().find(0x011A)) == (72, 1)


def test_exif_of_a_turned_picture(tmp_path: Path) -> None:
    data = block("<", {0x9214: (3, struct.pack("<2H", 1, 2)), 0x9286: (7, b"ASCII\0\0\0hi")})
    tail, offset = Tags(data).extended(4, {0x0112: (3, b"\6\0")})
    tags = Tags(upright(data[:4] + offset + data[8:] + tail))
    first, camera = next(tags.all())[:2]
    assert [tags.values(first.find(tag)) for tag in (0x011A, 0x011B)] == [(144, 1), (72, 1)]
    assert [entry.tag for entry in camera.entries] == [0x9286]
    assert tags.data(camera.entries[0]) == b"ASCII\0\0\0hi"


# XMP


@pytest.mark.parametrize("order", [0, 1])
def test_xmp_sizes(order: int) -> None:
    pairs = {
        "GPano:FullPanoWidthPixels": ("3", "12"),
        "GPano:CroppedAreaImageHeightPixels": ("2", "8"),
        "GPano:CroppedAreaLeftPixels": ("0", "0"),
        "GPano:LargestValidInteriorRectTop": ("1", "4"),
        "GPano:PoseHeadingDegrees": ("3", "3"),
        "tiff:ImageWidth": ("3", "12"),
        "tiff:XResolution": ("720000/10000", "288/1"),
        "stDim:w": ("3", "12"),
        "stDim:unit": ("pixel", "pixel"),
        "crs:CropWidth": ("2.5", "10.0"),
        "crs:CropUnits": ("0", "0"),
        "crs:Exposure": ("1e99999999", "1e99999999"),
    }
    form = ' {}="{}"' if order == 0 else "<{0}>{1}</{0}>"
    before, after = ("".join(form.format(name, pair[i]) for name, pair in pairs.items()).encode() for i in (0, 1))
    growing = Scaling(width=12, height=8, x=Fraction(4), y=Fraction(4))
    assert xmp.scaled(before, growing) == after


def test_xmp_takes_linear_time() -> None:
    growing = Scaling(width=12, height=8, x=Fraction(4), y=Fraction(4))
    for packet in (b" " * (1 << 20), b"<Container:Directory>" * 50_000, b"<Container:Directory" * 50_000):
        assert xmp.without_pointers(xmp.scaled(packet, growing)) == (packet, False)


def test_what_xmp_points_to_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    packet = (
        b'<rdf:Description xmpNote:HasExtendedXMP="0123" GCamera:MotionPhoto="1" dc:format="image/jpeg">'
        b"<Container:Directory><rdf:Seq/></Container:Directory><a:b/></rdf:Description>"
    )
    write_image(tmp_path / "a.jpg", Image(SMALL))
    write_blocks(tmp_path / "a.jpg", Blocks(xmp=packet))
    data = (tmp_path / "a.jpg").read_bytes()
    extension = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"long"
    pieces = [struct.pack(">BBH", 0xFF, 0xE1, len(extension) + 2) + extension, b"\xff\xe2\0\x06MPF\0"]
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"".join(pieces) + data[2:] + b"a video SEFT")
    path = larger(tmp_path / "a.jpg", tmp_path / "b.jpg")
    for what in ("extended XMP", "more pictures (MPF)", "camera's maker", "what its XMP points to"):
        assert what in caplog.text
    assert read_blocks(path).xmp == (
        b'<rdf:Description GCamera:MotionPhoto="0" dc:format="image/jpeg"><a:b/></rdf:Description>'
    )
    assert b"MPF\0" not in path.read_bytes()


def test_profiles_written_as_text_are_dropped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By ImageMagick and by Pillow's older relatives: EXIF in hexadecimal digits, which would go stale."""
    write_image(tmp_path / "a.png", Image(SMALL))
    data = (tmp_path / "a.png").read_bytes()
    texts = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"exif")) + chunk(b"tEXt", b"Title\0kept")
    (tmp_path / "a.png").write_bytes(data[:33] + texts + data[33:])
    path = larger(tmp_path / "a.png", tmp_path / "b.png")
    assert "left out: text 'Raw profile type exif'" in caplog.text
    assert b"Raw profile" not in path.read_bytes() and b"Title\0kept" in path.read_bytes()


@pytest.mark.parametrize("target", [".tif", ".jpg", ".png", ".webp"])
@pytest.mark.parametrize("source", [".tif", ".jpg"])
def test_xmp_of_tiff(tmp_path: Path, source: str, target: str) -> None:
    write_image(tmp_path / f"a{source}", Image(SMALL, metadata=Metadata(xmp=b'<a GPano:FullPanoWidthPixels="3"/>')))
    path = larger(tmp_path / f"a{source}", tmp_path / f"b{target}")
    assert opened(path).info["xmp"] == b'<a GPano:FullPanoWidthPixels="12"/>'


# Text and colour of PNG


def test_text_of_png_stays_as_it_is(tmp_path: Path) -> None:
    texts = (
        chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress("猫 on a wall".encode())),
        chunk(b"tEXt", b"Author\0caf\xe9"),
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"8k")),
    )
    path = larger(png(tmp_path / "a.png", *texts), tmp_path / "b.png")
    assert opened(path).text == {"prompt": "猫 on a wall", "Author": "café", "parameters": "8k"}
    assert all(text in path.read_bytes() for text in texts)
    assert kinds(path) == [b"IHDR", b"iTXt", b"tEXt", b"zTXt", b"IDAT", b"IEND"]


def test_other_text_becomes_text_of_png(tmp_path: Path) -> None:
    spec = oiio.ImageSpec(3, 2, 3, oiio.UINT8)
    spec.attribute("Artist", "café")
    spec.attribute("ImageDescription", "猫")
    output = oiio.ImageOutput.create("tiff")
    assert output.open(str(tmp_path / "a.tif"), spec) and output.write_image(SMALL) and output.close()
    path = larger(tmp_path / "a.tif", tmp_path / "b.png")
    assert opened(path).text.items() >= {"Author": "café", "Description": "猫"}.items()
    assert b"tEXtAuthor\0caf\xe9" in path.read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize(
    ("texts", "comment"),
    [
        ({"parameters": "a wall\nSteps: 20"}, b"ASCII\0\0\0a wall\nSteps: 20"),
        ({"prompt": "猫", "seed": "1"}, b"UNICODE\0" + "prompt: 猫\nseed: 1".encode("utf-16-be")),
    ],
)
def test_text_of_png_becomes_a_comment(
    tmp_path: Path, suffix: str, texts: dict[str, str], comment: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    chunks = [chunk(b"iTXt", key.encode() + bytes(5) + text.encode()) for key, text in texts.items()]
    path = larger(png(tmp_path / "a.png", *chunks), tmp_path / f"b{suffix}")
    assert opened(path).getexif().get_ifd(EXIF)[USER_COMMENT] == comment
    assert not caplog.text


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_comment_moves_nothing(order: str) -> None:
    before = block(order, {0x927C: (7, b"a note only its maker understands")})
    after = with_user_comment(before, "hello")
    assert after is not None
    assert after.index(b"a note only") == before.index(b"a note only")
    tags = Tags(after)
    camera = next(tags.all())[1]
    assert [tags.data(entry) for entry in camera.entries] == [
        b"ASCII\0\0\0hello",
        b"a note only its maker understands",
    ][::-1]
    assert with_user_comment(after, "again") is None


def test_text_that_finds_no_place_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = png(tmp_path / "a.png", chunk(b"tEXt", b"prompt\0" + b"a" * 70_000))
    assert opened(larger(source, tmp_path / "b.jpg")).getexif() == {}
    assert "text 'prompt'" in caplog.text
    caplog.clear()
    for suffix in (".tif", ".bmp"):
        larger(source, tmp_path / f"b{suffix}")
        assert "text 'prompt'" in caplog.text
        caplog.clear()
    larger(source, tmp_path / "b.webp")
    assert not caplog.text


@pytest.mark.parametrize(
    "chunks",
    [
        {b"gAMA": struct.pack(">I", 45455), b"cHRM": P3},
        {b"cICP": bytes((12, 13, 0, 1)), b"sRGB": b"\0", b"gAMA": struct.pack(">I", 45455), b"cHRM": P3},
    ],
)
def test_colour_of_png_is_kept(tmp_path: Path, chunks: dict[bytes, bytes], caplog: pytest.LogCaptureFixture) -> None:
    source = png(tmp_path / "a.png", *(chunk(kind, data) for kind, data in chunks.items()))
    path = larger(source, tmp_path / "b.png")
    assert kinds(path) == [b"IHDR", *chunks, b"IDAT", b"IEND"]
    assert all(chunk(kind, data) in path.read_bytes() for kind, data in chunks.items())
    assert not caplog.text
    larger(source, tmp_path / "b.jpg")
    assert ("cHRM" in caplog.text) == (b"sRGB" not in chunks)


def test_a_profile_and_what_readers_without_one_take(tmp_path: Path) -> None:
    icc = ImageCmsProfile(createProfile("sRGB")).tobytes()
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(icc))
    path = larger(png(tmp_path / "a.png", profile, chunk(b"cHRM", P3)), tmp_path / "b.png")
    assert kinds(path) == [b"IHDR", b"iCCP", b"cHRM", b"IDAT", b"IEND"]
    assert opened(path).info["icc_profile"] == icc


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".exr"])
def test_nothing_empty_is_added(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", Image(SMALL))
    data = (tmp_path / f"a{suffix}").read_bytes()
    assert not any(word in data for word in (b"eXIf", b"oFFs", b"EXIF", b"Exif", b"capDate"))
    if suffix == ".tif":
        assert 0x0132 not in opened(tmp_path / "a.tif").getexif()


# Comments and IPTC of JPEG


def test_comment_and_iptc_of_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def resource(number: int, data: bytes) -> bytes:
        return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)

    iptc = b"\x1c\x02\x78\0\x05hello"
    photoshop = b"Photoshop 3.0\0" + resource(0x03ED, bytes(16)) + resource(0x0404, iptc) + resource(0x040C, b"old")
    write_image(tmp_path / "a.jpg", Image(SMALL))
    write_blocks(tmp_path / "a.jpg", Blocks(carried=(("COM", b"caf\xe9"), ("APP13", photoshop))))
    found = opened(larger(tmp_path / "a.jpg", tmp_path / "b.jpg"))
    assert found.info["comment"] == b"caf\xe9"
    assert found.info["photoshop"] == {0x0404: iptc}  # not the thumbnail and the resolution of the smaller picture
    assert not caplog.text
    assert opened(larger(tmp_path / "a.jpg", tmp_path / "b.png")).text == {"Comment": "café"}
    assert "IPTC" in caplog.text


@pytest.mark.parametrize("size", [6, 1 << 16, (1 << 32) - 1])
def test_iptc_that_is_cut_short_is_none(tmp_path: Path, size: int) -> None:
    photoshop = b"Photoshop 3.0\x008BIM\4\4\0\0" + struct.pack(">I", size) + b"1234"
    write_image(tmp_path / "a.jpg", Image(SMALL))
    write_blocks(tmp_path / "a.jpg", Blocks(carried=(("APP13", photoshop),)))
    assert read_blocks(tmp_path / "a.jpg").carried == ()


# GeoTIFF


PLACE = {33550: (10.0, 20.0, 0.0), 33922: (3.0, 2.0, 0.0, 5000.0, 6000.0, 0.0)}
MATRIX = (10.0, 1.0, 0.0, 5000.0, 2.0, -20.0, 0.0, 6000.0, *[0.0] * 7, 1.0)


def geo(path: Path, keys: tuple[int, ...] = (1, 1, 0, 0)) -> Path:
    write_image(path, Image(SMALL))
    tags = {tag: (DOUBLE, struct.pack(f"<{len(values)}d", *values)) for tag, values in PLACE.items()}
    add_tags(path, tags | {34735: (3, struct.pack(f"<{len(keys)}H", *keys)), 42113: (2, b"-9\0")})
    return path


def test_places_on_earth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = larger(geo(tmp_path / "a.tif"), tmp_path / "b.tif")
    found = opened(path).tag_v2
    assert found[33550] == (2.5, 5.0, 0.0)
    assert found[33922] == (12.0, 8.0, 0.0, 5000.0, 6000.0, 0.0)
    assert found[34735] == (1, 1, 0, 0)
    assert found[42113] == "-9"
    assert not caplog.text
    larger(tmp_path / "a.tif", tmp_path / "b.png")
    assert "GeoTIFF" in caplog.text


def test_places_that_are_cut_short_are_none(tmp_path: Path) -> None:
    path = geo(tmp_path / "a.tif")
    add_tags(path, {33922: (DOUBLE, bytes(96))})
    data = path.read_bytes()
    at = data.rindex(struct.pack("<HHI", 33922, 12, 12)) + 8
    path.write_bytes(data[:at] + struct.pack("<I", len(data) - 20) + data[at + 4 :])
    assert "33922" not in dict(read_blocks(path).carried)
    assert 33922 not in opened(larger(path, tmp_path / "b.tif")).tag_v2


def test_places_of_points(tmp_path: Path) -> None:
    path = larger(geo(tmp_path / "a.tif", keys=(1, 1, 0, 1, 1025, 0, 1, 2)), tmp_path / "b.tif")
    assert opened(path).tag_v2[33922][:2] == (13.5, 9.5)


@pytest.mark.parametrize("point", [False, True])
def test_a_matrix_tells_the_same_place(point: bool) -> None:
    shift = 0.5 if point else 0
    keys = ("34735", struct.pack("<8H", 1, 1, 0, 1, 1025, 0, 1, 2 if point else 1))
    growing = Scaling(width=12, height=6, x=Fraction(4), y=Fraction(3))
    ((_, data), _) = geotiff.scaled((("34264", struct.pack("<16d", *MATRIX)), keys), growing)
    before, after = np.array(MATRIX).reshape(4, 4), np.array(struct.unpack("<16d", data)).reshape(4, 4)
    place = before @ (2, 5, 0, 1)
    assert after @ ((2 + shift) * 4 - shift, (5 + shift) * 3 - shift, 0, 1) == pytest.approx(place)


def test_places_of_a_turned_picture_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add_tags(geo(tmp_path / "a.tif"), {0x0112: (3, b"\6\0")})
    assert 33550 not in opened(larger(tmp_path / "a.tif", tmp_path / "b.tif")).tag_v2
    assert "before it was turned" in caplog.text


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tags_of_every_kind_of_tiff(tmp_path: Path, order: str, big: bool) -> None:
    path = tmp_path / "a.tif"
    start = {"<": b"II", ">": b"MM"}[order]
    if big:
        path.write_bytes(start + struct.pack(order + "HHHQQQ", 43, 8, 0, 16, 0, 0))
    else:
        path.write_bytes(start + struct.pack(order + "HIHI", 42, 8, 0, 0))
    add_tags(path, {33550: (DOUBLE, struct.pack("<3d", 1, 2, 3)), 34735: (3, struct.pack("<2H", 4, 5))})
    add_tags(path, {34735: (3, struct.pack("<H", 6))})
    assert read_tags(path, {33550: DOUBLE, 34735: 3}) == {
        33550: struct.pack("<3d", 1, 2, 3),
        34735: struct.pack("<H", 6),
    }


def test_exif_of_tiff_in_webp(tmp_path: Path) -> None:
    made = Metadata(attributes=(("Make", "string", "Camera"), *DPI))
    write_image(tmp_path / "a.tif", Image(SMALL, metadata=made))
    assert opened(larger(tmp_path / "a.tif", tmp_path / "b.webp")).getexif()[0x010F] == "Camera"
