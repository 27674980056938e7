"""Layer norms and the gradient of GELU against torch in float64, on every kind of processor that this one can
stand for."""

import pytest
import torch
import torch.nn.functional as F
from hat_sr_native import gelu_gradient, layer_norm, layer_norm_gradient, levels
from test_kernel import TOLERANCES, error

EPS = 1e-5


def numbers(*shape, dtype, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def wanted_of(x, weight, bias, grad):
    """The result in float64, and the gradients."""
    leaves = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    out = F.layer_norm(leaves[0], weight.shape, *leaves[1:], EPS)
    return out.detach(), torch.autograd.grad(out, leaves, grad.double())


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", [(5, 64), (2, 20, 30, 180), (1, 16), (600, 7), (257, 33), (3, 1000), (2, 2)], ids=str)
def test_layer_norm(level, dtype, shape):
    x, grad = numbers(*shape, dtype=dtype) * 3 + 2, numbers(*shape, dtype=dtype, seed=1)
    weight, bias = numbers(shape[-1], dtype=dtype, seed=2), numbers(shape[-1], dtype=dtype, seed=3)
    out, statistics = layer_norm(x, weight, bias, EPS, level=level)
    found = layer_norm_gradient(grad, x, weight, statistics, level=level)
    wanted, gradients = wanted_of(x, weight, bias, grad)
    assert out.dtype == found[0].dtype == dtype
    assert error(out, wanted) < TOLERANCES[dtype]
    for one, other in zip(found, gradients, strict=True):
        # Of two channels next to nothing is left of the gradient of x: it is judged by what it is a difference of.
        scale = max(other.norm(), 0.1 * grad.double().norm()) if shape[-1] == 2 else other.norm()
        assert (one.double() - other).norm() < TOLERANCES[dtype] * scale


@pytest.mark.parametrize("level", levels())
def test_a_large_mean_takes_no_digits_of_the_variance(level):
    x = numbers(40, 50, dtype=torch.float32) + 1000
    weight, bias = torch.ones(50), torch.zeros(50)
    out, _ = layer_norm(x, weight, bias, EPS, level=level)
    assert error(out, wanted_of(x, weight, bias, x)[0]) < 1e-4  # float32 has steps of 6e-5 there


@pytest.mark.parametrize("level", levels())
def test_rows_that_are_the_same_everywhere_give_the_bias(level):
    out, _ = layer_norm(torch.full((3, 20), 5.0), torch.ones(20), torch.arange(20.0), EPS, level=level)
    torch.testing.assert_close(out, torch.arange(20.0).expand(3, 20))


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_only_what_is_there_is_read_and_written(level, dtype):
    """Views are taken, and what lies beside them spoils nothing."""
    large = torch.full((6, 25), float("nan"), dtype=dtype)
    x = large[1:-1, 1:-1]
    x.copy_(numbers(4, 23, dtype=dtype))
    weight, bias = numbers(23, dtype=dtype), numbers(23, dtype=dtype)
    out, statistics = layer_norm(x, weight, bias, EPS, level=level)
    assert torch.equal(out, layer_norm(x.clone(), weight, bias, EPS, level=level)[0])
    for gradient in layer_norm_gradient(x, x, weight, statistics, level=level):
        assert gradient.isfinite().all()


def test_the_number_of_threads_changes_nothing():
    x, weight = numbers(3000, 20, dtype=torch.float32), torch.ones(20)
    before = torch.get_num_threads()
    try:
        results = []
        for num_threads in (1, 2, 7):
            torch.set_num_threads(num_threads)
            out, statistics = layer_norm(x, weight, weight, EPS)
            results.append((out, *layer_norm_gradient(x.cos(), x, weight, statistics), gelu_gradient(x.cos(), x)))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_whatever_torch_makes_by_default(dtype):
    x, weight = numbers(5, 21, dtype=torch.float32), torch.ones(21)
    _, statistics = layer_norm(x, weight, weight, EPS)
    wanted = layer_norm_gradient(x.cos(), x, weight, statistics)
    torch.set_default_dtype(dtype)
    try:
        found = layer_norm_gradient(x.cos(), x, weight, statistics)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_gradients_of_weights_keep_no_other_memory():
    x = numbers(3000, 20, dtype=torch.float32)
    _, statistics = layer_norm(x, torch.ones(20), torch.ones(20), EPS)
    _, *found = layer_norm_gradient(x, x, torch.ones(20), statistics)
    assert [gradient.untyped_storage().nbytes() for gradient in found] == [80, 80]


def test_no_rows():
    out, statistics = layer_norm(torch.empty(0, 8), torch.ones(8), torch.ones(8), EPS)
    assert out.shape == (0, 8)
    grad_x, grad_weight, grad_bias = layer_norm_gradient(out, out, torch.ones(8), statistics)
    assert grad_x.shape == (0, 8)
    assert torch.equal(grad_weight, torch.zeros(8))
    assert torch.equal(grad_bias, torch.zeros(8))
    assert gelu_gradient(torch.empty(0), torch.empty(0)).shape == (0,)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)], ids=str)
def test_gelu_gradient(level, dtype, tolerance):
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e30, -1e4, -0.0, 1e4, 1e30])]).to(dtype)
    found = gelu_gradient(torch.ones_like(x), x, level=level)
    assert found.dtype == dtype
    wanted = torch.ops.aten.gelu_backward(torch.ones_like(x).double(), x.double())
    torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("level", levels())
def test_gelu_gradient_of_other_layouts(level):
    x, grad = numbers(2, 6, 5, 7, dtype=torch.float32), numbers(2, 6, 5, 7, dtype=torch.float32, seed=1)
    wanted = torch.ops.aten.gelu_backward(grad, x)
    nearer = x.to(memory_format=torch.channels_last), grad.to(memory_format=torch.channels_last)
    for one, other in ((x, nearer[1]), (nearer[0], grad), nearer, (x[..., ::2], grad[..., ::2])):
        found = gelu_gradient(other, one, level=level)
        torch.testing.assert_close(found, wanted if one.shape == x.shape else wanted[..., ::2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: layer_norm(x, torch.ones(5), torch.ones(6), EPS), "weight has the shape"),
        (lambda x: layer_norm(x, torch.ones(6), torch.ones(5), EPS), "bias has the shape"),
        (lambda x: layer_norm(x.double(), torch.ones(6), torch.ones(6), EPS), "x is torch.float64"),
        (lambda x: layer_norm(torch.tensor(1.0), torch.ones(1), torch.ones(1), EPS), "has the shape"),
        (lambda x: layer_norm_gradient(x[:2], x, torch.ones(6), torch.ones(3, 2)), "the gradient is torch.float32 of"),
        (lambda x: layer_norm_gradient(x, x, torch.ones(6), torch.ones(2, 2)), "the statistics are torch.float32 of"),
        (
            lambda x: layer_norm_gradient(x, x, torch.ones(6), torch.ones(3, 2, dtype=torch.float64)),
            "the statistics are torch.float64",
        ),
        (lambda x: gelu_gradient(x.to("meta"), x), "the gradient is torch.float32 of .* on meta"),
        (lambda x: gelu_gradient(x[:2], x), "the gradient is torch.float32 of"),
        (lambda x: gelu_gradient(x.double(), x.double()), "x is torch.float64 on cpu"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(3, 6))
