"""The networks in the package, on pictures whose result is known: no cast, no shift, no place moved."""

import numpy as np
import pytest
import torch

from hat_sr import Upscaler, load_model
from hat_sr.checkpoints.named import bundled_names
from hat_sr.image.pixels import Image
from hat_sr.image.resize import resize
from hat_sr.inference.picture import upscale_image

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


GRAYS = [(value,) * 3 for value in (0, 1, 30, 64, 128, 192, 240, 254, 255)]
COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
    (200, 30, 30),
    (30, 120, 200),
    (250, 220, 180),
    (20, 60, 20),
    (120, 80, 40),
]


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_flat_image_stays_flat(upscaler, name, precision):
    """At most a level off, at the border and in the corners, too; two by the sharp network for photographs."""
    chosen = upscaler if precision == "fp32" else Upscaler(load_model(name), precision="auto")
    colours = torch.tensor(GRAYS + COLOURS)[:, :, None, None]
    result = chosen((colours / 255).expand(-1, -1, 24, 32))
    off = ((result.clamp(0, 1) * 255).round() - colours).abs().amax((1, 2, 3))
    most = 2 if name == "hat-xs-x4-real" else 1
    assert off.max() <= most, dict(zip(GRAYS + COLOURS, off.tolist(), strict=True))


@pytest.mark.parametrize("level", [30, 240])
def test_noise_is_no_cast(upscaler, level):
    noise = np.random.default_rng(0).normal(level, 4, (64, 64, 1))
    pixels = np.repeat(noise.clip(0, 255).round().astype(np.uint8), 3, axis=2)
    assert _enlarged(upscaler, pixels).mean() == pytest.approx(pixels.mean(), abs=0.15)


def test_a_ramp_keeps_its_levels(upscaler, name):
    """Within 2 levels everywhere; within 3 by the networks for photographs, which smooth."""
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16)
    pixels = np.repeat(np.broadcast_to(ramp[:, None], (32, 64, 1)), 3, axis=2)
    result = _enlarged(upscaler, pixels)
    expected = resize(torch.tensor(pixels.transpose(2, 0, 1)[None] / 65535.0), result.shape[:2])[0].permute(1, 2, 0)
    off = (result / 65535 - expected.numpy())[16:-16, 16:-16] * 255
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.35
    assert np.abs(off).max() < (3 if "-real" in name else 2)


def test_a_picture_stays_in_its_place(upscaler):
    """A bright square's centre of mass."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[10:16, 12:20] = 200
    weight = _enlarged(upscaler, pixels).mean(axis=2)
    rows, columns = (np.arange(side) + 0.5 for side in weight.shape)
    assert (weight.sum(axis=1) * rows).sum() / weight.sum() / upscaler.scale == pytest.approx(13, abs=0.05)
    assert (weight.sum(axis=0) * columns).sum() / weight.sum() / upscaler.scale == pytest.approx(16, abs=0.05)
