"""Metadata that would take too much: hidden from the decoder, dropped with a warning; the rest is kept."""

import struct
import zlib
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from hat_sr.image import bounds
from hat_sr.image.bounds import Edit, edited, within_bounds
from hat_sr.image.containers import Blocks, write_blocks
from hat_sr.image.decode import read_header, sampled
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image, Metadata
from hat_sr.image.reader import ImageFile
from hat_sr.image.tiff import ASCII, BYTE, add_tags

PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, *chunks: bytes) -> Path:
    write_image(path, Image(PIXELS))
    data = path.read_bytes()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    return path


def exif(num_entries: int, num_bytes: int) -> bytes:
    """So many texts that all lie in the same bytes."""
    entries = b"".join(struct.pack("<HHII", 0x010E + i, 2, num_bytes - i, 8) for i in range(num_entries))
    return (
        b"II*\0"
        + struct.pack("<I", 8 + num_bytes)
        + b"x" * num_bytes
        + struct.pack("<H", num_entries)
        + entries
        + bytes(4)
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests are quick."""
    monkeypatch.setattr(bounds, "MAX_BYTES", 100_000)
    monkeypatch.setattr(bounds, "MAX_ENTRIES", 100)


def test_the_bounds() -> None:
    assert (bounds.MAX_BYTES, bounds.MAX_ENTRIES) == (16 << 20, 10_000)


@pytest.mark.parametrize(
    ("edits", "copy", "names"),
    [
        ([Edit("a", 2, 5, b"-"), Edit("b", 4, 7, b"+"), Edit("c", 8, 9)], b"01-5679", {"a", "c"}),
        ([Edit("a", 2, 5, b"-"), Edit("b", 2, 5, b"+")], b"01-56789", {"a"}),
        ([Edit("a", 2, 5, b"-"), Edit("b", 5, 6, b"+")], b"01-+6789", {"a", "b"}),
        ([], b"0123456789", set()),
    ],
)
def test_of_edits_that_overlap_the_first_is_done(
    tmp_path: Path, edits: list[Edit], copy: bytes, names: set[str]
) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert edited(tmp_path / "a", tmp_path / "b", edits) == names
    assert (tmp_path / "b").read_bytes() == copy


def test_nothing_is_copied_for_usual_files(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".webp", ".tif", ".bmp", ".exr"):
        path = tmp_path / f"a{suffix}"
        write_image(path, Image(PIXELS, metadata=Metadata(xmp=b"<a/>" if suffix in (".jpg", ".png") else None)))
        with within_bounds(path, name=path) as same:
            assert same == path


@pytest.mark.parametrize(
    "data",
    [
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(200_000))),
        chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(200_000))),
        chunk(b"iCCP", b"Title\0\0" + zlib.compress(bytes(200_000))),
        b"".join(chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(60_000))) for _ in range(3)),
        b"".join(chunk(b"tEXt", b"k%d\0v" % i) for i in range(200)),
        chunk(b"eXIf", exif(50, 10_000)),
    ],
    ids=["xmp", "text", "profile", "texts", "many", "exif"],
)
@pytest.mark.usefixtures("small")
def test_png(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = png(tmp_path / "a.png", chunk(b"tEXt", b"Author\0me"), data)
    assert read_header(path).width == 3
    assert not caplog.text
    image = read_image(path)
    assert caplog.text.count("metadata beyond") == 1
    assert np.array_equal(image.pixels, PIXELS)
    metadata = image.metadata
    assert metadata.carried[0] == ("tEXt", b"Author\0me")
    assert metadata.xmp is metadata.exif is metadata.icc is None
    assert len(metadata.carried) <= 100


def test_a_bomb_is_not_inflated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inflater = zlib.compressobj(9)
    bomb = b"".join(inflater.compress(bytes(1 << 20)) for _ in range(64)) + inflater.flush()
    path = png(tmp_path / "a.png", chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb))
    assert read_image(path).metadata.xmp is None
    assert "metadata beyond 16 MB or 10000 entries is dropped: iTXt" in caplog.text


@pytest.mark.usefixtures("small")
def test_a_sample_is_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = png(tmp_path / "a.png", chunk(b"tEXt", b"Comment\0" + bytes(200_000)))
    sizes = []

    def remembered(file: ImageFile, path: Path, *, name: Path, page: int | None) -> None:
        sizes.append(path.stat().st_size)
        kept(file, path, name=name, page=page)

    kept = ImageFile.__init__
    monkeypatch.setattr(ImageFile, "__init__", remembered)
    with sampled(path) as bands:
        assert np.array_equal(next(bands), PIXELS)
    assert len(sizes) == 1
    assert sizes[0] < 10_000 < path.stat().st_size


@pytest.mark.usefixtures("small")
def test_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jpg"
    records = b"".join(b"\x1c\x02\x19\0\5%05d" % i for i in range(50))
    iptc = b"Photoshop 3.0\x008BIM\4\4\0\0" + struct.pack(">I", len(records)) + records
    pieces = (("COM", b"first"), *[("APP13", iptc)] * 10, *[("COM", b"more")] * 100)
    write_image(path, Image(PIXELS))
    write_blocks(path, Blocks(exif(50, 10_000), b"<a/>", pieces))
    metadata = read_image(path).metadata
    assert (metadata.exif, metadata.xmp) == (None, b"<a/>")
    assert [name for name, _ in metadata.carried].count("APP13") == 1
    assert len(metadata.carried) < 100
    assert "is dropped: APP1, APP13, COM" in caplog.text


@pytest.mark.usefixtures("small")
def test_webp(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "a.webp", Image(PIXELS))
    write_blocks(tmp_path / "a.webp", Blocks(exif(50, 10_000), b"<a/>"))
    image = read_image(tmp_path / "a.webp")
    assert (image.metadata.exif, image.metadata.xmp) == (None, b"<a/>")
    assert np.array_equal(image.pixels, PIXELS)
    assert "is dropped: EXIF" in caplog.text


@pytest.mark.usefixtures("small")
def test_tiff(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.tif"
    write_image(path, Image(PIXELS, metadata=Metadata(attributes=(("Artist", "string", "me"),))))
    add_tags(path, {700: (BYTE, bytes(200_000)), 0x010E: (ASCII, b"a" * 200_000)})
    image = read_image(path)
    assert np.array_equal(image.pixels, PIXELS)
    assert image.metadata.xmp is None
    assert {name: value for name, _, value in image.metadata.attributes} == {"Artist": "me"}
    assert "is dropped: tag 270, tag 700" in caplog.text


@pytest.mark.usefixtures("small")
def test_exr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = oiio.ImageSpec(3, 2, 3, oiio.HALF)
    for i in range(150):
        spec.attribute(f"name{i:03}", i)
    spec.attribute("zz", "a" * 200_000)
    output = oiio.ImageOutput.create("openexr")
    pixels = PIXELS.astype(np.float16)
    assert output.open(str(tmp_path / "a.exr"), spec) and output.write_image(pixels) and output.close()
    image = read_image(tmp_path / "a.exr")
    assert np.array_equal(image.pixels, pixels)
    assert 80 < len(image.metadata.attributes) <= 100
    assert "is dropped: attributes" in caplog.text


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".exr"])
def test_files_cut_short_do_no_harm(tmp_path: Path, suffix: str) -> None:
    pixels = PIXELS.astype(np.float16) if suffix == ".exr" else PIXELS
    path = tmp_path / f"a{suffix}"
    write_image(path, Image(pixels, metadata=Metadata(xmp=b"<a/>", exif=exif(3, 20), in_blocks=True)))
    data = path.read_bytes()
    for length in range(1, len(data), 7):
        path.write_bytes(data[:length])
        with within_bounds(path, name=path) as same:
            assert same == path
