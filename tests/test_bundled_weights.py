"""The networks in the package, on pictures whose result is known: no cast, no shift, no place moved."""

import numpy as np
import pytest
import torch

from hat_sr import Upscaler, load_model
from hat_sr.image.pixels import Image
from hat_sr.image.resize import resize
from hat_sr.inference.picture import upscale_image
from hat_sr.model.zoo import bundled_names

NAMES = bundled_names()


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def upscaler(name):
    return Upscaler(load_model(name))


def _enlarged(upscaler, pixels):
    return upscale_image(Image(pixels), upscaler, in_chans=upscaler.in_chans).pixels.astype(float)


def test_there_is_one():
    assert "hat-xs-x4" in NAMES


@pytest.mark.parametrize("value", [0, 1, 64, 128, 192, 254, 255])
def test_a_flat_image_stays_flat(upscaler, name, value):
    """White stays white, black stays black; at most one level off anywhere but at the border, and in the corners."""
    off = _enlarged(upscaler, np.full((32, 40, 3), value, np.uint8)) - value
    smallest, noisy = name.startswith("hat-xxs"), name.endswith("-photo")
    # Noise is cut off at white and black, so a network trained with it takes 254 for a white that was darkened.
    assert abs(off[16:-16, 16:-16].mean()) <= (1 if noisy else 0.5)
    off = np.abs(off)
    assert off[16:-16, 16:-16].max() <= 1
    for corner in (off[:2, :2], off[:2, -2:], off[-2:, :2], off[-2:, -2:]):
        assert corner.max() <= (25 if smallest else 13)  # zeros beyond two edges are taken for a picture
        corner[:] = 0
    assert off.max() <= (5 if smallest else 4)


def test_a_ramp_keeps_its_levels(upscaler):
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    pixels = np.repeat(np.broadcast_to(ramp[:, None], (32, 64, 1)), 3, axis=2)
    result = _enlarged(upscaler, pixels)
    expected = resize(torch.tensor(pixels.transpose(2, 0, 1)[None] / 65535.0), result.shape[:2])[0].permute(1, 2, 0)
    off = (result / 65535 - expected.numpy())[16:-16, 16:-16] * 255
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.35
    assert np.abs(off).max() < 2


def test_a_picture_stays_in_its_place(upscaler):
    """A bright square's centre of mass."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[10:16, 12:20] = 200
    weight = _enlarged(upscaler, pixels).mean(axis=2)
    rows, columns = (np.arange(side) + 0.5 for side in weight.shape)
    assert (weight.sum(axis=1) * rows).sum() / weight.sum() / upscaler.scale == pytest.approx(13, abs=0.05)
    assert (weight.sum(axis=0) * columns).sum() / weight.sum() / upscaler.scale == pytest.approx(16, abs=0.05)
