import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from hat_sr.inference.upscale import padded
from inference.doubles import blurred, nearest, random_image


def recorded(upscale):
    seen = []

    def run(x):
        seen.append(x)
        return upscale(x)

    return run, seen


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    multiple=st.sampled_from([1, 4, 8, 16]),
    scale=st.integers(1, 4),
)
def test_padded_nearest_is_nearest(height, width, multiple, scale):
    x = random_image(1, 2, height, width)
    run, seen = recorded(nearest(scale))
    assert torch.equal(padded(run, multiple=multiple, scale=scale)(x), nearest(scale)(x))
    padded_height, padded_width = seen[0].shape[-2:]
    assert padded_height % multiple == padded_width % multiple == 0
    assert padded_height - height < multiple and padded_width - width < multiple


@pytest.mark.parametrize(("height", "width"), [(9, 9), (9, 16), (15, 33), (20, 8)])
def test_pads_bottom_and_right_as_published(height, width):
    x = random_image(1, 3, height, width)
    run, seen = recorded(nearest(1))
    padded(run, multiple=8, scale=1)(x)
    assert torch.equal(seen[0], F.pad(x, (0, -width % 8, 0, -height % 8), mode="reflect"))


def test_short_sides_are_reflected_back_and_forth():
    run, seen = recorded(nearest(1))
    padded(run, multiple=8, scale=1)(torch.tensor([[[[0.1, 0.2, 0.3]]]]))
    row = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.1, 0.2, 0.3, 0.2])
    assert torch.equal(seen[0], row.expand(1, 1, 8, 8))


def test_fitting_image_is_passed_as_it_is():
    x = random_image(1, 1, 8, 16)
    assert torch.equal(padded(blurred(2, 2), multiple=8, scale=2)(x), blurred(2, 2)(x))
