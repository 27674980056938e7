import pytest
import torch

from hat_sr import save_model
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.image.resize import resize
from hat_sr.inference.baselines import load_upscales
from hat_sr.inference.upscaler import Upscaler
from inference.doubles import random_image
from model.tiny import tiny_model


def saved(path, **changes):
    save_model(tiny_model(**changes), path)
    return str(path)


def test_a_file_and_bicubic_in_the_order_of_the_names(tmp_path):
    path = saved(tmp_path / "tiny.safetensors")
    bicubic, tiny = load_upscales(["bicubic", path])
    assert [(each.name, each.scale) for each in (bicubic, tiny)] == [("bicubic", 2), ("tiny", 2)]
    x = random_image(1, 3, 5, 11)
    assert torch.allclose(bicubic.upscale(x), resize(x, (10, 22)))
    assert torch.allclose(tiny.upscale(x), Upscaler(tiny_model(), faithful=False, device="cpu")(x), atol=1e-5)


def test_gradients_pass_through(tmp_path):
    for network in load_upscales(["bicubic", saved(tmp_path / "tiny.safetensors")], device="cpu"):
        x = random_image(1, 3, 5, 6).requires_grad_()
        network.upscale(x).square().sum().backward()
        assert x.grad is not None and bool((x.grad != 0).all())


def test_bundled_names():
    (network,) = load_upscales(["hat-xxs-x2"])
    assert (network.name, network.title, network.scale) == ("hat-xxs-x2", "HAT", 2)


def test_several_factors_are_refused(tmp_path):
    names = [saved(tmp_path / "two.safetensors"), saved(tmp_path / "three.safetensors", upscale=3)]
    with pytest.raises(ConfigError, match=r"two.safetensors enlarges by 2, .*three.safetensors enlarges by 3"):
        load_upscales(names)


def test_labels_differ(tmp_path):
    (tmp_path / "other").mkdir()
    one, other = saved(tmp_path / "a.safetensors"), saved(tmp_path / "other/a.safetensors")
    for names in ([one, other], [one, one], [one, "bicubic", "bicubic"]):
        with pytest.raises(ConfigError, match="each needs another name"):
            load_upscales(names)


@pytest.mark.parametrize("names", [[], ["bicubic"]])
def test_bicubic_alone_has_no_factor(names):
    with pytest.raises(ConfigError, match="bicubic takes the factor of others"):
        load_upscales(names)


def test_gray_networks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="takes 1 channels"):
        load_upscales([saved(tmp_path / "gray.safetensors", in_chans=1)])


def test_unknown_names():
    with pytest.raises(WeightsError, match="did you mean 'hat-xs-x4'"):
        load_upscales(["hat-xs-4"])
