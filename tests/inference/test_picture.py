"""What an upscaler makes of gray, alpha, depth and light."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.image.pixels import Image, Metadata
from hat_sr.inference.picture import upscale_image


def nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def twice(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, 0).repeat(2, 1)


def recording(seen: list[Tensor], upscale: Callable[[Tensor], Tensor] = nearest) -> Callable[[Tensor], Tensor]:
    def wrapped(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return upscale(x)

    return wrapped


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
