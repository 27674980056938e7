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


def test_the_layers_see_only_edges(monkeypatch):
    """Else it would be no gain. Each time less: four rows of input make two, of which the next gets those it needs."""
    layers, seen = layers_for(4), {0: [], 2: []}
    conv2d = F.conv2d

    def recorded(x, weight, *others, **settings):
        for number, sizes in seen.items():
            if weight is layers[number].weight:
                sizes.append(tuple(x.shape[2:]))
        return conv2d(x, weight, *others, **settings)

    monkeypatch.setattr(F, "conv2d", recorded)
    enlarge(layers, torch.zeros(1, CHANNELS, 50, 40, dtype=torch.float64))
    assert seen == {0: [(4, 42)] * 2 + [(52, 4)] * 2, 2: [(5, 82)] * 2 + [(102, 5)] * 2}  # with zeros where there are
