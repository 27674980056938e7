"""Both ways of a linear layer give the same, and each is taken where it should be."""

import pytest
import torch
import torch.nn.functional as F

from hat_sr.model import linear
from hat_sr.model.linear import Linear

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
def test_onednn_is_taken_without_gradients_only():
    layer, x = _inputs((5, 12))
    assert not linear._by_onednn(x, layer.weight)
    with torch.no_grad():
        assert linear._by_onednn(x, layer.weight)
        assert not linear._by_onednn(x.double(), layer.weight.double())
        assert not linear._by_onednn(x.to("meta"), layer.weight.to("meta"))


def test_gradients_flow():
    layer, x = _inputs((5, 12))
    layer(x.requires_grad_()).sum().backward()
    assert x.grad.isfinite().all()
    assert layer.weight.grad.isfinite().all()
