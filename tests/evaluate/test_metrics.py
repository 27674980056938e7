import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_sr.errors import InputError
from hat_sr.evaluate.metrics import psnr, ssim, to_uint8


def noise(*shape: int, seed: int = 0, low: int = 0, high: int = 256) -> torch.Tensor:
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def y_codes(image: torch.Tensor) -> torch.Tensor:
    r, g, b = image.double() / 255
    return 16 + 65.481 * r + 128.553 * g + 24.966 * b


def slow_ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """SSIM of two planes of codes, one window at a time."""
    window = [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for j in range(11)] for i in range(11)]
    weights = torch.tensor(window, dtype=torch.float64)
    weights /= weights.sum()
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (weights * x).sum(), (weights * y).sum()
            vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
            cov = (weights * (x - mx) * (y - my)).sum()
            top = (2 * mx * my + (0.01 * 255) ** 2) * (2 * cov + (0.03 * 255) ** 2)
            values.append(top / ((mx**2 + my**2 + (0.01 * 255) ** 2) * (vx + vy + (0.03 * 255) ** 2)))
    return torch.stack(values).mean().item()


def test_one_code_of_luma_is_48_13_db():
    # Y spans 219 of 255 codes, so one code of gray is 219/255 of a code of luma.
    x = noise(3, 20, 20, high=255)
    one_code = 20 * math.log10(255)
    assert one_code == pytest.approx(48.1308, abs=5e-5)
    assert psnr(x + 1, x, crop_border=0) == pytest.approx(one_code + 20 * math.log10(255 / 219), abs=1e-9)


def test_psnr_is_the_mean_square_on_luma():
    sr, hr = noise(3, 9, 7), noise(3, 9, 7, seed=1)
    mse = (y_codes(sr) - y_codes(hr)).square().mean().item()
    assert psnr(sr, hr, crop_border=0) == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-9)


def test_equal_images():
    x = noise(3, 16, 16)
    assert psnr(x, x, crop_border=2) == math.inf
    assert ssim(x, x, crop_border=2) == pytest.approx(1, abs=1e-12)


def test_only_the_border_is_cropped():
    hr = noise(3, 20, 24)
    sr = hr.clone()
    sr[:, :3] = 255 - sr[:, :3]
    sr[:, -3:] = 0
    sr[:, :, :3] = 0
    sr[:, :, -3:] = 0
    assert psnr(sr, hr, crop_border=3) == math.inf
    assert psnr(sr, hr, crop_border=2) < 30


def test_floats_are_rounded_to_8_bits_first():
    hr = noise(1, 3, 16, 16, low=1, high=255)
    x = hr.float() / 255
    assert psnr(x + 0.4 / 255, x, crop_border=0) == math.inf
    assert psnr(x + 0.6 / 255, x, crop_border=0) == pytest.approx(psnr(hr + 1, hr, crop_border=0))
    assert psnr(hr, x, crop_border=0) == math.inf


def test_overshoot_is_clipped():
    hr = torch.ones(3, 12, 12)
    assert psnr(hr * 1.5, hr, crop_border=0) == math.inf


def test_gray_is_scored_as_three_equal_channels():
    sr, hr = noise(1, 14, 14), noise(1, 14, 14, seed=1)
    assert psnr(sr, hr, crop_border=1) == psnr(sr.expand(3, -1, -1), hr.expand(3, -1, -1), crop_border=1)
    assert ssim(sr, hr, crop_border=1) == ssim(sr.expand(3, -1, -1), hr.expand(3, -1, -1), crop_border=1)


@settings(max_examples=8, deadline=None)
@given(height=st.integers(11, 16), width=st.integers(11, 16), seed=st.integers(0, 1000), spread=st.integers(1, 255))
def test_ssim_is_the_slow_formula(height, width, seed, spread):
    hr = noise(3, height, width, seed=seed, high=spread + 1)
    sr = noise(3, height, width, seed=seed + 1, high=spread + 1)
    assert ssim(sr, hr, crop_border=0) == pytest.approx(slow_ssim(y_codes(sr), y_codes(hr)), abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_the_batch_axis_and_gradients_do_not_matter(metric):
    sr, hr = noise(3, 13, 17).float() / 255, noise(3, 13, 17, seed=1).float() / 255
    assert metric(sr[None].requires_grad_(), hr[None], crop_border=1) == metric(sr, hr, crop_border=1)


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("sr", "hr", "crop_border", "message"),
    [
        (noise(3, 20, 20), noise(3, 20, 21), 0, "one shape"),
        (noise(3, 20, 20), noise(1, 20, 20), 0, "one shape"),
        (noise(2, 3, 20, 20), noise(2, 3, 20, 20), 0, "one by one"),
        (noise(4, 20, 20), noise(4, 20, 20), 0, "channels"),
        (noise(20, 20), noise(20, 20), 0, "channels"),
        (noise(3, 20, 20), noise(3, 20, 20), -1, "crop_border"),
        (noise(3, 20, 20), noise(3, 20, 20), 10, "crop_border"),
        (torch.zeros(3, 20, 20), torch.full((3, 20, 20), 128.0), 0, "divide"),
        (torch.full((3, 20, 20), math.nan), torch.zeros(3, 20, 20), 0, "NaN"),
        (torch.zeros(3, 20, 20), torch.full((3, 20, 20), math.nan), 0, "0, 1"),
        (torch.zeros(3, 20, 20, dtype=torch.int32), noise(3, 20, 20), 0, "uint8"),
    ],
)
def test_refuses(metric, sr, hr, crop_border, message):
    with pytest.raises(InputError, match=message):
        metric(sr, hr, crop_border=crop_border)


def test_ssim_needs_its_window_inside_the_crop():
    x = noise(3, 14, 30)
    assert ssim(x, x, crop_border=1) == pytest.approx(1)
    with pytest.raises(InputError, match="11×11"):
        ssim(x, x, crop_border=2)


def test_to_uint8_rounds_and_clips():
    x = torch.tensor([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 3.0])
    assert to_uint8(x).tolist() == [0, 0, 0, 1, 255, 255]
    codes = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(codes.float() / 255), codes)
