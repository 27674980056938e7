"""What `faithful` mends of a stand-in that strays, and what it leaves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_sr.inference.tiling import tiled
from hat_sr.inference.upscale import faithful
from inference.doubles import nearest, random_image


def straying(scale, *, shift=0.0, corner=0.0):
    """Nearest, lighter by `shift`, and by `corner` in the corners."""

    def run(x):
        out = nearest(scale)(x) + shift
        for rows in (slice(None, scale), slice(-scale, None)):
            for columns in (slice(None, scale), slice(-scale, None)):
                out[..., rows, columns] += corner
        return out

    return run


@settings(max_examples=30)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), scale=st.integers(1, 4), batch=st.integers(1, 2), c=st.just(3)
)
def test_what_does_not_stray_is_left(height, width, scale, batch, c):
    x = random_image(batch, c, height, width)
    torch.testing.assert_close(faithful(straying(scale), scale=scale)(x), nearest(scale)(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (33, 30)])
def test_a_flat_picture_stays_flat(size):
    x = torch.tensor([0.0, 0.5, 1.0])[None, :, None, None].expand(1, 3, *size)
    out = faithful(straying(2, shift=-0.06, corner=0.1), scale=2)(x)
    torch.testing.assert_close(out, nearest(2)(x), rtol=0, atol=1 / 255)


def test_a_cast_goes_and_details_stay():
    x = random_image(2, 3, 50, 41)
    inside = (..., slice(12, -12), slice(12, -12))
    out = faithful(straying(3, shift=0.1), scale=3)(x)
    torch.testing.assert_close(out[inside], nearest(3)(x)[inside], rtol=0, atol=1e-6)

    def sharper(x):
        out = nearest(2)(x)
        out[..., ::2, ::2] += 0.2
        out[..., 1::2, 1::2] -= 0.2
        return out

    torch.testing.assert_close(faithful(sharper, scale=2)(x)[inside], sharper(x)[inside], rtol=0, atol=1e-6)


def test_the_frame_is_limited_by_the_range_of_its_neighbours_and_the_inside_is_not():
    x = torch.full((1, 1, 20, 20), 0.5)
    x[..., :2] = 0.6

    def spots(x):
        out = nearest(2)(x)
        for column in (0, 4, 20):
            out[..., 20, column] += 0.4
            out[..., 21, column] -= 0.4  # so that the mean is right
        return out

    out = faithful(spots, scale=2)(x)[0, 0]
    assert (out[20:22, 0] - 0.6).abs().max() < 1e-6  # 0.6 all around
    assert out[20, 4].item() == pytest.approx(0.7)  # 0.5 beside 0.6
    assert out[20, 20].item() == pytest.approx(0.9)


def test_tiles_with_the_context_of_a_hat_are_as_the_whole():
    x = random_image(1, 3, 90, 70)

    def lighter_to_the_right(x):
        return nearest(2)(x * x)

    whole = faithful(lighter_to_the_right, scale=2)
    out = tiled(whole, scale=2, tile_size=64, tile_pad=16, blend_size=8, align=8)(x)
    torch.testing.assert_close(out, whole(x), rtol=0, atol=1e-5)
