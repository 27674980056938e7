"""Every recipe in recipes/ takes three steps on made-up data, its network shrunk by overrides; dry runs too."""

import dataclasses
import re
from pathlib import Path

import pytest

from hat_sr.cli import app
from hat_sr.model.checkpoint import read_checkpoint, save_model
from hat_sr.model.hat import HAT
from hat_sr.model.zoo import bundled_names, read_source
from hat_sr.train.loop import train
from hat_sr.train.recipe import load_recipe
from train.small import photo, save_png

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

SHRUNK = {
    "--model.embed-dim": 12,
    "--model.depths": 2,
    "--model.num-heads": 2,
    "--model.window-size": 4,
    "--model.compress-ratio": 3,
    "--model.squeeze-factor": 4,
    "--model.num-feat": 8,
    "--data.patch-size": 8,
    "--data.batch-size": 2,
    "--data.num-workers": 0,
    "--optim.total-steps": 3,
    "--log.report-every": 1,
}


def _words(settings):
    return [str(word) for pair in settings.items() for word in pair]


def _make_data(path, root):
    """Photographs where the recipe has its own, the excluded ones among them; returns the overrides."""
    recipe = load_recipe(path)
    for source in recipe.data.sources:
        for number, name in enumerate(["a.png", "b.png", *source.exclude]):
            save_png(root / source.path / Path(name).with_suffix(Path(name).suffix or ".png"), photo(80, 96, number))
    return SHRUNK | {"--data.root": root}


def _make_start(path, root, overrides):
    """Weights for `start_from`: of the scale that the recipe's own start has, which its name says."""
    recipe = load_recipe(path, _words(overrides))
    if recipe.start_from is None:
        return overrides
    upscale = int(re.search(r"-x(\d)", recipe.start_from).group(1))
    save_model(HAT(dataclasses.replace(recipe.model, upscale=upscale)), root / "start.safetensors")
    return overrides | {"--start-from": root / "start.safetensors"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_three_steps(path, tmp_path):
    overrides = _make_start(path, tmp_path, _make_data(path, tmp_path))
    recipe = load_recipe(path, _words(overrides))
    losses = []
    state = train(recipe, tmp_path / "run", on_progress=lambda _, record: losses.append(record["loss"]))
    assert state.step == len(losses) == 3
    assert all(0 < loss < 1 for loss in losses)
    checkpoint = read_checkpoint(tmp_path / "run" / "weights.safetensors")
    assert checkpoint.config == recipe.model
    assert checkpoint.provenance["title"] == load_recipe(path).provenance["title"]


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_network_is_that_of_its_recipe(name):
    """A training can start from it with the recipe's [model], and its card is there."""
    (path,) = (path for path in RECIPES if path.stem == name)
    assert read_source(name).config == load_recipe(path).model
    assert path.parents[1].joinpath(f"src/hat_sr/weights/{name}.md").is_file()


@pytest.mark.parametrize("name", ["hat-xs-x4", "hat-x4"])
def test_a_dry_run_says_what_and_trains_nothing(name, tmp_path, capsys):
    (path,) = (path for path in RECIPES if path.stem == name)
    overrides = _make_start(path, tmp_path, _make_data(path, tmp_path))
    before = sorted(tmp_path.rglob("*"))
    app(["train", str(path), *_words(overrides), "-o", str(tmp_path / "run"), "--dry-run"])
    printed = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    recipe = load_recipe(path, _words(overrides))
    num_weights = sum(weight.numel() for weight in HAT(recipe.model).parameters())
    for part in (
        f"HAT, {num_weights:,} parameters, ×4",
        "2 images",
        "3, which is 6 patches",
        "for the 3 steps",
        "ms more to read it",
        "a new training",
    ):
        assert part in printed
    train(recipe, tmp_path / "run")
    app(["train", str(path), *_words(overrides), "-o", str(tmp_path / "run"), "--dry-run"])
    assert "would go on from step 3" in capsys.readouterr().out
