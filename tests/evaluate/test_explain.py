import json
from pathlib import Path

import pytest
import torch

from hat_sr import save_model
from hat_sr.errors import ConfigError, InputError, WeightsError
from hat_sr.evaluate.explain import Scene, explain, open_explained, to_json
from hat_sr.evaluate.metrics import psnr
from hat_sr.evaluate.pairs import read_rgb
from hat_sr.image.resize import imresize, resize
from hat_sr.inference.engine import Network
from hat_sr.inference.upscaler import Upscaler
from hat_sr.lam.attribution import Window
from inference.doubles import nearest, random_image
from model.tiny import tiny_model

OSPREY = Path(__file__).parents[2] / "examples/osprey.jpg"
NEAREST = Network(name="nearest", title="nearest", upscale=nearest(2), scale=2, in_chans=3, size_multiple=1)


def hr_image(height, width):
    return (random_image(1, 3, height, width) * 255).byte()


def test_the_low_resolution_image_is_that_of_benchmarks():
    hr = hr_image(23, 31)
    scene = Scene.of_hr(hr, 3)
    assert torch.equal(scene.hr, hr[..., :21, :30])
    assert torch.equal(scene.lr, imresize(hr[..., :21, :30], 1 / 3))


def test_images_smaller_than_the_factor():
    with pytest.raises(InputError, match="at least one pixel"):
        Scene.of_hr(hr_image(3, 9), 4)


def test_scores_of_the_whole_and_of_the_window():
    scene, window = Scene.of_hr(hr_image(24, 30), 2), Window(x=3, y=7, size=8)
    found = explain(NEAREST, scene, window, steps=2)
    sr = nearest(2)(scene.lr.float() / 255)
    assert found.psnr == psnr(sr, scene.hr, crop_border=2)
    assert found.window_psnr == psnr(sr[..., 7:15, 3:11], scene.hr[..., 7:15, 3:11], crop_border=0)
    assert torch.equal(found.attribution.sr, sr)


def test_json():
    scene, window = Scene.of_hr(hr_image(24, 30), 2), Window(x=3, y=7, size=8)
    found = explain(NEAREST, scene, window, steps=3)
    text = to_json([found], scene, image=Path("a.png"), scale=2, window=window, steps=3)
    report = json.loads(text)
    (model,) = report.pop("models")
    assert report == {
        "image": "a.png",
        "given": "hr",
        "lr_size": {"width": 15, "height": 12},
        "scale": 2,
        "window": {"x": 3, "y": 7, "size": 8},
        "settings": {"steps": 3, "sigma": 1.2, "kernel_size": 9, "epsilon": 1e-6, "quadrature": "trapezoid"},
    }
    assert model == {
        "model": "nearest",
        "diffusion_index": found.attribution.diffusion_index,
        "contribution_area": {f"{share}%": found.attribution.contribution_area(share / 100) for share in (90, 95, 99)},
        "psnr": found.psnr,
        "window_psnr": found.window_psnr,
        "completeness_error": found.attribution.completeness_error,
        "detected": found.attribution.detected,
        "baseline_detected": found.attribution.baseline_detected,
    }
    assert 0 < model["diffusion_index"] < 100


def test_a_perfect_result_has_no_number_in_json():
    lr = hr_image(12, 12)
    scene, window = Scene(lr=lr, hr=nearest(2)(lr)), Window(x=0, y=0, size=8)
    report = json.loads(
        to_json([explain(NEAREST, scene, window, steps=1)], scene, image=Path("a"), scale=2, window=window, steps=1)
    )
    assert report["models"][0]["psnr"] is None


@pytest.mark.parametrize("name", ["hat-xxs-x4", "hat-xs-x4"])
def test_maps_of_the_networks_in_the_package_are_exact(name):
    """All attributions together are what the detector found more than before, to 1 %, at the default steps."""
    hr = read_rgb(OSPREY)[..., 68:164, 228:324]
    (network,) = open_explained([name], device="cpu")
    found = explain(network, Scene.of_hr(hr, 4), Window(x=40, y=40)).attribution
    assert found.detected > found.baseline_detected > 0
    assert 0 < found.completeness_error <= 0.01


def saved(path, **changes):
    save_model(tiny_model(**changes), path)
    return str(path)


def test_a_file_and_bicubic_in_the_order_of_the_names(tmp_path):
    path = saved(tmp_path / "tiny.safetensors")
    bicubic, tiny = open_explained(["bicubic", path])
    assert [(each.name, each.scale) for each in (bicubic, tiny)] == [("bicubic", 2), ("tiny", 2)]
    x = random_image(1, 3, 5, 11)
    assert torch.allclose(bicubic.upscale(x), resize(x, (10, 22)))
    assert torch.allclose(tiny.upscale(x), Upscaler(tiny_model(), faithful=False, device="cpu")(x), atol=1e-5)


def test_gradients_pass_through(tmp_path):
    for network in open_explained(["bicubic", saved(tmp_path / "tiny.safetensors")], device="cpu"):
        x = random_image(1, 3, 5, 6).requires_grad_()
        network.upscale(x).square().sum().backward()
        assert x.grad is not None and bool((x.grad != 0).all())


def test_bundled_names():
    (network,) = open_explained(["hat-xxs-x2"])
    assert (network.name, network.title, network.scale) == ("hat-xxs-x2", "HAT", 2)


def test_several_factors_are_refused(tmp_path):
    names = [saved(tmp_path / "two.safetensors"), saved(tmp_path / "three.safetensors", upscale=3)]
    with pytest.raises(ConfigError, match=r"two.safetensors enlarges by 2, .*three.safetensors enlarges by 3"):
        open_explained(names)


def test_labels_differ(tmp_path):
    (tmp_path / "other").mkdir()
    one, other = saved(tmp_path / "a.safetensors"), saved(tmp_path / "other/a.safetensors")
    for names in ([one, other], [one, one], [one, "bicubic", "bicubic"]):
        with pytest.raises(ConfigError, match="each needs another name"):
            open_explained(names)


@pytest.mark.parametrize("names", [[], ["bicubic"]])
def test_bicubic_alone_has_no_factor(names):
    with pytest.raises(ConfigError, match="bicubic takes the factor of others"):
        open_explained(names)


def test_gray_networks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="takes 1 channels"):
        open_explained([saved(tmp_path / "gray.safetensors", in_chans=1)])


def test_unknown_names():
    with pytest.raises(WeightsError, match="did you mean 'hat-xs-x4'"):
        open_explained(["hat-xs-4"])


def test_exported_networks_have_no_gradients(exported):
    with pytest.raises(ConfigError, match="is exported, and has no gradients"):
        open_explained([str(exported.xml)], device="cpu")
