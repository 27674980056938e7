"""Networks by name. Those of spandrel: test_spandrel_networks.py."""

import pytest
import torch

from hat_sr import Upscaler, save_model
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.image.resize import resize
from hat_sr.inference.baselines import load_upscale
from inference.doubles import random_image
from model.tiny import tiny_model


def test_bicubic():
    x = random_image(1, 3, 5, 7)
    for scale in (1, 3):
        network = load_upscale("bicubic", scale=scale)
        assert (network.title, network.scale, network.size_multiple) == ("bicubic", scale, 1)
        assert torch.equal(network.upscale(x), resize(x, (5 * scale, 7 * scale)))
    assert list(network.module.parameters()) == []
    with pytest.raises(ConfigError, match="scale 0"):
        load_upscale("bicubic", scale=0)


def test_hat_is_for_any_size_and_differentiable(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path / "tiny.safetensors")
    network = load_upscale(str(tmp_path / "tiny.safetensors"))
    assert (network.title, network.scale, network.in_chans, network.size_multiple) == ("HAT", 2, 3, 4)
    x = random_image(1, 3, 5, 6).requires_grad_()
    out = network.upscale(x)
    torch.testing.assert_close(out.detach(), Upscaler(model, faithful=False, device="cpu")(x.detach()))
    out.sum().backward()
    assert x.grad.abs().min() > 0


def test_an_unknown_name():
    with pytest.raises(WeightsError, match=r"no network is named 'hat-xs-x5'.*did you mean"):
        load_upscale("hat-xs-x5")
