"""Recipes: what is read, what wins, what is refused; the published ones; and that the examples are in no training."""

import csv
import dataclasses
from pathlib import Path

import pytest

from hat_sr.checkpoints.named import bundled_names
from hat_sr.degradation import config as degradation_config
from hat_sr.errors import ConfigError
from hat_sr.model.config import PRESETS
from hat_sr.train.config import (
    AdversaryConfig,
    DataConfig,
    LogConfig,
    NetworkConfig,
    OptimConfig,
    PerceptualConfig,
    SourceConfig,
)
from hat_sr.train.recipe import load_recipe, load_stages
from hat_sr.train.record import recipe_text
from train.small import small_recipe, stages_of

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

[[data.sources]]
path = "a"

[[data.sources]]
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


@pytest.mark.parametrize(
    "text",
    [
        'degradation = "real"\n',
        '[data.degradation]\npreset = "real"\n',
        "[data.degradation]\nclean = 0.1\nmild = 0.3\n[[data.degradation.passes]]\nblur = 1.0\nsigma = [0.5, 2.0]\n",
    ],
)
def test_degradations(tmp_path, text):
    recipe = load_recipe(_write(tmp_path, "patch_size = 16\n", f"patch_size = 16\n{text}"))
    degradation = recipe.data.degradation
    if "real" in text:
        assert degradation == degradation_config.PRESETS["real"]
        return
    wanted = degradation_config.PassConfig(blur=1.0, sigma=(0.5, 2.0))
    assert degradation == degradation_config.DegradationConfig(passes=(wanted,), clean=0.1, mild=0.3)


def test_a_preset_is_changed_on_the_command_line_and_by_its_table(tmp_path):
    path = _write(tmp_path, "patch_size = 16\n", '[data.degradation]\npreset = "real"\nclean = 0.2\n')
    degradation = load_recipe(path, ["--data.degradation.mild", "0.3"]).data.degradation
    assert (degradation.clean, degradation.mild) == (0.2, 0.3)
    assert degradation.passes == degradation_config.PRESETS["real"].passes
    with pytest.raises(ConfigError, match=r"unknown key 'data\.degradation\.passes\.sigmo'.*sigma"):
        load_recipe(_write(tmp_path, "patch_size = 16\n", "patch_size = 16\n[[data.degradation.passes]]\nsigmo = 1\n"))


def test_losses_beside_that_on_pixels(tmp_path):
    """Layers of an extractor have dots in their names."""
    text = """[perceptual]
weight = 0.01
layers = [["_bn0", 1.0], ["_blocks.2", 0.5]]

[adversary]
channels = 24

[data]"""
    recipe = load_recipe(_write(tmp_path, "[data]", text), ["--adversary.weight", "0.2"])
    assert recipe.perceptual == PerceptualConfig(weight=0.01, layers=(("_bn0", 1.0), ("_blocks.2", 0.5)))
    assert recipe.adversary == AdversaryConfig(channels=24, weight=0.2)
    assert "_blocks.2" in recipe_text(recipe)


def test_file_and_defaults(tmp_path):
    recipe = load_recipe(_write(tmp_path))
    assert (recipe.seed, recipe.precision, recipe.start) == (7, "bf16", "published")
    assert (recipe.model.depths, recipe.model.num_heads, recipe.model.conv_scale) == ((2, 1), (2, 3), 0.01)
    assert recipe.data.sources == (
        SourceConfig(path="a"),
        SourceConfig(path="b", shrink=2.0, exclude=("x.jpg", "y.jpg")),
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
        ("total_steps =", "total_step =", ["unknown key 'optim.total_step'", "did you mean 'optim.total_steps'?"]),
        ("window_size =", "window_siz =", ["unknown key 'model.window_siz'", "did you mean 'model.window_size'?"]),
        ("shrink =", "shrnk =", ["unknown key 'data.sources.shrnk'", "did you mean 'data.sources.shrink'?"]),
        ("seed = 7", "sede = 7", ["unknown key 'sede'", "did you mean 'seed'?"]),
        ("total_steps = 10", "total_steps = 'many'", ["total_steps", "many", "int"]),
        ('"bf16"', '"fp8"', ["fp8", "fp32", "bf16"]),
        ("total_steps = 10", "", ["total-steps"]),
        ("[optim]", "[optimm]", ["unknown key 'optimm'", "did you mean 'optim'?"]),
        ("seed = 7", "log = 3", ["'log'", "is 3: it must be a table, [log]"]),
        ("[optim]", "[[optim]]", ["'optim'", "must be a table, [optim]"]),
        ("total_steps = 10", "total_steps.a = 10", ["'optim.total_steps'", "must be a value, optim.total_steps = …"]),
        ('[[data.sources]]\npath = "b"', "[[data.sources]]\npath.a = 1", ["'data.sources.path'", "must be a value"]),
        ("seed = 7", "qqqqq = 7", ["unknown key 'qqqqq'", "known there: model, network, data"]),
        ("[optim]\ntotal_steps = 10\nmilestones = [5, 8]", "", ["no [optim]"]),
        ('[[data.sources]]\npath = "a"\n\n[[data.sources]]', "[data.sources]", ["double brackets"]),
        ("[model]", "[model", ["TOML", "line"]),
    ],
)
def test_what_the_file_cannot_say(tmp_path, old, new, says):
    path = _write(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    for part in (str(path), *says):
        assert part in str(caught.value)


def test_a_folder_may_be_called_as_a_table(tmp_path):
    recipe = load_recipe(_write(tmp_path), ["--data.root", "data", "--log.validation-folder", "model"])
    assert (recipe.data.root, recipe.log.validation_folder) == ("data", "model")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--optim.learnin-rate", "1"], "did you mean --optim.learning-rate"),
        (["--optim.total-steps", "x"], "--optim.total-steps"),
        (["stray"], "stray"),
        (["--optim", "3"], "optim cannot be given on the command line"),
        (["--data.sources", "x"], "data.sources cannot be given on the command line"),
        (["--optim.accumulate", "33"], "accumulate 33 parts of data.batch_size 32"),
        (["--model.num-heads", "5", "--model.num-heads", "2"], "num_heads 5 must divide embed_dim 12"),
    ],
    ids=str,
)
def test_overrides_that_cannot_be(tmp_path, words, says):
    with pytest.raises(ConfigError) as caught:
        load_recipe(_write(tmp_path), words)
    assert says.lower() in str(caught.value).lower()


def test_sources_that_are_no_tables(tmp_path):
    path = _write(tmp_path)
    path.write_text('[data]\nsources = ["a"]\n[optim]\ntotal_steps = 1\n')
    with pytest.raises(ConfigError, match=r"'data.sources' in .* is 'a': it must be a table, \[\[data.sources\]\]"):
        load_recipe(path)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.toml does not exist"):
        load_recipe(tmp_path / "no.toml")
    with pytest.raises(ConfigError, match="does not exist"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": {"sources": ()}}, "data.sources is empty"),
        ({"data": {"patch_size": 10}}, "patch_size 10.*window_size 4"),
        ({"seed": -1}, "seed -1"),
        ({"optim": {"milestones": (-1,)}}, "milestones"),
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
        ({"optim": {"optimizer": "muon"}, "distribution": "fsdp"}, "'muon' is for"),
    ],
    ids=str,
)
def test_impossible_settings(changes, says):
    with pytest.raises(ConfigError, match=says):
        small_recipe(Path(), **changes)


@pytest.mark.parametrize("shrink", [0.5, 0.0, float("nan")])
def test_images_are_never_made_larger(shrink):
    with pytest.raises(ConfigError, match=f"shrink {shrink} of photos"):
        SourceConfig(path="photos", shrink=shrink)


def test_another_network(tmp_path):
    path = _write(tmp_path)
    text = path.read_text()
    start, end = text.index("[model]"), text.index("[data]")
    network = 'entry = "nets:RCAN"\nupscale = 2\nsize_multiple = 4\n'
    arguments = 'blocks = 3\nwidths = [8, 16]\nratio = 1.5\nrates = [0.5, 1.0]\nname = "1"\nnorm = true\n'
    path.write_text(f"{text[:start]}[network]\n{network}[network.arguments]\n{arguments}{text[end:]}")
    recipe = load_recipe(path)
    found = {"blocks": 3, "widths": [8, 16], "ratio": 1.5, "rates": [0.5, 1.0], "name": "1", "norm": True}
    assert recipe.network == NetworkConfig(entry="nets:RCAN", upscale=2, size_multiple=4, arguments=found)
    assert {name: type(value) for name, value in recipe.network.arguments.items()} == {
        name: type(value) for name, value in found.items()
    }
    assert (recipe.model, recipe.upscale, recipe.size_multiple) == (None, 2, 4)
    with pytest.raises(ConfigError, match=r"patch_size 18.*network\.size_multiple 4"):
        load_recipe(path, ["--data.patch-size", "18"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "pairs"}, "lr_path is for kind 'pairs', and needed there"),
        ({"lr_path": "lr"}, "lr_path is for kind 'pairs'"),
        ({"kind": "lmdb", "shrink": 2.0}, "only a folder's images can be shrunk"),
        ({"kind": "webdataset", "exclude": ("x.jpg",)}, "cannot be excluded from a stream"),
    ],
    ids=str,
)
def test_impossible_sources(changes, says):
    with pytest.raises(ConfigError, match=says):
        SourceConfig(path="a", **changes)


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_read(path):
    assert stages_of(path)


SCRATCH = (500_000, 2e-4, (250_000, 400_000, 450_000, 475_000))
PRETRAINING = (800_000, 2e-4, (300_000, 500_000, 650_000, 700_000, 750_000))
FROM_X2 = (250_000, 1e-4, (125_000, 200_000, 225_000, 240_000))
FINETUNING = (250_000, 1e-5, (125_000, 200_000, 225_000, 240_000))

PUBLISHED = {
    **{f"{size}-x{upscale}": ("DF2K", SCRATCH, None) for size in ("hat-s", "hat") for upscale in (2, 3)},
    **{f"{size}-x4": ("DF2K", FROM_X2, f"{size}-x2") for size in ("hat-s", "hat")},
    **{
        f"{size}-x{upscale}-imagenet/{stage}": training
        for size in ("hat", "hat-l")
        for upscale in (2, 3, 4)
        for stage, training in {
            "pretrain": ("ImageNet/train", PRETRAINING, None),
            "finetune": ("DF2K", FINETUNING, f"{size}-x{upscale}-imagenet/pretrain"),
        }.items()
    },
}
"""Of each published training, by recipe and stage: data, steps, peak of the learning rate, milestones, its start."""


def test_every_published_training_has_a_recipe():
    assert {f"{path.stem}/{stage}".rstrip("/") for path in RECIPES for stage in stages_of(path)} >= set(PUBLISHED)
    assert len(PUBLISHED) == 18


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_training(name):
    data, (total_steps, learning_rate, milestones), start = PUBLISHED[name]
    name, _, stage = name.partition("/")
    path = ROOT / "recipes" / f"{name}.toml"
    recipe = stages_of(path)[stage]
    size, _, upscale = name.removesuffix("-imagenet").rpartition("-")
    assert recipe.model == PRESETS[f"{size.upper()}-{upscale}"]
    assert recipe.model.drop_path_rate == 0.1
    assert recipe.data == DataConfig(sources=(SourceConfig(path=data),), patch_size=64, batch_size=32, num_workers=6)
    assert recipe.optim == OptimConfig(
        total_steps=total_steps,
        learning_rate=learning_rate,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        schedule="steps",
        milestones=milestones,
        gamma=0.5,
        warmup_steps=0,
        ema_decay=0.999,
        ema_warmup=False,
    )
    assert (recipe.precision, recipe.start, recipe.log.validation_folder) == ("fp32", "published", None)
    assert recipe.start_from == (None if start is None else f"runs/{start}/weights.safetensors")
    assert recipe.provenance["recipe"] == f"recipes/{name}.toml"
    comment = path.read_text().partition("\n\n")[0]
    assert f"hat_sr train recipes/{name}.toml -o runs/{name} " in comment
    assert f"hat-sr train recipes/{name}.toml -o runs/{name} " in comment


def test_what_a_recipe_starts_from_has_a_recipe():
    trainings = {
        f"runs/{path.stem}/{stage}".rstrip("/"): recipe for path in RECIPES for stage, recipe in stages_of(path).items()
    }
    starts = {recipe.start_from for recipe in trainings.values()} - {None, *bundled_names()}
    assert {str(Path(start).parent) for start in starts} <= set(trainings)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_example_photographs_are_in_no_training(path):
    assert all(_not_excluded(recipe.data) == set() for recipe in stages_of(path).values())


def test_the_check_of_examples_can_fail():
    assert _not_excluded(DataConfig(sources=(SourceConfig(path="photos"),))) == _shown()


def _not_excluded(data):
    if any(Path(source.path).name == "photos2k" for source in data.sources):
        return set()  # the edition of the folder of photographs that came with this one holds none of the examples
    folders = [source for source in data.sources if Path(source.path).name == "photos"]
    return {shown for folder in folders for shown in _shown() - set(folder.exclude)}


def _shown():
    """Names, in the folder of photographs, of those that examples/ shows."""
    with (ROOT / "examples" / "SOURCES.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    examples = ROOT / "examples"
    shown = {file.name for file in examples.iterdir() if file.suffix in (".jpg", ".png", ".webp")}
    assert shown == {row["file"] for row in rows} != set()
    return {row["source"] for row in rows}


@pytest.mark.parametrize("text", ["seed = " + "9" * 5000, "a = " + "[" * 100_000, "a = \xff"], ids=["9", "[", "bytes"])
def test_text_that_no_recipe_has(tmp_path, text):
    (tmp_path / "r.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"r\.toml is (not valid TOML|nested without end)"):
        load_recipe(tmp_path / "r.toml")


STAGED = (
    TEXT
    + """
[[stages]]
name = "one"

[stages.optim]
learning_rate = 1e-3

[[stages]]
name = "two"
seed = 8

[stages.data]
sources = [{ path = "c" }]
"""
)


def _staged(tmp_path, old="", new=""):
    assert old in STAGED
    path = tmp_path / "recipe.toml"
    path.write_text(STAGED.replace(old, new))
    return path


def test_stages_have_the_settings_of_the_file_and_their_own(tmp_path):
    path = _staged(tmp_path)
    stages = load_stages(path, ["--optim.total-steps", "20"], folder=tmp_path / "run")
    one, two = stages["one"], stages["two"]
    assert (one.seed, two.seed) == (7, 8)
    assert (one.optim.learning_rate, two.optim.learning_rate) == (1e-3, OptimConfig(total_steps=20).learning_rate)
    assert [source.path for source in one.data.sources] == ["a", "b"]
    assert [source.path for source in two.data.sources] == ["c"]
    assert one.optim.total_steps == two.optim.total_steps == 20
    assert (one.start_from, two.start_from) == (None, str(tmp_path / "run/one/weights.safetensors"))
    assert load_recipe(path, stage="two") == dataclasses.replace(
        two, optim=dataclasses.replace(two.optim, total_steps=10), start_from="runs/recipe/one/weights.safetensors"
    )


def test_a_start_given_by_hand_is_of_the_first_stage_or_of_the_one_that_is_named(tmp_path):
    path, words = _staged(tmp_path), ["--start-from", "mine.pth"]
    stages = load_stages(path, words)
    assert [recipe.start_from for recipe in stages.values()] == ["mine.pth", "runs/recipe/one/weights.safetensors"]
    assert load_recipe(path, words, stage="two").start_from == "mine.pth"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "two"', 'name = "one"', "two stages of one name: one, one"),
        ('name = "two"', "", "the name of a stage is None"),
        ('name = "two"', 'name = "../two"', "letters, digits, dots, dashes and underscores"),
        ("seed = 8", "sede = 8", "stage two: unknown key 'sede'"),
    ],
)
def test_stages_that_cannot_be(tmp_path, old, new, says):
    with pytest.raises(ConfigError, match=says):
        load_stages(_staged(tmp_path, old, new))


def test_which_stage_is_meant(tmp_path):
    path = _staged(tmp_path)
    with pytest.raises(ConfigError, match="has the stages one, two: name one with --stage"):
        load_recipe(path)
    with pytest.raises(ConfigError, match="has no stage 'three'; it has one, two"):
        load_recipe(path, stage="three")
    path.write_text(TEXT)
    with pytest.raises(ConfigError, match="has no stages: leave --stage one out"):
        load_recipe(path, stage="one")
    path.write_text(TEXT + '[stages]\nname = "one"\n')
    with pytest.raises(ConfigError, match=r"write \[\[stages\]\], in double brackets"):
        load_stages(path)
