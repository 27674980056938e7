"""JPEG files with faults: harmless ones are passed over, and hide no damage."""

import re
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from hat_sr.errors import ImageError
from hat_sr.image.decode import open_image, read_header
from hat_sr.image.io import read_image

SOS, EOI = b"\xff\xda", b"\xff\xd9"


@pytest.fixture(params=["baseline", "progressive"])
def jpeg(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A.jpg, of noise, 96×64."""
    spec = oiio.ImageSpec(96, 64, 3, oiio.UINT8)
    spec.attribute("jpeg:progressive", int(request.param == "progressive"))
    output = oiio.ImageOutput.create("jpeg")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert output.open(str(tmp_path / "a.jpg"), spec) and output.write_image(pixels) and output.close()
    return tmp_path / "a.jpg"


def changed(jpeg: Path, data: bytes) -> Path:
    path = jpeg.with_name("b.jpg")
    path.write_bytes(data)
    return path


def scans(data: bytes) -> list[int]:
    """Where they begin."""
    return [match.start() for match in re.finditer(re.escape(SOS), data)]


def assert_same(path: Path, jpeg: Path) -> None:
    """As a whole, by rows, and by its header."""
    pixels = read_image(jpeg).pixels
    assert np.array_equal(read_image(path).pixels, pixels)
    with open_image(path) as file:
        assert np.array_equal(np.concatenate([part for _, _, part in file.blocks()]), pixels)
    assert read_header(path) == read_header(jpeg)


def with_spectrum(data: bytes, values: bytes) -> bytes:
    """The first scan's header with other values for its coefficients."""
    at = data.index(SOS)
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[: end - 3] + values + data[end:]


@pytest.mark.parametrize("values", [b"\0\0\0", b"\1\0\0", b"\0\x3f\1"])
@pytest.mark.parametrize("jpeg", ["baseline"], indirect=True)
def test_a_scan_header_that_is_wrong_about_its_coefficients(
    jpeg: Path, caplog: pytest.LogCaptureFixture, values: bytes
) -> None:
    assert_same(changed(jpeg, with_spectrum(jpeg.read_bytes(), values)), jpeg)
    assert not caplog.text


@pytest.mark.parametrize("jpeg", ["baseline"], indirect=True)
def test_a_wrong_scan_header_hides_no_damage(jpeg: Path) -> None:
    data = with_spectrum(jpeg.read_bytes(), b"\0\0\0")
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(changed(jpeg, data[: len(data) // 2] + EOI))


def test_stray_bytes_between_segments(jpeg: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = jpeg.read_bytes()
    for scan in reversed(scans(data)):
        data = data[:scan] + bytes(3) + data[scan:]
    assert_same(changed(jpeg, data), jpeg)
    assert "extraneous bytes" in caplog.text


@pytest.mark.parametrize("end", [b"", EOI])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_stray_bytes_hide_no_damage(jpeg: Path, end: bytes, keep: float) -> None:
    data = jpeg.read_bytes()
    scan = data.index(SOS)
    data = data[:scan] + bytes(3) + data[scan:]
    cut = scan + int((len(data) - scan) * keep)
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(changed(jpeg, data[:cut] + end))


def test_bytes_after_the_last_pixel_and_behind_the_end(jpeg: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = jpeg.read_bytes()
    assert_same(changed(jpeg, data + b"\xff\xd8\xff\xda and more"), jpeg)
    assert not caplog.text
    assert_same(changed(jpeg, data[:-2] + b"\x12\x34" + EOI), jpeg)


def test_a_whole_picture_without_the_mark_of_its_end(jpeg: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert_same(changed(jpeg, jpeg.read_bytes().removesuffix(EOI)), jpeg)
    assert "the mark at its end is missing" in caplog.text


@pytest.mark.parametrize("jpeg", ["progressive"], indirect=True)
def test_progressive_without_its_last_scans(jpeg: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = jpeg.read_bytes()
    before_last = data[: scans(data)[-1]]
    with pytest.raises(ImageError, match="its last scans are missing"):
        read_image(changed(jpeg, before_last))
    read_image(changed(jpeg, before_last + EOI))  # which the standard allows
    assert "not all of its details were sent" in caplog.text


@pytest.mark.parametrize("jpeg", ["baseline"], indirect=True)
@pytest.mark.parametrize(
    ("marker", "bits", "message"), [(0xC1, 12, "a JPEG of 12 bits"), (0xF7, 8, "JPEG-LS"), (0xC5, 8, "hierarchical")]
)
def test_kinds_that_are_not_read(jpeg: Path, marker: int, bits: int, message: str) -> None:
    data = bytearray(jpeg.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match=message) as error:
            read(changed(jpeg, bytes(data)))
        assert "damaged" not in str(error.value)


def test_many_scans_are_refused(jpeg: Path) -> None:
    data = jpeg.read_bytes()
    last = data[scans(data)[-1] : -2]
    with pytest.raises(ImageError, match="more than 100 scans"):
        read_header(changed(jpeg, data[:-2] + 100 * last + EOI))


@pytest.mark.parametrize(
    "data", [b"\xff\xd8", b"\xff\xd8\xff\xc0\0\2\xff\xd9", b"\xff\xd8\xff\xda\0\3\1", b"\xff\xd8" * 9]
)
def test_hardly_a_jpeg(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("jpeg", ["baseline"], indirect=True)
def test_no_copy_is_named(jpeg: Path) -> None:
    data = jpeg.read_bytes()
    path = changed(jpeg, data[: len(data) // 2])  # without the mark at its end, so a copy is read
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(error.value) == (
        f"{path}: damaged or cut short: JPEG error: Corrupt JPEG data: premature end of data segment"
    )


def test_no_copy_is_left(jpeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = jpeg.parent / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    read_image(changed(jpeg, jpeg.read_bytes().removesuffix(EOI)))
    assert not list(folder.iterdir())
