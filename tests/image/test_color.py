import pytest
import torch

from hat_sr.errors import InputError
from hat_sr.image.color import rgb_to_y, srgb_decode, srgb_encode


@pytest.mark.parametrize(
    ("rgb", "code"),
    [((0, 0, 0), 16), ((1, 1, 1), 235), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)],
)
def test_luma_of_the_corners(rgb, code):
    y = rgb_to_y(torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1))
    assert y.shape == (1, 1, 1, 1)
    assert y.item() * 255 == pytest.approx(code, abs=1e-9)


def test_luma_keeps_batch_and_dtype():
    y = rgb_to_y(torch.rand(2, 3, 4, 5))
    assert y.shape == (2, 1, 4, 5)
    assert y.dtype == torch.float32


@pytest.mark.parametrize(
    "x", [torch.zeros(1, 1, 2, 2), torch.zeros(3, 2, 2), torch.zeros(1, 3, 2, 2, dtype=torch.uint8)]
)
def test_luma_refuses(x):
    with pytest.raises(InputError, match="rgb_to_y"):
        rgb_to_y(x)


def test_srgb_known_values():
    # 18 % gray and code 128, as tabulated for sRGB.
    assert srgb_encode(torch.tensor(0.18)).item() == pytest.approx(0.4613561, abs=1e-6)
    assert srgb_decode(torch.tensor(128 / 255)).item() == pytest.approx(0.2158605, abs=1e-6)
    # Just beyond the straight part, whose line would give 0.04522.
    assert srgb_encode(torch.tensor(0.0035)).item() == pytest.approx(0.0449887, abs=1e-6)
    assert srgb_encode(torch.tensor([0.0, 0.002, 1.0], dtype=torch.float64)).tolist() == pytest.approx([0, 0.02584, 1])


def test_srgb_round_trip_beyond_the_unit_range():
    linear = torch.linspace(-0.5, 40, 10001, dtype=torch.float64)
    encoded = srgb_encode(linear)
    assert (encoded.diff() > 0).all()
    assert (srgb_decode(encoded) - linear).abs().max() < 1e-6


def test_srgb_round_trip_of_every_8_bit_code():
    codes = torch.arange(256, dtype=torch.float32) / 255
    assert torch.equal((srgb_encode(srgb_decode(codes)) * 255).round(), codes * 255)
