"""In bands or not, the result is the same."""

import pytest
import torch

from goldens.formula import image
from hat_sr.errors import InputError
from hat_sr.model.banded import forward_in_bands
from hat_sr.model.hat import HAT
from model.tiny import tiny_model


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (1, 3, 20, 12)),
        ({}, (2, 3, 12, 20)),
        ({"depths": (3, 2), "num_heads": (1, 3)}, (1, 3, 24, 8)),
        ({"window_size": 8, "overlap_ratio": 0.25}, (1, 3, 32, 16)),
        ({"overlap_ratio": 1.5}, (1, 3, 20, 8)),
        ({"overlap_ratio": 3.0}, (1, 3, 20, 8)),
        ({"overlap_ratio": 0.0}, (1, 3, 20, 8)),
        ({"in_chans": 1}, (1, 1, 16, 8)),
        ({"img_range": 255.0, "conv_scale": 0.5}, (1, 3, 16, 8)),
        ({"upscale": 1}, (1, 3, 24, 8)),
        ({"upscale": 3}, (1, 3, 24, 8)),
        ({"upscale": 4}, (1, 3, 24, 8)),
        ({"upscale": 8}, (1, 3, 24, 4)),
        ({"use_cab": False}, (1, 3, 16, 8)),
        ({"use_channel_attention": False}, (1, 3, 16, 8)),
        ({"use_ocab": False}, (1, 3, 16, 8)),
    ],
    ids=str,
)
def test_bands_are_exact(changes, shape):
    model = tiny_model(**changes).double()
    x = image(shape).double()
    with torch.no_grad():
        wanted = model(x)
    window = model.config.window_size
    for num_rows in (window, 2 * window, 3 * window, 100 * window):
        torch.testing.assert_close(forward_in_bands(model, x, num_rows=num_rows), wanted, rtol=0, atol=1e-10)


def test_the_single_window_image():
    model = tiny_model(depths=(2, 2), num_heads=(2, 2))
    x = image((1, 3, 4, 4))
    with torch.no_grad():
        torch.testing.assert_close(forward_in_bands(model, x, num_rows=4), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_rows", [4, 12])
def test_there_is_no_drop_path(num_rows):
    model = tiny_model(drop_path_rate=0.9)
    x = image((1, 3, 12, 8))
    wanted = forward_in_bands(model, x, num_rows=num_rows)
    torch.testing.assert_close(forward_in_bands(model.train(), x, num_rows=num_rows), wanted, rtol=0, atol=1e-5)


def test_the_input_is_left_as_it_is_and_nothing_needs_a_gradient():
    model = tiny_model()
    x = image((1, 3, 12, 8))
    before = x.clone()
    assert not forward_in_bands(model, x, num_rows=4).requires_grad
    assert torch.equal(x, before)


@pytest.mark.parametrize("changes", [{}, {"use_cab": False}, {"use_ocab": False}, {"depths": (3, 2)}], ids=str)
def test_it_is_told_what_is_done_after_every_band(changes):
    model = tiny_model(**{"num_heads": (2,) * len(changes.get("depths", (2,))), **changes})
    num_blocks, loops = sum(model.config.depths), (2 if model.config.use_ocab else 1) * len(model.config.depths) + 1
    for num_bands, loops_of_block in ((1, 1), (5, 2 if model.config.use_cab else 1)):
        parts = []
        forward_in_bands(model, image((1, 3, 4 * num_bands, 8)), num_rows=4, report=parts.append)
        assert len(parts) == num_bands * (num_blocks * loops_of_block + loops)
        assert parts == sorted(set(parts))
        assert parts[-1] == 1


@pytest.mark.parametrize("cast", [HAT.to, HAT.cast_body])
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_low_precision(low, cast):
    """The result has the image's precision, and is as near as that of the whole."""
    model = tiny_model()
    x = image((1, 3, 16, 8))
    with torch.no_grad():
        exact, model = model(x), cast(model, low)
        error = (model(x) - exact).abs().max()
    banded = forward_in_bands(model, x, num_rows=4)
    assert banded.dtype == torch.float32
    assert (banded - exact).abs().max() < 2 * error


@pytest.mark.parametrize("num_rows", [0, 2, 6, -4])
def test_numbers_of_rows_that_cannot_be(num_rows):
    with pytest.raises(InputError, match=f"num_rows {num_rows} must be a multiple of window_size 4"):
        forward_in_bands(tiny_model(), image((1, 3, 8, 8)), num_rows=num_rows)
