"""`make demo`, with a photo of one's own."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from hat_sr.checkpoints.named import FOR_PHOTOS
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"


@pytest.mark.parametrize(("name", "network"), [("photo.jpg", FOR_PHOTOS), ("drawing.png", None)])
def test_the_demo_enlarges_a_photo_with_the_network_that_suits_it(tmp_path, monkeypatch, caplog, name, network):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", logger="hat_sr")
    write_image(tmp_path / name, Image(np.tile(np.arange(64, dtype=np.uint8), (48, 1))[..., None].repeat(3, 2)))
    runpy.run_path(str(DEMO))["main"]([name])
    stem = Path(name).stem
    assert read_image(tmp_path / "demo" / f"{stem}_x4.png").pixels.shape == (192, 256, 3)
    assert read_image(tmp_path / "demo" / f"{stem}_comparison.png").width == 2 * 2 * 192 + 8
    assert any(f"{network} is used" in message for message in caplog.messages) == (network is not None)
