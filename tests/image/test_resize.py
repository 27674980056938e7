import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_sr.errors import InputError
from hat_sr.image.resize import imresize, resize, resize_rows

HALF = Fraction(1, 2)


def exact_row(values: list[int], length: int, border: str) -> list[Fraction]:
    """One pass in exact arithmetic, from the definition: sample the stretched kernel around each output pixel."""
    scale = Fraction(length, len(values))
    shrink = min(scale, Fraction(1))
    result = []
    for position in range(length):
        center = (position + HALF) / scale - HALF
        reach = math.ceil(2 / shrink) + 1
        taps = range(math.floor(center) - reach, math.floor(center) + reach + 2)
        weights = [cubic(shrink * (center - tap)) for tap in taps]
        total = sum(w * values[source(tap, len(values), border)] for w, tap in zip(weights, taps, strict=True))
        result.append(total / sum(weights))
    return result


def cubic(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    return -HALF * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2 if x <= 2 else Fraction(0)


def source(tap: int, length: int, border: str) -> int:
    if border == "clamp":
        return min(max(tap, 0), length - 1)
    while not 0 <= tap < length:
        tap = -1 - tap if tap < 0 else 2 * length - 1 - tap
    return tap


def random_image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=20),
    length=st.integers(1, 40),
    border=st.sampled_from(["mirror", "clamp"]),
    upright=st.booleans(),
)
def test_one_pass_rounds_the_exact_sum(values, length, border, upright):
    image = torch.tensor(values, dtype=torch.uint8)
    if upright:
        ours = imresize(image[:, None], (length, 1), border=border)[:, 0]
    else:
        ours = imresize(image[None, :], (1, length), border=border)[0]
    for got, exact in zip(ours.tolist(), exact_row(values, length, border), strict=True):
        # Either neighbour is right for a sum that ends in exactly .5, which floats may miss by a hair.
        assert abs(got - min(max(exact, 0), 255)) <= 0.5 + 1e-9


def test_ties_round_up():
    values = [0, 255]
    assert exact_row(values, 1, "mirror") == [Fraction(255, 2)]
    assert imresize(torch.tensor([values], dtype=torch.uint8), (1, 1)).item() == 128


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2.0, 3.0])
def test_rounds_after_each_pass_height_first(scale):
    image = random_image(3, 24, 36)
    height, width = math.ceil(24 * scale), math.ceil(36 * scale)
    two_steps = imresize(imresize(image, (height, 36)), (height, width))
    assert torch.equal(imresize(image, scale), two_steps)
    assert not torch.equal(two_steps, imresize(imresize(image, (24, width)), (height, width)))
    once = (resize(image.double(), (height, width)) + 0.5).floor().clamp(0, 255).to(torch.uint8)
    assert not torch.equal(two_steps, once)


def test_the_axis_that_shrinks_more_comes_first():
    image = random_image(24, 36)
    assert torch.equal(imresize(image, (12, 9)), imresize(imresize(image, (24, 9)), (12, 9)))


def test_border_matters_at_the_edge_only():
    image = random_image(1, 64, 64)
    mirror, clamp = imresize(image, 1 / 4), imresize(image, 1 / 4, border="clamp")
    assert not torch.equal(mirror, clamp)
    assert torch.equal(mirror[:, 2:-2, 2:-2], clamp[:, 2:-2, 2:-2])


@pytest.mark.parametrize(
    ("shape", "factor", "expected"),
    [
        ((10, 7), 1 / 3, (4, 3)),
        ((9, 6), 1 / 3, (3, 2)),
        ((1, 1), 4, (4, 4)),
        ((5, 3), 0.25, (2, 1)),
        ((4, 4), 1.1, (5, 5)),
    ],
)
def test_a_factor_rounds_sizes_up(shape, factor, expected):
    assert imresize(random_image(2, 3, *shape), factor).shape == (2, 3, *expected)


def test_leading_axes_are_independent():
    image = random_image(2, 3, 9, 11)
    together = imresize(image, (4, 20))
    assert torch.equal(together[1, 2], imresize(image[1, 2], (4, 20)))


@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (41, 2)])
def test_a_flat_image_stays_flat(value, size):
    assert (imresize(torch.full((3, 13, 7), value, dtype=torch.uint8), size) == value).all()


def test_same_size_is_the_identity():
    image = random_image(3, 5, 8)
    assert torch.equal(imresize(image, 1), image)
    assert torch.equal(resize(image.float(), (5, 8)), image.float())


def mirrored(x: torch.Tensor, dim: int, pad: int) -> torch.Tensor:
    before, after = x.narrow(dim, 0, pad).flip(dim), x.narrow(dim, x.shape[dim] - pad, pad).flip(dim)
    return torch.cat([before, x, after], dim)


@pytest.mark.parametrize("factor", [1 / 4, 1 / 2, 2])
def test_resize_is_torch_bicubic_with_mirrored_borders(factor):
    x = torch.rand(2, 3, 48, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    padded = mirrored(mirrored(x, 2, 16), 3, 16)
    whole = F.interpolate(padded, scale_factor=factor, mode="bicubic", antialias=True)
    cut = int(16 * factor)
    expected = whole[:, :, cut:-cut, cut:-cut]
    assert (resize(x, (int(48 * factor), int(32 * factor))) - expected).abs().max() < 1e-12


def test_resize_neither_rounds_nor_clips():
    x = torch.tensor([[[[0.0, 1.0, 0.0, 1.0, 1.0, 1.0]]]])
    out = resize(x, (1, 12))
    assert out.max() > 1
    assert out.min() < 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_resize_keeps_the_dtype(dtype):
    x = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    out = resize(x.to(dtype), (4, 13))
    assert out.dtype == dtype
    assert (out.double() - resize(x.double(), (4, 13))).abs().max() < 4 * torch.finfo(dtype).eps


def test_resize_can_be_trained_through_even_after_inference():
    with torch.inference_mode():
        resize(torch.rand(1, 1, 17, 19), (5, 6))
    x = torch.rand(1, 1, 17, 19, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: resize(image, (5, 6)), (x,))


@pytest.mark.parametrize(
    ("image", "target", "message"),
    [
        (torch.zeros(3, 4, 4), 2, "uint8"),
        (torch.zeros(4, dtype=torch.uint8), 2, "shape"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), 2, "shape"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), 0, "factor"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), math.nan, "factor"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), (0, 4), "size"),
    ],
)
def test_imresize_refuses(image, target, message):
    with pytest.raises(InputError, match=message):
        imresize(image, target)


def test_resize_refuses():
    with pytest.raises(InputError, match="uint8"):
        resize(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), (2, 2))
    with pytest.raises(InputError, match="size"):
        resize(torch.zeros(1, 1, 4, 4), (2, 0))


@pytest.mark.parametrize("size", [(9, 13), (20, 26), (13, 20), (40, 21), (20, 21), (7, 60)])
def test_rows_of_an_image_that_is_not_in_memory(size):
    x = torch.rand(1, 3, 20, 26, generator=torch.Generator().manual_seed(0))
    whole = resize(x, size)
    for start in range(0, size[0], 3):
        stop = min(start + 3, size[0])
        rows = resize_rows(lambda first, last: x[..., first:last, :], 20, 26, size, start, stop)
        assert torch.equal(rows, whole[..., start:stop, :])
