"""From file to file: pages of a TIFF, and light in EXR files."""

import logging
from pathlib import Path

import numpy as np
import pytest

from hat_sr.errors import ImageError, InputError
from hat_sr.image.decode import read_header
from hat_sr.image.io import read_image, write_image, write_pages
from hat_sr.image.pixels import Image
from hat_sr.inference.enlarge import Enlarger, Settings
from hat_sr.inference.memory import picture_bytes


def flat(value: int, height: int, width: int, channels: int, dtype: str = "uint8") -> Image:
    return Image(np.full((height, width, channels), value, dtype))


@pytest.fixture
def document(tmp_path: Path) -> Path:
    pages = [flat(200, 9, 12, 3), flat(40, 8, 5, 1), flat(60000, 7, 7, 3, "uint16")]
    write_pages(tmp_path / "a.tif", iter(pages), num_pages=3, num_bytes=1000)
    return tmp_path / "a.tif"


def enlarger(**settings: object) -> Enlarger:
    return Enlarger(Settings(model="bicubic", **{"scale": 2, **settings}), say=logging.getLogger("hat_sr.said").info)


def test_all_pages_of_a_tiff_are_made(document: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts: list[float] = []
    with caplog.at_level(logging.INFO, "hat_sr"):
        enlarger().enlarge(document, tmp_path / "new" / "b.tif", report=parts.append)
    pixels = [4 * side for side in (9 * 12, 8 * 5, 7 * 7)]
    assert parts == pytest.approx([sum(pixels[:number]) / sum(pixels) for number in (1, 2, 3)])
    assert caplog.messages == [f"{document}: 3 pages, one after the other"]
    assert read_header(tmp_path / "new" / "b.tif").num_pages == 3
    for page, (value, shape, dtype) in enumerate(
        [(200, (18, 24, 3), "uint8"), (40, (16, 10, 1), "uint8"), (60000, (14, 14, 3), "uint16")]
    ):
        pixels = read_image(tmp_path / "new" / "b.tif", page=page).pixels
        assert (pixels.shape, pixels.dtype) == (shape, dtype)
        assert (pixels == value).all()


def test_a_size_counts_for_each_page(document: Path, tmp_path: Path) -> None:
    enlarger(scale=None, size=(None, 30)).enlarge(document, tmp_path / "b.tif")
    assert [read_header(tmp_path / "b.tif", page=page).width for page in range(3)] == [30, 30, 30]


def test_other_kinds_of_file_get_the_first_page_with_a_warning(
    document: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    enlarger().enlarge(document, tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").pixels.shape == (18, 24, 3)
    assert f"{document}: it holds 3 pictures: the first of 3 is taken" in caplog.text


def test_a_damaged_page_is_named_and_nothing_is_written(document: Path, tmp_path: Path) -> None:
    noise = Image(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8))
    write_pages(document, iter([flat(9, 4, 4, 1), noise]), num_pages=2, num_bytes=1)
    data = bytearray(document.read_bytes())
    data[15000:16000] = bytes(1000)
    document.write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.tif, page 2: damaged"):
        enlarger().enlarge(document, tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()


def test_a_page_too_large_for_memory_is_named_before_anything_is_made(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hat_sr.inference.enlarge.memory_budget", lambda device: 10_000)
    with pytest.raises(InputError, match="page 1 of 3 takes about"):
        enlarger().enlarge(document, tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()


def test_memory_for_a_page_is_that_of_what_the_network_makes(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a factor of 1.1 the network's result, twice as large, is what takes memory."""
    monkeypatch.setattr("hat_sr.inference.enlarge.memory_budget", lambda device: picture_bytes(18, 24, 3) - 1)
    with pytest.raises(InputError, match="page 1 of 3 takes about"):
        enlarger(scale=1.1).enlarge(document, tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()
    monkeypatch.setattr("hat_sr.inference.enlarge.memory_budget", lambda device: picture_bytes(18, 24, 3))
    enlarger(scale=1.1).enlarge(document, tmp_path / "b.tif")


def test_light_of_which_alpha_is_0_is_enlarged(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.float32)
    pixels[:, :4] = 2, 1, 0.5, 0  # a glow beside a surface
    pixels[:, 4:] = 0.25, 0.25, 0.25, 1
    write_image(tmp_path / "a.exr", Image(pixels, linear=True, associated=True))
    enlarger().enlarge(tmp_path / "a.exr", tmp_path / "b.exr")
    result = read_image(tmp_path / "b.exr").pixels
    assert result[8, 1] == pytest.approx([2, 1, 0.5, 0], abs=0.02)
    assert result[8, 14] == pytest.approx([0.25, 0.25, 0.25, 1], abs=0.02)


@pytest.mark.parametrize(("multiplies", "precision"), [(True, "bf16"), (False, "fp32")])
def test_what_auto_precision_is_stands_in_the_settings_and_in_what_results_depend_on(
    monkeypatch: pytest.MonkeyPatch, multiplies: bool, precision: str
) -> None:
    monkeypatch.setattr("hat_sr.inference.device.multiplies_bf16", lambda: multiplies)
    by_auto = Enlarger(Settings(model="hat-xxs-x2", device="cpu"))
    assert by_auto.settings.precision == by_auto.identity()["precision"] == precision
    assert str(by_auto) == f"hat-xxs-x2 in {precision}"
    assert by_auto.identity() == Enlarger(by_auto.settings).identity()
    assert enlarger().identity()["precision"] == "fp32"
