import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.errors import ConfigError, InputError
from hat_sr.image.resize import resize
from hat_sr.inference import sizing
from hat_sr.inference.sizing import fitted_size, num_passes, parse_size, scaled_size, upscale_to
from inference.doubles import nearest, random_image


@pytest.mark.parametrize(
    ("text", "size"),
    [("1920x1080", (1080, 1920)), ("1920x", (None, 1920)), ("x1080", (1080, None)), (" 3X4 ", (4, 3)), ("3×4", (4, 3))],
)
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "1920", "0x5", "5x0", "-5x5", "1.5x2", "3x4x5", "axb", "٣x٤"])
def test_parse_size_refuses(text):
    with pytest.raises(ConfigError, match="WxH"):
        parse_size(text)


def test_scaled_size_rounds_halves_up():
    assert scaled_size(3, 5, 1.5) == (5, 8)
    assert scaled_size(1, 1, 1) == (1, 1)
    assert scaled_size(7, 3, 4) == (28, 12)


@pytest.mark.parametrize("scale", [0.99, 0, -2, float("nan"), float("inf")])
def test_scaled_size_refuses(scale):
    with pytest.raises(ConfigError, match="at least 1"):
        scaled_size(10, 10, scale)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((None, 300), (200, 300)),
        ((200, None), (200, 300)),
        ((None, 151), (101, 151)),
        ((100, 150), (100, 150)),
        ((500, 150), (500, 150)),
    ],
)
def test_fitted_size(size, expected):
    assert fitted_size(100, 150, size) == expected


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), more=st.integers(0, 3000))
def test_one_side_never_shrinks_the_other(height, width, more):
    assert fitted_size(height, width, (None, width + more))[0] >= height
    assert fitted_size(height, width, (height + more, None))[1] >= width


@pytest.mark.parametrize("size", [(99, 150), (100, 149), (None, 149), (99, None), (50, 5000)])
def test_smaller_targets_are_refused(size):
    with pytest.raises(InputError, match="smaller than the image, 150×100"):
        fitted_size(100, 150, size)


def test_fitted_size_needs_a_side():
    with pytest.raises(ConfigError, match="names no side"):
        fitted_size(100, 150, (None, None))


@pytest.mark.parametrize(
    ("size", "scale", "passes"),
    [
        ((10, 20), 4, 1),
        ((40, 80), 4, 1),
        ((40, 81), 4, 2),
        ((41, 20), 4, 2),
        ((160, 320), 4, 2),
        ((10, 20), 1, 1),
        ((81, 20), 2, 4),
    ],
)
def test_num_passes(size, scale, passes):
    assert num_passes(10, 20, size, scale=scale) == passes


def test_num_passes_refuses():
    with pytest.raises(ConfigError, match="scale 1"):
        num_passes(10, 20, (11, 20), scale=1)
    with pytest.raises(InputError, match="smaller"):
        num_passes(10, 20, (9, 20), scale=4)


def test_upscale_to_the_models_own_size_is_the_model():
    x = random_image(1, 3, 3, 5)
    assert torch.equal(upscale_to(nearest(4), x, (12, 20), scale=4), nearest(4)(x))
    assert torch.equal(upscale_to(nearest(2), x, (12, 20), scale=2), nearest(4)(x))


@pytest.mark.parametrize("size", [(3, 5), (7, 11), (13, 20), (3, 21)])
def test_upscale_to_any_size(size):
    x = random_image(1, 3, 3, 5)
    out = upscale_to(nearest(4), x, size, scale=4)
    passes = num_passes(3, 5, size, scale=4)
    torch.testing.assert_close(out, resize(nearest(4**passes)(x), size))


def test_what_goes_on_is_clamped_and_the_result_is_not():
    def brighter(x):
        assert x.max() <= 1
        return nearest(2)(x) + 0.5

    x = torch.ones(1, 1, 2, 2)
    assert upscale_to(brighter, x, (8, 8), scale=2).max() == 1.5
    torch.testing.assert_close(upscale_to(brighter, x, (7, 7), scale=2), torch.ones(1, 1, 7, 7))


def test_impossible_target_is_refused_before_work():
    def never(x):
        raise AssertionError("ran")

    with pytest.raises(InputError, match="smaller"):
        upscale_to(never, torch.zeros(1, 1, 4, 4), (3, 8), scale=2)


@pytest.mark.parametrize("installed", [2 * 3 * 16 * 16 * 4, None])
def test_what_the_memory_holds_is_done(monkeypatch, installed):
    """Two passes of ×2 make 16×16 of 4×4: 3 channels of 4 bytes, and a copy. None: the system does not say."""
    monkeypatch.setattr(sizing, "installed_memory", lambda: installed)
    assert upscale_to(nearest(2), torch.zeros(1, 3, 4, 4), (9, 16), scale=2).shape == (1, 3, 9, 16)


def test_what_no_memory_holds_is_refused_before_work(monkeypatch):
    monkeypatch.setattr(sizing, "installed_memory", lambda: 2 * 3 * 16 * 16 * 4 - 1)
    with pytest.raises(InputError, match="16×16 pixels are made"):
        upscale_to(nearest(2), torch.zeros(1, 3, 4, 4), (9, 16), scale=2)
