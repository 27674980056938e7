import json
from pathlib import Path

import pytest
import torch

from hat_sr.errors import InputError
from hat_sr.evaluate.explain import Scene, explain, to_json
from hat_sr.evaluate.metrics import psnr
from hat_sr.evaluate.pairs import read_rgb
from hat_sr.image.resize import imresize
from hat_sr.inference.baselines import load_upscales
from hat_sr.inference.network import Network
from hat_sr.lam.attribution import Window
from inference.doubles import nearest, random_image

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
    (network,) = load_upscales([name], device="cpu")
    found = explain(network, Scene.of_hr(hr, 4), Window(x=40, y=40)).attribution
    assert found.detected > found.baseline_detected > 0
    assert 0 < found.completeness_error <= 0.01
