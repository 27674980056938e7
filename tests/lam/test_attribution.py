import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from hat_sr.errors import InputError
from hat_sr.inference.upscale import padded
from hat_sr.inference.upscaler import Upscaler
from hat_sr.lam.attribution import (
    EPSILON,
    SIGMA,
    STEPS,
    Window,
    blurred,
    detect_edges,
    local_attribution_map,
)
from inference.doubles import nearest, random_image
from model.tiny import tiny_model


def identity(x):
    return x * 1.0


def smooth(x):
    """×2, differentiable everywhere, each pixel from its 3×3 neighbours."""
    kernel = torch.linspace(-1, 1.5, 9, dtype=x.dtype).view(1, 1, 3, 3)
    y = F.conv2d(x.flatten(0, 1).unsqueeze(1), kernel, padding=1).view_as(x)
    return F.interpolate(torch.tanh(2 * y), scale_factor=2, mode="bilinear")


def tiny_upscale():
    return padded(tiny_model(), multiple=4, scale=2)


@pytest.mark.parametrize(("upscale", "steps"), [(smooth, 50), (tiny_upscale(), 200)], ids=["smooth", "HAT"])
def test_attributions_sum_to_the_difference_of_the_detector(upscale, steps):
    """The image is noise and the network rough: it needs more steps than trained ones on pictures do."""
    x, window = random_image(1, 3, 13, 11), Window(x=5, y=7, size=6)
    found = local_attribution_map(upscale, x, window, steps=steps)
    with torch.no_grad():
        sharp, blurry = (detect_edges(upscale(each), window).item() for each in (x, blurred(x, SIGMA)))
    assert found.detected == pytest.approx(sharp) and found.baseline_detected == pytest.approx(blurry)
    assert found.attribution_CHW.sum().item() == pytest.approx(sharp - blurry, rel=0.01)
    assert found.completeness_error == pytest.approx(
        abs(found.attribution_CHW.sum().item() - (sharp - blurry)) / abs(sharp - blurry), abs=1e-5
    )
    assert found.completeness_error < 0.01
    assert torch.equal(found.map_HW, found.attribution_CHW.sum(dim=0).abs())
    assert torch.equal(found.sr, upscale(x).detach())


def test_the_error_falls_faster_than_the_steps_grow():
    """As it does not where only the gradient at each step's end counts."""
    x, window = random_image(1, 1, 12, 12).double(), Window(x=8, y=8, size=8)
    coarse, fine = (local_attribution_map(smooth, x, window, steps=steps).completeness_error for steps in (25, 100))
    assert fine < min(2e-4, coarse / 10)


def test_where_the_detector_is_linear_the_answer_is_exact():
    """Columns that only grow brighter: F is the last column of the window, and the next, minus the first."""
    ramp = torch.tensor([0.0, 0.01, 0.05, 0.2, 0.35, 0.6, 0.7, 0.75, 0.95, 1.0], dtype=torch.float64)
    x = ramp.expand(1, 1, 9, 10)
    found = local_attribution_map(identity, x, Window(x=3, y=2, size=4), steps=3)
    expected = torch.zeros(9, 10, dtype=torch.float64)
    change = (x - blurred(x, SIGMA))[0, 0]
    expected[2:6, 7], expected[2:6, 3] = change[2:6, 7], -change[2:6, 3]
    assert torch.allclose(found.attribution_CHW[0], expected, atol=1e-9)
    assert found.detected == pytest.approx(4 * (ramp[7] - ramp[3]).item())
    assert found.completeness_error < 1e-9


def test_nothing_outside_of_the_receptive_field():
    """Enlarged ×2 with a reach of two pixels: the window's columns 10–14 and rows 6–10 come from 5–7 and 3–5."""
    kernel = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(1))

    def upscale(x):
        return nearest(2)(F.conv2d(x, kernel, padding=2))

    contributions = local_attribution_map(upscale, random_image(1, 1, 12, 14), Window(x=10, y=6, size=4)).map_HW
    inside = torch.zeros(12, 14, dtype=torch.bool)
    inside[1:8, 3:10] = True
    assert bool((contributions[~inside] == 0).all())
    assert int((contributions > 0).sum()) > 40


def test_path_images_may_pass_together():
    x, window = random_image(1, 3, 9, 14), Window(x=3, y=4, size=7)
    one, several = (local_attribution_map(tiny_upscale(), x, window, batch_size=size, steps=9) for size in (1, 4))
    assert torch.allclose(one.attribution_CHW, several.attribution_CHW, rtol=1e-4, atol=1e-5)
    assert several.detected == pytest.approx(one.detected) and several.sr.shape == (1, 3, 18, 28)


def test_blur_is_the_normal_distribution():
    x = torch.zeros(1, 2, 11, 11, dtype=torch.float64)
    x[0, 1, 5, 5] = 1
    found = blurred(x, 0.8)
    offsets = torch.arange(-4.0, 5.0, dtype=torch.float64)
    density = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 0.8**2))
    assert torch.allclose(found[0, 1, 1:10, 1:10], density / density.sum())
    assert found[0, 0].abs().max() == 0 and found.sum().item() == pytest.approx(1)
    assert torch.equal(blurred(x, 0), x)


def test_blur_reflects_at_borders():
    x = torch.arange(5.0).expand(1, 1, 5, 5)
    assert torch.allclose(blurred(x, 1.0).flip(-1), 4 - blurred(x, 1.0), atol=1e-6)


def test_detector():
    x = torch.zeros(2, 3, 6, 6)
    x[1, :, 2, 3] = 0.5
    # The pixel's own differences, √2 · 0.5, and those of its left and upper neighbours, 0.5 each; three channels.
    flat, dotted = detect_edges(x, Window(x=1, y=1, size=4)).tolist()
    assert flat == pytest.approx(3 * 16 * EPSILON)
    assert dotted == pytest.approx(3 * 0.5 * (math.sqrt(2) + 2), rel=1e-4)


def test_a_flat_image_has_nothing_to_attribute():
    found = local_attribution_map(nearest(2), torch.zeros(1, 3, 6, 6), Window(x=2, y=2, size=4), steps=2)
    assert found.completeness_error == 0
    with pytest.raises(InputError, match="0 everywhere"):
        found.diffusion_index  # noqa: B018


def test_the_error_is_infinite_where_the_difference_is_0():
    found = local_attribution_map(nearest(2), random_image(1, 3, 6, 6), Window(x=2, y=2, size=4), steps=2)
    assert replace(found, baseline_detected=found.detected).completeness_error == math.inf


def test_weights_get_no_gradients_and_gradients_may_be_off():
    model = tiny_model()
    with torch.no_grad():
        local_attribution_map(model, random_image(1, 3, 8, 8), Window(x=4, y=4, size=4), steps=1)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_progress():
    seen = []
    local_attribution_map(
        nearest(1),
        random_image(1, 1, 6, 6),
        Window(x=0, y=0, size=5),
        steps=4,
        batch_size=2,
        progress=lambda *numbers: seen.append(numbers),
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("upscale", [Upscaler(tiny_model()), lambda x: torch.rand(1, 3, 20, 20, requires_grad=True)])
def test_without_gradients(upscale):
    with pytest.raises(InputError, match="no gradient passes through upscale"):
        local_attribution_map(upscale, random_image(1, 3, 10, 10), Window(x=0, y=0, size=4))


def test_results_that_are_not_finite():
    with pytest.raises(InputError, match="not finite"):
        local_attribution_map(lambda x: x / 0, random_image(1, 3, 10, 10), Window(x=0, y=0, size=4), steps=1)


@pytest.mark.parametrize(
    ("numbers", "accepted"),
    [
        ((8, 0, 4), "x from 0 to 7 and y from 0 to 5"),
        ((0, 6, 4), "x from 0 to 7 and y from 0 to 5"),
        ((0, 0, 10), "a size up to 9"),
    ],
)
def test_windows_outside(numbers, accepted):
    x, y, size = numbers
    with pytest.raises(InputError, match=f"x {x}, y {y}, size {size} does not lie inside.*12×10 .*{accepted}"):
        local_attribution_map(nearest(2), random_image(1, 3, 5, 6), Window(x=x, y=y, size=size), steps=1)


@pytest.mark.parametrize("numbers", [(7, 5, 4), (0, 0, 9)])
def test_windows_just_inside(numbers):
    x, y, size = numbers
    window = Window(x=x, y=y, size=size)
    found = local_attribution_map(nearest(2), random_image(1, 3, 5, 6), window, steps=1)
    assert found.window == window
    assert found.map_HW.shape == (5, 6)
    assert found.map_HW.isfinite().all() and found.map_HW.any()


@pytest.mark.parametrize("numbers", [{"x": -1, "y": 0}, {"x": 0, "y": -1}, {"x": 0, "y": 0, "size": 0}])
def test_impossible_windows(numbers):
    with pytest.raises(InputError, match="from 0"):
        Window(**numbers)


@pytest.mark.parametrize(
    "image", [torch.rand(3, 9, 9), torch.rand(2, 3, 9, 9), torch.rand(1, 3, 4, 9), torch.ones(1, 3, 9, 9).byte()]
)
def test_other_images_are_refused(image):
    with pytest.raises(InputError, match="one float image"):
        local_attribution_map(identity, image, Window(x=0, y=0, size=2))


@pytest.mark.parametrize("settings", [{"steps": 0}, {"sigma": 0.0}, {"sigma": math.inf}, {"batch_size": 0}])
def test_impossible_settings(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        local_attribution_map(identity, random_image(1, 3, 9, 9), Window(x=0, y=0, size=2), **settings)


def test_published_settings():
    assert (SIGMA, STEPS, Window(x=0, y=0).size) == (1.2, 50, 16)
