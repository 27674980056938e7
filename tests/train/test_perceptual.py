"""The loss on features, against features computed by hand."""

import re

import pytest
import torch
from torch import nn

from hat_sr.errors import ConfigError, MissingExtraError, WeightsError
from hat_sr.train import perceptual
from hat_sr.train.config import PerceptualConfig
from hat_sr.train.perceptual import DEVIATION, MEAN, Perceptual, load_extractor

CPU = torch.device("cpu")


def make_extractor():
    """An activation in place after the compared convolution, as many networks have it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(1, 1))


def _images(seed):
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_the_weighted_distance_of_features_before_the_activation():
    config = PerceptualConfig(extractor=f"{__name__}:make_extractor", layers=(("0", 0.5), ("2", 2.0)), weight=3.0)
    sr, target = _images(0).requires_grad_(), _images(1)
    loss = Perceptual(config, device=CPU, low=False).loss(sr, target)
    first, _, second, *_ = make_extractor()
    mean, deviation = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, DEVIATION))
    one, other = ((image - mean) / deviation for image in (sr, target))
    wanted = 0.5 * (first(one) - first(other)).abs().mean()
    wanted = wanted + 2 * (second(first(one).relu()) - second(first(other).relu())).abs().mean()
    assert loss.item() == pytest.approx(3 * wanted.item(), rel=1e-5)
    loss.backward()
    assert sr.grad.abs().sum() > 0


def test_vgg19_is_read_from_torchvisions_file(tmp_path, monkeypatch):
    """The same channels, a few of each, so that the file is small."""
    monkeypatch.setattr(perceptual, "VGG19", tuple(channels // 64 for channels in perceptual.VGG19))
    state, index, fan_in = {}, 0, 3
    for channels in perceptual.VGG19:
        if channels:
            state[f"features.{index}.weight"] = torch.randn(channels, fan_in, 3, 3)
            state[f"features.{index}.bias"] = torch.randn(channels)
            fan_in, index = channels, index + 1
        index += 1
    state["classifier.0.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "vgg19.pth")
    config = PerceptualConfig(extractor="vgg19", file=str(tmp_path / "vgg19.pth"), layers=(("conv5_4", 1.0),))
    network = load_extractor(config)
    assert torch.equal(network.conv1_2.weight, state["features.2.weight"])
    assert torch.equal(network.conv5_4.bias, state["features.34.bias"])  # torchvision's number of that layer
    features = Perceptual(config, device=CPU, low=False).features(torch.rand(1, 3, 32, 32))
    assert features["conv5_4"].shape == (1, 8, 2, 2)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"extractor": "vgg19", "file": "nowhere.pth"}, WeightsError, "nowhere.pth is not there.*perceptual.file"),
        ({"extractor": "vgg16"}, ConfigError, "'vgg16' is none of"),
        ({"extractor": "no_such_package:f"}, ConfigError, "no_such_package"),
        ({"extractor": "efficientnet-lite0"}, MissingExtraError, "efficientnet_lite_pytorch is not"),
        (
            {"extractor": f"{__name__}:make_extractor", "layers": (("9", 1.0),)},
            ConfigError,
            re.escape("has no 9; it has"),
        ),
    ],
)
def test_what_cannot_be_is_said(settings, error, message):
    with pytest.raises(error, match=message):
        Perceptual(PerceptualConfig(**{"layers": (("0", 1.0),), **settings}), device=CPU, low=False)
