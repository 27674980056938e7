"""The gradient of attention against that of the equation in float64, on every kind of processor that this one can
stand for."""

import pytest
import torch
from hat_sr_native import attend, gradient, levels
from test_kernel import TOLERANCES, equation, error, inputs, windows


def found_and_wanted(tensors, level=None):
    """The gradients of queries, keys, values and bias, and those of the equation."""
    q, k, v, bias, masks = tensors
    B, h, w, N, _ = q.shape
    sums = torch.full((len(bias), B, h, w, N), 1e9)
    out = attend(*tensors, sums=sums, level=level)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    places = [torch.full(x.shape, float("nan"), dtype=x.dtype) for x in (q, k, v)]
    grad_q, grad_k, grad_v = places
    grad_bias = gradient(grad, *tensors, sums, grad_q=grad_q, grad_k=grad_k, grad_v=grad_v, level=level)
    leaves = [x.double().requires_grad_() for x in (q, k, v, bias)]
    return (*places, grad_bias), torch.autograd.grad(equation(*leaves, masks), leaves, grad.double())


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"N": 64, "M": 64, "D": 64, "K": 1, "h": 6, "w": 6, "B": 2, "masks": True},
        {"N": 64, "M": 144, "D": 24, "K": 6},
        {"N": 256, "M": 256, "D": 30, "K": 6, "masks": True},
        {"N": 256, "M": 576, "D": 30, "K": 1},
        {"N": 7, "M": 7, "D": 5, "K": 3, "masks": True},
        {"N": 33, "M": 97, "D": 17, "K": 1, "B": 3, "masks": True},
        {"N": 1, "M": 195, "D": 2, "K": 1, "h": 1, "w": 1, "masks": True},
        {"N": 16, "M": 35, "D": 131, "K": 1, "h": 1, "w": 5, "B": 2, "masks": True},
    ],
    ids=str,
)
def test_it_is_that_of_the_equation(level, dtype, shape):
    for found, wanted in zip(*found_and_wanted(inputs(**shape, dtype=dtype), level), strict=True):
        assert error(found, wanted) < TOLERANCES[dtype]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("D", range(1, 34))
def test_any_number_of_channels(level, D):
    for found, wanted in zip(*found_and_wanted(inputs(D=D, N=20, M=30, masks=True), level), strict=True):
        assert error(found, wanted) < 1e-5


@pytest.mark.parametrize("level", levels())
def test_of_a_single_key_only_the_value_has_a_gradient(level):
    (grad_q, grad_k, grad_v, grad_bias), wanted = found_and_wanted(inputs(N=100, M=1, D=1, K=4), level)
    assert error(grad_v, wanted[2]) < 1e-5
    for x in (grad_q, grad_k, grad_bias):
        torch.testing.assert_close(x, torch.zeros_like(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_gradients_may_be_put_into_views_of_a_map(level, dtype):
    """And nothing beside them is touched."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 8, 12, 3 * 24, generator=generator).to(dtype)
    tensors = [windows(x, 4, 4) for x in qkv.chunk(3, dim=-1)]
    bias, sums = torch.randn(3, 16, 16, generator=generator).to(dtype), torch.empty(3, 2, 2, 3, 16)
    grad = attend(*tensors, bias, sums=sums, level=level)
    large = torch.full((2, 10, 14, 3 * 24 + 2), 7.0, dtype=dtype)
    grads = [windows(x, 4, 4) for x in large[:, 1:-1, 1:-1, 1:-1].chunk(3, dim=-1)]
    places = dict(zip(("grad_q", "grad_k", "grad_v"), grads, strict=True))
    gradient(grad, *tensors, bias, None, sums, **places, level=level)
    leaves = [x.flatten(3, 4).double().requires_grad_() for x in tensors]
    wanted = torch.autograd.grad(equation(*leaves, bias, None), leaves, grad.flatten(3, 4).double())
    for found, other in zip(grads, wanted, strict=True):
        assert error(found.flatten(3, 4), other) < TOLERANCES[dtype]
    large[:, 1:-1, 1:-1, 1:-1] = 7.0
    assert large.eq(7.0).all()


@pytest.mark.parametrize("level", levels())
def test_masked_pairs_have_no_gradient(level):
    q, k, v, bias, masks = inputs(N=64, M=64, masks=True, h=1, w=1)
    masks[:, :, :32] = -100.0
    masks[:, :, 32:] = 0.0
    (_, grad_k, grad_v, grad_bias), _ = found_and_wanted((q, k, v, bias, masks), level)
    for x in (grad_k[..., :32, :], grad_v[..., :32, :], grad_bias[..., :32]):
        assert x.abs().max() < 1e-20


def test_the_number_of_threads_changes_nothing():
    before = torch.get_num_threads()
    try:
        results = []
        for num_threads in (1, 2, 5, 100):
            torch.set_num_threads(num_threads)
            results.append(found_and_wanted(inputs(N=64, M=64, K=3, B=2, masks=True))[0])
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))


def test_without_queries_gradients_are_zero():
    q, k, v, bias, _ = inputs(N=0, M=4)
    places = {name: torch.ones(x.shape) for name, x in (("grad_q", q), ("grad_k", k), ("grad_v", v))}
    gradient(q, q, k, v, bias, None, torch.empty(2, 1, 2, 2, 0), **places)
    assert not places["grad_k"].any()
    assert not places["grad_v"].any()


def test_nothing_to_do():
    q, k, v, bias, _ = inputs(h=0)
    sums = torch.empty(2, 1, 0, 2, 16)
    grad_q, grad_k, grad_v = (torch.empty(x.shape) for x in (q, k, v))
    found = gradient(q, q, k, v, bias, None, sums, grad_q=grad_q, grad_k=grad_k, grad_v=grad_v)
    assert torch.equal(found, torch.zeros_like(bias))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sums": torch.empty(2, 1, 2, 2, 15)}, "sums are torch.float32 of"),
        ({"sums": torch.empty(2, 1, 2, 2, 16, dtype=torch.float64)}, "sums are torch.float64"),
        ({"grad_k": torch.empty(1, 2, 2, 15, 16)}, "the gradient of k is"),
        ({"grad_v": torch.empty(1, 2, 2, 16, 16, dtype=torch.bfloat16)}, "the gradient of v is torch.bfloat16"),
        ({"grad_q": torch.empty(1, 2, 2, 16, 32)[..., ::2]}, "the channels of the gradient of q are not side by side"),
    ],
)
def test_refusals(change, message):
    q, k, v, bias, masks = inputs(masks=True)
    settings = {"sums": torch.empty(2, 1, 2, 2, 16)}
    settings |= {name: torch.empty(x.shape) for name, x in (("grad_q", q), ("grad_k", k), ("grad_v", v))}
    with pytest.raises(ValueError, match=message):
        gradient(q, q, k, v, bias, masks, **settings | change)


def test_a_gradient_of_any_layout_is_taken():
    """Such as that of a sum, which is one number everywhere."""
    q, k, v, bias, _ = inputs()
    sums = torch.empty(2, 1, 2, 2, 16)
    attend(q, k, v, bias, sums=sums)
    found = []
    ones = torch.ones(q.shape)
    for grad in (ones, torch.ones(()).expand(q.shape), ones.mT.contiguous().mT):
        places = {name: torch.empty(x.shape) for name, x in (("grad_q", q), ("grad_k", k), ("grad_v", v))}
        found.append([gradient(grad, q, k, v, bias, None, sums, **places), *places.values()])
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_sums_of_another_shape_are_refused_before():
    tensors = inputs()
    with pytest.raises(ValueError, match="sums are"):
        attend(*tensors, sums=torch.empty(1, 1, 2, 2, 16))
