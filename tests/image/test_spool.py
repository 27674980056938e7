"""Raw pixels in a file, and what shows when a picture is copied into one."""

from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from hat_sr.errors import ImageError
from hat_sr.image.decode import open_image
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.image.spool import Facts, Spool, copy_pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_rectangles_are_read_as_they_were_written(tmp_path: Path, dtype: str) -> None:
    pixels = np.arange(9 * 7 * 2).reshape(9, 7, 2).astype(dtype)
    with Spool(tmp_path / "a", height=9, width=7, channels=2, dtype=dtype) as spool:
        for top, left in ((5, 3), (0, 3), (0, 0), (5, 0)):
            spool.write(top, left, pixels[top : top + (5 if top == 0 else 4), left : left + (3 if left == 0 else 4)])
        assert np.array_equal(spool.read(0, 9), pixels)
        assert np.array_equal(spool.read(4, 6), pixels[4:6])
        spool.sync()
        assert (tmp_path / "a").read_bytes() == pixels.tobytes()
    with Spool(tmp_path / "a", height=9, width=7, channels=2, dtype=dtype) as spool:
        spool.write(2, 0, pixels[:1])
        assert np.array_equal(spool.read(1, 4), pixels[[1, 0, 3]])


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    with Spool(tmp_path / "a", height=9, width=7, channels=1, dtype="uint8") as spool:
        spool.write(0, 0, np.zeros((4, 7, 1), np.uint8))
        with pytest.raises(ImageError, match="cut short"):
            spool.read(3, 5)


def facts_of(tmp_path: Path, pixels: np.ndarray) -> Facts:
    write_image(tmp_path / "a.tif", Image(pixels))
    with open_image(tmp_path / "a.tif") as file:
        facts = copy_pixels(file, tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == pixels.tobytes()
    return facts


def test_facts_of_integers(tmp_path: Path) -> None:
    pixels = np.full((100, 80, 4), 200, np.uint8)
    pixels[10:20, :, 3] = 0
    assert facts_of(tmp_path, pixels) == Facts(
        channels=4, dtype="uint8", num_visible=90 * 80, num_hidden=10 * 80, peak=1, num_negative=0
    )


def test_facts_of_floats_are_those_of_what_is_seen(tmp_path: Path) -> None:
    pixels = np.full((3, 2, 2), 0.5, np.float32)
    pixels[0, 0] = 9, 0
    pixels[0, 1] = -9, 0
    pixels[1, 0] = 3, 1
    pixels[2, 1] = -1, 0.5
    assert facts_of(tmp_path, pixels) == Facts(
        channels=2, dtype="float32", num_visible=4, num_hidden=2, peak=3, num_negative=1
    )
    pixels[..., 1] = 0
    hidden = facts_of(tmp_path, pixels)
    assert (hidden.num_visible, hidden.peak, hidden.num_negative) == (0, 9, 2)


def test_nan_is_an_error(tmp_path: Path) -> None:
    pixels = np.ones((2, 3, 1), np.float32)
    pixels[1, 1] = np.nan
    output = oiio.ImageOutput.create("tiff")
    assert output.open(str(tmp_path / "a.tif"), oiio.ImageSpec(3, 2, 1, oiio.FLOAT))
    assert output.write_image(pixels) and output.close()
    with pytest.raises(ImageError, match="1 of 6 values are NaN"), open_image(tmp_path / "a.tif") as file:
        copy_pixels(file, tmp_path / "raw")
