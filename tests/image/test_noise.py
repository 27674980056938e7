"""How much noise is found in pictures that have a known amount of it."""

import numpy as np
import pytest

from hat_sr.image.io import write_image
from hat_sr.image.noise import NOISY, noise_in_file, noise_level
from hat_sr.image.pixels import Image
from hat_sr.image.reader import ImageFile
from train.small import photo


def smooth(height=96, width=128, channels=3):
    """Slopes with a soft edge, in levels of 255."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = [60 + 120 / (1 + np.exp((x - y - shift) / 4)) + 0.2 * y for shift in (0, 10, 20)]
    return np.stack(planes[:channels], axis=-1)


def noisy(picture, sigma, *, dtype="uint8", seed=0, common=False):
    shape = (*picture.shape[:2], 1) if common else picture.shape
    values = picture + sigma * np.random.default_rng(seed).standard_normal(shape)
    return (values.clip(0, 255) * (np.iinfo(dtype).max / 255)).round().astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [5, 6, 10, 25])
def test_white_noise_is_measured(sigma, channels, dtype):
    assert noise_level([noisy(smooth(channels=channels), sigma, dtype=dtype)]) == pytest.approx(sigma, rel=0.15)


def test_gray_stored_as_rgb_is_gray():
    gray = noisy(smooth(channels=1), 6)
    assert noise_level([gray.repeat(3, axis=2)]) == noise_level([gray])


def test_noise_that_the_channels_have_in_common_is_found():
    assert NOISY <= noise_level([noisy(smooth(), 7, common=True)]) <= 7


def test_a_scan_of_a_small_drawing_is_noisy():
    """64×48, gray, two edges, σ 6."""
    assert noise_level([noisy(smooth(48, 64, 1), 6)]) > NOISY


@pytest.mark.parametrize("sigma", [0, 1, 2])
def test_a_clean_picture_is_not_noisy(sigma):
    assert noise_level([noisy(smooth(), sigma)]) < 3


def test_structure_is_no_noise():
    """Stripes, checks of 2 and 3 pixels, text-like blocks: sharp, with flat places between."""
    y, x = np.mgrid[0:128, 0:128]
    for pattern in (x // 2 % 2, (x // 3 + y // 3) % 2, x % 5 < 2, (x * y) % 7 < 3):
        pixels = (40 + 170 * pattern * (y > 30)).astype(np.uint8)[..., None]
        assert noise_level([pixels]) < NOISY


def test_black_and_white_do_not_count():
    """A night shot: most of it is black, where noise is cut off."""
    picture = smooth()
    picture[:, :90] = -50
    pixels = noisy(picture, 8)
    assert (pixels == 0).mean() > 0.6
    assert noise_level([pixels]) == pytest.approx(8, rel=0.2)


def test_what_is_transparent_does_not_count():
    pixels = np.concatenate([noisy(smooth(), 20), np.full((96, 128, 1), 255, np.uint8)], axis=2)
    assert noise_level([pixels]) > 15
    pixels[..., 3] = 0
    assert noise_level([pixels]) == 0


def test_light_is_looked_at_as_it_is_displayed():
    encoded = noisy(smooth(), 10, dtype="uint16") / 65535
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)
    assert noise_level([light]) == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize("shape", [(1, 1, 3), (9, 12, 3), (24, 24, 3)])
def test_of_a_tiny_picture_nothing_can_be_told(shape):
    assert noise_level([np.random.default_rng(0).integers(1, 255, shape, dtype=np.uint8)]) == 0


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp", "a.exr"])
def test_files(tmp_path, name):
    write_image(tmp_path / name, Image(noisy(smooth(), 12)))
    assert noise_in_file(tmp_path / name) == pytest.approx(12, rel=0.2)
    write_image(tmp_path / name, Image(noisy(smooth(), 0)))
    assert noise_in_file(tmp_path / name) < 3


def test_of_a_large_file_some_bands_are_read(tmp_path, monkeypatch):
    """Noise in the lower half alone; so the bands are not all from the top, and not all of it is read."""
    picture = np.tile(smooth(100, 64), (60, 1, 1))
    pixels = np.concatenate([noisy(picture[:3000], 9), noisy(picture[3000:], 9, seed=1)])
    write_image(tmp_path / "a.tif", Image(pixels))
    read = []
    rows = ImageFile._read_rows

    def recorded(file, start, stop):
        read.append((start, stop))
        return rows(file, start, stop)

    monkeypatch.setattr(ImageFile, "_read_rows", recorded)
    assert noise_in_file(tmp_path / "a.tif") == pytest.approx(9, rel=0.15)
    assert len(read) == 16
    assert sum(stop - start for start, stop in read) <= 16 * 64
    assert read[0][0] == 0
    assert read[-1][0] > 5000


def test_nothing_is_warned_of_twice(tmp_path, caplog):
    """The picture is read once more after this, with its warnings."""
    write_image(tmp_path / "a.tif", Image(photo(64, 64)))
    noise_in_file(tmp_path / "a.tif")
    assert caplog.text == ""
