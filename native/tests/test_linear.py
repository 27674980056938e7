"""The gradient of linear layers' weights and biases against float64, on every kind of processor that this one can stand
for."""

import pytest
import torch
from hat_sr_native import levels, linear_gradient
from test_kernel import error

TOLERANCE = 2e-6
"""Relative, of the norm: sums are in float32 whatever is added."""

DTYPES = [torch.float32, torch.bfloat16]


def numbers(*shape, dtype, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def wanted_of(grad, x):
    rows = grad.flatten(0, -2).double()
    return rows.T @ x.flatten(0, -2).double(), rows.sum(0)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [
        ((8, 48, 48), 64, 192),
        ((2, 30, 40), 180, 540),
        ((1,), 1, 1),
        ((7,), 3, 2),
        ((63,), 16, 16),
        ((64,), 17, 15),
        ((65,), 33, 31),
        ((5000,), 5, 130),
        ((3, 1, 1111), 130, 5),
    ],
    ids=str,
)
def test_it_is_the_sum_of_products(level, dtype, rows, inputs, outputs):
    x, grad = numbers(*rows, inputs, dtype=dtype), numbers(*rows, outputs, dtype=dtype, seed=1)
    for found, wanted in zip(linear_gradient(grad, x, level=level), wanted_of(grad, x), strict=True):
        assert found.dtype == torch.float32
        assert found.shape == wanted.shape
        assert error(found, wanted) < TOLERANCE


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_only_what_is_there_is_read(level, dtype):
    """Parts of channels or of rows, beside which lies what spoils everything."""
    large = torch.full((70, 50), float("nan"), dtype=dtype)
    x, grad = large[1:-1, 1:20], large[1:-1, 21:-1]
    x.copy_(numbers(*x.shape, dtype=dtype))
    grad.copy_(numbers(*grad.shape, dtype=dtype, seed=1))
    for tensors in ((grad, x), (grad.contiguous()[3:40], x.contiguous()[3:40]), (grad[::2], x[::2])):
        for found, wanted in zip(linear_gradient(*tensors, level=level), wanted_of(*tensors), strict=True):
            assert error(found, wanted) < TOLERANCE


def test_the_number_of_threads_changes_nothing():
    x, grad = numbers(20000, 20, dtype=torch.bfloat16), numbers(20000, 36, dtype=torch.bfloat16, seed=1)
    before = torch.get_num_threads()
    try:
        results = []
        for num_threads in (1, 2, 7):
            torch.set_num_threads(num_threads)
            results.append(linear_gradient(grad, x))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))


def test_nothing():
    weight, bias = linear_gradient(torch.empty(0, 4), torch.empty(0, 3))
    assert torch.equal(weight, torch.zeros(4, 3))
    assert torch.equal(bias, torch.zeros(4))
    weight, bias = linear_gradient(torch.ones(5, 2), torch.empty(5, 0))
    assert weight.shape == (2, 0)
    assert torch.equal(bias, torch.full((2,), 5.0))
    assert linear_gradient(torch.empty(5, 0), torch.ones(5, 2))[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: linear_gradient(x[:2], x), "have the shapes .6, 5. and .2, 5."),
        (lambda x: linear_gradient(torch.tensor(1.0), torch.tensor(1.0)), "all but the last axis must be the same"),
        (lambda x: linear_gradient(x.bfloat16(), x), "the gradient is torch.bfloat16 and x torch.float32"),
        (lambda x: linear_gradient(x, x.double()), "x is torch.float64 on cpu"),
        (lambda x: linear_gradient(x.to("meta"), x), "the gradient is torch.float32 on meta"),
        (lambda x: linear_gradient(x, x, level="best"), "level 'best'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(6, 5))
