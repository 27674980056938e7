"""From a name to a network, and what else `Upscaler` takes. Those of spandrel: test_spandrel_networks.py."""

import copy

import numpy as np
import pytest
import torch

from hat_sr import save_model
from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.image.resize import resize
from hat_sr.inference.open import open_network
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import Session
from inference.doubles import random_image, tiny_hat
from model.tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_hat()


def test_bicubic():
    x = random_image(1, 3, 5, 7)
    for scale in (1, 3):
        network = open_network("bicubic", scale=scale)
        assert (network.title, network.scale, network.size_multiple) == ("bicubic", scale, 1)
        assert torch.equal(network.upscale(x), resize(x, (5 * scale, 7 * scale)))
        assert torch.equal(Upscaler(network, device="cpu")(x), network.upscale(x))
    assert list(network.module.parameters()) == []
    with pytest.raises(ConfigError, match="scale 0"):
        open_network("bicubic", scale=0)


def test_a_file_of_weights_is_a_hat(tmp_path):
    save_model(tiny_model(), tmp_path / "tiny.safetensors")
    network = open_network(str(tmp_path / "tiny.safetensors"))
    assert isinstance(network, HAT)
    assert network.config == tiny_model().config


def test_an_exported_file_is_a_session_of_its_own_runtime(exported):
    assert isinstance(open_network(exported.onnx), Session)
    with pytest.raises(ConfigError, match=r"runtime 'torch' does not run .*, onnxruntime does"):
        open_network(exported.onnx, runtime="torch")
    with pytest.raises(ConfigError, match="runtime 'openvino' is for HAT, and bicubic is none"):
        open_network("bicubic", runtime="openvino")


def test_an_unknown_name():
    with pytest.raises(WeightsError, match=r"no network is named 'hat-xs-x5'.*did you mean"):
        open_network("hat-xs-x5")


@pytest.mark.parametrize(
    "wrap", [torch.nn.DataParallel, lambda model: torch.compile(torch.nn.DataParallel(model), backend="eager")]
)
def test_what_torch_wraps_a_network_in_comes_off(model, wrap):
    x = random_image(1, 3, 8, 8)
    assert torch.equal(Upscaler(wrap(model), device="cpu")(x), Upscaler(model, device="cpu")(x))


def test_a_name_is_a_network():
    assert Upscaler("hat-xxs-x2", device="cpu").scale == 2


@pytest.mark.parametrize("value", [np.zeros((4, 4, 3)), torch.zeros(1, 3, 4, 4), torch.nn.Linear(2, 2), None])
def test_other_things_are_no_network(value):
    with pytest.raises(InputError, match=r"a HAT .* its name or file, or an exported one"):
        Upscaler(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a.png", "hat_sr.enlarge_file"),
        (np.zeros((4, 4, 3), np.uint8), r"numpy.ndarray: a tensor .*permute\(2, 0, 1\)"),
        (255 * random_image(1, 3, 4, 4), "values are .*divide values of 8 bits by 255"),
        (random_image(1, 3, 4, 4) * 2 - 1, r"\[0, 1\] is accepted"),
        (torch.full((1, 3, 4, 4), float("nan")), "values are nan"),
    ],
)
def test_other_things_are_no_images(model, value, words):
    with pytest.raises(InputError, match=words):
        Upscaler(model, device="cpu")(value)


def test_a_little_beyond_black_and_white_is_taken(model):
    assert Upscaler(model, device="cpu")(random_image(1, 3, 4, 4) * 1.4 - 0.2).isfinite().all()


def test_autocast_changes_nothing(model):
    x, upscaler = random_image(1, 3, 8, 8), Upscaler(model, device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        cast = upscaler(x)
    assert torch.equal(cast, upscaler(x))


def test_the_device_meta_makes_no_network_without_values(model):
    x = random_image(1, 3, 8, 8)
    with torch.device("meta"):
        upscaler = Upscaler("hat-xxs-x2", device="cpu")
        assert torch.equal(upscaler(x), Upscaler("hat-xxs-x2", device="cpu")(x))
        with pytest.raises(InputError, match="the input is on the device meta"):
            upscaler(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="the network is on the device meta"):
        Upscaler(copy.deepcopy(model).to("meta"), device="cpu")
