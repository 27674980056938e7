"""The end of the network as one convolution, against its layers one after the other."""

import pytest
import torch

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


@pytest.mark.parametrize("scale", [2, 4])
def test_gradients_are_those_of_the_layers(scale):
    layers = layers_for(scale)
    x = torch.randn(1, CHANNELS, 6, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, 3, 6 * scale, 5 * scale, dtype=torch.float64)
    leaves = [x, *layers.parameters()]
    ours = torch.autograd.grad((enlarge(layers, x) * weights).sum(), leaves)
    theirs = torch.autograd.grad((layers(x) * weights).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_layers_see_only_edges():
    """Else it would be no gain."""
    layers, seen = layers_for(4), []
    layers[0].register_forward_pre_hook(lambda layer, inputs: seen.append(tuple(inputs[0].shape[2:])))
    enlarge(layers, torch.zeros(1, CHANNELS, 50, 40, dtype=torch.float64))
    assert seen == [(3, 40), (3, 40), (50, 3), (50, 3)]
