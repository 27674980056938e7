"""Networks from recipes: fresh, from weights of the same or another scale, and other networks than HAT."""

import dataclasses
import logging

import pytest
import torch
from safetensors import safe_open
from torch import nn

from hat_sr.checkpoints.checkpoint import save_model
from hat_sr.checkpoints.named import load_model
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.train.config import NetworkConfig, Recipe
from hat_sr.train.loop import train
from hat_sr.train.network import build_network
from helpers.hub import cached_folder, offline_cache
from model.tiny import TINY
from train.small import make_photos, small_recipe


class Shuffled(nn.Module):
    """A convolution and a pixel shuffle; stands for another package's network."""

    def __init__(self, *, scale: int, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, padding=1)
        self.tail = nn.Sequential(nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x):
        return self.tail(torch.relu(self.body(x)))


def not_a_module(**_):
    return "network"


def _other(root, *, network=None, **changes) -> Recipe:
    recipe = small_recipe(root, **changes)
    settings = {"entry": f"{__name__}:Shuffled", "upscale": 2, "arguments": {"scale": 2}} | (network or {})
    return Recipe(
        network=NetworkConfig(**settings),
        data=recipe.data,
        optim=recipe.optim,
        log=recipe.log,
        start_from=recipe.start_from,
    )


def test_the_same_weights_for_the_same_recipe(tmp_path):
    one, other = (build_network(small_recipe(tmp_path)) for _ in range(2))
    assert torch.equal(one.conv_last.weight, other.conv_last.weight)
    assert not torch.equal(one.conv_last.weight, build_network(small_recipe(tmp_path, seed=1)).conv_last.weight)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_fine_tuning_starts_from_all_weights(tmp_path, ending):
    before = HAT(HATConfig(**TINY))
    path = tmp_path / f"w{ending}"
    save_model(before, path, format="official" if ending == ".pth" else "safetensors")
    after = build_network(small_recipe(tmp_path, start_from=str(path)))
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name


def test_x4_from_x2_keeps_all_but_what_is_new(tmp_path, caplog):
    before = HAT(HATConfig(**TINY))
    save_model(before, tmp_path / "x2.safetensors")
    with caplog.at_level(logging.INFO):
        after = build_network(small_recipe(tmp_path, model={"upscale": 4}, start_from=str(tmp_path / "x2.safetensors")))
    assert "×2; new: upsample.2.weight, upsample.2.bias" in caplog.text
    fresh = build_network(small_recipe(tmp_path, model={"upscale": 4}))
    for name, value in after.state_dict().items():
        wanted = (fresh if name.startswith("upsample.2") else before).state_dict()[name]
        assert torch.equal(value, wanted), name


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"embed_dim": 24}, r"conv_first\.weight"),
        ({"depths": (3,)}, r"blocks\.2"),
        ({"depths": (1,)}, r"blocks\.1"),
        ({"conv_scale": 0.5}, "conv_scale is 0.01 instead of 0.5"),
    ],
    ids=str,
)
def test_weights_of_another_network_are_refused(tmp_path, changes, named):
    save_model(HAT(HATConfig(**TINY)), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"another network than the recipe's.*{named}"):
        build_network(small_recipe(tmp_path, model=changes, start_from=str(tmp_path / "w.safetensors")))


def test_another_network_trains_alike_and_goes_on(tmp_path):
    root = make_photos(tmp_path)
    state = train(_other(root), root / "run")
    with safe_open(root / "run" / "weights.safetensors", "pt") as file:
        assert '"scale": 2' in file.metadata()["hat_sr_network"]
        for name, value in state.averaged.state_dict().items():
            assert torch.equal(file.get_tensor(name), value)
    started = build_network(_other(root, start_from=str(root / "run" / "weights.safetensors")))
    assert torch.equal(started.body.weight, state.averaged.body.weight)
    with pytest.raises(WeightsError, match=r"weights of a recipe's \[network\]"):
        load_model(root / "run" / "weights.safetensors")


class Normed(Shuffled):
    """Shuffled with batch normalisation, which has running statistics."""

    def __init__(self, *, scale: int) -> None:
        super().__init__(scale=scale)
        self.body = nn.Sequential(self.body, nn.BatchNorm2d(4))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_running_statistics_are_kept(tmp_path, precision):
    root = make_photos(tmp_path)
    recipe = dataclasses.replace(_other(root, network={"entry": f"{__name__}:Normed"}), precision=precision)
    state = train(recipe, root / "run")
    norm = state.averaged.body[1]
    assert norm.num_batches_tracked == 8
    assert norm.running_mean.abs().max() > 0
    resumed = train(recipe, root / "run")
    assert torch.equal(resumed.network.body[1].running_mean, state.network.body[1].running_mean)


@pytest.mark.parametrize(
    ("network", "error"),
    [
        ({"entry": "no_such_package:Net"}, "no_such_package.*Install"),
        ({"entry": f"{__name__}:Missing"}, "Missing"),
        ({"arguments": {"scal": 2}}, "scal"),
        ({"arguments": {"scale": 4}}, r"makes \(1, 3, 64, 64\).*must make \(1, 3, 32, 32\)"),
        ({"entry": f"{__name__}:not_a_module", "arguments": {}}, "makes str"),
    ],
    ids=str,
)
def test_networks_that_cannot_be_made(tmp_path, network, error):
    with pytest.raises(ConfigError, match=error):
        build_network(_other(tmp_path, network=network))


def test_either_a_hat_or_another_network(tmp_path):
    recipe = small_recipe(tmp_path)
    with pytest.raises(ConfigError, match="either"):
        Recipe(data=recipe.data, optim=recipe.optim)
    with pytest.raises(ConfigError, match="either"):
        Recipe(data=recipe.data, optim=recipe.optim, model=recipe.model, network=_other(tmp_path).network)


def test_a_missing_file_to_start_from(tmp_path):
    with pytest.raises(WeightsError, match=r"start_from .*/x2\.safetensors is not there.*--start-from FILE"):
        build_network(small_recipe(tmp_path, start_from=str(tmp_path / "x2.safetensors")))


@pytest.mark.parametrize("name", ["hf://owner/net", "hf://owner/net/model.safetensors"])
def test_starting_from_a_model_on_the_hub(tmp_path, monkeypatch, name):
    before = HAT(HATConfig(**TINY))
    before.save_pretrained(cached_folder(offline_cache(monkeypatch, tmp_path / "cache"), "owner/net"))
    after = build_network(small_recipe(tmp_path, start_from=name))
    assert torch.equal(after.conv_first.weight, before.conv_first.weight)
    with pytest.raises(WeightsError, match="hf://owner/other is not in the cache"):
        build_network(small_recipe(tmp_path, start_from="hf://owner/other"))


def test_another_network_starting_from_a_model_on_the_hub(tmp_path, monkeypatch):
    before = Shuffled(scale=2)
    folder = cached_folder(offline_cache(monkeypatch, tmp_path / "cache"), "owner/net")
    torch.save(before.state_dict(), folder / "x2.pth")
    after = build_network(_other(tmp_path, start_from="hf://owner/net"))
    assert torch.equal(after.body.weight, before.body.weight)
