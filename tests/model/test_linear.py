"""Both ways of a linear layer give the same, and each is taken where it should be."""

import pytest
import torch
import torch.nn.functional as F

from hat_sr.model import ops
from hat_sr.model.blocks import Linear

ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _inputs(shape, dtype=torch.float32):
    layer = Linear(12, 20).to(dtype)
    torch.nn.init.normal_(layer.bias)
    return layer, torch.randn(shape, dtype=dtype)


@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 3, 4, 12), (0, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_torchs_own(shape, dtype):
    layer, x = _inputs(shape, dtype)
    with torch.no_grad():
        expected = F.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_views_of_larger_tensors_are_taken():
    layer, x = _inputs((4, 6, 24))
    for view in (x[..., :12], x[..., 12:], x.transpose(0, 1)[..., :12]):
        with torch.no_grad():
            torch.testing.assert_close(layer(view), F.linear(view, layer.weight, layer.bias), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not ONEDNN, reason="without AVX-512 or oneDNN torch's own is taken always")
def test_when_onednn_is_taken():
    layer, x = _inputs((5, 12))
    assert ops._by_onednn(x, layer.weight)
    assert ops._by_onednn(x.bfloat16(), layer.weight.bfloat16())
    assert not ops._by_onednn(x.double(), layer.weight.double())
    assert not ops._by_onednn(x.to("meta"), layer.weight.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not ops._by_onednn(x, layer.weight)
        assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 3, 4, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("wanted", ["all", "input", "weight", "bias"])
def test_gradients_equal_torchs_own(shape, dtype, wanted):
    layer, x = _inputs(shape, dtype)
    leaves = {"input": x.requires_grad_(), "weight": layer.weight, "bias": layer.bias}
    for name, leaf in leaves.items():
        leaf.requires_grad_(wanted in ("all", name))
    chosen = [leaf for leaf in leaves.values() if leaf.requires_grad]
    grad = torch.randn(*shape[:-1], 20, dtype=dtype)
    found = torch.autograd.grad(layer(x), chosen, grad)
    expected = torch.autograd.grad(F.linear(x, layer.weight, layer.bias), chosen, grad)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-5
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_without_a_bias():
    layer, x = Linear(12, 20, bias=False), torch.randn(5, 12, requires_grad=True)
    found = torch.autograd.grad(layer(x).sum(), [x, layer.weight])
    expected = torch.autograd.grad(F.linear(x, layer.weight).sum(), [x, layer.weight])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
