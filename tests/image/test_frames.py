"""Files of more than one picture: what is said of them, and pages of a TIFF."""

import base64
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from hat_sr.errors import ImageError
from hat_sr.image.decode import read_header
from hat_sr.image.description import fitted_description
from hat_sr.image.io import read_image, write_image, write_pages
from hat_sr.image.pixels import Image, Metadata

# By Pillow: 2×1 pixels, red and blue, then blue and red, then red and blue again.
GIF = base64.b64decode(
    "R0lGODlhAgABAIEAAP8AAAAA/wAAAAAAACH/C05FVFNDQVBFMi4wAwEAAAAsAAAAAAIAAQAACAUAAQQICAAh+QQAAAAAACwAAAAAAgABAIEAAP//AAAA"
    "AAAAAAAIBQABBAgIACH5BAAAAAAALAAAAAACAAEAgf8AAAAA/wAAAAAAAAgFAAEECAgAOw=="
)


def gray(*values: int) -> Image:
    return Image(np.array(values, np.uint8).reshape(1, -1, 1))


def pages_of(path: Path) -> list[list[int]]:
    return [read_image(path, page=page).pixels.ravel().tolist() for page in range(read_header(path).num_pages)]


def tiff(path: Path, *pages: Image, subfile_types: tuple[int, ...] = (), description: str = "") -> Path:
    output = oiio.ImageOutput.create("tiff")
    for number, image in enumerate(pages):
        spec = oiio.ImageSpec(image.width, image.height, image.pixels.shape[2], oiio.UINT8)
        spec.attribute("tiff:subfiletype", (*subfile_types, *[0] * len(pages))[number])
        if not number and description:
            spec.attribute("ImageDescription", description)
        assert output.open(str(path), spec, "AppendSubimage" if number else "Create"), output.geterror()
        assert output.write_image(image.pixels)
    assert output.close()
    return path


def animated_png(path: Path, num_frames: int) -> Path:
    write_image(path, gray(1, 2))
    data = path.read_bytes()
    payload = struct.pack(">II", num_frames, 0)
    chunk = struct.pack(">I", 8) + b"acTL" + payload + struct.pack(">I", zlib.crc32(b"acTL" + payload))
    path.write_bytes(data[:33] + chunk + data[33:])
    return path


def animated_webp(path: Path, num_frames: int) -> Path:
    write_image(path, gray(1, 2))
    frame = path.read_bytes()[12:]
    head = bytes(6) + struct.pack("<I", 1)[:3] + struct.pack("<I", 0)[:3] + struct.pack("<I", 100)[:3] + b"\0"
    chunks = [(b"VP8X", b"\x02\0\0\0\1\0\0\0\0\0"), (b"ANIM", bytes(6)), *[(b"ANMF", head + frame)] * num_frames]
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    return path


def test_the_first_frame_of_animations_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.gif").write_bytes(GIF)
    for path, count, pixels in (
        (tmp_path / "a.gif", 3, [255, 0, 0, 0, 0, 255]),
        (animated_png(tmp_path / "a.png", 5), 5, [1, 2]),
        (animated_webp(tmp_path / "a.webp", 4), 4, [1, 1, 1, 2, 2, 2]),
    ):
        caplog.clear()
        assert read_image(path).pixels.ravel().tolist() == pixels
        assert caplog.messages == [f"{path}: it holds {count} pictures: the first of {count} is taken"]


def test_an_animation_of_one_frame_is_a_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_image(animated_png(tmp_path / "a.png", 1))
    read_image(animated_webp(tmp_path / "a.webp", 1))
    assert not caplog.text


@pytest.mark.parametrize("keep", range(14, len(GIF), 9))
def test_an_animation_cut_short_does_not_trip_the_count(tmp_path: Path, keep: int) -> None:
    (tmp_path / "a.gif").write_bytes(GIF[:keep])
    try:
        read_image(tmp_path / "a.gif")
    except ImageError as error:
        assert "a.gif" in str(error)


def test_pages_of_a_tiff(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tiff(tmp_path / "a.tif", gray(1, 2), gray(3), gray(4, 5, 6))
    assert pages_of(path) == [[1, 2], [3], [4, 5, 6]]
    assert not caplog.text
    assert read_header(path, page=2).width == 3
    assert read_image(path).pixels.ravel().tolist() == [1, 2]
    assert "it holds 3 pictures: the first of 3 is taken" in caplog.text
    with pytest.raises(ImageError, match=r"a\.tif, page 4: there is no such page: the file has 3"):
        read_image(path, page=3)


def test_smaller_copies_and_masks_are_no_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tiff(tmp_path / "a.tif", gray(1), gray(2), gray(3), gray(4), subfile_types=(1, 0, 4, 2))
    assert pages_of(path) == [[2], [4]]
    path = tiff(tmp_path / "b.tif", gray(1), gray(2), subfile_types=(0, 1))
    assert read_image(path).pixels.ravel().tolist() == [1]
    assert not caplog.text


def test_parts_of_an_exr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    specs = [oiio.ImageSpec(2, 1, 3, oiio.HALF) for _ in range(2)]
    for name, spec in zip("ab", specs, strict=True):
        spec.attribute("oiio:subimagename", name)
    output = oiio.ImageOutput.create("openexr")
    assert output.open(str(tmp_path / "a.exr"), specs)
    output.write_image(np.ones((1, 2, 3), np.float16))
    output.open(str(tmp_path / "a.exr"), specs[1], "AppendSubimage")
    output.write_image(np.zeros((1, 2, 3), np.float16))
    output.close()
    assert (read_image(tmp_path / "a.exr").pixels == 1).all()
    assert "the first of 2 is taken" in caplog.text
    assert read_header(tmp_path / "a.exr").num_pages == 1


def test_a_large_stack_of_imagej_has_pages_behind_its_only_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiff(tmp_path / "a.tif", gray(1, 2), description="ImageJ=1.53t\nimages=7\nslices=7\n")
    image = read_image(path)
    assert "the first of 7 is taken" in caplog.text
    write_image(tmp_path / "b.tif", image)
    assert "is about pages that are not there" in caplog.text
    assert "ImageDescription" not in {name for name, _, _ in read_image(tmp_path / "b.tif").metadata.attributes}


def test_pages_are_written_one_at_a_time(tmp_path: Path) -> None:
    made = []

    def images():
        for number in range(3):
            made.append(len(list(tmp_path.iterdir())))  # the file that is being written, under another name
            yield Image(np.full((2, number + 1, 1 + 2 * (number == 1)), number, np.uint16 if number else np.uint8))

    write_pages(tmp_path / "a.tif", images(), num_pages=3, num_bytes=100)
    assert made == [0, 1, 1]
    assert pages_of(tmp_path / "a.tif") == [[0] * 2, [1] * 12, [2] * 6]
    assert read_image(tmp_path / "a.tif", page=1).pixels.dtype == np.uint16
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II*\0"


def test_many_pages_are_written_as_big_tiff(tmp_path: Path) -> None:
    write_pages(tmp_path / "a.tif", iter([gray(1), gray(2)]), num_pages=2, num_bytes=5 << 30)
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II+\0"
    assert pages_of(tmp_path / "a.tif") == [[1], [2]]


def test_pages_need_a_tiff(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.png: cannot hold 2 pages: use \.tif"):
        write_pages(tmp_path / "a.png", iter([gray(1), gray(2)]), num_pages=2, num_bytes=2)


def test_a_page_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def images():
        yield gray(1)
        raise ImageError("page 2 is damaged")

    with pytest.raises(ImageError, match="page 2 is damaged"):
        write_pages(tmp_path / "a.tif", images(), num_pages=2, num_bytes=2)
    assert not list(tmp_path.iterdir())


# What programs note about pages

IMAGEJ = "ImageJ=1.53t\nimages=5\nslices=5\nunit=um\n"
OME = (
    '<?xml version="1.0"?><OME><Image ID="Image:0"><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="48" '
    'SizeC="1" SizeZ="5" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25"><TiffData/></Pixels>'
    "</Image></OME>"
)


def fitted(text: str, *, channels: int = 1, num_pages: int = 5) -> str | None:
    return fitted_description(text, width=256, height=96, channels=channels, num_pages=num_pages)


def test_descriptions_of_stacks() -> None:
    assert fitted(IMAGEJ) == IMAGEJ
    assert fitted(IMAGEJ, num_pages=1) is None
    assert fitted("ImageJ=1.53t\nunit=um\n", num_pages=1) == "ImageJ=1.53t\nunit=um\n"
    assert fitted('{"shape": [5, 48, 64]}') is None
    assert fitted("A wall, images=5") == "A wall, images=5"


def test_ome_takes_the_new_sizes() -> None:
    text = fitted(OME)
    assert text is not None
    assert dict(re.findall(r'(\w*Size[XYZ])="([^"]+)"', text)) == {
        "SizeX": "256",
        "SizeY": "96",
        "SizeZ": "5",
        "PhysicalSizeX": "0.125",
        "PhysicalSizeY": "0.125",
    }
    assert fitted(OME, num_pages=1) is None
    assert fitted(OME.replace('SizeC="1"', 'SizeC="3"'), channels=3) is not None
    assert fitted(OME.replace("</OME>", '<Image><Pixels SizeX="1"/></Image></OME>')) is None
    assert fitted(OME.replace("<TiffData/>", '<TiffData><UUID FileName="other.tif"/></TiffData>')) is None


def test_a_description_about_other_pages_is_dropped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note = Metadata(attributes=(("ImageDescription", "string", IMAGEJ),))
    write_image(tmp_path / "a.tif", Image(gray(1).pixels, metadata=note))
    assert "its description is about pages that are not there" in caplog.text
    assert b"ImageJ" not in (tmp_path / "a.tif").read_bytes()


def test_a_description_of_many_beginnings_takes_linear_time() -> None:
    assert fitted("<OME>" + "<Pixels " * 400_000) is None
