"""Files that are not read say what they are, under whatever name."""

import struct
from pathlib import Path

import PIL.Image
import pytest

from hat_sr.errors import ImageError
from hat_sr.image.io import read_image


def iso_media(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 4 + len(body)) + body + bytes(400)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".exr", ".bmp", ".gif", ""])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (iso_media(b"avif", b"mif1", b"avif"), "an AVIF image"),
        (iso_media(b"mif1", b"mif1", b"avif"), "an AVIF image"),
        (iso_media(b"heic", b"mif1", b"heic"), "a HEIC image"),
        (iso_media(b"isom", b"iso2", b"avc1"), r"a video \(MP4"),
        (iso_media(b"crx "), "a camera.s raw file"),
        (b"\x1aE\xdf\xa3" + bytes(400), r"a video \(Matroska"),
        (b"RIFF\xff\0\0\0AVI LIST" + bytes(400), "a video or sound file"),
        (b"%PDF-1.7\n" + bytes(400), "a PDF document"),
        (b"PK\x03\x04" + bytes(400), "a ZIP archive"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page"),
        (b"\xef\xbb\xbf\n <HTML><body>Not found</body></html>", "a web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>', "an SVG drawing"),
        (b'{"error": "no such image"}', "text, not an image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
        (bytes(5000), "nothing but zeros"),
    ],
)
def test_foreign_content(tmp_path: Path, suffix: str, content: bytes, what: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(ImageError, match=f"a{suffix}: this is {what}"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (50000, "Zstandard"),
        (34925, "LZMA"),
        (34887, "LERC"),
        (50002, "JPEG XL"),
        (34712, "JPEG 2000"),
        (60001, "60001"),
    ],
)
def test_tiff_of_a_compression_that_is_not_read(tmp_path: Path, code: int, name: str) -> None:
    tags = [(256, 2), (257, 2), (258, 8), (259, code), (262, 1), (273, 130), (277, 1), (278, 2), (279, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    data = b"II" + struct.pack("<HIH", 42, 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(data.ljust(130, b"\0") + bytes([1, 2, 3, 4]))
    with pytest.raises(ImageError, match=f"compressed by .*{name}, which is not read") as error:
        read_image(tmp_path / "a.tif")
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_file_of_a_known_kind_that_does_not_open_is_called_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    PIL.Image.linear_gradient("L").convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match="damaged, cut short, or of a variant that is not read"):
        read_image(path)
