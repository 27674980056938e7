import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.errors import ConfigError, InputError
from hat_sr.image.resize import resize
from hat_sr.inference import sizing
from hat_sr.inference.sizing import (
    chain,
    fitted_size,
    parse_scale,
    parse_size,
    reached_by,
    scaled_size,
    upscale_to,
)
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


@pytest.mark.parametrize("scale", [0.99, 0, -2, float("nan"), float("inf"), 65_537, 1e300])
def test_scaled_size_refuses(scale):
    with pytest.raises(ConfigError, match="must be a number from 1 to 65,536"):
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


@pytest.mark.parametrize(("text", "scale"), [("2", 2), ("2x", 2), ("x2", 2), (" 1.5X ", 1.5), ("×3", 3), ("4 x", 4)])
def test_parse_scale(text, scale):
    assert parse_scale(text) == scale


@pytest.mark.parametrize("text", ["", "x", "two", "2x3", "2,5"])
def test_parse_scale_refuses(text):
    with pytest.raises(ConfigError, match="is no factor: give a number"):
        parse_scale(text)


def test_reached_by():
    assert reached_by(240, 320, (1440, 1920)) == 6
    assert reached_by(10, 20, (15, 80)) == 4
    with pytest.raises(InputError, match="smaller"):
        reached_by(10, 20, (9, 20))


BUNDLED = (2, 3, 4)


@pytest.mark.parametrize(
    ("factor", "factors"),
    [
        (1, (2,)),
        (2, (2,)),
        (2.5, (3,)),
        (4, (4,)),
        (5, (4,)),
        (6, (4,)),
        (6.01, (4, 2)),
        (8, (4, 2)),
        (8.1, (3, 3)),
        (10, (4, 3)),
        (16, (4, 4)),
        (24, (4, 4)),
        (25, (3, 3, 3)),
    ],
)
def test_as_few_networks_as_come_near_and_no_larger_than_need_be(factor, factors):
    assert chain(factor, first=BUNDLED, then=BUNDLED) == factors


@pytest.mark.parametrize(("factor", "factors"), [(1, (4,)), (3, (4,)), (6, (4,)), (7, (4, 2)), (12, (4, 3))])
def test_the_first_network_may_be_another(factor, factors):
    assert chain(factor, first=[4], then=BUNDLED) == factors


@pytest.mark.parametrize(
    ("scale", "factor", "num_networks"), [(4, 6, 1), (4, 7, 2), (2, 3, 1), (2, 3.1, 2), (2, 6, 2), (2, 81 / 10, 3)]
)
def test_a_network_alone(scale, factor, num_networks):
    assert chain(factor, first=[scale], then=[scale]) == (scale,) * num_networks


def test_a_network_that_does_not_enlarge():
    assert chain(1, first=[1], then=[1]) == (1,)
    with pytest.raises(ConfigError, match="scale 1"):
        chain(1.1, first=[1], then=[1])


def test_upscale_to_the_networks_own_size_is_the_networks():
    x = random_image(1, 3, 3, 5)
    assert torch.equal(upscale_to([(nearest(4), 4)], x, (12, 20)), nearest(4)(x))
    assert torch.equal(upscale_to([(nearest(4), 4), (nearest(2), 2)], x, (24, 40)), nearest(8)(x))


@pytest.mark.parametrize("size", [(3, 5), (7, 11), (13, 20), (3, 21)])
def test_upscale_to_any_size(size):
    x = random_image(1, 3, 3, 5)
    torch.testing.assert_close(upscale_to([(nearest(4), 4)], x, size), resize(nearest(4)(x), size))


def test_what_goes_on_is_clamped_and_the_result_is_not():
    def brighter(x):
        assert x.max() <= 1
        return nearest(2)(x) + 0.5

    x = torch.ones(1, 1, 2, 2)
    assert upscale_to([(brighter, 2)] * 2, x, (8, 8)).max() == 1.5
    torch.testing.assert_close(upscale_to([(brighter, 2)] * 2, x, (7, 7)), torch.ones(1, 1, 7, 7))


def test_impossible_target_is_refused_before_work():
    def never(x):
        raise AssertionError("ran")

    with pytest.raises(InputError, match="smaller"):
        upscale_to([(never, 2)], torch.zeros(1, 1, 4, 4), (3, 8))


@pytest.mark.parametrize("installed", [2 * 3 * 16 * 16 * 4, None])
def test_what_the_memory_holds_is_done(monkeypatch, installed):
    """Two passes of ×2 make 16×16 of 4×4: 3 channels of 4 bytes, and a copy. None: the system does not say."""
    monkeypatch.setattr(sizing, "installed_memory", lambda: installed)
    assert upscale_to([(nearest(2), 2)] * 2, torch.zeros(1, 3, 4, 4), (9, 16)).shape == (1, 3, 9, 16)


def test_what_no_memory_holds_is_refused_before_work(monkeypatch):
    monkeypatch.setattr(sizing, "installed_memory", lambda: 2 * 3 * 16 * 16 * 4 - 1)
    with pytest.raises(InputError, match="16×16 pixels are made"):
        upscale_to([(nearest(2), 2)] * 2, torch.zeros(1, 3, 4, 4), (9, 16))
