"""The whole network with the kernels equals that without them."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from hat_sr import HAT, HATConfig, Upscaler
from hat_sr.model import native
from hat_sr.model.banded import forward_in_bands
from hat_sr.model.native import without_native
from hat_sr.model.ops import _by_onednn

NAMES = ["attend", "gradient", "add_windows", "layer_norm", "layer_norm_gradient", "gelu_gradient", "linear_gradient"]


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels have been called, by their names."""
    package = native._installed()
    assert package is not None
    done = Counter()

    def counted(name):
        function = getattr(package, name)

        def call(*arguments, **settings):
            done[name] += 1
            return function(*arguments, **settings)

        return call

    counting = SimpleNamespace(**{name: counted(name) for name in NAMES})
    monkeypatch.setattr(native, "_installed", lambda: counting)
    return done


def network(**settings):
    torch.manual_seed(0)
    model = HAT(HATConfig(embed_dim=36, depths=(3, 2), num_heads=(3, 2), num_feat=16, upscale=2, **settings)).eval()
    for name, weight in model.named_parameters():
        if name.endswith("relative_position_bias_table"):
            torch.nn.init.normal_(weight)
    return model


@pytest.mark.parametrize("window_size", [4, 8])
@pytest.mark.parametrize("grid", [(1, 1), (1, 3), (4, 3)])
@torch.no_grad()
def test_forward_and_bands(calls, window_size, grid):
    model = network(window_size=window_size)
    x = torch.rand(2, 3, *(side * window_size for side in grid))
    with without_native():
        wanted = model(x)
    assert not calls
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=1e-5)
    assert calls["attend"] == 7  # five HABs and two OCABs
    torch.testing.assert_close(forward_in_bands(model, x, num_rows=window_size), wanted, rtol=0, atol=1e-5)
    assert calls["attend"] == 7 + 7 * grid[0]


@torch.no_grad()
def test_bfloat16():
    model = network(window_size=8).cast_body(torch.bfloat16)
    x = torch.rand(1, 3, 24, 32)
    with without_native():
        wanted = model(x)
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=0.02)


def test_an_image(calls):
    upscale = Upscaler(network(window_size=8), device="cpu", precision="fp32")
    x = torch.rand(1, 3, 19, 30)
    with without_native():
        wanted = upscale(x)
    torch.testing.assert_close(upscale(x), wanted, rtol=0, atol=1e-5)
    assert calls


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("window_size", [4, 8])
def test_gradients_of_a_training_step(calls, dtype, tolerance, window_size):
    model = network(window_size=window_size, drop_path_rate=0.0).train().cast_body(dtype)
    x, target = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 32, 48)

    def gradients():
        loss = (model(x) - target).square().mean()
        return torch.autograd.grad(loss, list(model.parameters()))

    found = gradients()
    # two norms in each of five HABs and two OCABs, one before and one behind; GELU in seven MLPs and five CABs
    norms, gelus = 2 * 7 + 2, 7 + 5
    counts = {"attend": 7, "gradient": 7, "layer_norm": norms, "layer_norm_gradient": norms, "gelu_gradient": gelus}
    counts["add_windows"] = 2
    if _by_onednn(torch.empty(1, 36, dtype=dtype), model.layers[0].residual_group.blocks[0].attn.qkv.weight):
        counts |= {} if dtype == torch.bfloat16 and native._has_amx() else {"linear_gradient": 4 * 7}
    assert calls == counts
    with without_native():
        wanted = gradients()
    assert calls == counts
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).float().norm() <= tolerance * other.float().norm()
