"""The end of the network as one convolution, against its layers one after the other."""

import pytest
import torch
import torch.nn.functional as F

from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.model.reconstruction import enlarge

CHANNELS = 6


def layers_for(scale):
    """The layers of a HAT with random biases, too, which show at the edges, in float64."""
    torch.manual_seed(scale)
    model = HAT(HATConfig(upscale=scale, embed_dim=8, depths=(1,), num_heads=(1,), num_feat=CHANNELS, window_size=4,
                          compress_ratio=2, squeeze_factor=2)).double()  # fmt: skip
    return torch.nn.Sequential(*model.upsample, model.conv_last)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (4, 3), (5, 8)], ids=str)
def test_equals_the_layers_everywhere(scale, size):
    layers = layers_for(scale)
    x = torch.randn(2, CHANNELS, *size, dtype=torch.float64)
    torch.testing.assert_close(enlarge(layers, x), layers(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_gradients_are_those_of_the_layers(scale):
    layers = layers_for(scale)
    x = torch.randn(1, CHANNELS, 6, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, 3, 6 * scale, 5 * scale, dtype=torch.float64)
    leaves = [x, *layers.parameters()]
    ours = torch.autograd.grad((enlarge(layers, x) * weights).sum(), leaves)
    theirs = torch.autograd.grad((layers(x) * weights).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)], ids=str)
def test_keeps_the_precision(dtype, tolerance):
    layers = layers_for(4)
    x = torch.randn(1, CHANNELS, 6, 5, dtype=torch.float64)
    truth = layers(x)
    result = enlarge(layers.to(dtype), x.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), truth, rtol=0, atol=tolerance * float(truth.detach().abs().max()))


def test_the_layers_see_no_input(monkeypatch):
    """Else it would be no gain: they are only asked what they make of nothing."""
    layers, seen = layers_for(4), {0: [], 2: []}
    conv2d = F.conv2d

    def recorded(x, weight, *others, **settings):
        for number, inputs in seen.items():
            if weight is layers[number].weight:
                inputs.append((tuple(x.shape), bool((x == 0).all())))
        return conv2d(x, weight, *others, **settings)

    monkeypatch.setattr(F, "conv2d", recorded)
    enlarge(layers, torch.ones(1, CHANNELS, 50, 40, dtype=torch.float64))
    assert seen == {0: [((1, CHANNELS, 3, 3), True)], 2: [((1, CHANNELS, 6, 6), False)]}
