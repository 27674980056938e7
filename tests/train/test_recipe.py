"""Recipes: what is read, what wins, what is refused; and that the examples are in no training."""

import csv
import dataclasses
from pathlib import Path

import pytest

from hat_sr.errors import ConfigError
from hat_sr.train.config import DataConfig, FolderConfig, LogConfig, OptimConfig
from hat_sr.train.recipe import load_recipe
from train.small import small_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))

TEXT = """
seed = 7
precision = "bf16"

[model]
upscale = 2
embed_dim = 12
depths = [2, 1]
num_heads = [2, 3]
window_size = 4
squeeze_factor = 4

[data]
patch_size = 16

[[data.folders]]
path = "a"

[[data.folders]]
path = "b"
shrink = 2.0
exclude = ["x.jpg", "y.jpg"]

[optim]
total_steps = 10
milestones = [5, 8]
"""


def _write(tmp_path, old="", new=""):
    assert old in TEXT
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT.replace(old, new) if old else TEXT)
    return path


def test_file_and_defaults(tmp_path):
    recipe = load_recipe(_write(tmp_path))
    assert (recipe.seed, recipe.precision, recipe.start) == (7, "bf16", "published")
    assert (recipe.model.depths, recipe.model.num_heads, recipe.model.conv_scale) == ((2, 1), (2, 3), 0.01)
    assert recipe.data.folders == (
        FolderConfig(path="a"),
        FolderConfig(path="b", shrink=2.0, exclude=("x.jpg", "y.jpg")),
    )
    assert (recipe.data.patch_size, recipe.data.batch_size, recipe.data.root) == (16, 32, ".")
    assert recipe.optim == OptimConfig(total_steps=10, milestones=(5, 8))
    assert recipe.log == LogConfig()


def test_overrides_win(tmp_path):
    words = ["--optim.learning-rate", "1e-4", "--data.root", "D", "--model.upscale=3", "--log.validation-folder", "V"]
    words += ["--optim.milestones", "3", "--optim.milestones", "4", "--seed", "1"]
    recipe = load_recipe(_write(tmp_path), words)
    plain = load_recipe(_write(tmp_path))
    assert recipe == dataclasses.replace(
        plain,
        seed=1,
        model=dataclasses.replace(plain.model, upscale=3),
        data=dataclasses.replace(plain.data, root="D"),
        optim=dataclasses.replace(plain.optim, learning_rate=1e-4, milestones=(3, 4)),
        log=dataclasses.replace(plain.log, validation_folder="V"),
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("total_steps =", "total_step =", ["total_step", "--optim.total-steps"]),
        ("window_size =", "window_siz =", ["window_siz", "--model.window-size"]),
        ("shrink =", "shrnk =", ["shrnk", "shrink"]),
        ("seed = 7", "sede = 7", ["sede"]),
        ("total_steps = 10", "total_steps = 'many'", ["total_steps", "many", "int"]),
        ('"bf16"', '"fp8"', ["fp8", "fp32", "bf16"]),
        ("total_steps = 10", "", ["total-steps"]),
        ("[model]", "[model", ["TOML", "line"]),
    ],
)
def test_what_the_file_cannot_say(tmp_path, old, new, says):
    path = _write(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    for part in (str(path), *says):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--optim.learnin-rate", "1"], "did you mean --optim.learning-rate"),
        (["--optim.total-steps", "x"], "--optim.total-steps"),
        (["stray"], "stray"),
        (["--model.num-heads", "5", "--model.num-heads", "2"], "num_heads 5 must divide embed_dim 12"),
    ],
    ids=str,
)
def test_overrides_that_cannot_be(tmp_path, words, says):
    with pytest.raises(ConfigError) as caught:
        load_recipe(_write(tmp_path), words)
    assert says.lower() in str(caught.value).lower()


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.toml does not exist"):
        load_recipe(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match="does not exist"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": {"folders": ()}}, "data.folders is empty"),
        ({"data": {"patch_size": 10}}, "patch_size 10.*window_size 4"),
        ({"data": {"patch_size": 0}}, "patch_size 0"),
        ({"data": {"batch_size": 0}}, "batch_size 0"),
        ({"data": {"num_workers": -1}}, "num_workers -1"),
        ({"optim": {"total_steps": 0}}, "total_steps 0"),
        ({"optim": {"learning_rate": 0.0}}, "learning_rate 0.0"),
        ({"optim": {"learning_rate": float("nan")}}, "learning_rate nan"),
        ({"optim": {"warmup_steps": -1}}, "warmup_steps -1"),
        ({"optim": {"clip_norm": 0.0}}, "clip_norm 0.0"),
        ({"optim": {"ema_decay": 1.0}}, "ema_decay 1.0"),
        ({"log": {"save_every": 0}}, "save_every 0"),
        ({"log": {"report_every": -5}}, "report_every -5"),
        ({"model": {"in_chans": 1}}, "in_chans 1"),
    ],
    ids=str,
)
def test_impossible_settings(changes, says):
    with pytest.raises(ConfigError, match=says):
        small_recipe(Path(), **changes)


@pytest.mark.parametrize("shrink", [0.5, 0.0, float("nan")])
def test_images_are_never_made_larger(shrink):
    with pytest.raises(ConfigError, match=f"shrink {shrink} of photos"):
        FolderConfig(path="photos", shrink=shrink)


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_read(path):
    load_recipe(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_example_photographs_are_in_no_training(path):
    assert _not_excluded(load_recipe(path).data) == set()


def test_the_check_of_examples_can_fail():
    assert _not_excluded(DataConfig(folders=(FolderConfig(path="photos"),))) == _sources()


def _not_excluded(data):
    folders = [folder for folder in data.folders if Path(folder.path).name == "photos"]
    return {source for folder in folders for source in _sources() - set(folder.exclude)}


def _sources():
    """Names, in the folder of photographs, of those that examples/ shows."""
    with (ROOT / "examples" / "SOURCES.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    examples = ROOT / "examples"
    shown = {file.name for file in examples.iterdir() if file.suffix in (".jpg", ".png", ".webp")}
    assert shown == {row["file"] for row in rows} != set()
    return {row["source"] for row in rows}
