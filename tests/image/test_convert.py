"""Pixels to tensors and back, and what an upscaler makes of gray, alpha, depth and light."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.image.alpha import fill_transparent, within_neighbours
from hat_sr.image.convert import to_pixels, to_tensor, upscale_image
from hat_sr.image.pixels import Image, Metadata


def nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def twice(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, 0).repeat(2, 1)


def recording(seen: list[Tensor], upscale: Callable[[Tensor], Tensor] = nearest) -> Callable[[Tensor], Tensor]:
    def wrapped(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return upscale(x)

    return wrapped


# The two doors


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535)])
def test_every_integer_value_comes_back(dtype: str, white: int) -> None:
    pixels = np.arange(white + 1, dtype=dtype).reshape(1, -1, 1)
    x = to_tensor(pixels)
    assert x.dtype == torch.float32
    assert x.min() == 0
    assert x.max() == 1
    assert np.array_equal(to_pixels(x, dtype), pixels)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_come_back_beyond_black_and_white_too(dtype: str) -> None:
    pixels = np.array([[[-1, 0, 0.1], [1, 2, 60000]]], dtype)
    assert np.array_equal(to_pixels(to_tensor(pixels), dtype), pixels)


def test_layout() -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    x = to_tensor(pixels)
    assert x.shape == (1, 4, 2, 3)
    assert x[0, 1, 0, 2] == pytest.approx(pixels[0, 2, 1] / 255)


def test_rounding_and_clamping() -> None:
    x = torch.tensor([-0.2, 0.4999 / 255, 0.5 / 255, 1.5 / 255, 254.51 / 255, 1.2]).view(1, 1, 1, -1)
    assert to_pixels(x, "uint8").ravel().tolist() == [0, 0, 0, 2, 255, 255]
    assert to_pixels(torch.full((1, 1, 1, 1), 1e6), "float16")[0, 0, 0] == np.finfo(np.float16).max


@given(st.floats(0, 1, width=32))
def test_rounding_is_to_the_nearest(value: float) -> None:
    got = to_pixels(torch.full((1, 1, 1, 1), value), "uint16").item()
    assert abs(got - value * 65535) <= 0.5 + 1e-2


def test_doors_refuse() -> None:
    with pytest.raises(InputError, match="int64"):
        to_tensor(np.zeros((1, 1, 3), np.int64))
    with pytest.raises(InputError, match="uint32"):
        to_pixels(torch.zeros(1, 1, 1, 1), "uint32")
    with pytest.raises(InputError, match=r"\(2, 1, 1, 1\)"):
        to_pixels(torch.zeros(2, 1, 1, 1), "uint8")
    with pytest.raises(InputError, match="higher precision"):
        to_pixels(torch.full((1, 1, 1, 1), torch.nan), "uint8")


# The whole way


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7)])
def test_an_upscaler_that_repeats_pixels_repeats_them(dtype: str, channels: int, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (*shape, channels)).astype(dtype)
    metadata = Metadata(icc=b"profile")
    out = upscale_image(Image(pixels, metadata=metadata), nearest, in_chans=3)
    assert out.pixels.dtype == pixels.dtype
    assert np.array_equal(out.pixels, twice(pixels))
    assert out.metadata == metadata


def test_gray_in_a_network_of_three_is_repeated_and_averaged() -> None:
    seen: list[Tensor] = []

    def tinted(x: Tensor) -> Tensor:
        return nearest(x) + torch.tensor([0.3, 0.0, 0.0]).view(1, 3, 1, 1)

    image = Image(np.full((2, 2, 1), 100, np.uint8))
    out = upscale_image(image, recording(seen, tinted), in_chans=3)
    assert seen[0].shape == (1, 3, 2, 2)
    assert (seen[0][:, 0] == seen[0][:, 2]).all()
    assert out.pixels.shape == (4, 4, 1)
    assert out.pixels[0, 0, 0] == round(100 + 255 * 0.1)


def test_gray_in_a_network_of_one_goes_as_it_is() -> None:
    seen: list[Tensor] = []
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 2), dtype=np.uint8)
    pixels[..., 1] |= 1
    out = upscale_image(Image(pixels), recording(seen), in_chans=1)
    assert [x.shape for x in seen] == [(1, 1, 3, 2), (1, 1, 3, 2)]
    assert np.array_equal(out.pixels, twice(pixels))


@pytest.mark.parametrize(("channels", "in_chans"), [(3, 1), (4, 1), (3, 2), (1, 0)])
def test_networks_that_do_not_fit(channels: int, in_chans: int) -> None:
    with pytest.raises(InputError, match="network"):
        upscale_image(Image(np.zeros((2, 2, channels), np.uint8)), nearest, in_chans=in_chans)


def test_nan_from_the_network_is_an_error() -> None:
    with pytest.raises(InputError, match="NaN"):
        upscale_image(Image(np.zeros((2, 2, 3), np.uint8)), lambda x: nearest(x) * torch.nan, in_chans=3)


def test_half_and_bfloat16_results_are_taken() -> None:
    pixels = np.full((2, 2, 3), 255, np.uint8)
    out = upscale_image(Image(pixels), lambda x: nearest(x).to(torch.bfloat16), in_chans=3)
    assert (out.pixels == 255).all()


# Alpha


def test_colours_do_not_bleed_from_under_transparency() -> None:
    def blurred(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:] = (200, 150, 100, 255)
    seen: list[Tensor] = []
    out = upscale_image(Image(pixels), recording(seen, blurred), in_chans=3).pixels
    assert (out[..., :3] == (200, 150, 100)).all()
    assert (out[:, :6, 3] == 0).all()
    assert (out[:, 10:, 3] == 255).all()


def test_colour_under_the_least_alpha_is_kept() -> None:
    pixels = np.array([[[9, 8, 7, 1], [1, 2, 3, 0], [90, 80, 70, 3]]], np.uint8)
    out = upscale_image(Image(pixels), nearest, in_chans=3).pixels[0, ::2]
    assert out[0].tolist() == [9, 8, 7, 1]
    assert out[2].tolist() == [90, 80, 70, 3]
    assert out[1, 3] == 0
    assert out[1, :3].tolist() != [1, 2, 3]


@pytest.mark.parametrize("alpha", [0, 77, 255])
def test_flat_alpha_stays_flat_whatever_the_network_does(alpha: int) -> None:
    def noisy(x: Tensor) -> Tensor:
        y = nearest(x)
        return y + 0.2 * torch.rand(y.shape, generator=torch.Generator().manual_seed(0)) - 0.1

    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    pixels[..., 3] = alpha
    assert (upscale_image(Image(pixels), noisy, in_chans=3).pixels[..., 3] == alpha).all()


def test_within_neighbours_leaves_what_lies_between() -> None:
    alpha = torch.zeros(1, 1, 4, 4)
    alpha[..., 2:] = 1
    result = torch.full((1, 1, 8, 8), 0.5)
    kept = within_neighbours(result, alpha)
    assert (kept[..., :2] == 0).all()
    assert (kept[..., 2:6] == 0.5).all()
    assert (kept[..., 6:] == 1).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_filled_colours_lie_between_those_seen(height: int, width: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    color = torch.rand(1, 3, height, width, generator=rng)
    alpha = (torch.rand(1, 1, height, width, generator=rng) < 0.3).float()
    filled = fill_transparent(color, alpha)
    seen = (alpha > 0).expand_as(color)
    assert torch.equal(filled[seen], color[seen])
    if bool(seen.any()):
        visible = color[seen].view(3, -1)
        low, high = visible.min(1).values.view(1, 3, 1, 1), visible.max(1).values.view(1, 3, 1, 1)
        assert ((filled >= low - 1e-5) & (filled <= high + 1e-5)).all()
    else:
        assert torch.equal(filled, color)


# Light


def test_light_is_encoded_for_the_network_and_decoded_after() -> None:
    seen: list[Tensor] = []
    pixels = np.array([[[0.0, 0.21404114, 1.0]]], np.float32)
    out = upscale_image(Image(pixels, linear=True), recording(seen), in_chans=3)
    assert seen[0].ravel().tolist() == pytest.approx([0, 0.5, 1], abs=1e-5)
    assert out.linear
    assert out.pixels.dtype == np.float32
    assert np.allclose(out.pixels, twice(pixels), atol=1e-6)


def test_a_peak_above_white_is_scaled_and_restored() -> None:
    seen: list[Tensor] = []
    pixels = np.array([[[8.0, 1.0, 0.5]]], np.float16)
    out = upscale_image(Image(pixels, linear=True), recording(seen), in_chans=3)
    assert seen[0].max() == pytest.approx(1)
    assert np.allclose(out.pixels.astype(float), twice(pixels), rtol=2e-3)


def test_floats_that_are_not_light_are_not_encoded() -> None:
    seen: list[Tensor] = []
    upscale_image(Image(np.full((1, 1, 3), 0.25, np.float32)), recording(seen), in_chans=3)
    assert (seen[0] == 0.25).all()


def test_values_below_black_become_black_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    out = upscale_image(Image(np.array([[[-0.5, 0.5, 1.0]]], np.float32), linear=True), nearest, in_chans=3)
    assert out.pixels.min() == 0
    assert "1 values below 0" in caplog.text


def test_alpha_of_a_float_picture_is_not_light() -> None:
    pixels = np.array([[[0.5, 0.5, 0.5, 0.25]]], np.float32)
    out = upscale_image(Image(pixels, linear=True), nearest, in_chans=3)
    assert np.allclose(out.pixels, twice(pixels), atol=1e-6)
