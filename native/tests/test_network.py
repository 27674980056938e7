"""The whole network with the kernel equals that without it."""

import pytest
import torch

from hat_sr import HAT, HATConfig, Upscaler
from hat_sr.model import native
from hat_sr.model.banded import forward_in_bands
from hat_sr.model.native import without_native


@pytest.fixture
def calls(monkeypatch):
    """How often the kernel has worked."""
    attend, done = native._checked(), []
    assert attend is not None
    monkeypatch.setattr(native, "_checked", lambda: lambda *tensors, out: done.append(1) or attend(*tensors, out=out))
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
    assert calls == []
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=1e-5)
    assert len(calls) == 7  # five HABs and two OCABs
    torch.testing.assert_close(forward_in_bands(model, x, num_rows=window_size), wanted, rtol=0, atol=1e-5)
    assert len(calls) == 7 + 7 * grid[0]


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


def test_a_training_step_is_without_it(calls):
    model = network(window_size=4).train()
    model(torch.rand(1, 3, 8, 8)).sum().backward()
    assert calls == []
