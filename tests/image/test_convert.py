"""Pixels to tensors and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.errors import InputError
from hat_sr.image.convert import to_pixels, to_tensor


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
